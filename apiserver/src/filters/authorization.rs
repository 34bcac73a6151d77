//! Whether the user may.

use keelson_auth::authz::SelectorRequirement;
use keelson_auth::{Attributes, Decision};
use keelson_machinery::{Status, fields};

use crate::context::Context;
use crate::server::Server;

pub fn apply(server: &Server, context: &mut Context) -> Result<(), Status> {
    let attributes = attributes(context);
    match server.auth.authorizer.authorize(&attributes) {
        (Decision::Allow, _) => Ok(()),
        (_, reason) => Err(attributes.forbidden(&reason)),
    }
}

/// What a list or watch is limited to; a selector that cannot be parsed limits nothing here and is refused later.
fn field_selector(context: &Context) -> Vec<SelectorRequirement> {
    let limited = matches!(context.info.verb.as_str(), "list" | "watch" | "deletecollection");
    let text = context.query.get("fieldSelector").filter(|_| limited);
    let selector = text.and_then(|text| fields::Selector::parse(text).ok());
    selector.map_or_else(Vec::new, |s| Attributes::field_requirements(&s))
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
        field_selector: field_selector(context),
        ..Attributes::default()
    }
}
