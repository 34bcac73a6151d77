//! The review kinds: answered from what authentication and authorization know.

use std::sync::Arc;

use http::StatusCode;
use keelson_auth::review;
use keelson_machinery::{GroupVersionKind, Status, Value};
use keelson_schema::{resources, types};

use crate::context::Context;
use crate::forms::object::respond_value;
use crate::server::Server;
use crate::verbs::{decode, method_not_allowed};
use crate::wire::Response;
use crate::wire::negotiate::Form;

/// Answers a review.
pub async fn create(server: &Arc<Server>, context: &mut Context) -> Result<Response, Status> {
    if context.info.verb != "create" {
        return Err(method_not_allowed());
    }
    let info = resources::find(&context.info.group, &context.info.version, &context.info.resource)
        .ok_or_else(Status::no_such_path)?;
    let gvk: GroupVersionKind = info.group_version_kind();
    let def = types::of_kind(&gvk).ok_or_else(Status::no_such_path)?;
    let form = Form::negotiate_whole(&context.parts.headers, &context.query)?;
    let posted = decode::object(context, &gvk, def).await?;
    let answer = answer(server, context, &posted)?;
    respond_value(StatusCode::CREATED, &answer, form)
}

fn answer(server: &Server, context: &Context, posted: &Value) -> Result<Value, Status> {
    let auth = &server.auth;
    match context.info.resource.as_str() {
        "tokenreviews" => review::token_review(posted, &auth.bearer, context.now),
        "selfsubjectreviews" => Ok(review::self_subject_review(posted, &context.user)),
        "subjectaccessreviews" => review::subject_access_review(posted, &*auth.authorizer),
        "selfsubjectaccessreviews" => {
            review::self_subject_access_review(posted, &context.user, &*auth.authorizer)
        }
        "localsubjectaccessreviews" => {
            review::local_subject_access_review(posted, &context.info.namespace, &*auth.authorizer)
        }
        "selfsubjectrulesreviews" => {
            review::self_subject_rules_review(posted, &context.user, &auth.resolvers)
        }
        _ => Err(Status::no_such_path()),
    }
}
