//! What an update of a pod may change: images, the deadline, added tolerations, removed scheduling gates.

use keelson_machinery::{Cursor, FieldErrors, Value};

use super::{containers, tolerations};
use crate::{check, equal, set};

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Both are specs of the same pod.
pub fn validate(e: &mut FieldErrors, new: &Cursor, old: &Cursor) {
    for key in ["containers", "initContainers"] {
        let (list, before) = (new.child(key), old.child(key));
        if list.len() != before.len() {
            e.forbidden(list.path(), "pod updates may not add or remove containers");
            return;
        }
        for c in list.items() {
            check::required(e, &c.child("image"));
            containers::image_is_trimmed(e, &c);
        }
    }
    if !deadline(
        e,
        &new.child("activeDeadlineSeconds"),
        &old.child("activeDeadlineSeconds"),
    ) {
        return;
    }
    only_added_tolerations(e, &new.child("tolerations"), &old.child("tolerations"));
    only_deleted_gates(e, &new.child("schedulingGates"), &old.child("schedulingGates"));
    if equal::unchanged(new.value(), old.value()) {
        return;
    }
    let mut munged = new.value().clone();
    put_back(&mut munged, old.value());
    if !old.child("schedulingGates").is_empty() {
        gated(e, new, old, &mut munged);
    }
    if !equal::unchanged(&munged, old.value()) {
        let changes = changed(&munged, old.value(), "");
        e.forbidden(new.path(), format!("{UPDATABLE}\n{}", changes.join("\n")));
    }
}

/// From nothing to a number, or to a smaller one; false where upstream stops looking.
fn deadline(e: &mut FieldErrors, new: &Cursor, old: &Cursor) -> bool {
    match (new.i64(), old.i64()) {
        (Some(value), _) if !(0..=i64::from(i32::MAX)).contains(&value) => {
            check::invalid_int(e, new, "must be between 0 and 2147483647, inclusive");
            false
        }
        (Some(value), Some(before)) if before < value => {
            check::invalid_int(e, new, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            check::invalid(e, new, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn only_added_tolerations(e: &mut FieldErrors, new: &Cursor, old: &Cursor) {
    let without_seconds = |c: &Cursor| {
        let mut value = c.value().clone();
        set::remove(&mut value, "tolerationSeconds");
        value
    };
    let list: Vec<Value> = new.items().map(|c| without_seconds(&c)).collect();
    for before in old.items() {
        let before = without_seconds(&before);
        if !list.iter().any(|one| equal::unchanged(one, &before)) {
            e.forbidden(
                new.path(),
                "existing toleration can not be modified except its tolerationSeconds",
            );
            return;
        }
    }
    tolerations::list(e, new);
}

fn only_deleted_gates(e: &mut FieldErrors, new: &Cursor, old: &Cursor) {
    for gate in new.items() {
        let name = gate.child("name");
        if !old.items().any(|before| before.child("name").str() == name.str()) {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.str()
            );
            e.forbidden(name.path(), detail);
        }
    }
}

/// Undoes the changes that are allowed, so that what differs then is forbidden.
fn put_back(munged: &mut Value, old: &Value) {
    for key in ["containers", "initContainers"] {
        let before = old[key].as_array().cloned().unwrap_or_default();
        for (container, before) in set::items(munged, key).zip(&before) {
            set::copy(container, before, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        set::copy(munged, old, key);
    }
    let grace = "terminationGracePeriodSeconds";
    if old[grace].as_i64().is_some_and(|value| value < 0) && munged[grace] == 1 {
        set::copy(munged, old, grace);
    }
}

/// A pod that still waits for its gates may narrow where it can run.
fn gated(e: &mut FieldErrors, new: &Cursor, old: &Cursor, munged: &mut Value) {
    let (selector, before) = (new.child("nodeSelector"), old.child("nodeSelector"));
    if !equal::unchanged(selector.value(), before.value()) {
        let kept = before
            .entries()
            .all(|(key, value)| selector.value().get(key) == Some(value.value()));
        if !kept {
            check::invalid(
                e,
                &selector,
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            );
        }
        set::copy(munged, old.value(), "nodeSelector");
    }
    let node = |c: &Cursor| c.child("affinity").child("nodeAffinity").value().clone();
    let (affinity, before) = (node(new), node(old));
    if !equal::unchanged(&affinity, &before) {
        node_affinity(e, &new.child("affinity").child("nodeAffinity"), &before);
        match before {
            Value::Null => drop(set::remove(set::object(munged, "affinity"), "nodeAffinity")),
            before => set::put(set::object(munged, "affinity"), "nodeAffinity", before),
        }
    }
}

fn node_affinity(e: &mut FieldErrors, new: &Cursor, old: &Value) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let before = old[required]["nodeSelectorTerms"].as_array();
    let Some(before) = before.filter(|terms| !terms.is_empty()) else {
        return;
    };
    let terms = new.child(required).child("nodeSelectorTerms");
    if terms.len() != before.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        check::invalid(e, &terms, detail);
        return;
    }
    for (term, before) in terms.items().zip(before) {
        let kept = ["matchExpressions", "matchFields"].iter().all(|key| {
            let had = before[*key].as_array().map_or(&[][..], Vec::as_slice);
            let has = term.child(key).value().as_array().map_or(&[][..], Vec::as_slice);
            has.starts_with(had)
        });
        if !kept {
            let detail = "only additions are allowed (no mutations or deletions)";
            check::invalid(e, &term, detail);
        }
    }
}

/// The paths that differ, old and new, one line each.
fn changed(new: &Value, old: &Value, path: &str) -> Vec<String> {
    if equal::unchanged(new, old) {
        return Vec::new();
    }
    let step = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            keys.into_iter()
                .flat_map(|key| changed(&new[key.as_str()], &old[key.as_str()], &step(key)))
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .flat_map(|(index, (a, b))| changed(a, b, &format!("{path}[{index}]")))
            .collect(),
        _ => vec![format!("- {path}: {old}"), format!("+ {path}: {new}")],
    }
}
