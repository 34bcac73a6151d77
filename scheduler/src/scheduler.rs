//! The scheduler's state and decisions: takes in events, gives out one decision per waiting pod.
//!
//! Pure: no clock, no client. A decided pod is assumed to be on its node at once, so that the next decision counts it;
//! the driver reports what became of the binding.
//!
//! Invariants: a pod is in the queue, under way (popped, its decision not yet reported), assumed, or placed, and never
//! in two of these; what is assumed counts on its node exactly once, also after the watch shows it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::columns::ColumnsCache;
use crate::diagnosis::Diagnosis;
use crate::evaluate::{self, Input};
use crate::hint::Change;
use crate::model::class::Classes;
use crate::model::node::Node;
use crate::model::pod::{Pod, Uid};
use crate::model::volume::Volume;
use crate::nominations::Nominations;
use crate::observed::Observed;
use crate::preemption::{self, Candidate};
use crate::profile::Profile;
use crate::queue::{Backoff, Failure, Millis, Popped, Queue};

/// What is to be done about one pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Bind it to a node. `claims` wait for the node to be chosen: they come first.
    Bind {
        pod: Arc<Pod>,
        node: Box<str>,
        claims: Vec<Box<str>>,
    },
    /// Say that it fits nowhere.
    Refuse {
        pod: Arc<Pod>,
        message: String,
        nomination: Nomination,
        victims: Vec<Arc<Pod>>,
    },
}

/// What happens to a pod's nominated node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nomination {
    Keep,
    Clear,
    Node(Box<str>),
}

/// A pod that is decided but not yet seen on its node.
#[derive(Debug)]
struct Assumed {
    popped: Popped,
    node: Box<str>,
}

/// The scheduler.
pub struct Scheduler {
    pub cluster: Cluster,
    pub queue: Queue,
    pub classes: Classes,
    profiles: Vec<Profile>,
    columns: Vec<ColumnsCache>,
    nominations: Nominations,
    /// Where every placed or assumed pod is.
    node_of: HashMap<Uid, Box<str>>,
    assumed: HashMap<Uid, Assumed>,
    decisions: u64,
}

impl Scheduler {
    /// A scheduler of an empty cluster.
    pub fn new(profiles: Vec<Profile>, backoff: Backoff) -> Self {
        let mut cluster = Cluster::default();
        cluster.want_topology(crate::plugins::pod_topology_spread::HOSTNAME);
        cluster.want_topology(crate::plugins::pod_topology_spread::ZONE);
        for constraint in profiles
            .iter()
            .flat_map(|p| p.args.default_constraints.iter().flatten())
        {
            cluster.want_topology(&constraint.topology_key);
        }
        Self {
            cluster,
            queue: Queue::new(backoff),
            classes: Classes::default(),
            columns: profiles.iter().map(|_| ColumnsCache::default()).collect(),
            profiles,
            nominations: Nominations::default(),
            node_of: HashMap::new(),
            assumed: HashMap::new(),
            decisions: 0,
        }
    }

    /// Takes in one event.
    pub fn observe(&mut self, event: Observed, now: Millis) {
        match event {
            Observed::Pod(pod) => self.pod_changed(&pod, now),
            Observed::PodGone(uid) => self.pod_gone(&uid, now),
            Observed::Node(node) => self.node_changed(*node, now),
            Observed::NodeGone(name) => {
                if self.cluster.remove_node(&name) {
                    self.queue.notice(Change::NodeRemoved, now);
                }
            }
            Observed::Object(change) => {
                if let Some(change) = change.apply(&mut self.cluster.objects) {
                    self.queue.notice(change, now);
                }
            }
        }
    }

    fn node_changed(&mut self, node: Node, now: Millis) {
        let name = node.name.clone();
        let generation = self.cluster.generation();
        let before = self.cluster.set_node(node);
        if self.cluster.generation() == generation {
            return;
        }
        let after = self
            .cluster
            .node(self.cluster.find(&name).expect("it was just set"));
        match &before {
            Some(before) => self.queue.notice(Change::NodeUpdated { before, after }, now),
            None => self.queue.notice(Change::NodeAdded(after), now),
        }
    }

