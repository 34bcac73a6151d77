//! Field ownership: `managedFields` on every write, and server-side apply (KEP-555).
//!
//! Every write other than apply takes the fields it changes from whoever had them; apply takes the fields of its
//! configuration, refuses to change what another owns unless forced, and removes what it gave up and nobody else
//! applies. Values are taken apart as their definition says: lists as atoms, sets or maps by key, maps and structs
//! field by field unless atomic.
//!
//! Deliberately absent: conversion of owned fields between versions of a kind; sets are kept as written.

mod entries;
mod set;
mod typed;

use keelson_machinery::{Status, meta};
use serde_json::{Value, json};

use crate::decode;
use crate::types::TypeDef;
use entries::Entry;
use set::Set;
use typed::Type;

/// The applied configuration as kubectl's client-side apply keeps it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Owns what an object held when it is applied for the first time without known owners.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Fields that belong to the server or to the object's identity; nobody owns them.
const UNOWNED: &[&[&str]] = &[
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:clusterName"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

/// Notes who owns what after a write other than apply.
///
/// `old` is `None` for a create. `now` is the server's time in RFC 3339. What the request says of `managedFields` is
/// taken where it is well-formed (clients may rewrite it, or reset it with `[]` or `[{}]`), except on subresources.
pub fn update(
    old: Option<&Value>,
    new: &mut Value,
    def: &TypeDef,
    manager: &str,
    subresource: &str,
    now: &str,
) {
    let nothing = json!({});
    let live = old.unwrap_or(&nothing);
    let reset = subresource.is_empty() && entries::is_reset(new);
    let mut owners = match reset || !subresource.is_empty() {
        true => Vec::new(),
        false => entries::read(new),
    };
    if owners.is_empty() && !reset {
        owners = entries::read(live);
    }
    meta::set(new, "managedFields", Value::Null);
    // Objects whose owners are unknown stay so until they are applied.
    if old.is_some() && owners.is_empty() {
        return;
    }
    let writer = Entry::new(manager, false, meta::api_version(new), subresource);
    let owners = took(live, new, def, owners, writer, now);
    entries::write(new, owners);
}

/// The owners after `writer` changed `live` to `new` by a write other than apply.
fn took(
    live: &Value,
    new: &Value,
    def: &TypeDef,
    mut owners: Vec<Entry>,
    mut writer: Entry,
    now: &str,
) -> Vec<Entry> {
    let difference = typed::compare_objects(live, new, def);
    let mut taken = difference.modified;
    taken.add(&difference.added);
    for owner in &mut owners {
        owner.fields.subtract(&taken);
        owner.fields.subtract(&difference.removed);
        strip(&mut owner.fields);
    }
    writer.fields = taken;
    strip(&mut writer.fields);
    unreset(&mut writer.fields, def, &writer.subresource);
    if !writer.fields.is_empty() {
        now.clone_into(&mut writer.time);
        match owners.iter_mut().find(|owner| owner.is_same(&writer)) {
            Some(owner) => {
                owner.fields.add(&writer.fields);
                owner.time = writer.time;
            }
            None => owners.push(writer),
        }
    }
    owners.retain(|owner| !owner.fields.is_empty());
    entries::cap(&mut owners);
    owners
}

fn strip(fields: &mut Set) {
    for path in UNOWNED {
        fields.remove_tree(path);
    }
    fields.remove_member(&["f:metadata"]);
    fields.member = false;
}

/// Drops the fields the endpoint does not write: status on the object, spec on its status.
fn unreset(fields: &mut Set, def: &TypeDef, subresource: &str) {
    let has_status = def.field("status").is_some() && def.field("spec").is_some();
    match subresource {
        "" if has_status => fields.remove_tree(&["f:status"]),
        "status" => fields.remove_tree(&["f:spec"]),
        _ => {}
    }
}

/// What server-side apply is asked to do.
#[derive(Clone, Copy)]
struct Apply<'a> {
    manager: &'a str,
    /// Takes fields from others instead of refusing.
    force: bool,
    subresource: &'a str,
    /// The server's time in RFC 3339.
    now: &'a str,
}

