//! What controllers ask of a Pod: is it active, ready, available; which one goes first. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Annotation by which a pod asks to be kept (high) or given up (low).
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The phase, empty when none is set.
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Succeeded or Failed.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// One of its conditions.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when it is ready.
fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

/// Ready for at least `min_ready_s` seconds.
pub fn is_available(pod: &Pod, min_ready_s: i32, now: Timestamp) -> bool {
    is_ready(pod) && available_in_s(pod, min_ready_s, now) == Some(0)
}

/// Seconds until a ready pod is available; `None` while it is not ready or does not say since when.
pub fn available_in_s(pod: &Pod, min_ready_s: i32, now: Timestamp) -> Option<i64> {
    if min_ready_s <= 0 {
        return is_ready(pod).then_some(0);
    }
    let since = ready_since(pod)?;
    let ready_for = now.as_second() - since.as_second();
    Some((i64::from(min_ready_s) - ready_for).max(0))
}

/// The node it is bound to; empty when none.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

/// Sum of its containers' restarts, the largest first.
fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let statuses = status.and_then(|s| s.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .map(|c| c.restart_count)
        .max()
        .unwrap_or(0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let value = annotations.and_then(|a| a.get(DELETION_COST));
    value.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Orders pods so that those to be deleted first come first.
///
/// `on_same_node` tells how many related pods share the pod's node (the more, the earlier it goes). Ages are
/// compared by their logarithm, so that pods of about one age go in no particular order (uid). Each pod is reduced
/// to one key: comparing pairs by rules of their own, as upstream does, is no order (a sort may refuse it).
pub fn sort_for_deletion(pods: &mut [Arc<Pod>], on_same_node: &HashMap<String, usize>, now: Timestamp) {
    let rank = |pod: &Pod| on_same_node.get(node_name(pod)).copied().unwrap_or(0);
    pods.sort_by_cached_key(|pod| {
        (
            !node_name(pod).is_empty(),
            phase_order(pod),
            is_ready(pod),
            deletion_cost(pod),
            Reverse(rank(pod)),
            age_magnitude(ready_since(pod), now),
            Reverse(restarts(pod)),
            age_magnitude(created(pod), now),
            pod.metadata.uid.clone(),
        )
    });
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|t| t.0)
}

fn phase_order(pod: &Pod) -> u8 {
    match phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

/// The age in steps of a factor of two: the younger, the smaller.
fn age_magnitude(since: Option<Timestamp>, now: Timestamp) -> i64 {
    let age = since.map_or(0, |since| now.as_nanosecond() - since.as_nanosecond());
    if age > 0 { i64::from(age.ilog2()) } else { -1 }
}

/// A pod as a template describes it, with a generated name and one owner.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.as_ref();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            namespace: Some(namespace.to_owned()),
            labels: meta.and_then(|m| m.labels.clone()),
            annotations: meta.and_then(|m| m.annotations.clone()),
            finalizers: meta.and_then(|m| m.finalizers.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(name: &str, node: &str, phase: &str, ready_since_s: Option<i64>) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                uid: Some(name.into()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: (!node.is_empty()).then(|| node.to_owned()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.into()),
                conditions: ready_since_s.map(|s| {
                    vec![PodCondition {
                        type_: "Ready".into(),
                        status: "True".into(),
                        last_transition_time: Some(Time(at(s))),
                        ..PodCondition::default()
                    }]
                }),
                ..PodStatus::default()
            }),
        }
    }

    #[test]
    fn the_least_useful_goes_first() {
        let mut costly = pod("costly", "n1", "Running", Some(0));
        costly.metadata.annotations = Some([(DELETION_COST.to_owned(), "10".to_owned())].into());
        let mut pods: Vec<Arc<Pod>> = [
            costly,
            pod("old", "n1", "Running", Some(0)),
            pod("young", "n1", "Running", Some(990)),
            pod("crowded", "n2", "Running", Some(0)),
            pod("unready", "n1", "Running", None),
            pod("pending", "n1", "Pending", None),
            pod("unassigned", "", "Pending", None),
        ]
        .into_iter()
        .map(Arc::new)
        .collect();
        let nodes = HashMap::from([("n1".to_owned(), 1), ("n2".to_owned(), 2)]);
        sort_for_deletion(&mut pods, &nodes, at(1000));
        let names: Vec<_> = pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect();
        assert_eq!(
            names,
            [
                "unassigned",
                "pending",
                "unready",
                "crowded",
                "young",
                "old",
                "costly"
            ]
        );
    }

    #[test]
    fn pods_of_about_one_age_have_an_order_too() {
        // Equal times in some pairs and different ones of one magnitude in others: no order if pairs are compared by
        // their times first and by uid only where these differ.
        let mut pods: Vec<Arc<Pod>> = (0..64)
            .map(|n| {
                let mut pod = pod(&format!("p{}", n * 37 % 64), "n", "Running", Some(n % 3));
                pod.metadata.creation_timestamp = Some(Time(at(n % 2)));
                Arc::new(pod)
            })
            .collect();
        sort_for_deletion(&mut pods, &HashMap::new(), at(1000));
        let uids: Vec<_> = pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
        assert!(uids.is_sorted(), "{uids:?}");
    }

    #[test]
    fn availability_needs_time() {
        let ready = pod("a", "n", "Running", Some(100));
        assert!(is_available(&ready, 0, at(100)));
        assert!(!is_available(&ready, 10, at(109)));
        assert!(is_available(&ready, 10, at(110)));
        assert_eq!(available_in_s(&ready, 10, at(104)), Some(6));
        assert_eq!(available_in_s(&pod("b", "n", "Running", None), 10, at(0)), None);
    }
}
