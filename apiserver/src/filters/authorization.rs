//! Whether the user may.

use keelson_auth::{Attributes, Decision};
use keelson_machinery::Status;

use crate::context::Context;
use crate::server::Server;

pub fn apply(server: &Server, context: &mut Context) -> Result<(), Status> {
    let attributes = attributes(context);
    match server.auth.authorizer.authorize(&attributes) {
        (Decision::Allow, _) => Ok(()),
        (_, reason) => Err(attributes.forbidden(&reason)),
    }
}

/// The request as authorizers see it.
pub fn attributes(context: &Context) -> Attributes {
    let info = &context.info;
    Attributes {
        user: context.user.clone(),
        verb: info.verb.clone().into(),
        namespace: info.namespace.clone(),
        group: info.group.clone().into(),
        version: info.version.clone().into(),
        resource: info.resource.clone().into(),
        subresource: info.subresource.clone().into(),
        name: info.name.clone(),
        path: info.path.clone(),
        is_resource: info.is_resource,
        ..Attributes::default()
    }
}