/// Applies a configuration to the live object (`None` creates); the result is fitted to its definition.
///
/// # Errors
/// 409 with one cause per field another manager owns; 400 and 500 with upstream's texts for a configuration that does
/// not fit the definition.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    def: &TypeDef,
    manager: &str,
    force: bool,
    subresource: &str,
    now: &str,
) -> Result<Value, Status> {
    let request = Apply {
        manager,
        force,
        subresource,
        now,
    };
    let config = configuration(applied)?;
    let fields = owned_fields(&config, applied, def, subresource)?;
    let empty = json!({});
    let live_object = live.unwrap_or(&empty);
    let mut owners = entries::read(live_object);
    if owners.is_empty() && live.is_some() {
        let writer = Entry::new(BEFORE_FIRST_APPLY, false, meta::api_version(applied), "");
        let mut bare = live_object.clone();
        meta::set(&mut bare, "managedFields", Value::Null);
        owners = took(&empty, &bare, def, owners, writer, now);
    }
    merged(live_object, &config, def, owners, fields, &request)
}

/// The configuration without what only the server writes.
fn configuration(applied: &Value) -> Result<Value, Status> {
    let managed = meta::field(applied, "managedFields");
    if managed.as_array().is_some_and(|entries| !entries.is_empty()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let mut config = applied.clone();
    if config.get("metadata").is_some_and(Value::is_object) {
        meta::set(&mut config, "managedFields", Value::Null);
        meta::set(&mut config, "creationTimestamp", Value::Null);
    }
    Ok(config)
}

fn owned_fields(config: &Value, applied: &Value, def: &TypeDef, subresource: &str) -> Result<Set, Status> {
    let mut fields = typed::fields_of(config, Type::Struct(def)).map_err(|why| {
        let message = format!(
            "failed to create typed patch object ({}/{}; {}, Kind={}): {why}",
            meta::namespace(applied),
            meta::name(applied),
            meta::api_version(applied),
            meta::kind(applied)
        );
        Status::new(500, "", message, Value::Null)
    })?;
    strip(&mut fields);
    unreset(&mut fields, def, subresource);
    Ok(fields)
}

fn merged(
    live: &Value,
    config: &Value,
    def: &TypeDef,
    mut owners: Vec<Entry>,
    fields: Set,
    request: &Apply<'_>,
) -> Result<Value, Status> {
    let of = Type::Struct(def);
    let mut writer = Entry::new(
        request.manager,
        true,
        meta::api_version(config),
        request.subresource,
    );
    let last = owners
        .iter()
        .position(|owner| owner.is_same(&writer))
        .map(|at| owners.remove(at));
    writer.fields = fields;
    let mut whole = typed::merge(live, config, of);
    if whole.get("metadata").is_some() {
        meta::set(&mut whole, "managedFields", Value::Null);
    }
    let mut result = match &last {
        // Where nothing is given up nothing is to be removed.
        Some(last) if !last.fields.difference(&writer.fields).is_empty() => {
            // With the name, which nobody owns: it is what keeps the metadata when nothing else of it is applied.
            let own = typed::fields_of(config, of).unwrap_or_default();
            let appliers = owners.iter().filter(|owner| owner.applied);
            let claimed = appliers.fold(own, |all, owner| all.union(&owner.fields));
            pruned(&whole, &last.fields, &claimed, of)
        }
        _ => whole,
    };
    decode::normalize(&mut result, def).map_err(Status::bad_request)?;
    let difference = typed::compare_objects(live, &result, def);
    let mut taken = difference.modified;
    taken.add(&difference.added);
    let conflicts = conflicts(&owners, &taken);
    if !request.force && !conflicts.is_empty() && !excused(&conflicts, live, def, request.manager) {
        return Err(refusal(&conflicts));
    }
    for owner in &mut owners {
        owner.fields.subtract(&taken);
        owner.fields.subtract(&difference.removed);
        strip(&mut owner.fields);
    }
    let unchanged = last
        .as_ref()
        .filter(|last| last.fields == writer.fields && same_but_for_owners(live, &result));
    writer.time = unchanged.map_or(request.now, |last| &last.time).to_owned();
    if writer.api_version.is_empty() {
        meta::api_version(&result).clone_into(&mut writer.api_version);
    }
    owners.push(writer);
    owners.retain(|owner| !owner.fields.is_empty());
    refresh_last_applied(&mut result, live, config, request.manager);
    entries::write(&mut result, owners);
    Ok(result)
}

/// Compares objects without what they say of their owners, and without a copy of either.
pub fn same_but_for_owners(object: &Value, other: &Value) -> bool {
    fn but<'a>(value: &'a Value, left_out: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
        let fields = value.as_object().into_iter().flatten();
        fields.filter(move |(name, _)| *name != left_out)
    }
    but(object, "metadata").eq(but(other, "metadata"))
        && but(&object["metadata"], "managedFields").eq(but(&other["metadata"], "managedFields"))
}

