//! POST to a collection.

use std::sync::Arc;

use http::StatusCode;
use keelson_admission::Operation;
use keelson_machinery::{Status, Value, meta, time};
use keelson_schema::managed;

use super::admit::Write;
use super::transaction::{Done, Outcome, Transaction, encoded};
use super::{Target, decode, requestor, rules};
use crate::context::Context;
use crate::forms::object;
use crate::limits::GENERATE_NAME_ATTEMPTS;
use crate::server::Server;
use crate::storage::keys;
use crate::wire::Response;

pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    let value = decode::object(context, &target.served.gvk, target.served.def).await?;
    let done = run(server, context, target, value).await?;
    object::respond(
        StatusCode::CREATED,
        &target.served,
        &done.json,
        target.form,
        target.view,
    )
}

/// Creates the object as the request's user, on any path that creates.
pub async fn run(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
    mut value: Value,
) -> Result<Done, Status> {
    let served = &target.served;
    rules::place(&mut value, target)?;
    if !meta::resource_version(&value).is_empty() {
        return Err(Status::internal(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    if let Some(conversion) = &served.conversion {
        (conversion.to_hub)(&mut value);
    }
    served.kind.set_defaults(&mut value);
    let now = time::format_rfc3339(context.now);
    let manager = context.field_manager();
    managed::update(None, &mut value, served.hub.def, &manager, "", &now);
    store_new(server, context, target, value).await
}

/// Admits, checks and stores a new object whose defaults and managedFields are in place.
pub async fn store_new(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
    value: Value,
) -> Result<Done, Status> {
    let dry_run = context.dry_run()?;
    if !is_to_be_named(&value) {
        let mut target = target.clone();
        meta::name(&value).clone_into(&mut target.name);
        return attempt_once(server, context, &target, value, dry_run).await;
    }
    let mut attempt = 0;
    loop {
        let mut object = value.clone();
        let name = rules::generate_name(meta::generate_name(&value), &mut rand::rng());
        meta::set_str(&mut object, "name", &name);
        let mut target = target.clone();
        target.name = name;
        let outcome = attempt_once(server, context, &target, object, dry_run).await;
        attempt += 1;
        match outcome {
            Err(status) if status.reason == "AlreadyExists" && attempt < GENERATE_NAME_ATTEMPTS => {}
            other => return other,
        }
    }
}

/// Whether the object asks the server for a name.
fn is_to_be_named(object: &Value) -> bool {
    meta::name(object).is_empty() && !meta::generate_name(object).is_empty()
}

async fn attempt_once(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
    mut object: Value,
    dry_run: bool,
) -> Result<Done, Status> {
    let served = &target.served;
    let write = Write::new(target, Operation::Create, None, dry_run);
    write.mutate(server, context, &mut object).await?;
    rules::fill_metadata(&mut object, context.now, &uuid::Uuid::new_v4().to_string());
    served.kind.prepare_create(&mut object);
    requestor::record(target, &mut object, &context.user);
    check(context, target, &mut object)?;
    let reservation = server
        .allocators
        .before_create(server, served, &mut object, dry_run)
        .await?;
    let outcome = match write.validate(server, context, &object).await {
        Ok(()) if dry_run => Ok(show(served, &mut object)),
        Ok(()) => store(server, target, object).await,
        Err(status) => Err(status),
    };
    match outcome {
        Ok(done) => {
            reservation.keep(server).await;
            Ok(done)
        }
        Err(status) => {
            reservation.release(server).await;
            Err(status)
        }
    }
}

/// The kind's rules.
fn check(context: &mut Context, target: &Target, object: &mut Value) -> Result<(), Status> {
    let served = &target.served;
    let errors = served.validate(object, None);
    if !errors.is_empty() {
        return Err(Status::invalid(
            &served.gvk.group_kind(),
            meta::name(object),
            &errors,
        ));
    }
    for warning in served.kind.warnings(object, None) {
        context.warn(warning);
    }
    served.kind.canonicalize(object);
    Ok(())
}

fn show(served: &crate::registry::Served, object: &mut Value) -> Done {
    Done {
        json: encoded(object, &served.hub),
        created: true,
        removed: false,
    }
}

async fn store(server: &Server, target: &Target, object: Value) -> Result<Done, Status> {
    let namespace = if target.served.info.namespaced {
        &target.namespace
    } else {
        ""
    };
    let key = keys::local(namespace, meta::name(&object));
    let mut transaction = Transaction::create(server, &target.served.hub, key);
    let name = meta::name(&object).to_owned();
    match transaction.commit(Outcome::Put(object)).await? {
        Some(done) => Ok(done),
        None => Err(Status::already_exists(&target.served.group_resource(), &name)),
    }
}
