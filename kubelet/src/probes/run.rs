//! Performs one probe, with the texts upstream puts into Unhealthy events.

use crate::cri::{self, Cri};
use crate::handlers;
use k8s_openapi::api::core::v1::{Container, Probe};
use std::time::Duration;

/// What one probe found.
pub(super) enum Outcome {
    Success,
    Failure(String),
    /// The probe could not be made; it counts neither way.
    Unknown(String),
}

const AGENT: &str = "kube-probe/1.36";

pub(super) async fn once(cri: &Cri, container: &Container, id: &str, ip: &str, probe: &Probe) -> Outcome {
    let timeout_s = i64::from(probe.timeout_seconds.unwrap_or(1).max(1));
    let limit = Duration::from_secs(timeout_s.unsigned_abs());
    if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        return exec_once(cri, id, command, timeout_s).await;
    }
    let attempt = async {
        if let Some(get) = &probe.http_get {
            return http_once(container, get, ip).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip);
            return match handlers::port(container, &tcp.port) {
                Err(why) => Outcome::Unknown(why),
                Ok(port) => handlers::tcp(host, port)
                    .await
                    .map_or_else(Outcome::Failure, |()| Outcome::Success),
            };
        }
        if let Some(grpc) = &probe.grpc {
            let Ok(port) = u16::try_from(grpc.port) else {
                return Outcome::Unknown("invalid port".into());
            };
            let service = grpc.service.as_deref().unwrap_or_default();
            return handlers::grpc(ip, port, service)
                .await
                .map_or_else(Outcome::Failure, |()| Outcome::Success);
        }
        Outcome::Unknown("missing probe handler".into())
    };
    tokio::time::timeout(limit, attempt)
        .await
        .unwrap_or_else(|_| Outcome::Failure(timed_out(container, ip, probe)))
}

async fn exec_once(cri: &Cri, id: &str, command: Vec<String>, timeout_s: i64) -> Outcome {
    match cri.exec_sync(id, command.clone(), timeout_s).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => {
            let mut output = answer.stdout.to_vec();
            output.extend_from_slice(&answer.stderr);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => Outcome::Failure(format!(
            "command timed out: \"{}\" timed out after {timeout_s}s",
            command.join(" ")
        )),
        Err(status) => Outcome::Unknown(cri::describe(&status)),
    }
}

async fn http_once(
    container: &Container,
    get: &k8s_openapi::api::core::v1::HTTPGetAction,
    ip: &str,
) -> Outcome {
    match handlers::http_get(container, get, ip, AGENT).await {
        Ok(answer) if (200..400).contains(&answer.status) => Outcome::Success,
        Ok(answer) => {
            tracing::debug!(status = answer.status, body = %answer.body, "HTTP probe refused");
            Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status))
        }
        Err(why) => Outcome::Failure(why),
    }
}

/// What Go's clients say when the deadline passes.
fn timed_out(container: &Container, ip: &str, probe: &Probe) -> String {
    if let Some(get) = &probe.http_get {
        let host = get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip);
        let port = handlers::port(container, &get.port).unwrap_or(0);
        let scheme = if get.scheme.as_deref() == Some("HTTPS") {
            "https"
        } else {
            "http"
        };
        let path = get.path.as_deref().unwrap_or("/");
        return format!(
            "Get \"{scheme}://{}{path}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            handlers::join(host, port)
        );
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip);
        let port = handlers::port(container, &tcp.port).unwrap_or(0);
        return format!("dial tcp {}: i/o timeout", handlers::join(host, port));
    }
    "timeout: health rpc did not complete within the timeout".into()
}
