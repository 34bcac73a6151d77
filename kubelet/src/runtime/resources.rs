//! Requests and limits as the numbers the kernel takes: cpu shares and quota, memory limit, oom_score_adj, QoS class.
//!
//! Formulas are upstream's (`pkg/kubelet/qos`, `pkg/kubelet/cm`). The oom score is clamped by the caller's own score:
//! without CAP_SYS_RESOURCE a process may not be given a lower score than its parent has.

use crate::{pod, quantity};
use k8s_openapi::api::core::v1::{Container, Pod};
use keelson_proto::cri::v1::LinuxContainerResources;

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const CPU_PERIOD_US: i64 = 100_000;
const MIN_QUOTA_US: i64 = 1000;

/// Quality of service class of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// What the node gives to the arithmetic.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    pub memory_bytes: i64,
    /// The kubelet's own score: the lowest it can give where lowering is forbidden.
    pub oom_score_adj_min: i64,
    pub cpu_cfs_quota: bool,
}

/// The class of a pod, computed as the API server computes `status.qosClass`.
pub fn qos(pod: &Pod) -> Qos {
    let spec = pod::spec(pod);
    let mut any = false;
    let mut guaranteed = true;
    for container in pod::init_containers(pod).iter().chain(&spec.containers) {
        let resources = container.resources.clone().unwrap_or_default();
        for name in ["cpu", "memory"] {
            let request = quantity::get(&resources.requests, name).map_or(0, quantity::milli);
            let limit = quantity::get(&resources.limits, name).map_or(0, quantity::milli);
            any |= request > 0 || limit > 0;
            guaranteed &= limit > 0 && (request == 0 || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// cgroup v1 cpu shares for a request in thousandths of a CPU.
pub fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 {
        MIN_SHARES
    } else {
        (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
    }
}

/// cgroup v2 weight for the same shares.
pub fn weight(shares: i64) -> i64 {
    1 + ((shares - 2) * 9999) / 262_142
}

/// CFS quota in microseconds per 100 ms for a limit in thousandths; 0 means none.
pub fn quota(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 {
        0
    } else {
        (milli_cpu * CPU_PERIOD_US / 1000).max(MIN_QUOTA_US)
    }
}

/// oom_score_adj of a container before clamping.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if pod::spec(pod).priority.is_some_and(|p| p >= 2_000_000_000) {
        return -997;
    }
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let resources = container.resources.clone().unwrap_or_default();
            let request = quantity::get(&resources.requests, "memory").map_or(0, quantity::value);
            let adjust = 1000 - (1000 * i128::from(request) / i128::from(memory_capacity.max(1))) as i64;
            // Above guaranteed (-997) and below best effort (1000).
            adjust.clamp(3, 999)
        }
    }
}

/// The resources message of a container.
pub fn of_container(pod: &Pod, container: &Container, node: NodeLimits) -> LinuxContainerResources {
    let resources = container.resources.clone().unwrap_or_default();
    let cpu_limit = quantity::get(&resources.limits, "cpu").map_or(0, quantity::milli);
    let cpu_request = quantity::get(&resources.requests, "cpu").map_or(cpu_limit, quantity::milli);
    let score = oom_score_adj(pod, container, node.memory_bytes);
    LinuxContainerResources {
        cpu_shares: shares(cpu_request),
        cpu_quota: if node.cpu_cfs_quota { quota(cpu_limit) } else { 0 },
        cpu_period: CPU_PERIOD_US,
        memory_limit_in_bytes: quantity::get(&resources.limits, "memory").map_or(0, quantity::value),
        oom_score_adj: score.max(node.oom_score_adj_min),
        ..LinuxContainerResources::default()
    }
}

/// Sums for the pod's own cgroup: shares of all requests, quota and memory limit where every container has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodLimits {
    pub cpu_shares: i64,
    pub cpu_quota_us: Option<i64>,
    pub memory_bytes: Option<i64>,
}

pub fn of_pod(pod: &Pod) -> PodLimits {
    let (cpu_request, _) = total(pod, "cpu", Side::Request);
    let (cpu_limit, cpu_bounded) = total(pod, "cpu", Side::Limit);
    let (memory, memory_bounded) = total(pod, "memory", Side::Limit);
    PodLimits {
        cpu_shares: shares(cpu_request),
        cpu_quota_us: cpu_bounded.then(|| quota(cpu_limit)),
        memory_bytes: memory_bounded.then_some(memory / 1000),
    }
}

#[derive(Clone, Copy)]
enum Side {
    Request,
    Limit,
}

/// The pod's total in thousandths (max of init steps and the sum of the rest, plus overhead), and whether every
/// container names the resource.
fn total(pod: &Pod, resource: &str, side: Side) -> (i64, bool) {
    let amount = |c: &Container| {
        let resources = c.resources.as_ref()?;
        let list = match side {
            Side::Request => &resources.requests,
            Side::Limit => &resources.limits,
        };
        quantity::get(list, resource).map(quantity::milli)
    };
    let mut bounded = true;
    let (mut sidecars, mut peak) = (0i64, 0i64);
    for c in pod::init_containers(pod) {
        let own = amount(c);
        bounded &= own.is_some_and(|v| v > 0);
        let own = own.unwrap_or(0);
        if pod::is_sidecar(c) {
            sidecars += own;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + own);
        }
    }
    let mut sum = sidecars;
    for c in pod::containers(pod) {
        let own = amount(c);
        bounded &= own.is_some_and(|v| v > 0);
        sum += own.unwrap_or(0);
    }
    let overhead = quantity::get(&pod::spec(pod).overhead, resource).map_or(0, quantity::milli);
    (sum.max(peak) + overhead, bounded)
}

/// The pod's request in thousandths, as the scheduler counts it.
pub fn pod_request_milli(pod: &Pod, resource: &str) -> i64 {
    total(pod, resource, Side::Request).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    fn pod(resources: serde_json::Value) -> Pod {
        let container = serde_json::from_value(json!({"name": "c", "resources": resources})).unwrap();
        Pod {
            spec: Some(PodSpec {
                containers: vec![container],
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        for (resources, class) in [
            (json!({}), Qos::BestEffort),
            (json!({"requests": {"cpu": "100m"}}), Qos::Burstable),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), Qos::Guaranteed),
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
                Qos::Burstable,
            ),
            (json!({"limits": {"cpu": "1"}}), Qos::Burstable),
        ] {
            assert_eq!(qos(&pod(resources.clone())), class, "{resources}");
        }
    }

    #[test]
    fn kernel_numbers() {
        assert_eq!(
            (shares(0), shares(100), shares(1000), shares(1_000_000)),
            (2, 102, 1024, 262_144)
        );
        assert_eq!((quota(0), quota(5), quota(500)), (0, 1000, 50_000));
        assert_eq!(weight(1024), 39);
        let p = pod(json!({"requests": {"memory": "1Gi"}}));
        assert_eq!(
            oom_score_adj(&p, &p.spec.as_ref().unwrap().containers[0], 4 << 30),
            750
        );
        let limits = NodeLimits {
            memory_bytes: 4 << 30,
            oom_score_adj_min: 800,
            cpu_cfs_quota: true,
        };
        assert_eq!(
            of_container(&p, &p.spec.as_ref().unwrap().containers[0], limits).oom_score_adj,
            800
        );
    }
}
