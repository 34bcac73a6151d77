//! Subresources, and resources that are answered without being stored.

mod binding;
mod component_status;
mod eviction;
mod reviews;
mod scale;
pub mod token;

use std::sync::Arc;

use keelson_machinery::Status;

use crate::context::Context;
use crate::server::Server;
use crate::streams;
use crate::verbs::{Target, get, method_not_allowed, patch, target, update};
use crate::wire::Response;

/// Answers a request for a resource that is not stored: reviews, bindings. ComponentStatuses are brought up to date and
/// then read as any resource.
pub async fn virtual_resource(
    server: &Arc<Server>,
    context: &mut Context,
) -> Option<Result<Response, Status>> {
    let info = &context.info;
    match (info.group.as_str(), info.version.as_str(), info.resource.as_str()) {
        ("authentication.k8s.io" | "authorization.k8s.io", "v1", _) => {
            Some(reviews::create(server, context).await)
        }
        ("", "v1", "bindings") => Some(post_binding(server, context).await),
        ("", "v1", "componentstatuses") => component_status::refresh(server).err().map(Err),
        _ => None,
    }
}

async fn post_binding(server: &Arc<Server>, context: &mut Context) -> Result<Response, Status> {
    if context.info.verb != "create" {
        return Err(method_not_allowed());
    }
    let pods = server
        .registry
        .find("", "v1", "pods")
        .cloned()
        .ok_or_else(Status::no_such_path)?;
    let mut pod = target(context, pods)?;
    pod.name = String::new();
    pod.subresource = "binding".to_owned();
    binding::create(server, context, &pod).await
}

/// Answers a request for a subresource.
pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    let Some(info) = target.served.info.subresource(&target.subresource) else {
        return Err(Status::no_such_path());
    };
    let verb = context.info.verb.clone();
    if !info.verbs.iter().any(|one| *one == verb) {
        return Err(method_not_allowed());
    }
    match (target.subresource.as_str(), verb.as_str()) {
        ("exec" | "attach" | "portforward" | "log" | "proxy", _) => {
            streams::serve(server, context, target).await
        }
        ("scale", _) => scale::serve(server, context, target).await,
        ("binding", "create") => binding::create(server, context, target).await,
        ("eviction", "create") => eviction::create(server, context, target).await,
        ("token", "create") => token::create(server, context, target).await,
        (_, "get") => get::serve(server, context, target).await,
        (_, "update") => update::serve(server, context, target).await,
        (_, "patch") => patch::serve(server, context, target).await,
        _ => Err(method_not_allowed()),
    }
}
