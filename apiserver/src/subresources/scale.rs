//! `scale`: an `autoscaling/v1 Scale` over whatever has replicas.

use std::sync::Arc;

use http::StatusCode;
use keelson_kinds::scale;
use keelson_machinery::{GroupVersionKind, Status, Value};
use keelson_schema::{decode as schema_decode, types};

use crate::context::Context;
use crate::forms::object::respond_value;
use crate::server::Server;
use crate::verbs::transaction::Transaction;
use crate::verbs::update::{Change, Managed};
use crate::verbs::{Target, decode, get, method_not_allowed, patch, rules};
use crate::wire::Response;

const SCALE: GroupVersionKind = GroupVersionKind::new("autoscaling", "v1", "Scale");

/// Answers get, update and patch of a Scale.
pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    match context.info.verb.as_str() {
        "get" => {
            let entry = get::fetch(server, context, target).await?;
            respond_value(StatusCode::OK, &scale::scale_of(&entry.value()), target.form)
        }
        "update" | "patch" => write(server, context, target).await,
        _ => Err(method_not_allowed()),
    }
}

/// What the client sent: a whole Scale, or a patch of one.
enum Sent {
    Whole(Value),
    Patch(bytes::Bytes),
}

async fn write(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    let def = types::of_kind(&SCALE).ok_or_else(Status::no_such_path)?;
    let sent = match context.info.verb.as_str() {
        "update" => {
            let mut whole = decode::object(context, &SCALE, def).await?;
            rules::name(&mut whole, target)?;
            rules::place(&mut whole, target)?;
            Sent::Whole(whole)
        }
        _ => Sent::Patch(decode::read_body(context).await?),
    };
    let dry_run = context.dry_run()?;
    let mut transaction = Transaction::begin(server, &target.served.hub, target.key());
    loop {
        let decided = match transaction.current() {
            None => Err(target.not_found()),
            Some(current) => {
                let wanted = match &sent {
                    Sent::Whole(whole) => Ok(whole.clone()),
                    Sent::Patch(body) => patched(context, &scale::scale_of(&current.value), body, def),
                };
                match wanted.and_then(|wanted| checked(target, &current.value, &wanted)) {
                    Err(status) => Err(status),
                    Ok(new) => {
                        // The object itself changes, by its own rules; only its replicas can have moved.
                        let own = Target {
                            subresource: String::new(),
                            ..target.clone()
                        };
                        let change = Change {
                            target: &own,
                            managed: Managed::Update,
                            dry_run,
                        };
                        change.decide(server, context, current, new).await
                    }
                }
            }
        };
        match decided {
            Ok(outcome) => {
                if let Some(done) = transaction.commit(outcome).await? {
                    let object: Value = serde_json::from_slice(&done.json).unwrap_or(Value::Null);
                    return respond_value(StatusCode::OK, &scale::scale_of(&object), target.form);
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

fn patched(context: &mut Context, scale: &Value, body: &[u8], def: &types::TypeDef) -> Result<Value, Status> {
    let merged = patch::plain(context, scale, body, def)?;
    let decoded = schema_decode::value(merged, def, decode::strictness(context)?)?;
    for warning in decoded.warnings {
        context.warn(warning);
    }
    Ok(decoded.value)
}

fn checked(target: &Target, object: &Value, wanted: &Value) -> Result<Value, Status> {
    let errors = scale::validate(wanted);
    if !errors.is_empty() {
        return Err(Status::invalid(&SCALE.group_kind(), &target.name, &errors));
    }
    Ok(scale::apply_scale(object, wanted))
}
