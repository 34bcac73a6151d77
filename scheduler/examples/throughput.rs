//! How fast the scheduler decides, without an API server: `cargo run --release -p kube-scheduler --example throughput
//! -- [NODES] [PODS]` (5,000 nodes and 20,000 pods unless said otherwise). Prints one line per kind of pod.
#![allow(clippy::unwrap_used, reason = "a command for developers")]

use std::time::Instant;

use kube_scheduler::args::Args;
use kube_scheduler::model::labels::Selector;
use kube_scheduler::model::node::Node;
use kube_scheduler::observed::{ObjectChange, Observed};
use kube_scheduler::profile::{Defaults, Profile};
use kube_scheduler::queue::Backoff;
use kube_scheduler::scheduler::{Decision, Scheduler};
use serde_json::{Value, json};

const ZONES: usize = 3;

fn scheduler(nodes: usize) -> Scheduler {
    let profile = Profile::new("default-scheduler", &Defaults, Args::default());
    let mut scheduler = Scheduler::new(vec![profile], Backoff::default());
    for n in 0..nodes {
        let name = format!("node-{n}");
        let node = json!({
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", n % ZONES)}},
            "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"}},
        });
        let node = Node::new(&serde_json::from_value(node).unwrap());
        scheduler.observe(Observed::Node(Box::new(node)), 0);
    }
    let selector = Selector::from_map(Some(&[("app".to_owned(), "service".to_owned())].into()));
    let key = ("default".into(), "service".into());
    scheduler.observe(
        Observed::Object(ObjectChange::Selector("Service", key, Some(selector))),
        0,
    );
    scheduler
}

/// Kinds of pods: name, application, and what their spec has besides a container.
fn kinds() -> Vec<(&'static str, &'static str, Value)> {
    let term = |app: &str| json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"});
    let spread = json!([{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "spread"}}}]);
    vec![
        ("plain", "plain", json!({})),
        ("in a service", "service", json!({})),
        (
            "spread over zones",
            "spread",
            json!({"topologySpreadConstraints": spread}),
        ),
        (
            "away from each other",
            "away",
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term("away")]}}}),
        ),
    ]
}

fn pod(name: &str, app: &str, spec: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "image": "registry/app:1",
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (nodes, pods) = (
        numbers.first().copied().unwrap_or(5000),
        numbers.get(1).copied().unwrap_or(20_000),
    );
    for (kind, app, spec) in kinds() {
        let mut scheduler = scheduler(nodes);
        // A pod that must be alone on its node has no more places than there are nodes.
        let count = if app == "away" { pods.min(nodes) } else { pods };
        for n in 0..count {
            let pod = serde_json::from_value(pod(&format!("pod-{n}"), app, &spec)).unwrap();
            scheduler.observe(Observed::Pod(pod), 0);
        }
        let began = Instant::now();
        let mut bound = 0;
        while let Some(Decision::Bind { .. }) = scheduler.decide(0) {
            bound += 1;
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{kind:>22}: {bound} pods on {nodes} nodes in {seconds:.2} s, {:.0} pods/s",
            f64::from(bound) / seconds
        );
    }
}
