//! `/healthz`, `/livez`, `/readyz`, `/version` and `/metrics`.

use crate::context::Context;
use crate::server::Server;
use crate::wire::{Body, Response};

/// Whether the path is asked to learn how the server is, so that it must be answered in every state.
pub fn tells_state(path: &str) -> bool {
    ["/healthz", "/livez", "/readyz"].iter().any(|probe| {
        path.strip_prefix(probe)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_told_from_other_paths() {
        for path in ["/healthz", "/livez", "/readyz", "/readyz/", "/readyz/etcd"] {
            assert!(tells_state(path), "{path}");
        }
        for path in ["/", "/api", "/metrics", "/version", "/healthzz", "/api/healthz"] {
            assert!(!tells_state(path), "{path}");
        }
    }
}
