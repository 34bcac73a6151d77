//! The v3 JSON gateway: each path is a gRPC method, called on the very services with the request as protobuf.
//!
//! Nothing is known here of any message: `schema` reads the wire definitions, `transcode` turns JSON into protobuf and
//! back, so that a field that exists on the wire exists here. Requests carry no identity but a token, as etcd's gateway
//! has a certificate of its own. A streaming answer is one JSON object per line, `{"result": ...}`.

pub mod schema;
pub mod transcode;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};

use super::Services;
use super::http::text;
use crate::limits::REQUEST_OVERHEAD_BYTES;

use schema::SCHEMA;

const JSON: &str = "application/json";
/// Bytes before each message of a gRPC body: whether it is compressed, and its length.
const FRAME_HEADER_BYTES: usize = 5;
/// Headers with this prefix become metadata without it.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// Paths and the methods they call.
const ROUTES: &[(&str, &str)] = &[
    ("/v3/kv/range", "etcdserverpb.KV/Range"),
    ("/v3/kv/put", "etcdserverpb.KV/Put"),
    ("/v3/kv/deleterange", "etcdserverpb.KV/DeleteRange"),
    ("/v3/kv/txn", "etcdserverpb.KV/Txn"),
    ("/v3/kv/compaction", "etcdserverpb.KV/Compact"),
    ("/v3/watch", "etcdserverpb.Watch/Watch"),
    ("/v3/lease/grant", "etcdserverpb.Lease/LeaseGrant"),
    ("/v3/lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
    ("/v3/kv/lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
    ("/v3/lease/keepalive", "etcdserverpb.Lease/LeaseKeepAlive"),
    ("/v3/lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
    ("/v3/kv/lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
    ("/v3/lease/leases", "etcdserverpb.Lease/LeaseLeases"),
    ("/v3/kv/lease/leases", "etcdserverpb.Lease/LeaseLeases"),
    ("/v3/cluster/member/add", "etcdserverpb.Cluster/MemberAdd"),
    ("/v3/cluster/member/remove", "etcdserverpb.Cluster/MemberRemove"),
    ("/v3/cluster/member/update", "etcdserverpb.Cluster/MemberUpdate"),
    ("/v3/cluster/member/list", "etcdserverpb.Cluster/MemberList"),
    ("/v3/cluster/member/promote", "etcdserverpb.Cluster/MemberPromote"),
    ("/v3/maintenance/alarm", "etcdserverpb.Maintenance/Alarm"),
    ("/v3/maintenance/status", "etcdserverpb.Maintenance/Status"),
    (
        "/v3/maintenance/defragment",
        "etcdserverpb.Maintenance/Defragment",
    ),
    // etcd 3.5 has the first, 3.6 the second.
    ("/v3/maintenance/hash", "etcdserverpb.Maintenance/HashKV"),
    ("/v3/maintenance/hashkv", "etcdserverpb.Maintenance/HashKV"),
    ("/v3/maintenance/snapshot", "etcdserverpb.Maintenance/Snapshot"),
    (
        "/v3/maintenance/transfer-leadership",
        "etcdserverpb.Maintenance/MoveLeader",
    ),
    ("/v3/maintenance/downgrade", "etcdserverpb.Maintenance/Downgrade"),
    ("/v3/auth/enable", "etcdserverpb.Auth/AuthEnable"),
    ("/v3/auth/disable", "etcdserverpb.Auth/AuthDisable"),
    ("/v3/auth/status", "etcdserverpb.Auth/AuthStatus"),
    ("/v3/auth/authenticate", "etcdserverpb.Auth/Authenticate"),
    ("/v3/auth/user/add", "etcdserverpb.Auth/UserAdd"),
    ("/v3/auth/user/get", "etcdserverpb.Auth/UserGet"),
    ("/v3/auth/user/list", "etcdserverpb.Auth/UserList"),
    ("/v3/auth/user/delete", "etcdserverpb.Auth/UserDelete"),
    ("/v3/auth/user/changepw", "etcdserverpb.Auth/UserChangePassword"),
    ("/v3/auth/user/grant", "etcdserverpb.Auth/UserGrantRole"),
    ("/v3/auth/user/revoke", "etcdserverpb.Auth/UserRevokeRole"),
    ("/v3/auth/role/add", "etcdserverpb.Auth/RoleAdd"),
    ("/v3/auth/role/get", "etcdserverpb.Auth/RoleGet"),
    ("/v3/auth/role/list", "etcdserverpb.Auth/RoleList"),
    ("/v3/auth/role/delete", "etcdserverpb.Auth/RoleDelete"),
    ("/v3/auth/role/grant", "etcdserverpb.Auth/RoleGrantPermission"),
    ("/v3/auth/role/revoke", "etcdserverpb.Auth/RoleRevokePermission"),
    ("/v3/lock/lock", "v3lockpb.Lock/Lock"),
    ("/v3/lock/unlock", "v3lockpb.Lock/Unlock"),
    ("/v3/election/campaign", "v3electionpb.Election/Campaign"),
    ("/v3/election/proclaim", "v3electionpb.Election/Proclaim"),
    ("/v3/election/leader", "v3electionpb.Election/Leader"),
    ("/v3/election/observe", "v3electionpb.Election/Observe"),
    ("/v3/election/resign", "v3electionpb.Election/Resign"),
];

/// Answers a request below `/v3`.
pub async fn call(services: &Services, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    let Some((_, method)) = ROUTES.iter().find(|(route, _)| *route == path) else {
        return refusal(StatusCode::NOT_FOUND, Code::NotFound, "Not Found");
    };
    if request.method() != Method::POST {
        let text = "Method Not Allowed";
        return refusal(StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, text);
    }
    let headers = metadata(request.headers());
    let most = services.api.options.request_bytes_max + REQUEST_OVERHEAD_BYTES;
    let body = match Limited::new(request.into_body(), most).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return refused(&Status::resource_exhausted("the request body is too large")),
    };
    match grpc_request(method, &body, headers) {
        Ok(request) => {
            let output = &SCHEMA.method(method).output;
            let response = services.grpc(request).await;
            if SCHEMA.method(method).streams {
                stream(response, output)
            } else {
                unary(response, output).await
            }
        }
        Err(what) => refused(&Status::invalid_argument(what)),
    }
}

/// What of a request's headers the services see.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    // Marks a request whose connection says nothing about its client.
    metadata.insert("grpcgateway-accept", HeaderValue::from_static("*/*"));
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        metadata.insert("token", token.clone());
    }
    for (name, value) in headers {
        let inner = name.as_str().strip_prefix(METADATA_PREFIX);
        if let Some(inner) = inner.and_then(|inner| HeaderName::try_from(inner).ok()) {
            metadata.insert(inner, value.clone());
        }
    }
    metadata
}

/// The request as gRPC: one message, or for a streaming method as many as the body has.
fn grpc_request(method: &str, body: &[u8], headers: HeaderMap) -> Result<Request<Full<Bytes>>, String> {
    let input = &SCHEMA.method(method).input;
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        values.push(value.map_err(|error| error.to_string())?);
    }
    if values.is_empty() {
        values.push(json!({}));
    }
    let mut frames = BytesMut::new();
    for value in &values {
        let message = transcode::to_protobuf(&SCHEMA, input, value)?;
        let length = u32::try_from(message.len()).map_err(|error| error.to_string())?;
        frames.put_u8(0);
        frames.put_u32(length);
        frames.extend_from_slice(&message);
    }
    let mut request = Request::post(format!("/{method}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(frames.freeze()))
        .map_err(|error| error.to_string())?;
    request.headers_mut().extend(headers);
    Ok(request)
}

/// Takes the first whole message off a gRPC body.
fn take_message(buffer: &mut BytesMut) -> Option<Bytes> {
    if buffer.len() < FRAME_HEADER_BYTES {
        return None;
    }
    let length = (&buffer[1..FRAME_HEADER_BYTES]).get_u32() as usize;
    if buffer.len() < FRAME_HEADER_BYTES + length {
        return None;
    }
    buffer.advance(FRAME_HEADER_BYTES);
    Some(buffer.split_to(length).freeze())
}

async fn unary(response: Response<Body>, output: &str) -> Response<Body> {
    let headers = response.headers().clone();
    let collected = match response.into_body().collect().await {
        Ok(collected) => collected,
        Err(status) => return refused(&status),
    };
    let trailers = collected.trailers().cloned().unwrap_or(headers);
    if let Some(status) = Status::from_header_map(&trailers).filter(|status| status.code() != Code::Ok) {
        return refused(&status);
    }
    let message = take_message(&mut BytesMut::from(collected.to_bytes()));
    match transcode::to_json(&SCHEMA, output, message.unwrap_or_default()) {
        Ok(json) => text(StatusCode::OK, JSON, json),
        Err(what) => refused(&Status::internal(what)),
    }
}

fn stream(response: Response<Body>, output: &'static str) -> Response<Body> {
    if let Some(status) =
        Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
    {
        return refused(&status);
    }
    let lines = futures::stream::unfold(
        Some((response.into_body(), BytesMut::new())),
        move |state| async move {
            let (mut body, mut buffer) = state?;
            loop {
                if let Some(message) = take_message(&mut buffer) {
                    let result = transcode::to_json(&SCHEMA, output, message);
                    let result = result.unwrap_or_else(|_| "null".to_owned());
                    return Some((line(format!("{{\"result\":{result}}}")), Some((body, buffer))));
                }
                match body.frame().await? {
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => buffer.extend_from_slice(&data),
                        Err(frame) => {
                            let trailers = frame.into_trailers().unwrap_or_default();
                            let status = Status::from_header_map(&trailers)?;
                            return (status.code() != Code::Ok).then(|| (line(stream_error(&status)), None));
                        }
                    },
                    Err(status) => return Some((line(stream_error(&status)), None)),
                }
            }
        },
    );
    let mut response = Response::new(Body::new(StreamBody::new(lines)));
    let kind = HeaderValue::from_static(JSON);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn line(text: String) -> Result<Frame<Bytes>, std::convert::Infallible> {
    Ok(Frame::data(Bytes::from(text + "\n")))
}

fn stream_error(status: &Status) -> String {
    json!({"error": {"code": status.code() as i32, "message": status.message()}}).to_string()
}

fn http_code(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refused(status: &Status) -> Response<Body> {
    refusal(http_code(status.code()), status.code(), status.message())
}

fn refusal(code: StatusCode, grpc: Code, message: &str) -> Response<Body> {
    let body = json!({"code": grpc as i32, "message": message});
    text(code, JSON, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_names_a_method_and_every_method_but_one_has_a_route() {
        for (path, method) in ROUTES {
            assert!(SCHEMA.find(method).is_some(), "{path}: no method {method}");
        }
        let unreachable: Vec<&str> = SCHEMA
            .methods()
            .filter(|method| !ROUTES.iter().any(|(_, routed)| routed == method))
            .collect();
        // etcd has no path for it either.
        assert_eq!(unreachable, ["etcdserverpb.Maintenance/Hash"]);
    }

    #[test]
    fn messages_are_taken_whole() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 0, 2, 7][..]);
        assert_eq!(take_message(&mut buffer), None);
        buffer.extend_from_slice(&[8, 0]);
        assert_eq!(take_message(&mut buffer).as_deref(), Some(&[7, 8][..]));
        assert_eq!(buffer.len(), 1);
    }
}