/// Removes what was applied last time, is not applied now, and no other applier claims.
fn pruned(whole: &Value, last: &Set, claimed: &Set, of: Type<'_>) -> Value {
    let named = |set: &Set| typed::with_named_fields(set, of);
    let fields = |value: &Value| named(&typed::fields_of(value, of).unwrap_or_default());
    let last = named(last);
    let all = fields(whole);
    // Without all of the last configuration; then with what appliers still claim; then with what was never its own.
    let bare = typed::without(whole, &last, of);
    let kept = fields(&bare).union(&named(claimed));
    let with_claimed = typed::without(whole, &all.difference(&kept), of);
    let gone = all.difference(&fields(&with_claimed)).intersection(&last);
    typed::without(whole, &gone, of)
}

/// The owners whose fields would change, with those fields.
fn conflicts<'a>(owners: &'a [Entry], taken: &Set) -> Vec<(&'a Entry, Set)> {
    let mut found: Vec<(&Entry, Set)> = owners
        .iter()
        .map(|owner| (owner, owner.fields.intersection(taken)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    found.sort_by_cached_key(|(owner, _)| owner.printed());
    found
}

/// kubectl may take over what its own client-side apply noted in the annotation.
fn excused(conflicts: &[(&Entry, Set)], live: &Value, def: &TypeDef, manager: &str) -> bool {
    let noted = meta::annotation(live, LAST_APPLIED).filter(|_| manager == "kubectl");
    let Some(noted) = noted.and_then(|text| decode::untyped(text.as_bytes()).ok()) else {
        return false;
    };
    let Ok(allowed) = typed::fields_of(&noted, Type::Struct(def)) else {
        return false;
    };
    conflicts
        .iter()
        .all(|(_, fields)| fields.difference(&allowed).is_empty())
}

/// Keeps kubectl's annotation true where an object still carries it.
fn refresh_last_applied(result: &mut Value, live: &Value, config: &Value, manager: &str) {
    if manager != "kubectl" || meta::annotation(live, LAST_APPLIED).is_none() {
        return;
    }
    let mut noted = config.clone();
    if let Some(annotations) = noted
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{noted}\n");
    meta::set_annotation(result, LAST_APPLIED, &text);
}

fn refusal(conflicts: &[(&Entry, Set)]) -> Status {
    let mut causes = Vec::new();
    let mut listed: Vec<(String, Vec<String>)> = Vec::new();
    for (owner, fields) in conflicts {
        let printed = owner.printed();
        let mut paths = Vec::new();
        fields.each_path(&mut |path| paths.push(path.to_owned()));
        for path in &paths {
            causes.push(json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {printed}"),
                "field": path,
            }));
        }
        listed.push((printed, paths));
    }
    let message = match listed.as_slice() {
        [(owner, paths)] if paths.len() == 1 => {
            format!(
                "Apply failed with 1 conflict: conflict with {owner}: {}",
                paths[0]
            )
        }
        many => {
            let lines = many.iter().flat_map(|(owner, paths)| {
                let head = format!("conflicts with {owner}:");
                std::iter::once(head).chain(paths.iter().map(|path| format!("- {path}")))
            });
            let lines: Vec<String> = lines.collect();
            format!(
                "Apply failed with {} conflicts: {}",
                causes.len(),
                lines.join("\n")
            )
        }
    };
    Status::new(409, "Conflict", message, json!({"causes": causes}))
}

#[cfg(test)]
mod tests;
