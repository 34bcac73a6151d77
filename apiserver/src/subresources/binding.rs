//! `pods/binding`, and the older `bindings`: a scheduler's decision.

use std::sync::Arc;

use http::StatusCode;
use keelson_admission::Operation;
use keelson_kinds::binding;
use keelson_machinery::{GroupVersionKind, Status, time};
use keelson_schema::types;
use serde_json::json;

use crate::context::Context;
use crate::forms::object::respond_value;
use crate::server::Server;
use crate::verbs::admit::Write;
use crate::verbs::transaction::{Outcome, Transaction};
use crate::verbs::{Target, decode, rules};
use crate::wire::Response;

const BINDING: GroupVersionKind = GroupVersionKind::new("", "v1", "Binding");

/// Binds the pod the path names, or, posted to `bindings`, the one the Binding names.
pub async fn create(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
) -> Result<Response, Status> {
    let def = types::of_kind(&BINDING).ok_or_else(Status::no_such_path)?;
    let mut posted = decode::object(context, &BINDING, def).await?;
    let mut target = target.clone();
    if target.name.is_empty() {
        keelson_machinery::meta::name(&posted).clone_into(&mut target.name);
    }
    rules::name(&mut posted, &target)?;
    rules::place(&mut posted, &target)?;
    let dry_run = context.dry_run()?;
    let mut write = Write::new(&target, Operation::Create, None, dry_run);
    write.kind = BINDING;
    write.mutate(server, context, &mut posted).await?;
    write.validate(server, context, &posted).await?;
    let now = time::format_rfc3339(context.now);
    let mut transaction = Transaction::begin(server, &target.served.hub, target.key());
    loop {
        let decided = match transaction.current() {
            None => Err(target.not_found()),
            Some(current) => binding::bind(&current.value, &posted, &now),
        };
        match decided {
            Ok(pod) => {
                let outcome = if dry_run {
                    Outcome::Show(pod)
                } else {
                    Outcome::Put(pod)
                };
                if transaction.commit(outcome).await?.is_some() {
                    return success(&target);
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

/// What subresources answer that have no object of their own.
pub fn success(target: &Target) -> Result<Response, Status> {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond_value(StatusCode::CREATED, &status, target.form)
}
