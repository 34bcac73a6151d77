//! PATCH in its four forms.

use std::sync::Arc;

use bytes::Bytes;
use keelson_machinery::{FieldErrors, GroupKind, Path, Status, Value, meta, time};
use keelson_schema::decode::{self as schema_decode, Strictness};
use keelson_schema::{json, managed, patch, yaml};

use super::decode::{check_kind, read_body, strictness};
use super::transaction::Transaction;
use super::update::{Change, Managed, respond};
use super::{Target, create, rules};
use crate::context::Context;
use crate::server::Server;
use crate::wire::Response;

/// A patch's form, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
    Apply,
}

const ACCEPTED: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";

impl Form {
    fn of(content_type: &str) -> Result<Self, Status> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(Self::Apply),
            _ => Err(Status::unsupported_media_type(ACCEPTED)),
        }
    }
}

/// What is to be done to the stored object, whichever version of it is current.
struct Patch {
    form: Form,
    /// Of applies: the object applied; of others the patch itself.
    body: Value,
    /// The body as sent, for refusals that show it.
    text: Bytes,
    /// Keys given twice, as a strict decoder names them.
    duplicates: Vec<String>,
    strictness: Strictness,
    force: bool,
}

pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    let patch = read(context, target).await?;
    let dry_run = context.dry_run()?;
    let served = &target.served;
    let mut transaction = Transaction::begin(server, &served.hub, target.key());
    loop {
        let decided = match transaction.current() {
            None if patch.form == Form::Apply && target.subresource.is_empty() => {
                if !transaction.reconsider().await? {
                    match create_applied(server, context, target, &patch).await {
                        // Someone else was first: apply to what they made.
                        Err(status) if status.reason == "AlreadyExists" => {
                            transaction = Transaction::begin(server, &served.hub, target.key());
                            transaction.reconsider().await?;
                        }
                        outcome => return outcome,
                    }
                }
                continue;
            }
            None => Err(target.not_found()),
            Some(current) => match patched(context, target, &current.value, &patch) {
                Err(status) => Err(status),
                Ok(new) => {
                    let change = Change {
                        target,
                        managed: match patch.form {
                            Form::Apply => Managed::Done,
                            _ => Managed::Update,
                        },
                        dry_run,
                    };
                    change.decide(server, context, current, new).await
                }
            },
        };
        match decided {
            Ok(outcome) => {
                if let Some(done) = transaction.commit(outcome).await? {
                    return respond(target, &done);
                }
            }
            Err(status) => {
                if !transaction.reconsider().await? {
                    return Err(status);
                }
            }
        }
    }
}

async fn read(context: &mut Context, target: &Target) -> Result<Patch, Status> {
    let form = Form::of(context.header("content-type"))?;
    let strictness = strictness(context)?;
    let text: Bytes = read_body(context).await?;
    let (mut body, mut duplicates) = match form {
        Form::Apply => yaml::to_value_noting_duplicates(&text)
            .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?,
        _ => schema_decode::untyped_noting_duplicates(&text)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?,
    };
    match form {
        Form::Apply => check_applied(&mut body, &text, target)?,
        Form::Json => duplicates
            .iter_mut()
            .for_each(|one| one.insert_str(0, "json patch ")),
        Form::Merge | Form::Strategic => {}
    }
    Ok(Patch {
        form,
        body,
        text,
        duplicates,
        strictness,
        force: context.query.flag("force").unwrap_or(false),
    })
}

