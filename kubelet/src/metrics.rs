//! The kubelet's own numbers: how long each CRI call takes, how many failed, pod start steps.
//!
//! Names are upstream's where upstream has them (`kubelet_runtime_operations_*`).

use keelson_base::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Operation {
    operation_type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Step {
    step: &'static str,
}

type Timings<L> = Family<L, Histogram, fn() -> Histogram>;

/// Handles to all metrics; clones share the numbers.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    cri_seconds: Timings<Operation>,
    cri_calls: Family<Operation, Counter>,
    cri_errors: Family<Operation, Counter>,
    steps: Timings<Step>,
}

impl Metrics {
    pub fn new(registry: Registry) -> Self {
        let cri_seconds = Timings::new_with_constructor(call_buckets as fn() -> Histogram);
        let steps = Timings::new_with_constructor(call_buckets as fn() -> Histogram);
        let (cri_calls, cri_errors) = (Family::default(), Family::default());
        registry.register(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations, by operation type",
            cri_seconds.clone(),
        );
        registry.register(
            "kubelet_runtime_operations",
            "Runtime operations by operation type",
            Family::clone(&cri_calls),
        );
        registry.register(
            "kubelet_runtime_operations_errors",
            "Failed runtime operations by operation type",
            Family::clone(&cri_errors),
        );
        registry.register(
            "kubelet_pod_start_step_duration_seconds",
            "Duration in seconds of the steps of a pod's start",
            steps.clone(),
        );
        Metrics {
            registry,
            cri_seconds,
            cri_calls,
            cri_errors,
            steps,
        }
    }

    /// Notes one CRI call.
    pub fn cri(&self, operation_type: &'static str, took: Duration, failed: bool) {
        let label = Operation { operation_type };
        self.cri_seconds.get_or_create(&label).observe(took.as_secs_f64());
        self.cri_calls.get_or_create(&label).inc();
        if failed {
            self.cri_errors.get_or_create(&label).inc();
        }
    }

    /// Notes one step of a pod's start: `volumes`, `sandbox`, `image`, `container`, `total`.
    pub fn step(&self, step: &'static str, took: Duration) {
        self.steps
            .get_or_create(&Step { step })
            .observe(took.as_secs_f64());
    }

    /// The registry, for the health server beside.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    pub fn render(&self) -> String {
        self.registry.render()
    }
}

fn call_buckets() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}