    fn pod_changed(&mut self, pod: &k8s_openapi::api::core::v1::Pod, now: Millis) {
        let pod = Arc::new(Pod::new(pod, &mut self.classes));
        let wanted = pod
            .class
            .affinity
            .iter()
            .chain(&pod.class.anti_affinity)
            .map(|t| &t.topology_key);
        let preferred = pod
            .class
            .preferred_affinity
            .iter()
            .chain(&pod.class.preferred_anti_affinity);
        let spread = pod.class.spread.iter().map(|c| &c.topology_key);
        for key in wanted
            .chain(preferred.map(|(_, t)| &t.topology_key))
            .chain(spread)
        {
            self.cluster.want_topology(key);
        }
        match &pod.node {
            Some(_) if pod.finished => self.pod_gone(&pod.uid, now),
            Some(node) => {
                let node = node.clone();
                self.pod_placed(pod, &node, now);
            }
            None => self.pod_pending(pod, now),
        }
    }

    fn pod_placed(&mut self, pod: Arc<Pod>, node: &str, now: Millis) {
        self.queue.remove(&pod.uid);
        self.nominations.remove(&pod.uid);
        self.assumed.remove(&pod.uid);
        let before = self.node_of.insert(pod.uid.clone(), node.into());
        let before = before.and_then(|old| self.cluster.remove_pod(&old, &pod.uid));
        let class = pod.class.clone();
        self.cluster.add_pod(pod);
        match before {
            Some(before) if before.class.id == class.id => {}
            Some(before) => {
                self.queue
                    .notice(Change::PodRemoved { class: &before.class }, now);
                self.queue.notice(Change::PodAdded { class: &class }, now);
            }
            None => self.queue.notice(Change::PodAdded { class: &class }, now),
        }
    }

    fn pod_pending(&mut self, pod: Arc<Pod>, now: Millis) {
        let Some(profile) = self.profiles.iter().find(|p| p.name == pod.class.scheduler_name) else {
            return;
        };
        // The watch is behind our own decision.
        if self.assumed.contains_key(&pod.uid) {
            return;
        }
        if pod.deleting || pod.finished {
            self.queue.remove(&pod.uid);
            self.nominations.remove(&pod.uid);
            return;
        }
        // A nomination of our own that the API does not show yet stays.
        if pod.nominated_node.is_some() || self.nominations.node_of(&pod.uid).is_none() {
            self.nominations.set(&pod, pod.nominated_node.as_deref());
        }
        let gated = profile.gates && !pod.gates.is_empty();
        self.queue.upsert(pod, gated, now);
    }

    fn pod_gone(&mut self, uid: &Uid, now: Millis) {
        self.queue.remove(uid);
        self.nominations.remove(uid);
        self.assumed.remove(uid);
        let removed = self
            .node_of
            .remove(uid)
            .and_then(|node| self.cluster.remove_pod(&node, uid));
        if let Some(pod) = removed {
            self.queue.notice(Change::PodRemoved { class: &pod.class }, now);
        }
    }

    /// Decides about the next pod; `None` when none is ready.
    pub fn decide(&mut self, now: Millis) -> Option<Decision> {
        let popped = self.queue.pop(now)?;
        let pod = popped.pod.clone();
        let at = self
            .profiles
            .iter()
            .position(|p| p.name == pod.class.scheduler_name);
        let at = at.expect("only pods of known profiles are queued");
        self.decisions += 1;
        let mut columns = self.columns[at].take(pod.class.id);
        columns.refresh(&self.cluster, &self.profiles[at], &pod.class);
        let input = Input {
            cluster: &self.cluster,
            profile: &self.profiles[at],
            columns: &columns,
            nominations: &self.nominations,
            tie_break: mixed(self.decisions),
        };
        let result = evaluate::evaluate(input, &pod);
        let decision = match result {
            Ok(index) => {
                let node = self.cluster.node(index).name.clone();
                let claims = self.claims_to_select(&pod);
                self.assume(popped, &node, now);
                Decision::Bind { pod, node, claims }
            }
            Err(diagnosis) => {
                let preempted = self.preempt(input, &pod, &diagnosis);
                self.refuse(popped, diagnosis, preempted, now)
            }
        };
        self.columns[at].put(decision.pod().class.id, columns);
        Some(decision)
    }