/// What must be said of an applied configuration before it meets the live object; brings it to the cached version.
fn check_applied(value: &mut Value, text: &[u8], target: &Target) -> Result<(), Status> {
    // Decoding only checks types: what it fills in was not applied, and must not be owned.
    schema_decode::yaml(text, target.served.def, Strictness::Ignore)?;
    let empty = |name: &str| value[name].as_str().unwrap_or_default().is_empty();
    if empty("apiVersion") || empty("kind") {
        return Err(Status::bad_request(
            "apiVersion and kind must be set in an apply patch",
        ));
    }
    check_kind(value, &target.served.gvk)?;
    if value["metadata"]
        .get("managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    rules::name(value, target)?;
    rules::place(value, target)?;
    if let Some(conversion) = &target.served.conversion {
        (conversion.to_hub)(value);
    }
    Ok(())
}

/// The object after the patch, in the cached version, defaults filled in.
fn patched(context: &mut Context, target: &Target, live: &Value, patch: &Patch) -> Result<Value, Status> {
    let served = &target.served;
    let now = time::format_rfc3339(context.now);
    if patch.form == Form::Apply {
        let manager = context.field_manager();
        let mut new = managed::apply(
            Some(live),
            &patch.body,
            served.hub.def,
            &manager,
            patch.force,
            &target.subresource,
            &now,
        )?;
        note_applied_twice(context, patch)?;
        served.kind.set_defaults(&mut new);
        return Ok(new);
    }
    let mut original = live.clone();
    if let Some(conversion) = &served.conversion {
        (conversion.from_hub)(&mut original);
    }
    let merge = || match patch.form {
        Form::Json => patch::json_patch(&original, &patch.body),
        Form::Merge => patch::merge_patch(&original, &patch.body),
        Form::Strategic | Form::Apply => patch::strategic_merge(&original, &patch.body, served.def),
    };
    let mut new = merge()?;
    fit(context, target, &mut new, patch, &merge)?;
    check_kind(&mut new, &served.gvk)?;
    if meta::name(&new) != target.name
        || (served.info.namespaced && meta::namespace(&new) != target.namespace)
    {
        rules::name(&mut new, target)?;
        rules::place(&mut new, target)?;
    }
    if let Some(conversion) = &served.conversion {
        (conversion.to_hub)(&mut new);
    }
    served.kind.set_defaults(&mut new);
    Ok(new)
}

/// Fits the patched object to its definition. What a strict decoder says against it, or against the patch, is refused
/// or becomes warnings; `merge` makes the object once more where a refusal shows it.
fn fit(
    context: &mut Context,
    target: &Target,
    new: &mut Value,
    patch: &Patch,
    merge: &dyn Fn() -> Result<Value, Status>,
) -> Result<(), Status> {
    let def = target.served.def;
    let shown = || match (patch.form, merge()) {
        (Form::Strategic, _) | (_, Err(_)) => go_text(&patch.body),
        (_, Ok(merged)) => String::from_utf8_lossy(&json::to_vec(&merged, def)).into_owned(),
    };
    let unknown = schema_decode::fit_noting_unknown(new, def).map_err(|why| refuse(&shown(), &why))?;
    let only_patch = unknown.is_empty() && patch.form != Form::Strategic;
    let strict: Vec<String> = patch.duplicates.iter().cloned().chain(unknown).collect();
    match patch.strictness {
        Strictness::Strict if !strict.is_empty() => {
            let why = format!("strict decoding error: {}", strict.join(", "));
            let text = match only_patch {
                true => String::from_utf8_lossy(&patch.text).into_owned(),
                false => shown(),
            };
            return Err(refuse(&text, &why));
        }
        Strictness::Warn => strict.into_iter().for_each(|one| context.warn(one)),
        _ => {}
    }
    Ok(())
}

/// 422 for a patch whose result is no object of its kind.
fn refuse(shown: &str, why: &str) -> Status {
    let mut errors = FieldErrors::default();
    errors.invalid(&Path::new("patch"), shown, why);
    Status::invalid(&GroupKind::new("", ""), "", &errors)
}

/// Keys given twice in an applied configuration.
fn note_applied_twice(context: &mut Context, patch: &Patch) -> Result<(), Status> {
    if patch.duplicates.is_empty() || patch.strictness == Strictness::Ignore {
        return Ok(());
    }
    let why = format!(
        "error converting YAML to JSON: yaml: {}",
        patch.duplicates.join(", ")
    );
    if patch.strictness == Strictness::Strict {
        return Err(Status::bad_request(format!("error strict decoding YAML: {why}")));
    }
    context.warn(why);
    Ok(())
}

/// A value as Go's `%+v` prints it: a refused strategic merge patch is shown so.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
            let pairs: Vec<String> = sorted
                .iter()
                .map(|(key, value)| format!("{key}:{}", go_text(value)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// Apply to a name that does not exist creates it.
async fn create_applied(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
    patch: &Patch,
) -> Result<Response, Status> {
    if !meta::uid(&patch.body).is_empty() {
        return Err(Status::conflict(
            &target.served.group_resource(),
            &target.name,
            &format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                meta::uid(&patch.body)
            ),
        ));
    }
    let (manager, now) = (context.field_manager(), time::format_rfc3339(context.now));
    let mut new = managed::apply(
        None,
        &patch.body,
        target.served.hub.def,
        &manager,
        patch.force,
        &target.subresource,
        &now,
    )?;
    note_applied_twice(context, patch)?;
    target.served.kind.set_defaults(&mut new);
    let done = create::store_new(server, context, target, new).await?;
    respond(target, &done)
}

/// For subresources of other kinds: one of the three plain patches on any value.
pub fn plain(
    context: &Context,
    original: &Value,
    body: &[u8],
    def: &keelson_schema::types::TypeDef,
) -> Result<Value, Status> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    match Form::of(context.header("content-type"))? {
        Form::Json => patch::json_patch(original, &body),
        Form::Strategic => patch::strategic_merge(original, &body, def),
        Form::Merge | Form::Apply => patch::merge_patch(original, &body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_are_shown_as_go_prints_maps() {
        let patch = json!({"spec": {"b": [1, "x"], "a": null}});
        assert_eq!(go_text(&patch), "map[spec:map[a:<nil> b:[1 x]]]");
        let status = refuse("{}", "why");
        assert_eq!(
            (status.code, status.message.as_str()),
            (422, " \"\" is invalid: patch: Invalid value: \"{}\": why")
        );
    }
}
