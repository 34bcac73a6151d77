//! PATCH in its four forms.

use std::sync::Arc;

use bytes::Bytes;
use keelson_machinery::{Status, Value, meta, time};
use keelson_schema::{decode as schema_decode, json, managed, patch, yaml};

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
    let body: Bytes = read_body(context).await?;
    let def = target.served.def;
    let mut value = match form {
        Form::Apply => {
            // Decoding only checks: what it fills in was not applied, and must not be owned.
            let decoded = schema_decode::yaml(&body, def, strictness(context)?)?;
            for warning in decoded.warnings {
                context.warn(warning);
            }
            yaml::to_value(&body)
                .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?
        }
        _ => serde_json::from_slice(&body)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?,
    };
    if form == Form::Apply {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        if text("apiVersion").is_empty() || text("kind").is_empty() {
            return Err(Status::bad_request(
                "apiVersion and kind must be set in an apply patch",
            ));
        }
        check_kind(&mut value, &target.served.gvk)?;
        if value["metadata"]
            .get("managedFields")
            .is_some_and(|fields| !fields.is_null())
        {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        rules::name(&mut value, target)?;
        rules::place(&mut value, target)?;
        if let Some(conversion) = &target.served.conversion {
            (conversion.to_hub)(&mut value);
        }
    }
    Ok(Patch {
        form,
        body: value,
        force: context.query.flag("force").unwrap_or(false),
    })
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
        served.kind.set_defaults(&mut new);
        return Ok(new);
    }
    let mut original = live.clone();
    if let Some(conversion) = &served.conversion {
        (conversion.from_hub)(&mut original);
    }
    let merged = match patch.form {
        Form::Json => patch::json_patch(&original, &patch.body)?,
        Form::Merge => patch::merge_patch(&original, &patch.body)?,
        Form::Strategic | Form::Apply => patch::strategic_merge(&original, &patch.body, served.def)?,
    };
    let decoded = schema_decode::json(
        &json::to_vec(&merged, served.def),
        served.def,
        strictness(context)?,
    )?;
    for warning in decoded.warnings {
        context.warn(warning);
    }
    let mut new = decoded.value;
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
