//! `/healthz`, `/livez`, `/readyz`, `/version` and `/metrics`.

use crate::context::Context;
use crate::server::Server;
use crate::wire::{Body, Response};

/// The answer, where the path is one of these.
pub fn serve(server: &Server, context: &Context) -> Option<Response> {
    if !matches!(context.info.verb.as_str(), "get" | "head") {
        return None;
    }
    let path = context.info.path.trim_end_matches('/');
    if path == "/metrics" {
        server.metrics.refresh(server);
    }
    let query = context.parts.uri.query();
    let response = keelson_base::health::respond(path, query, &server.checks, server.metrics.registry())?;
    Some(response.map(Body::wrap))
}
