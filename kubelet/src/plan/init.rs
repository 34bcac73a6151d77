//! Init containers: run in order, each to its end; restartable ones (sidecars) keep running from their turn on.

use super::actions::{Builder, Seen};
use super::restart;
use crate::pod::{self, Kind};
use crate::runtime::state::{ContainerSeen, ContainerState};
use k8s_openapi::api::core::v1::{Container, Pod};

/// Plans the init containers and tells whether the regular ones may start.
pub(super) fn plan(pod: &Pod, seen: &Seen, out: &mut Builder<'_>) -> bool {
    let inits = pod::init_containers(pod);
    let sandbox = seen.runtime.sandbox().map(|s| s.id.as_str());
    let current = |c: &Container| {
        seen.runtime
            .latest(&c.name)
            .filter(|s| Some(s.sandbox_id.as_str()) == sandbox)
    };
    let past_init = pod::containers(pod).iter().any(|c| current(c).is_some());
    if past_init {
        for container in inits.iter().filter(|c| pod::is_sidecar(c)) {
            sidecar(pod, container, current(container), seen, out);
        }
        return true;
    }
    // Dead init containers may have been collected: all steps before one that was started are done.
    let reached = inits.iter().rposition(|c| current(c).is_some()).unwrap_or(0);
    for (i, container) in inits.iter().enumerate() {
        let status = current(container);
        if pod::is_sidecar(container) {
            if !sidecar(pod, container, status, seen, out) {
                return false;
            }
            continue;
        }
        match status {
            None if i < reached => continue,
            None => {
                out.start(Kind::Init, container, None);
                return false;
            }
            Some(s) => match s.state {
                ContainerState::Running => return false,
                ContainerState::Exited if s.exit_code == 0 => continue,
                ContainerState::Unknown => {
                    out.kill_unknown(container, s);
                    return false;
                }
                _ => {
                    if restart::should_restart(pod, container, Kind::Init, status) {
                        out.start(Kind::Init, container, status);
                    } else {
                        out.finish();
                    }
                    return false;
                }
            },
        }
    }
    true
}

/// Keeps one sidecar running; true when the next init container may go on.
fn sidecar(
    pod: &Pod,
    c: &Container,
    status: Option<&ContainerSeen>,
    seen: &Seen,
    out: &mut Builder<'_>,
) -> bool {
    match status {
        Some(s) if s.state == ContainerState::Running => {
            if out.kill_if_unhealthy(c, s) {
                return false;
            }
            c.startup_probe.is_none() || seen.probes.get(&s.id).is_some_and(|p| p.started == Some(true))
        }
        Some(s) if s.state == ContainerState::Unknown => {
            out.kill_unknown(c, s);
            false
        }
        other => {
            if other.is_none() || restart::should_restart(pod, c, Kind::Init, other) {
                out.start(Kind::Init, c, other);
            }
            false
        }
    }
}
