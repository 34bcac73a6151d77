//! The verbs, written once for all kinds.
//!
//! A verb reads the request, asks the kind's pure rules, and drives admission and the store. What a kind is special in
//! stands in its `Kind`; what a subresource is special in, in `subresources`.

pub mod admit;
pub mod continue_token;
pub mod create;
pub mod decode;
pub mod delete;
pub mod delete_collection;
pub mod delete_options;
pub mod get;
pub mod list;
pub mod list_options;
pub mod patch;
mod requestor;
pub mod rules;
pub mod transaction;
pub mod update;
pub mod watch;
mod write_options;

use std::sync::Arc;

use keelson_machinery::Status;

use crate::context::Context;
use crate::forms::{IncludeObject, View};
use crate::registry::Served;
use crate::server::Server;
use crate::storage::keys;
use crate::subresources;
use crate::wire::Response;
use crate::wire::negotiate::Form;

/// What a request is about.
#[derive(Clone, Debug)]
pub struct Target {
    pub served: Arc<Served>,
    pub namespace: String,
    pub name: String,
    /// Empty where the resource itself is meant.
    pub subresource: String,
    pub form: Form,
    pub view: View,
}

impl Target {
    /// The object's key below its resource.
    pub fn key(&self) -> String {
        let namespace = if self.served.info.namespaced {
            &self.namespace
        } else {
            ""
        };
        keys::local(namespace, &self.name)
    }

    pub fn not_found(&self) -> Status {
        Status::not_found(&self.served.group_resource(), &self.name)
    }
}

/// Answers a request for a resource.
pub async fn serve(server: &Arc<Server>, context: &mut Context) -> Result<Response, Status> {
    if let Some(answer) = subresources::virtual_resource(server, context).await {
        return answer;
    }
    let info = &context.info;
    let info_verb = info.verb.clone();
    let Some(served) = server
        .registry
        .find(&info.group, &info.version, &info.resource)
        .cloned()
    else {
        return Err(Status::no_such_path());
    };
    if served.info.namespaced && info.namespace.is_empty() && !matches!(info_verb.as_str(), "list" | "watch")
    {
        return Err(method_not_allowed());
    }
    if !served.info.namespaced && !info.namespace.is_empty() && served.info.resource != "namespaces" {
        return Err(Status::no_such_path());
    }
    let target = target(context, served)?;
    write_options::check(&info_verb, &context.query, &context.parts.headers)?;
    if let Some(text) = target.served.kind.deprecation() {
        context.warn(text);
    }
    if !target.subresource.is_empty() {
        return subresources::serve(server, context, &target).await;
    }
    if !target.served.info.has_verb(&info_verb) {
        return Err(method_not_allowed());
    }
    match info_verb.as_str() {
        "get" => get::serve(server, context, &target).await,
        "list" => list::serve(server, context, &target).await,
        "watch" => watch::serve(server, context, &target).await,
        "create" => create::serve(server, context, &target).await,
        "update" => update::serve(server, context, &target).await,
        "patch" => patch::serve(server, context, &target).await,
        "delete" => delete::serve(server, context, &target).await,
        "deletecollection" => delete_collection::serve(server, context, &target).await,
        _ => Err(method_not_allowed()),
    }
}

/// The verb does not exist at this path.
pub fn method_not_allowed() -> Status {
    Status::method_not_allowed("the server does not allow this method on the requested resource")
}

/// The request's target, with the form its answer is wanted in.
pub fn target(context: &Context, served: Arc<Served>) -> Result<Target, Status> {
    let info = &context.info;
    let watch = info.verb == "watch";
    let form = Form::negotiate(&context.parts.headers, &context.query, watch)?;
    let include = match context.query.get("includeObject") {
        None | Some("" | "Metadata") => IncludeObject::Metadata,
        Some("None") => IncludeObject::None,
        Some("Object") => IncludeObject::Object,
        Some(other) => {
            return Err(Status::bad_request(format!(
                "unrecognized includeObject value: {other:?}"
            )));
        }
    };
    let lists = matches!(info.verb.as_str(), "list" | "watch" | "deletecollection");
    Ok(Target {
        served,
        namespace: info.namespace.clone(),
        // A name taken from a field selector is the selector's business.
        name: if lists { String::new() } else { info.name.clone() },
        subresource: info.subresource.clone(),
        form,
        view: View {
            include,
            now: context.now,
        },
    })
}
