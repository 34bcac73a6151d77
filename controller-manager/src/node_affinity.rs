//! Whether a pod may run on a node by its node name, node selector and required node affinity. Pure.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

use crate::selector;

/// Whether the node is one the pod asks for.
pub fn matches(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let selected = spec
        .node_selector
        .as_ref()
        .is_none_or(|wanted| selector::matches_map(wanted, labels));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| meets(term, node)))
}

/// A term without any requirement matches nothing.
fn meets(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let labels = node.metadata.labels.as_ref();
    let by_label = |r: &NodeSelectorRequirement| holds(r, labels.and_then(|l| l.get(&r.key)));
    let by_field =
        |r: &NodeSelectorRequirement| r.key == "metadata.name" && holds(r, node.metadata.name.as_ref());
    expressions.iter().all(by_label) && fields.iter().all(by_field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: Option<&String>| text.and_then(|t| t.parse::<i64>().ok());
    let compared = |test: fn(i64, i64) -> bool| match (number(value), number(values.first())) {
        (Some(value), Some(bound)) => test(value, bound),
        _ => false,
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.contains(v)),
        "NotIn" => !value.is_some_and(|v| values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|value, bound| value > bound),
        "Lt" => compared(|value, bound| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn terms_are_alternatives_of_requirements() {
        let mut node = Node::default();
        node.metadata.name = Some("n1".into());
        node.metadata.labels = Some(
            [
                ("zone".to_owned(), "a".to_owned()),
                ("cpu".to_owned(), "8".to_owned()),
            ]
            .into(),
        );
        let label = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let table = [
            (vec![label("zone", "In", json!(["a"]))], true),
            (vec![label("zone", "In", json!(["b"]))], false),
            (
                vec![
                    label("zone", "In", json!(["b"])),
                    label("cpu", "Gt", json!(["4"])),
                ],
                true,
            ),
            (vec![label("cpu", "Lt", json!(["4"]))], false),
            (
                vec![json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})],
                true,
            ),
            (vec![json!({})], false),
        ];
        for (terms, expected) in table {
            let spec: PodSpec = serde_json::from_value(json!({
                "containers": [],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
            }))
            .unwrap();
            assert_eq!(matches(&spec, &node), expected, "{terms:?}");
        }
    }
}
