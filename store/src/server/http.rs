//! What is not gRPC: /health, /livez, /readyz, /version, /metrics and the JSON gateway.

use ::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use keelson_proto::etcd::etcdserverpb as pb;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prost::Message;
use tonic::body::Body;

use super::{Services, gateway};
use crate::metrics::Labels;
use crate::service::maintenance::{CLUSTER_VERSION, ETCD_VERSION};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers a request.
pub async fn answer(services: &Services, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    let endpoint = path.trim_start_matches('/').split('/').next().unwrap_or("");
    match endpoint {
        "health" => health(services, &query).await,
        "livez" | "readyz" => probe(services, &path, &query).await,
        "version" => {
            let body = format!(
                "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{CLUSTER_VERSION}\",\"storage\":\"{CLUSTER_VERSION}\"}}"
            );
            text(StatusCode::OK, JSON, body)
        }
        "metrics" => {
            refresh(services);
            text(
                StatusCode::OK,
                keelson_base::metrics::CONTENT_TYPE,
                services.registry.render(),
            )
        }
        "v3" if !services.metrics_only => gateway::call(services, request).await,
        _ => text(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned()),
    }
}

/// etcd's answer: no alarms (that are not excluded), a leader, and a read that works.
async fn health(services: &Services, query: &str) -> Response<Body> {
    let serializable = query.split('&').any(|pair| pair == "serializable=true");
    let excluded: Vec<&str> = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("exclude="))
        .collect();
    let reason = match unhealthy(services, serializable, &excluded).await {
        None => {
            services.api.shared.metrics.health_successes.inc();
            return text(
                StatusCode::OK,
                JSON,
                r#"{"health":"true","reason":""}"#.to_owned(),
            );
        }
        Some(reason) => reason,
    };
    services.api.shared.metrics.health_failures.inc();
    let body = serde_json::json!({"health": "false", "reason": reason}).to_string();
    text(StatusCode::SERVICE_UNAVAILABLE, JSON, body)
}

async fn unhealthy(services: &Services, serializable: bool, excluded: &[&str]) -> Option<String> {
    let shared = &services.api.shared;
    for alarm in shared.state.read().alarms().list(0) {
        let name = alarm.alarm().as_str_name();
        if !excluded.contains(&name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !serializable && *shared.leader.borrow() == 0 {
        return Some("RAFT NO LEADER".to_owned());
    }
    if !serializable && let Err(error) = services.api.linearize().await {
        return Some(format!("RANGE ERROR:{}", error.text()));
    }
    None
}

/// `/livez` and `/readyz` with etcd's checks, each also under its own path.
async fn probe(services: &Services, path: &str, query: &str) -> Response<Body> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts.next().unwrap_or("");
    let one = parts.next().filter(|name| !name.is_empty());
    let excluded: Vec<&str> = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("exclude="))
        .collect();
    let names: &[&str] = match endpoint {
        "livez" => &["serializable_read"],
        _ => &[
            "data_corruption",
            "serializable_read",
            "linearizable_read",
            "non_learner",
        ],
    };
    let mut lines = String::new();
    let (mut failed, mut matched) = (false, false);
    for name in names.iter().filter(|name| one.is_none_or(|one| one == **name)) {
        matched = true;
        if excluded.contains(name) {
            continue;
        }
        match check(services, name).await {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: {reason}\n"));
            }
        }
    }
    if !matched {
        return text(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned());
    }
    if failed {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            TEXT,
            format!("{lines}{endpoint} check failed\n"),
        );
    }
    let verbose = query
        .split('&')
        .any(|pair| pair == "verbose" || pair.starts_with("verbose="));
    let body = if verbose {
        format!("{lines}ok\n")
    } else {
        "ok\n".to_owned()
    };
    text(StatusCode::OK, TEXT, body)
}

async fn check(services: &Services, name: &str) -> Result<(), String> {
    let shared = &services.api.shared;
    match name {
        "data_corruption" if shared.state.read().alarms().any(pb::AlarmType::Corrupt) => {
            Err("alarm activated: CORRUPT".to_owned())
        }
        "linearizable_read" => services
            .api
            .linearize()
            .await
            .map_err(|error| error.text().to_owned()),
        "non_learner" if shared.is_learner() => Err("not supported for learner".to_owned()),
        _ => Ok(()),
    }
}

/// Gauges are read when they are asked for.
fn refresh(services: &Services) {
    let shared = &services.api.shared;
    let (metrics, raft) = (&shared.metrics, shared.status());
    let as_i64 = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.has_leader.set(i64::from(raft.leader != 0));
    metrics.is_leader.set(i64::from(raft.leading));
    metrics.proposals_committed.set(as_i64(raft.committed));
    metrics.proposals_applied.set(as_i64(raft.applied));
    metrics.proposals_pending.set(as_i64(shared.waiting() as u64));
    let state = shared.state.read();
    metrics.is_learner.set(i64::from(shared.is_learner()));
    metrics.current_revision.set(state.revision());
    metrics.compact_revision.set(state.compacted());
    let one = |family: &Family<Labels, Gauge>, label, value: String| {
        family.get_or_create(&vec![(label, value)]).set(1);
    };
    one(&metrics.server_version, "server_version", ETCD_VERSION.to_owned());
    let cluster = CLUSTER_VERSION.trim_end_matches(".0");
    one(&metrics.cluster_version, "cluster_version", cluster.to_owned());
    one(&metrics.server_id, "server_id", format!("{:x}", shared.member_id));
    metrics.keys.set(as_i64(state.keys() as u64));
    metrics.leases.set(as_i64(state.leases().len() as u64));
    metrics.db_size.set(as_i64(state.engine().size_on_disk()));
    metrics.db_size_in_use.set(as_i64(state.bytes_in_use()));
}

/// `grpc.health.v1.Health/Check`: serving, as long as anything answers.
pub fn grpc_health(_: &Services) -> Response<Body> {
    #[derive(Clone, PartialEq, Message)]
    struct Health {
        #[prost(int32, tag = "1")]
        status: i32,
    }
    let message = Health { status: 1 }.encode_to_vec();
    let mut frame = vec![0, 0, 0, 0, message.len() as u8];
    frame.extend(message);
    let mut trailers = ::http::HeaderMap::new();
    trailers.insert("grpc-status", ::http::HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(frame)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    let kind = ::http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A plain answer.
pub fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, ::http::HeaderValue::from_static(kind));
    response
}
