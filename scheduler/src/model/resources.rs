//! Amounts of resources: what a node has, what a pod asks for.
//!
//! cpu is in thousandths of a core, memory and ephemeral storage in bytes, everything else in units. All sums are
//! saturating, so that absurd requests cannot wrap round.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use keelson_machinery::quantity::Quantity;

/// What scoring assumes a container without a cpu request uses, in thousandths of a core.
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// What scoring assumes a container without a memory request uses, in bytes.
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts per resource. `scalars` is sorted by name and holds everything that has no field of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub scalars: Vec<(Box<str>, i64)>,
}

/// A `ResourceList` of the API.
pub type ResourceList = BTreeMap<String, ApiQuantity>;

impl Resources {
    /// Reads a list; `pods` is left out (see `pods_allowed`), amounts that cannot be read count as zero.
    pub fn new(list: Option<&ResourceList>) -> Self {
        let mut result = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let Ok(quantity) = Quantity::parse(&quantity.0) else {
                continue;
            };
            match name.as_str() {
                "cpu" => result.milli_cpu = quantity.milli_value(),
                "memory" => result.memory = quantity.value(),
                "ephemeral-storage" => result.ephemeral_storage = quantity.value(),
                "pods" => {}
                _ => result.scalars.push((name.as_str().into(), quantity.value())),
            }
        }
        result
    }

    /// The amount of a resource by name; 0 when absent.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self
                .scalars
                .iter()
                .find(|(n, _)| &**n == name)
                .map_or(0, |(_, v)| *v),
        }
    }

    /// Adds another list, `times` over; a negative `times` takes it away.
    pub fn add(&mut self, other: &Self, times: i64) {
        let sum = |a: i64, b: i64| a.saturating_add(b.saturating_mul(times));
        self.milli_cpu = sum(self.milli_cpu, other.milli_cpu);
        self.memory = sum(self.memory, other.memory);
        self.ephemeral_storage = sum(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            match self.scalars.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(at) => self.scalars[at].1 = sum(self.scalars[at].1, *amount),
                Err(at) => self.scalars.insert(at, (name.clone(), sum(0, *amount))),
            }
        }
    }

    /// The larger of both, per resource.
    pub fn raise_to(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.max(other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            match self.scalars.binary_search_by(|(n, _)| n.cmp(name)) {
                Ok(at) => self.scalars[at].1 = self.scalars[at].1.max(*amount),
                Err(at) => self.scalars.insert(at, (name.clone(), *amount)),
            }
        }
    }
}

/// How many pods a node takes.
pub fn pods_allowed(list: Option<&ResourceList>) -> i64 {
    let pods = list
        .and_then(|l| l.get("pods"))
        .and_then(|q| Quantity::parse(&q.0).ok());
    pods.map_or(0, |q| q.value())
}

/// What a pod asks for, twice: as filters count it, and as scores do, with defaults for containers that name no cpu
/// or memory.
pub fn pod_requests(spec: &PodSpec) -> (Resources, Resources) {
    (sum_requests(spec, false), sum_requests(spec, true))
}

/// Containers run together; init containers one after another beside the sidecars started before them (KEP-753).
fn sum_requests(spec: &PodSpec, with_defaults: bool) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&container_requests(container, with_defaults), 1);
    }
    let mut sidecars = Resources::default();
    let mut init_peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut request = container_requests(container, with_defaults);
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&request, 1);
            sidecars.add(&request, 1);
            request = sidecars.clone();
        } else {
            request.add(&sidecars, 1);
        }
        init_peak.raise_to(&request);
    }
    total.raise_to(&init_peak);
    if let Some(pod_level) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let stated = Resources::new(Some(pod_level));
        for name in pod_level.keys() {
            match name.as_str() {
                "cpu" => total.milli_cpu = stated.milli_cpu,
                "memory" => total.memory = stated.memory,
                _ => {}
            }
        }
    }
    total.add(&Resources::new(spec.overhead.as_ref()), 1);
    total
}

fn container_requests(container: &Container, with_defaults: bool) -> Resources {
    let list = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let mut request = Resources::new(list);
    if with_defaults {
        if !list.is_some_and(|l| l.contains_key("cpu")) {
            request.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if !list.is_some_and(|l| l.contains_key("memory")) {
            request.memory = DEFAULT_MEMORY;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> PodSpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn init_containers_count_by_their_peak_and_sidecars_always() {
        let spec = spec(
            r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"100m","memory":"1Mi"}}}],
            "initContainers":[
              {"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"50m"}}},
              {"name":"i","resources":{"requests":{"cpu":"1","example.com/gpu":"2"}}}],
            "overhead":{"cpu":"10m"}}"#,
        );
        let (request, scored) = pod_requests(&spec);
        assert_eq!(request.milli_cpu, 1050 + 10);
        assert_eq!(request.memory, 1 << 20);
        assert_eq!(request.get("example.com/gpu"), 2);
        assert_eq!(
            scored.memory,
            DEFAULT_MEMORY * 2,
            "sidecar and init container have none"
        );
    }

    #[test]
    fn scores_assume_a_little_where_nothing_is_requested() {
        let (request, scored) = pod_requests(&spec(r#"{"containers":[{"name":"a"},{"name":"b"}]}"#));
        assert_eq!((request.milli_cpu, request.memory), (0, 0));
        assert_eq!((scored.milli_cpu, scored.memory), (200, 2 * DEFAULT_MEMORY));
    }

    #[test]
    fn sums_do_not_wrap() {
        let mut a = Resources {
            memory: i64::MAX,
            ..Default::default()
        };
        a.add(
            &Resources {
                memory: 10,
                ..Default::default()
            },
            1,
        );
        assert_eq!(a.memory, i64::MAX);
    }
}
