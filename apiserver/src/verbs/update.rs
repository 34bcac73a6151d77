//! PUT, and what every change of an existing object goes through.

use std::sync::Arc;

use http::StatusCode;
use keelson_admission::Operation;
use keelson_machinery::{Status, Value, meta, time};
use keelson_schema::managed;

use super::admit::Write;
use super::transaction::{Current, Done, Outcome, Transaction};
use super::{Target, create, decode, rules};
use crate::context::Context;
use crate::forms::object;
use crate::server::Server;
use crate::wire::Response;

pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    let served = &target.served;
    let mut value = decode::object(context, &served.gvk, served.def).await?;
    rules::name(&mut value, target)?;
    rules::place(&mut value, target)?;
    if let Some(conversion) = &served.conversion {
        (conversion.to_hub)(&mut value);
    }
    served.kind.set_defaults(&mut value);
    let dry_run = context.dry_run()?;
    let mut transaction = Transaction::begin(server, &served.hub, target.key());
    loop {
        let decided = match transaction.current() {
            None if served.kind.create_on_update() && target.subresource.is_empty() => {
                if !transaction.reconsider().await? {
                    let done = create::run(server, context, target, value).await?;
                    return respond(target, &done);
                }
                continue;
            }
            None => Err(target.not_found()),
            Some(current) => {
                let change = Change {
                    target,
                    managed: Managed::Update,
                    dry_run,
                };
                change.decide(server, context, current, value.clone()).await
            }
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

pub fn respond(target: &Target, done: &Done) -> Result<Response, Status> {
    let code = if done.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    object::respond(code, &target.served, &done.json, target.form, target.view)
}

/// Who keeps managedFields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// The change is an update by the request's manager.
    Update,
    /// The new object's managedFields are right already.
    Done,
}

/// A change of an existing object.
pub struct Change<'a> {
    pub target: &'a Target,
    pub managed: Managed,
    pub dry_run: bool,
}

impl Change<'_> {
    /// From the stored object and the one asked for, both in the cached version, to what is stored.
    pub async fn decide(
        &self,
        server: &Arc<Server>,
        context: &mut Context,
        current: &Current,
        mut new: Value,
    ) -> Result<Outcome, Status> {
        let (target, served) = (self.target, &self.target.served);
        let old: &Value = &current.value;
        rules::check_version(&new, old, target)?;
        if self.managed == Managed::Update {
            let (manager, now) = (context.field_manager(), time::format_rfc3339(context.now));
            managed::update(
                Some(old),
                &mut new,
                served.hub.def,
                &manager,
                &target.subresource,
                &now,
            );
        }
        let write = Write::new(target, Operation::Update, Some(old), self.dry_run);
        write.mutate(server, context, &mut new).await?;
        rules::keep_metadata(&mut new, old);
        match target.subresource.is_empty() {
            true => served.kind.prepare_update(&mut new, old),
            false => {
                let part = self.subresource()?;
                part.prepare_update(&mut new, old);
                part.stamp(&mut new, old, context.now);
            }
        }
        self.check(context, &mut new, old)?;
        if target.subresource.is_empty() {
            let allocators = &server.allocators;
            let reservation = allocators
                .before_update(server, served, &mut new, old, self.dry_run)
                .await?;
            match write.validate(server, context, &new).await {
                Ok(()) => reservation.keep(server).await,
                Err(status) => {
                    reservation.release(server).await;
                    return Err(status);
                }
            }
        } else {
            write.validate(server, context, &new).await?;
        }
        rules::ignore_managed_times(&mut new, old);
        Ok(match (self.dry_run, rules::is_finished(&new)) {
            (true, _) => Outcome::Show(new),
            (false, true) if meta::deletion_timestamp(old).is_some() => Outcome::Remove(Some(new)),
            (false, _) => Outcome::Put(new),
        })
    }

    fn subresource(&self) -> Result<&dyn keelson_kinds::Subresource, Status> {
        let kind = &self.target.served.kind;
        kind.subresource(&self.target.subresource)
            .ok_or_else(Status::no_such_path)
    }

    /// The kind's rules.
    fn check(&self, context: &mut Context, new: &mut Value, old: &Value) -> Result<(), Status> {
        let served = &self.target.served;
        let (errors, warnings) = match self.target.subresource.is_empty() {
            true => (
                served.validate(new, Some(old)),
                served.kind.warnings(new, Some(old)),
            ),
            false => {
                let subresource = self.subresource()?;
                (subresource.validate(new, old), subresource.warnings(new, old))
            }
        };
        if !errors.is_empty() {
            return Err(Status::invalid(
                &served.gvk.group_kind(),
                &self.target.name,
                &errors,
            ));
        }
        for warning in warnings {
            context.warn(warning);
        }
        served.kind.canonicalize(new);
        Ok(())
    }
}
