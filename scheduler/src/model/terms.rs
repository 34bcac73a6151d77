//! Taints and tolerations, host ports, pod affinity terms, topology spread constraints.

use k8s_openapi::api::core::v1::{self as api, PodAffinityTerm};

use super::labels::{Labels, Selector};

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Effect {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "NoSchedule" => Self::NoSchedule,
            "PreferNoSchedule" => Self::PreferNoSchedule,
            "NoExecute" => Self::NoExecute,
            _ => return None,
        })
    }

    /// Whether an untolerated taint of this effect keeps a new pod away.
    pub fn repels(self) -> bool {
        self != Self::PreferNoSchedule
    }
}

/// A node's taint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    pub key: Box<str>,
    pub value: Box<str>,
    pub effect: Effect,
}

impl Taint {
    /// From the API's form; a taint of an unknown effect is ignored.
    pub fn new(taint: &api::Taint) -> Option<Self> {
        Some(Self {
            key: taint.key.as_str().into(),
            value: taint.value.as_deref().unwrap_or_default().into(),
            effect: Effect::parse(&taint.effect)?,
        })
    }
}

/// How a toleration compares values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TolerationOperator {
    Equal,
    Exists,
    Gt,
    Lt,
}

/// A pod's toleration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    key: Box<str>,
    operator: TolerationOperator,
    value: Box<str>,
    /// `None` tolerates every effect.
    pub effect: Option<Effect>,
}

impl Toleration {
    /// From the API's form; one that cannot be read tolerates nothing and is dropped.
    pub fn new(t: &api::Toleration) -> Option<Self> {
        let operator = match t.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => TolerationOperator::Equal,
            "Exists" => TolerationOperator::Exists,
            "Gt" => TolerationOperator::Gt,
            "Lt" => TolerationOperator::Lt,
            _ => return None,
        };
        let effect = match t.effect.as_deref().unwrap_or_default() {
            "" => None,
            text => Some(Effect::parse(text)?),
        };
        Some(Self {
            key: t.key.as_deref().unwrap_or_default().into(),
            operator,
            value: t.value.as_deref().unwrap_or_default().into(),
            effect,
        })
    }

    /// Whether it tolerates the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|e| e != taint.effect) || (!self.key.is_empty() && self.key != taint.key) {
            return false;
        }
        let numbers = || Some((taint.value.parse::<i64>().ok()?, self.value.parse::<i64>().ok()?));
        match self.operator {
            TolerationOperator::Exists => true,
            TolerationOperator::Equal => self.value == taint.value,
            TolerationOperator::Gt => numbers().is_some_and(|(taint, own)| taint > own),
            TolerationOperator::Lt => numbers().is_some_and(|(taint, own)| taint < own),
        }
    }
}

/// A port a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// `0.0.0.0` is every address.
    pub ip: Box<str>,
    pub protocol: Box<str>,
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || &*self.ip == any || &*other.ip == any)
    }
}

/// One term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AffinityTerm {
    pub topology_key: Box<str>,
    pub selector: Selector,
    namespaces: Box<[Box<str>]>,
    namespace_selector: Option<Selector>,
}

impl AffinityTerm {
    /// From the API's form, for a pod of this namespace and these labels.
    pub fn new(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let mut namespaces: Vec<Box<str>> = term
            .namespaces
            .iter()
            .flatten()
            .map(|n| n.as_str().into())
            .collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.into());
        }
        Self {
            topology_key: term.topology_key.as_str().into(),
            selector: Selector::new(term.label_selector.as_ref())
                .and_same(term.match_label_keys.as_ref(), labels),
            namespaces: namespaces.into(),
            namespace_selector: term.namespace_selector.as_ref().map(|s| Selector::new(Some(s))),
        }
    }

    /// Whether a pod of this namespace (with these labels of its own) and these labels is meant.
    pub fn matches(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        let in_namespace = self.namespaces.iter().any(|n| &**n == namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|s| s.matches(namespace_labels));
        in_namespace && self.selector.matches(labels)
    }
}

/// One topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpreadConstraint {
    pub max_skew: i32,
    pub topology_key: Box<str>,
    pub selector: Selector,
    pub min_domains: i32,
    /// `DoNotSchedule`; otherwise `ScheduleAnyway`.
    pub required: bool,
    /// Nodes that do not match the pod's node affinity are left out of the count.
    pub honor_affinity: bool,
    /// Nodes with taints the pod does not tolerate are left out of the count.
    pub honor_taints: bool,
}

impl SpreadConstraint {
    /// From the API's form, for a pod of these labels.
    pub fn new(c: &api::TopologySpreadConstraint, labels: &Labels) -> Self {
        Self {
            max_skew: c.max_skew,
            topology_key: c.topology_key.as_str().into(),
            selector: Selector::new(c.label_selector.as_ref()).and_same(c.match_label_keys.as_ref(), labels),
            min_domains: c.min_domains.unwrap_or(1),
            required: c.when_unsatisfiable == "DoNotSchedule",
            honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_meet_taints() {
        let taint = |json| Taint::new(&serde_json::from_str(json).unwrap()).unwrap();
        let dedicated = taint(r#"{"key":"dedicated","value":"gpu","effect":"NoSchedule"}"#);
        let cases = [
            (r#"{"operator":"Exists"}"#, true),
            (r#"{"key":"dedicated","operator":"Exists"}"#, true),
            (r#"{"key":"dedicated","value":"gpu"}"#, true),
            (r#"{"key":"dedicated","value":"gpu","effect":"NoSchedule"}"#, true),
            (r#"{"key":"dedicated","value":"gpu","effect":"NoExecute"}"#, false),
            (r#"{"key":"dedicated","value":"db"}"#, false),
            (r#"{"key":"other","operator":"Exists"}"#, false),
        ];
        for (text, expected) in cases {
            let toleration = Toleration::new(&serde_json::from_str(text).unwrap()).unwrap();
            assert_eq!(toleration.tolerates(&dedicated), expected, "{text}");
        }
        let sla = taint(r#"{"key":"sla","value":"900","effect":"NoSchedule"}"#);
        let above =
            Toleration::new(&serde_json::from_str(r#"{"key":"sla","operator":"Gt","value":"800"}"#).unwrap());
        assert!(above.unwrap().tolerates(&sla));
    }

    #[test]
    fn host_ports_conflict_by_address() {
        let port = |ip: &str, protocol: &str, port| HostPort {
            ip: ip.into(),
            protocol: protocol.into(),
            port,
        };
        let cases = [
            (port("0.0.0.0", "TCP", 80), port("10.0.0.1", "TCP", 80), true),
            (port("10.0.0.2", "TCP", 80), port("10.0.0.1", "TCP", 80), false),
            (port("10.0.0.1", "TCP", 80), port("10.0.0.1", "UDP", 80), false),
            (port("10.0.0.1", "TCP", 80), port("10.0.0.1", "TCP", 81), false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.conflicts(&b), expected, "{a:?} {b:?}");
            assert_eq!(b.conflicts(&a), expected, "{b:?} {a:?}");
        }
    }
}
