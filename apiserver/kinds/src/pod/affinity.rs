//! Node affinity, pod affinity and anti-affinity, node selectors (also those of volumes), topology spread.

use keelson_machinery::{Cursor, FieldErrors, names};

use crate::check;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `affinity` of a pod.
pub fn affinity(e: &mut FieldErrors, c: &Cursor) {
    let node = c.child("nodeAffinity");
    if !node.child(REQUIRED).is_absent() {
        node_selector(e, &node.child(REQUIRED));
    }
    for term in node.child(PREFERRED).items() {
        weight(e, &term);
        // A value that is no label may still match a cluster of one node, so upstream lets it pass here.
        node_selector_term(e, &term.child("preference"), true);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let affinity = c.child(key);
        for term in affinity.child(REQUIRED).items() {
            pod_affinity_term(e, &term);
        }
        for term in affinity.child(PREFERRED).items() {
            weight(e, &term);
            pod_affinity_term(e, &term.child("podAffinityTerm"));
        }
    }
}

fn weight(e: &mut FieldErrors, term: &Cursor) {
    let weight = term.child("weight");
    if !(1..=100).contains(&weight.i64().unwrap_or(0)) {
        check::invalid_int(e, &weight, "must be in the range 1-100");
    }
}

/// A `NodeSelector`: at least one term.
pub fn node_selector(e: &mut FieldErrors, c: &Cursor) {
    let terms = c.child("nodeSelectorTerms");
    if terms.is_empty() {
        e.required(terms.path(), "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(e, &term, false);
    }
}

/// One term of a `NodeSelector`.
pub fn node_selector_term(e: &mut FieldErrors, c: &Cursor, any_value: bool) {
    for expression in c.child("matchExpressions").items() {
        node_expression(e, &expression, any_value);
    }
    for field in c.child("matchFields").items() {
        node_field(e, &field);
    }
}

fn node_expression(e: &mut FieldErrors, c: &Cursor, any_value: bool) {
    let (operator, values) = (c.child("operator"), c.child("values"));
    match operator.str() {
        "In" | "NotIn" if values.is_empty() => {
            e.required(
                values.path(),
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            e.forbidden(
                values.path(),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "Gt" | "Lt" if values.len() != 1 => {
            e.required(
                values.path(),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => check::invalid_str(e, &operator, "not a valid selector operator"),
    }
    check::label_name(e, &c.child("key"));
    if !any_value {
        for value in values.items() {
            check::named(e, &value, names::is_valid_label_value);
        }
    }
}

fn node_field(e: &mut FieldErrors, c: &Cursor) {
    let (operator, values, key) = (c.child("operator"), c.child("values"), c.child("key"));
    if !["In", "NotIn"].contains(&operator.str()) {
        check::invalid_str(e, &operator, "not a valid selector operator");
    } else if values.len() != 1 {
        e.required(
            values.path(),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        );
    }
    if key.str() == "metadata.name" {
        for value in values.items() {
            check::named(e, &value, names::is_dns1123_subdomain);
        }
    } else {
        check::invalid_str(e, &key, "not a valid field selector key");
    }
}

fn pod_affinity_term(e: &mut FieldErrors, c: &Cursor) {
    check::label_selector(e, &c.child("labelSelector"));
    check::label_selector(e, &c.child("namespaceSelector"));
    let namespaces = c.child("namespaces");
    for namespace in namespaces.items() {
        for message in names::is_dns1123_label(namespace.str()) {
            // Upstream's path is the singular.
            e.invalid(c.child("namespace").path(), namespace.str(), message);
        }
    }
    match_label_keys(e, c);
    let topology = c.child("topologyKey");
    if topology.str().is_empty() {
        e.required(topology.path(), "can not be empty");
    }
    check::label_name(e, &topology);
}

fn match_label_keys(e: &mut FieldErrors, c: &Cursor) {
    let (keys, mismatch) = (c.child("matchLabelKeys"), c.child("mismatchLabelKeys"));
    let selector = c.child("labelSelector");
    for list in [&keys, &mismatch] {
        if !list.is_empty() && selector.is_absent() {
            e.forbidden(list.path(), "must not be specified when labelSelector is not set");
        }
        for key in list.items() {
            check::label_name(e, &key);
        }
    }
    for key in keys.items() {
        if mismatch.items().any(|other| other.str() == key.str()) {
            check::invalid_str(e, &key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

/// `topologySpreadConstraints` of a pod.
pub fn topology_spread(e: &mut FieldErrors, list: &Cursor) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for c in list.items() {
        let (skew, key, action) = (
            c.child("maxSkew"),
            c.child("topologyKey"),
            c.child("whenUnsatisfiable"),
        );
        if skew.i64().unwrap_or(0) <= 0 {
            check::invalid_int(e, &skew, "must be greater than zero");
        }
        if key.str().is_empty() {
            e.required(key.path(), "can not be empty");
        }
        check::supported(e, &action, &["DoNotSchedule", "ScheduleAnyway"]);
        let pair = (key.str(), action.str());
        if seen.contains(&pair) {
            e.duplicate(
                &c.path().child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{}, {}}}", pair.0, pair.1),
            );
        }
        seen.push(pair);
        min_domains(e, &c.child("minDomains"), action.str());
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            check::one_of_or_absent(e, &c.child(policy), &["Honor", "Ignore"]);
        }
        let selector = c.child("labelSelector");
        let keys = c.child("matchLabelKeys");
        if !keys.is_empty() && selector.is_absent() {
            e.forbidden(keys.path(), "must not be specified when labelSelector is not set");
        }
        for key in keys.items() {
            check::label_name(e, &key);
        }
        check::label_selector(e, &selector);
    }
}

fn min_domains(e: &mut FieldErrors, c: &Cursor, action: &str) {
    let Some(domains) = c.i64() else { return };
    if domains <= 0 {
        check::invalid_int(e, c, "must be greater than zero");
    }
    if action != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        check::invalid_int(e, c, detail);
    }
}
