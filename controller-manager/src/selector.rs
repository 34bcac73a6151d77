//! Label selectors over typed labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels or annotations of an object.
pub type Labels = BTreeMap<String, String>;

/// Whether a selector matches; an empty one matches everything.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let none = Labels::new();
    let labels = labels.unwrap_or(&none);
    let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    selector.match_labels.iter().flatten().all(equal)
        && selector
            .match_expressions
            .iter()
            .flatten()
            .all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let listed = |v: &String| requirement.values.as_ref().is_some_and(|vs| vs.contains(v));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// Whether a plain map of labels, as in a Service, matches.
pub fn matches_map(selector: &Labels, labels: Option<&Labels>) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.is_some_and(|l| l.get(key) == Some(value)))
}

/// Whether a selector selects everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let labels = Labels::from([("a".to_owned(), "1".to_owned())]);
        let table = [
            ("a", "In", vec!["1", "2"], true),
            ("a", "In", vec!["2"], false),
            ("b", "In", vec!["1"], false),
            ("a", "NotIn", vec!["1"], false),
            ("b", "NotIn", vec!["1"], true),
            ("a", "Exists", vec![], true),
            ("a", "DoesNotExist", vec![], false),
            ("a", "Unheard", vec![], false),
        ];
        for (key, operator, values, expected) in table {
            let selector = LabelSelector {
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: key.into(),
                    operator: operator.into(),
                    values: Some(values.into_iter().map(str::to_owned).collect()),
                }]),
                match_labels: None,
            };
            assert_eq!(matches(&selector, Some(&labels)), expected, "{key} {operator}");
        }
        assert!(matches(&LabelSelector::default(), None) && is_empty(&LabelSelector::default()));
    }
}
