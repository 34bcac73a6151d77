//! Runs the admission plugins of a write: what they change, what they refuse, what they need written elsewhere.

use keelson_admission::{AdmissionAttributes, Effect, Operation};
use keelson_auth::authz::rbac::escalation;
use keelson_machinery::{GroupVersionKind, Status, Value, meta};

use super::transaction::{Outcome, Transaction};
use super::{Target, rules};
use crate::context::Context;
use crate::filters;
use crate::server::Server;
use crate::storage::keys;

/// How often the plugins are asked again because something they decided on had changed.
const EFFECT_ATTEMPTS: usize = 5;

/// A write, as the plugins see it.
pub struct Write<'a> {
    pub target: &'a Target,
    pub operation: Operation,
    /// Kind of the object that travels; another than the target's for `scale`, `binding`, ...
    pub kind: GroupVersionKind,
    pub old: Option<&'a Value>,
    pub options: &'a Value,
    pub dry_run: bool,
    name_suffix: String,
}

impl<'a> Write<'a> {
    pub fn new(target: &'a Target, operation: Operation, old: Option<&'a Value>, dry_run: bool) -> Self {
        Self {
            target,
            operation,
            kind: target.served.gvk.clone(),
            old,
            options: &Value::Null,
            dry_run,
            name_suffix: rules::generate_name("", &mut rand::rng()),
        }
    }

    fn attributes<'b>(&'b self, server: &'b Server, context: &Context) -> AdmissionAttributes<'b> {
        AdmissionAttributes {
            user: context.user.clone(),
            operation: self.operation,
            kind: self.kind.clone(),
            resource: self.target.served.info.group_version_resource(),
            subresource: &self.target.subresource,
            namespace: &self.target.namespace,
            name: &self.target.name,
            old: self.old,
            options: self.options,
            dry_run: self.dry_run,
            authorizer: &*server.auth.authorizer,
            now: context.now,
            name_suffix: &self.name_suffix,
        }
    }

    /// Lets the plugins change the object, after what they need written first.
    pub async fn mutate(&self, server: &Server, context: &Context, object: &mut Value) -> Result<(), Status> {
        let early = {
            let attributes = self.attributes(server, context);
            server
                .admission
                .early_effects(&attributes, object, &*server.reader)?
        };
        if !self.dry_run {
            run_all(server, early).await?;
        }
        let attributes = self.attributes(server, context);
        server.admission.mutate(&attributes, object, &*server.reader)
    }

    /// Lets the plugins refuse the object, and writes what they need written.
    pub async fn validate(
        &self,
        server: &Server,
        context: &mut Context,
        object: &Value,
    ) -> Result<(), Status> {
        if self.operation != Operation::Delete {
            let mut request = filters::attributes(context);
            request.name.clone_from(&self.target.name);
            escalation::check(
                &server.auth.rbac,
                &*server.auth.authorizer,
                &request,
                object,
                self.old,
            )?;
        }
        let warnings = {
            let attributes = self.attributes(server, context);
            server.admission.validate(&attributes, object, &*server.reader)?
        };
        for warning in warnings {
            context.warn(warning);
        }
        for _ in 0..EFFECT_ATTEMPTS {
            let effects = {
                let attributes = self.attributes(server, context);
                server.admission.charge(&attributes, object, &*server.reader)?
            };
            if self.dry_run || run_all(server, effects).await? {
                return Ok(());
            }
            server.progress.wait_current().await?;
        }
        Err(Status::internal(
            "admission: what was decided on keeps changing, please try again",
        ))
    }
}

/// `false`: something changed meanwhile.
async fn run_all(server: &Server, effects: Vec<Effect>) -> Result<bool, Status> {
    for effect in effects {
        let done = match effect {
            Effect::Create { resource, object } => {
                server.create_own(&resource, object).await?;
                true
            }
            Effect::UpdateStatus { resource, object } => update_status(server, &resource, object).await?,
        };
        if !done {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn update_status(
    server: &Server,
    resource: &keelson_machinery::GroupResource,
    object: Value,
) -> Result<bool, Status> {
    let served = server
        .registry
        .cached(resource)
        .ok_or_else(|| Status::internal(format!("admission writes {resource}, which is not served")))?;
    let key = keys::local(meta::namespace(&object), meta::name(&object));
    let mut transaction = Transaction::begin(server, &served.hub, key);
    let version = meta::resource_version(&object);
    let Some(current) = transaction.current() else {
        return Ok(false);
    };
    if current.revision.to_string() != version {
        return Ok(false);
    }
    let mut value = Value::clone(&current.value);
    value["status"] = object["status"].clone();
    Ok(transaction.commit(Outcome::Put(value)).await?.is_some())
}
