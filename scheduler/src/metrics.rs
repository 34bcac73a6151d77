//! The scheduler's metrics, under upstream's names.

use std::sync::atomic::AtomicU64;

use keelson_base::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::queue::Depths;

/// How an attempt ended, for which profile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Attempt {
    pub result: &'static str,
    pub profile: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue: &'static str,
}

/// All of them.
#[derive(Clone)]
pub struct Metrics {
    pub attempts: Family<Attempt, Counter<u64, AtomicU64>>,
    /// Seconds per decision.
    pub algorithm: Histogram,
    /// Seconds from first seen to bound.
    pub sli: Histogram,
    pub preemption_victims: Histogram,
    pub preemption_attempts: Counter,
    pending: Family<QueueLabel, Gauge>,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            attempts: Family::default(),
            algorithm: Histogram::new(exponential_buckets(0.00001, 2.0, 15)),
            sli: Histogram::new(exponential_buckets(0.01, 2.0, 20)),
            preemption_victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            preemption_attempts: Counter::default(),
            pending: Family::default(),
        };
        let attempts = "Number of attempts to schedule pods, by the result";
        registry.register("scheduler_schedule_attempts", attempts, metrics.attempts.clone());
        let algorithm = "Scheduling algorithm latency in seconds";
        registry.register(
            "scheduler_scheduling_algorithm_duration_seconds",
            algorithm,
            metrics.algorithm.clone(),
        );
        let sli = "E2e latency for a pod being scheduled, from first queued to bound";
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            sli,
            metrics.sli.clone(),
        );
        let victims = "Number of selected preemption victims";
        registry.register(
            "scheduler_preemption_victims",
            victims,
            metrics.preemption_victims.clone(),
        );
        let attempts = "Total preemption attempts in the cluster till now";
        registry.register(
            "scheduler_preemption_attempts",
            attempts,
            metrics.preemption_attempts.clone(),
        );
        let pending = "Number of pending pods, by the queue type";
        registry.register("scheduler_pending_pods", pending, metrics.pending.clone());
        metrics
    }

    /// Shows the queue's depths.
    pub fn show(&self, depths: Depths) {
        let Depths {
            active,
            backoff,
            unschedulable,
            gated,
        } = depths;
        let all = [
            ("active", active),
            ("backoff", backoff),
            ("unschedulable", unschedulable),
            ("gated", gated),
        ];
        for (queue, depth) in all {
            self.pending
                .get_or_create(&QueueLabel { queue })
                .set(depth as i64);
        }
    }
}