    fn preempt(&self, input: Input, pod: &Pod, diagnosis: &Diagnosis) -> Option<Result<Candidate, String>> {
        (input.profile.preempts && diagnosis.total > 0).then(|| preemption::preempt(input, pod, diagnosis))
    }

    fn assume(&mut self, popped: Popped, node: &str, now: Millis) {
        let placed = evaluate::placed(&popped.pod, node);
        self.nominations.remove(&placed.uid);
        self.node_of.insert(placed.uid.clone(), node.into());
        self.assumed.insert(
            placed.uid.clone(),
            Assumed {
                popped,
                node: node.into(),
            },
        );
        self.cluster.add_pod(placed.clone());
        self.queue.notice(Change::PodAdded { class: &placed.class }, now);
    }

    fn refuse(
        &mut self,
        popped: Popped,
        diagnosis: Diagnosis,
        preempted: Option<Result<Candidate, String>>,
        now: Millis,
    ) -> Decision {
        let pod = popped.pod.clone();
        let mut victims = Vec::new();
        let (message, nomination) = match preempted {
            None => (diagnosis.message(None), Nomination::Keep),
            Some(Ok(candidate)) => {
                let node = self.cluster.node(candidate.node).name.clone();
                // Pods of lower priority that hoped for this node look for another one.
                for other in self.nominations.below(pod.class.priority, &node) {
                    self.nominations.remove(&other.uid);
                    self.queue.activate(&other.uid, now);
                }
                self.nominations.set(&pod, Some(&node));
                victims = candidate.victims;
                (diagnosis.message(None), Nomination::Node(node))
            }
            Some(Err(why)) => {
                // The first half is the answer of DynamicResources, which has nothing to give back.
                let after = format!("no new claims to deallocate, preemption: {why}");
                let keeps = why.starts_with("not eligible");
                if !keeps {
                    self.nominations.remove(&pod.uid);
                }
                let nomination = if keeps {
                    Nomination::Keep
                } else {
                    Nomination::Clear
                };
                (diagnosis.message(Some(&after)), nomination)
            }
        };
        self.queue
            .requeue(popped, Failure::Refused(diagnosis.plugins()), now);
        Decision::Refuse {
            pod,
            message,
            nomination,
            victims,
        }
    }

    /// The binding of a pod ended. After a failure the pod is tried again.
    pub fn bound(&mut self, uid: &Uid, success: bool, now: Millis) {
        if success {
            return;
        }
        // Gone from `assumed`: the watch showed it placed or deleted, which is the truth.
        let Some(assumed) = self.assumed.remove(uid) else {
            return;
        };
        self.node_of.remove(uid);
        let removed = self.cluster.remove_pod(&assumed.node, uid);
        self.queue.requeue(assumed.popped, Failure::Error, now);
        if let Some(pod) = removed {
            self.queue.notice(Change::PodRemoved { class: &pod.class }, now);
        }
    }

    /// Claims that wait for their first consumer's node.
    fn claims_to_select(&self, pod: &Pod) -> Vec<Box<str>> {
        let objects = &self.cluster.objects;
        let unbound = |name: &str| {
            let key = (pod.class.namespace.clone(), Box::from(name));
            objects.claims.get(&key).is_some_and(|claim| !claim.bound)
        };
        let names = pod.class.volumes.iter().filter_map(|v| match v {
            Volume::Claim { name, .. } => Some(name),
            Volume::Disk { .. } => None,
        });
        names.filter(|name| unbound(name)).cloned().collect()
    }

    /// Pods known to be on a node or assumed there.
    pub fn placed_uids(&self) -> impl Iterator<Item = &Uid> {
        self.node_of.keys()
    }
}

impl Decision {
    /// The pod it is about.
    pub fn pod(&self) -> &Arc<Pod> {
        match self {
            Self::Bind { pod, .. } | Self::Refuse { pod, .. } => pod,
        }
    }
}

