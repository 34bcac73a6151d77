//! ClusterRole aggregation: a ClusterRole with an aggregation rule has the rules of all it selects.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Plan, Queue};

use crate::context::Context;
use crate::selector;

const NAME: &str = "clusterrole-aggregation-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let roles = context.informer::<ClusterRole>();
    let queue = Queue::default();
    let (all, changed) = (roles.clone(), queue.clone());
    roles.on(move |_| {
        let aggregated = all
            .list()
            .into_iter()
            .filter(|role| role.aggregation_rule.is_some());
        aggregated.for_each(|role| changed.add(Key::of(role.as_ref())));
    });
    context.run(Arc::new(Aggregation { roles }), queue, NAME, 5);
}

struct Aggregation {
    roles: Informer<ClusterRole>,
}

impl Controller for Aggregation {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, _: Timestamp, _: Option<&Failure>) -> Plan {
        match self.roles.get_key(key) {
            Some(role) => reconcile(&role, &self.roles.list()),
            None => Plan::nothing(),
        }
    }
}

/// `all` in order of name.
fn reconcile(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Plan {
    let Some(aggregation) = &role.aggregation_rule else {
        return Plan::nothing();
    };
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten() {
        let selected = all.iter().filter(|other| {
            other.metadata.name != role.metadata.name
                && selector::matches(selector, other.metadata.labels.as_ref())
        });
        for rule in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Plan::nothing();
    }
    let mut updated = role.clone();
    updated.rules = Some(rules);
    Plan::of(vec![Action::update(&updated)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::rbac::v1::AggregationRule;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    fn role(name: &str, label: &str, verb: &str) -> Arc<ClusterRole> {
        let mut role = ClusterRole::default();
        role.metadata.name = Some(name.into());
        role.metadata.labels = Some([(label.to_owned(), "true".to_owned())].into());
        role.rules = Some(vec![PolicyRule {
            verbs: vec![verb.into()],
            ..PolicyRule::default()
        }]);
        Arc::new(role)
    }

    #[test]
    fn selected_rules_are_joined_once() {
        let mut sum = ClusterRole::default();
        sum.metadata.name = Some("sum".into());
        sum.aggregation_rule = Some(AggregationRule {
            cluster_role_selectors: Some(vec![LabelSelector {
                match_labels: Some([("to".to_owned(), "true".to_owned())].into()),
                match_expressions: None,
            }]),
        });
        let all = [
            role("a", "to", "get"),
            role("b", "to", "get"),
            role("c", "to", "list"),
            role("d", "x", "watch"),
        ];
        let plan = reconcile(&sum, &all);
        let updated: ClusterRole = serde_json::from_value(plan.actions[0].body.clone()).unwrap();
        let verbs: Vec<_> = updated
            .rules
            .iter()
            .flatten()
            .map(|r| r.verbs[0].as_str())
            .collect();
        assert_eq!(verbs, ["get", "list"]);
        assert!(reconcile(&updated, &all).actions.is_empty());
    }
}
