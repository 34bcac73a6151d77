//! Runs the admission plugins of a write: what they change, what they refuse, what they need written elsewhere.

use keelson_admission::{AdmissionAttributes, Effect, Operation};
use keelson_machinery::{GroupVersionKind, Status, Value, meta};

use super::Target;
use super::transaction::{Outcome, Transaction};
use crate::context::Context;
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
        }
    }

    /// Lets the plugins change the object.
    pub fn mutate(&self, server: &Server, context: &Context, object: &mut Value) -> Result<(), Status> {
        let attributes = self.attributes(server, context);
        for plugin in &server.admission {
            if plugin.handles(&attributes) {
                plugin.mutate(&attributes, object, &*server.reader)?;
            }
        }
        Ok(())
    }

    /// Lets the plugins refuse the object, and writes what they need written.
    pub async fn validate(
        &self,
        server: &Server,
        context: &mut Context,
        object: &Value,
    ) -> Result<(), Status> {
        let mut warnings = Vec::new();
        {
            let attributes = self.attributes(server, context);
            for plugin in &server.admission {
                if plugin.handles(&attributes) {
                    plugin.validate(&attributes, object, &*server.reader)?;
                    warnings.extend(plugin.warnings(&attributes, object, &*server.reader));
                }
            }
        }
        for warning in warnings {
            context.warn(warning);
        }
        for _ in 0..EFFECT_ATTEMPTS {
            let effects = self.effects(server, context, object)?;
            if self.dry_run || run_all(server, effects).await? {
                return Ok(());
            }
        }
        Err(Status::internal(
            "admission: what was decided on keeps changing, please try again",
        ))
    }

    fn effects(&self, server: &Server, context: &Context, object: &Value) -> Result<Vec<Effect>, Status> {
        let attributes = self.attributes(server, context);
        let mut effects = Vec::new();
        for plugin in &server.admission {
            if plugin.handles(&attributes) {
                effects.extend(plugin.effects(&attributes, object, &*server.reader)?);
            }
        }
        Ok(effects)
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
