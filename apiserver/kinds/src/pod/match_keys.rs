//! `matchLabelKeys` of affinity terms and spread constraints: at creation the pod's own labels are merged into the
//! selectors, so that schedulers need only the selectors (KEP-3633, KEP-3243).

use keelson_machinery::Value;
use serde_json::json;

use crate::set;

/// Merges the keys of every term of the pod.
pub fn merge(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let spec = set::object(pod, "spec");
    for constraint in set::items(spec, "topologySpreadConstraints") {
        selector(constraint, &labels, "matchLabelKeys", "In");
    }
    let Some(affinity) = set::some(spec, "affinity") else {
        return;
    };
    for key in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = set::some(affinity, key) else {
            continue;
        };
        for term in set::items(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            affinity_term(term, &labels);
        }
        for weighted in set::items(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = set::some(weighted, "podAffinityTerm") {
                affinity_term(term, &labels);
            }
        }
    }
}

fn affinity_term(term: &mut Value, labels: &Value) {
    selector(term, labels, "matchLabelKeys", "In");
    selector(term, labels, "mismatchLabelKeys", "NotIn");
}

/// A key the pod does not carry selects nothing more.
fn selector(term: &mut Value, labels: &Value, list: &str, operator: &str) {
    let keys = term[list].as_array().cloned().unwrap_or_default();
    let Some(selector) = set::some(term, "labelSelector") else {
        return;
    };
    for key in keys {
        let name = key.as_str().unwrap_or("");
        let Some(value) = labels.get(name) else { continue };
        set::absent(selector, "matchExpressions", json!([]));
        if let Some(expressions) = selector["matchExpressions"].as_array_mut() {
            expressions.push(json!({"key": name, "operator": operator, "values": [value]}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_labels_join_the_selector() {
        let mut pod = json!({"metadata": {"labels": {"hash": "1"}}, "spec": {"topologySpreadConstraints": [
            {"labelSelector": {"matchLabels": {"app": "a"}}, "matchLabelKeys": ["hash", "other"]}]}});
        merge(&mut pod);
        assert_eq!(
            pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"],
            json!([{"key": "hash", "operator": "In", "values": ["1"]}])
        );
    }
}
