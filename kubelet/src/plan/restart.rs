//! Whether an ended container is started again.

use crate::pod::{self, Kind};
use crate::runtime::state::{ContainerSeen, ContainerState};
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};

/// The policy of one container: its own, otherwise the pod's (init steps: `Always` means retry until success).
pub fn policy<'a>(pod: &'a Pod, container: &'a Container) -> &'a str {
    container
        .restart_policy
        .as_deref()
        .unwrap_or_else(|| pod::restart_policy(pod))
}

/// Whether a container that ended as seen is to be started again.
pub fn should_restart(pod: &Pod, container: &Container, kind: Kind, seen: Option<&ContainerSeen>) -> bool {
    if pod::deletion_time(pod).is_some() {
        return false;
    }
    let Some(seen) = seen else {
        return kind != Kind::Ephemeral || !was_started(pod, container);
    };
    match seen.state {
        ContainerState::Running => return false,
        ContainerState::Unknown => return true,
        // Created but not started: only a crash between the two leaves that behind.
        ContainerState::Created | ContainerState::Exited => {}
    }
    if kind == Kind::Ephemeral {
        return false;
    }
    if seen.state == ContainerState::Created {
        return true;
    }
    if let Some(restart) = rule(
        container.restart_policy_rules.as_deref().unwrap_or_default(),
        seen.exit_code,
    ) {
        return restart;
    }
    match policy(pod, container) {
        "Never" => false,
        "OnFailure" => seen.exit_code != 0,
        _ if kind == Kind::Init && !pod::is_sidecar(container) => seen.exit_code != 0,
        _ => true,
    }
}

fn was_started(pod: &Pod, container: &Container) -> bool {
    pod::api_container_status(pod, Kind::Ephemeral, &container.name)
        .and_then(|s| s.state.as_ref())
        .is_some_and(|s| s.terminated.is_some())
}

/// The first rule (KEP-5307) that names the exit code decides.
fn rule(rules: &[ContainerRestartRule], exit_code: i32) -> Option<bool> {
    rules.iter().find_map(|rule| {
        let codes = rule.exit_codes.as_ref()?;
        let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
        let matched = if codes.operator == "NotIn" {
            !listed
        } else {
            listed
        };
        (matched && rule.action == "Restart").then_some(true)
    })
}

/// Whether anything of the pod may be started again after all of it has stopped.
pub fn pod_may_restart(pod: &Pod) -> bool {
    pod::restart_policy(pod) != "Never"
        || pod::containers(pod)
            .iter()
            .any(|c| c.restart_policy.as_deref().is_some_and(|p| p != "Never"))
}