/// Spreads consecutive numbers evenly (splitmix64).
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::args::Args;
    use crate::model::labels::Selector;
    use crate::objects::Budget;
    use crate::observed::ObjectChange;
    use crate::profile::Defaults;
    use crate::testing::{node, node_with};

    /// A cluster under one default profile, driven by events at a clock that stands still unless told.
    struct World {
        scheduler: Scheduler,
        now: Millis,
    }

    impl World {
        fn new(nodes: &[Node]) -> Self {
            let profile = Profile::new("default-scheduler", &Defaults, Args::default());
            let mut world = Self {
                scheduler: Scheduler::new(vec![profile], Backoff::default()),
                now: 0,
            };
            for node in nodes {
                world.see(Observed::Node(Box::new(node.clone())));
            }
            world
        }

        fn see(&mut self, event: Observed) {
            self.scheduler.observe(event, self.now);
        }

        /// A pod of these labels and this spec appears; on a node where the spec names one.
        fn pod(&mut self, name: &str, labels: Value, spec: Value) {
            let pod = json!({
                "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels}, "spec": spec,
            });
            self.see(Observed::Pod(serde_json::from_value(pod).unwrap()));
        }

        /// The next decision: the node's name, or the message.
        fn decide(&mut self) -> Option<String> {
            Some(match self.scheduler.decide(self.now)? {
                Decision::Bind { node, .. } => node.to_string(),
                Decision::Refuse {
                    message,
                    nomination: Nomination::Node(node),
                    victims,
                    ..
                } => {
                    let mut names: Vec<&str> = victims.iter().map(|v| &*v.name).collect();
                    names.sort_unstable();
                    format!("{message} takes {names:?} from {node}")
                }
                Decision::Refuse { message, .. } => message,
            })
        }
    }

    fn cpu(amount: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]})
    }

    fn with(mut spec: Value, field: &str, value: Value) -> Value {
        spec[field] = value;
        spec
    }

    fn zoned(name: &str, zone: &str) -> Node {
        node(name, &json!({"topology.kubernetes.io/zone": zone}).to_string())
    }

    fn affinity(kind: &str, selector: Value, key: &str) -> Value {
        let term = json!({"labelSelector": {"matchLabels": selector}, "topologyKey": key});
        json!({"containers": [], "affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
    }

    #[test]
    fn every_refusal_is_told_in_upstreams_words() {
        let tainted = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
        let cordoned = json!({"spec": {"unschedulable": true}});
        let mut world = World::new(&[
            node("n1", "{}"),
            node_with("n2", tainted),
            node_with("n3", cordoned),
        ]);
        world.pod("big", json!({}), cpu("8"));
        assert_eq!(
            world.decide().unwrap(),
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were \
             unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not \
             helpful for scheduling."
        );
        world.pod("other", json!({}), cpu("3"));
        world.pod("full", json!({}), cpu("3"));
        assert_eq!(world.decide().unwrap(), "n1");
        assert_eq!(
            world.decide().unwrap(),
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were \
             unschedulable. no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims \
             found for incoming pod, 2 Preemption is not helpful for scheduling."
        );
        let selector = json!({"disk": "ssd"});
        world.pod(
            "picky",
            json!({}),
            with(json!({"containers": []}), "nodeSelector", selector),
        );
        let message = world.decide().unwrap();
        assert!(
            message.contains("1 node(s) didn't match Pod's node affinity/selector"),
            "{message}"
        );
    }

    #[test]
    fn no_node_at_all_is_told_and_the_first_node_wakes_the_pod() {
        let mut world = World::new(&[]);
        world.pod("a", json!({}), cpu("1"));
        assert_eq!(world.decide().unwrap(), "no nodes available to schedule pods");
        assert_eq!(world.decide(), None);
        world.see(Observed::Node(Box::new(node("n1", "{}"))));
        assert_eq!(world.decide().unwrap(), "n1");
    }

    #[test]
    fn what_is_assumed_counts_until_the_binding_fails() {
        let mut world = World::new(&[node("n1", "{}")]);
        world.pod("a", json!({}), cpu("3"));
        world.pod("b", json!({}), cpu("3"));
        assert_eq!(world.decide().unwrap(), "n1");
        assert!(world.decide().unwrap().contains("Insufficient cpu"));
        world.scheduler.bound(&Uid("a".into()), false, world.now);
        assert_eq!(
            world.decide().unwrap(),
            "n1",
            "b takes the place while a backs off"
        );
        world.scheduler.bound(&Uid("b".into()), true, world.now);
        world.pod("b", json!({}), with(cpu("3"), "nodeName", json!("n1")));
        world.now = 5000;
        assert!(world.decide().unwrap().contains("Insufficient cpu"));
        world.see(Observed::PodGone(Uid("b".into())));
        world.now = 10_000;
        assert_eq!(world.decide().unwrap(), "n1");
    }

    #[test]
    fn pods_go_where_most_is_free_and_replicas_spread() {
        let mut world = World::new(&[node("n1", "{}"), node("n2", "{}")]);
        world.pod("x", json!({}), with(cpu("2"), "nodeName", json!("n1")));
        world.pod("a", json!({}), cpu("1"));
        assert_eq!(world.decide().unwrap(), "n2");
        let mut world = World::new(&[zoned("n1", "a"), zoned("n2", "a"), zoned("n3", "b")]);
        let selector: Selector = Selector::from_map(Some(&[("app".to_owned(), "web".to_owned())].into()));
        let key = ("default".into(), "web".into());
        world.see(Observed::Object(ObjectChange::Selector(
            "Service",
            key,
            Some(selector),
        )));
        for name in ["a", "b", "c"] {
            world.pod(name, json!({"app": "web"}), cpu("100m"));
        }
        let mut nodes: Vec<_> = std::iter::from_fn(|| world.decide()).collect();
        nodes.sort();
        assert_eq!(nodes, ["n1", "n2", "n3"]);
    }

    #[test]
    fn spread_constraints_hold() {
        let mut world = World::new(&[zoned("n1", "a"), zoned("n2", "b"), node("n3", "{}")]);
        let constraint = json!([{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}}}]);
        let spec = with(json!({"containers": []}), "topologySpreadConstraints", constraint);
        world.pod(
            "old1",
            json!({"app": "web"}),
            json!({"containers": [], "nodeName": "n1"}),
        );
        for (name, expected) in [("a", Some("n2")), ("b", None)] {
            world.pod(name, json!({"app": "web"}), spec.clone());
            let decided = world.decide().unwrap();
            assert!(expected.is_none_or(|e| e == decided), "{decided}");
        }
        world.see(Observed::NodeGone("n2".into()));
        world.see(Observed::Node(Box::new(node_with(
            "n2",
            json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "b"}}, "spec": {"unschedulable": true}}),
        ))));
        world.pod(
            "old2",
            json!({"app": "web"}),
            json!({"containers": [], "nodeName": "n1"}),
        );
        world.pod("c", json!({"app": "web"}), spec);
        let message = world.decide().unwrap();
        assert!(
            message.contains("1 node(s) didn't match pod topology spread constraints,"),
            "{message}"
        );
        assert!(
            message.contains("constraints (missing required label)"),
            "{message}"
        );
        assert!(message.contains("1 node(s) were unschedulable"), "{message}");
    }

    #[test]
    fn pods_keep_near_and_away() {
        let zone = "topology.kubernetes.io/zone";
        let mut world = World::new(&[zoned("n1", "a"), zoned("n2", "b")]);
        world.pod(
            "db",
            json!({"app": "db"}),
            json!({"containers": [], "nodeName": "n2"}),
        );
        world.pod(
            "near",
            json!({}),
            affinity("podAffinity", json!({"app": "db"}), zone),
        );
        assert_eq!(world.decide().unwrap(), "n2");
        world.pod(
            "away",
            json!({"app": "x"}),
            affinity("podAntiAffinity", json!({"app": "db"}), zone),
        );
        assert_eq!(world.decide().unwrap(), "n1");
        world.pod("db2", json!({"app": "db"}), json!({"containers": []}));
        assert_eq!(
            world.decide().unwrap(),
            "n2",
            "the pod on n1 wants to be away from it"
        );
        world.pod(
            "lost",
            json!({}),
            affinity("podAffinity", json!({"app": "none"}), zone),
        );
        assert!(
            world
                .decide()
                .unwrap()
                .contains("2 node(s) didn't match pod affinity rules")
        );
        world.pod(
            "first",
            json!({"app": "new"}),
            affinity("podAffinity", json!({"app": "new"}), zone),
        );
        let first = world.decide().unwrap();
        world.pod(
            "second",
            json!({"app": "new"}),
            affinity("podAffinity", json!({"app": "new"}), zone),
        );
        assert_eq!(
            world.decide().unwrap(),
            first,
            "the first of a group starts it, the second joins"
        );
    }

    #[test]
    fn preemption_takes_the_least_and_spares_budgets() {
        let mut world = World::new(&[node("n1", "{}"), node("n2", "{}")]);
        let low = |node: &str, priority: i32, amount: &str| {
            with(
                with(cpu(amount), "nodeName", json!(node)),
                "priority",
                json!(priority),
            )
        };
        world.pod("guarded", json!({"app": "guarded"}), low("n1", 1, "3"));
        world.pod("small", json!({}), low("n2", 1, "1"));
        world.pod("large", json!({}), low("n2", 2, "3"));
        let selector = Selector::from_map(Some(&[("app".to_owned(), "guarded".to_owned())].into()));
        let budget = Budget {
            selector,
            allowed: 0,
            disrupted: vec![],
        };
        let key = ("default".into(), "guarded".into());
        world.see(Observed::Object(ObjectChange::Budget(key, Some(budget))));
        world.pod("vip", json!({}), with(cpu("2"), "priority", json!(100)));
        assert_eq!(
            world.decide().unwrap(),
            "0/2 nodes are available: 2 Insufficient cpu. takes [\"large\"] from n2"
        );
        world.see(Observed::PodGone(Uid("large".into())));
        world.pod("late", json!({}), with(cpu("3"), "priority", json!(50)));
        let late = world.decide().unwrap();
        assert!(
            late.ends_with("takes [\"guarded\"] from n1"),
            "the room on n2 is not for it: {late}"
        );
        assert_eq!(world.decide().unwrap(), "n2", "the room is the preemptor's");
        let never = with(
            with(cpu("3"), "priority", json!(100)),
            "preemptionPolicy",
            json!("Never"),
        );
        world.pod("polite", json!({}), never);
        assert!(
            world
                .decide()
                .unwrap()
                .ends_with("preemption: not eligible due to preemptionPolicy=Never.")
        );
    }

    #[test]
    fn gated_deleted_and_foreign_pods_are_left_alone() {
        let mut world = World::new(&[node("n1", "{}")]);
        let gated = with(
            json!({"containers": []}),
            "schedulingGates",
            json!([{"name": "g"}]),
        );
        world.pod("gated", json!({}), gated);
        world.pod(
            "foreign",
            json!({}),
            with(json!({"containers": []}), "schedulerName", json!("other")),
        );
        assert_eq!(world.decide(), None);
        world.pod("gated", json!({}), json!({"containers": []}));
        assert_eq!(world.decide().unwrap(), "n1");
    }

    #[test]
    fn claims_are_asked_after() {
        let mut world = World::new(&[node("n1", "{}")]);
        let spec = json!({"containers": [], "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
        world.pod("a", json!({}), spec);
        assert_eq!(
            world.decide().unwrap(),
            "0/1 nodes are available: persistentvolumeclaim \"data\" not found. no new claims to deallocate, \
             preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        );
        let claim = serde_json::from_value(json!({"spec": {}})).unwrap();
        let claim = crate::model::volume::Claim::new(&claim);
        let key = ("default".into(), "data".into());
        world.see(Observed::Object(ObjectChange::Claim(key, Some(claim))));
        assert!(
            world
                .decide()
                .unwrap()
                .contains(": pod has unbound immediate PersistentVolumeClaims. ")
        );
    }
}
