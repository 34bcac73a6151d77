//! From a request to its answer: filters, then discovery or a verb, then warnings, metrics and the log line.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use http::{HeaderValue, Method, header};
use hyper::body::Incoming;
use jiff::Timestamp;
use keelson_machinery::Status;

use crate::context::{Context, Peer};
use crate::forms::object::respond_status;
use crate::limits::START_WAIT;
use crate::server::Server;
use crate::wire::negotiate::{Form, Shape};
use crate::wire::{Body, Response};
use crate::{discovery, filters, health, verbs};

/// Answers one request; never fails, whatever happens inside.
pub async fn handle(
    server: Arc<Server>,
    peer: Peer,
    request: http::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut context = Context::new(request, peer, Timestamp::now());
    let outcome = AssertUnwindSafe(answer(&server, &mut context))
        .catch_unwind()
        .await;
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => refuse(&context, &status),
        Err(_) => {
            tracing::error!(path = context.info.path, "a request made the server panic");
            let status =
                Status::internal("This request caused apiserver to panic. Look in the logs for details.");
            refuse(&context, &status)
        }
    };
    add_warnings(&context, &mut response);
    if context.parts.method == Method::HEAD {
        *response.body_mut() = Body::Empty;
    }
    server.metrics.observe(&context, response.status());
    tracing::debug!(
        verb = context.info.verb,
        path = context.info.path,
        user = context.user.name,
        status = response.status().as_u16(),
        micros = u64::try_from(context.received.elapsed().as_micros()).unwrap_or(u64::MAX),
        "request"
    );
    Ok(response)
}

async fn answer(server: &Arc<Server>, context: &mut Context) -> Result<Response, Status> {
    wait_for_caches(server, context).await?;
    filters::apply(server, context)?;
    let Some(deadline) = context.deadline else {
        return route(server, context).await;
    };
    match tokio::time::timeout_at(deadline.into(), route(server, context)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Status::timeout(
            "Timeout: request did not complete within the allotted timeout",
            0,
        )),
    }
}

/// Until its caches are filled a server knows no roles and no service accounts, and would refuse whom it must serve.
async fn wait_for_caches(server: &Server, context: &Context) -> Result<(), Status> {
    if health::tells_state(&context.info.path) || server.feed.wait_ready(START_WAIT).await {
        return Ok(());
    }
    Err(Status::service_unavailable(
        "this server is starting and has not yet read the store: try again, and see /readyz?verbose if it stays so",
    ))
}

async fn route(server: &Arc<Server>, context: &mut Context) -> Result<Response, Status> {
    if context.info.is_resource {
        return verbs::serve(server, context).await;
    }
    if let Some(response) = health::serve(server, context) {
        return Ok(response);
    }
    if let Some(outcome) = discovery::serve(server, context) {
        return outcome;
    }
    Err(Status::no_such_path())
}

/// A refusal in the encoding the client takes, where that can be told.
fn refuse(context: &Context, status: &Status) -> Response {
    let form = Form::negotiate(&context.parts.headers, &context.query, false).unwrap_or(Form::PLAIN);
    let form = Form {
        shape: Shape::Whole,
        ..form
    };
    respond_status(status, form)
}

/// `Warning: 299 - "text"`, at most 4 KiB of them, as upstream.
fn add_warnings(context: &Context, response: &mut Response) {
    const TOTAL_MAX: usize = 4 * 1024;
    let mut total = 0;
    for warning in &context.warnings {
        let escaped = warning
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(['\n', '\r'], " ");
        let line = format!("299 - \"{escaped}\"");
        total += line.len();
        if total > TOTAL_MAX {
            return;
        }
        if let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
