//! The gRPC services: each translates between the wire and `Api`, and decides nothing else.

pub mod auth;
pub mod cluster;
pub mod election;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
pub mod range;
pub mod unary;
pub mod watch;
pub mod watch_codec;
mod watch_stream;

use std::time::Instant;

use keelson_store_mvcc::ApiError;
use keelson_store_mvcc::auth::Caller;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use crate::api::Api;

/// What a connection says about its client; in every request's extensions.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Common name of the client's certificate.
    pub common_name: Option<String>,
    /// The client's address.
    pub peer: Option<std::net::SocketAddr>,
}

/// etcd's error as a gRPC status.
pub fn status(error: ApiError) -> Status {
    Status::new(Code::from_i32(error.code() as i32), error.text())
}

/// Who makes a request: by token, or by certificate when that is on.
pub fn caller<T>(api: &Api, request: &Request<T>) -> Result<Caller, Status> {
    identify(api, request.metadata(), request.extensions().get::<Connection>())
}

/// `caller` for parts of a request.
pub fn identify(
    api: &Api,
    metadata: &MetadataMap,
    connection: Option<&Connection>,
) -> Result<Caller, Status> {
    if !api.shared.auth_enabled() {
        return Ok(Caller::default());
    }
    let state = api.shared.state.read();
    let token = metadata.get("token").or_else(|| metadata.get("authorization"));
    if let Some(token) = token.and_then(|token| token.to_str().ok()) {
        let known = state.auth().caller(token);
        return known
            .filter(|_| api.tokens.used(token, Instant::now()))
            .ok_or_else(|| status(ApiError::InvalidAuthToken));
    }
    // A gateway in front has a certificate of its own, which says nothing about its clients.
    let proxied = metadata.get("grpcgateway-accept").is_some();
    let name = connection.and_then(|connection| connection.common_name.as_deref());
    match name.filter(|_| api.options.client_cert_auth && !proxied) {
        Some(name) => Ok(state.auth().caller_by_name(name)),
        None => Ok(Caller::default()),
    }
}

/// Refuses at once when the client wants a leader and there is none.
pub fn check_leader(api: &Api, metadata: &MetadataMap) -> Result<(), Status> {
    if wants_leader(metadata) && *api.shared.leader.borrow() == 0 {
        return Err(status(ApiError::NoLeader));
    }
    Ok(())
}

/// Whether the client asked to be told of a missing leader.
pub fn wants_leader(metadata: &MetadataMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}

/// Refuses what a learner does not serve.
pub fn check_learner(api: &Api) -> Result<(), Status> {
    if api.shared.is_learner() {
        return Err(status(ApiError::NotSupportedForLearner));
    }
    Ok(())
}
