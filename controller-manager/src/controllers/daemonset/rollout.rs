//! One step of a DaemonSet's rolling update. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Place, hash_of};
use crate::pods;
use crate::scaled::absolute;

/// Pods above one per node, at most.
pub(super) fn max_surge(spec: &DaemonSetSpec, places: &[Place]) -> i32 {
    let rolling = rolling(spec);
    absolute(rolling.0, desired(places), true)
}

fn rolling(spec: &DaemonSetSpec) -> (Option<&IntOrString>, Option<&IntOrString>) {
    let strategy = spec
        .update_strategy
        .as_ref()
        .and_then(|s| s.rolling_update.as_ref());
    (
        strategy.and_then(|r| r.max_surge.as_ref()),
        strategy.and_then(|r| r.max_unavailable.as_ref()),
    )
}

fn desired(places: &[Place]) -> i32 {
    places.iter().filter(|place| place.should_run).count() as i32
}

/// Nodes that get a new pod beside the old one, and old pods that go.
pub(super) fn step(
    spec: &DaemonSetSpec,
    places: &[Place],
    hash: &str,
    now: Timestamp,
) -> (Vec<String>, Vec<Arc<Pod>>) {
    let type_ = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
    if type_ == Some("OnDelete") {
        return (Vec::new(), Vec::new());
    }
    let surge = max_surge(spec, places);
    let default = IntOrString::Int(1);
    let unavailable = absolute(Some(rolling(spec).1.unwrap_or(&default)), desired(places), true);
    let min_ready_s = spec.min_ready_seconds.unwrap_or(0);
    let available = |pod: &Pod| pods::is_available(pod, min_ready_s, now);
    if surge == 0 {
        (Vec::new(), replaced(places, hash, unavailable.max(1), &available))
    } else {
        surged(places, hash, surge, &available)
    }
}

/// The pod of the current revision and the one before it.
fn told_apart<'a>(place: &'a Place, hash: &str) -> (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>) {
    let mut live = place.pods.iter().filter(|pod| pods::is_active(pod));
    let new = live.clone().find(|pod| hash_of(pod) == Some(hash));
    (new, live.find(|pod| hash_of(pod) != Some(hash)))
}

fn replaced(places: &[Place], hash: &str, most: i32, available: &dyn Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
    let (mut missing, mut broken, mut candidates) = (0, Vec::new(), Vec::new());
    for place in places.iter().filter(|place| place.should_run) {
        match told_apart(place, hash) {
            (Some(new), None) => missing += i32::from(!available(new)),
            (None, Some(old)) if available(old) => candidates.push(old.clone()),
            (None, Some(old)) => {
                missing += 1;
                broken.push(old.clone());
            }
            // Nothing there: a pod is on its way, or an old one is leaving.
            _ => missing += 1,
        }
    }
    let more = usize::try_from(most - missing).unwrap_or(0);
    broken.extend(candidates.into_iter().take(more));
    broken
}

fn surged(
    places: &[Place],
    hash: &str,
    most: i32,
    available: &dyn Fn(&Pod) -> bool,
) -> (Vec<String>, Vec<Arc<Pod>>) {
    let (mut surging, mut create, mut candidates, mut delete) = (0, Vec::new(), Vec::new(), Vec::new());
    for place in places.iter().filter(|place| place.should_run) {
        match told_apart(place, hash) {
            (None, Some(old)) if available(old) => candidates.push(place.node.clone()),
            (None, Some(_)) => {
                surging += 1;
                create.push(place.node.clone());
            }
            (Some(new), Some(old)) => {
                surging += 1;
                if available(new) {
                    delete.push(old.clone());
                }
            }
            _ => {}
        }
    }
    let more = usize::try_from(most - surging).unwrap_or(0);
    create.extend(candidates.into_iter().take(more));
    (create, delete)
}
