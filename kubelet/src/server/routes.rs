//! The server's paths.

use super::{Answer, Server, figures, json, logs, metrics, resources, streams, text, with_type};
use crate::pod;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json as object;
use std::sync::Arc;

const NOT_FOUND: &str = "404 page not found\n";

pub(super) async fn route(server: Arc<Server>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match parts.as_slice() {
        ["healthz", ..] if reads => text(StatusCode::OK, "ok"),
        ["pods"] if reads => pods(&server),
        ["runningpods"] if reads => pods(&server),
        ["configz"] if reads => configz(&server),
        ["metrics"] if reads => with_type(
            StatusCode::OK,
            keelson_base::metrics::CONTENT_TYPE,
            server.host.metrics.render(),
        ),
        ["metrics", "resource"] if reads => resources::render(&server).await,
        ["metrics", "cadvisor"] if reads => metrics::cadvisor(&server).await,
        ["metrics", "probes"] if reads => {
            with_type(StatusCode::OK, "text/plain; version=0.0.4", String::new())
        }
        ["stats", "summary"] if reads => figures::summary(&server).await,
        ["containerLogs", namespace, name, container] if reads => {
            logs::serve(
                server.clone(),
                (namespace, name, container),
                request.uri().query(),
            )
            .await
        }
        ["exec" | "attach" | "portForward" | "run", ..] => streams::serve(&server, &parts, request).await,
        _ => text(StatusCode::NOT_FOUND, NOT_FOUND),
    }
}

impl Server {
    /// The pod of that name on this node; with a uid, that very one.
    pub(super) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Pod>> {
        self.pods.list().into_iter().find(|p| {
            pod::namespace(p) == namespace && pod::name(p) == name && uid.is_none_or(|uid| pod::uid(p) == uid)
        })
    }
}

fn pods(server: &Server) -> Answer {
    let items: Vec<Arc<Pod>> = server.pods.list();
    let items: Vec<&Pod> = items.iter().map(Arc::as_ref).collect();
    json(&object!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

fn configz(server: &Server) -> Answer {
    let config = &server.config;
    json(&object!({"kubeletconfig": {
        "address": config.server.address, "port": config.server.port, "readOnlyPort": config.server.read_only_port,
        "healthzPort": config.server.healthz_port, "clusterDNS": config.dns.servers, "clusterDomain": config.dns.domain,
        "cgroupDriver": "cgroupfs", "cgroupRoot": config.cgroup_root, "cgroupsPerQOS": config.cgroups_per_qos,
        "maxPods": config.max_pods, "podLogsDir": config.pod_logs_dir, "seccompDefault": config.seccomp_default,
        "containerRuntimeEndpoint": config.runtime_endpoint, "rotateCertificates": config.rotate_certificates,
        "nodeLeaseDurationSeconds": config.lease_duration_s, "containerLogMaxFiles": config.log_files_max,
        "authentication": {"anonymous": {"enabled": config.server.anonymous}, "webhook": {"enabled": config.server.token_webhook}},
    }}))
}
