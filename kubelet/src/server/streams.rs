//! exec, attach, port-forward: the request is passed to the runtime's streaming server and both sides are piped.
//!
//! Nothing of the stream is understood here, so SPDY and WebSocket pass alike. `run` executes without a stream.

use super::{Answer, Server, text};
use crate::{cri, pod};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use keelson_proto::cri::v1::{
    AttachRequest, ExecRequest, PodSandboxFilter, PodSandboxState, PortForwardRequest,
};
use std::collections::HashMap;
use tokio::net::TcpStream;

/// Failures before the stream stands, with their status.
type Refusal = (StatusCode, String);

pub(super) async fn serve(server: &Server, parts: &[&str], request: Request<Incoming>) -> Answer {
    let result = match parts {
        ["portForward", namespace, name] => port_forward(server, (namespace, name, None), request).await,
        ["portForward", namespace, name, uid] => {
            port_forward(server, (namespace, name, Some(uid)), request).await
        }
        [what, namespace, name, container] => {
            in_container(server, what, (namespace, name, None), container, request).await
        }
        [what, namespace, name, uid, container] => {
            in_container(server, what, (namespace, name, Some(uid)), container, request).await
        }
        _ => Err((StatusCode::NOT_FOUND, "404 page not found\n".into())),
    };
    result.unwrap_or_else(|(status, why)| text(status, why))
}

type PodName<'a> = (&'a str, &'a str, Option<&'a str>);

async fn in_container(
    server: &Server,
    what: &str,
    (namespace, name, uid): PodName<'_>,
    container: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let pod = find(server, namespace, name, uid)?;
    let query = Query::parse(request.uri().query());
    let id = running(server, &pod, container).await?;
    let cri = &server.host.cri;
    let failed = |status: tonic::Status| (StatusCode::INTERNAL_SERVER_ERROR, cri::describe(&status));
    let url = match what {
        "run" => {
            let command = query
                .all("cmd")
                .flat_map(|c| c.split(' ').map(str::to_owned).collect::<Vec<_>>())
                .collect();
            let answer = cri.exec_sync(&id, command, 0).await.map_err(failed)?;
            let mut output = answer.stdout.to_vec();
            output.extend_from_slice(&answer.stderr);
            return Ok(text(
                StatusCode::OK,
                String::from_utf8_lossy(&output).into_owned(),
            ));
        }
        "exec" => {
            let tty = query.on(&["tty"]);
            let exec = ExecRequest {
                container_id: id,
                cmd: query.all("command").map(str::to_owned).collect(),
                tty,
                stdin: query.on(&["input", "stdin"]),
                stdout: query.on(&["output", "stdout"]),
                // A terminal has one output.
                stderr: query.on(&["error", "stderr"]) && !tty,
            };
            if !exec.stdin && !exec.stdout && !exec.stderr {
                return Err((
                    StatusCode::BAD_REQUEST,
                    "you must specify at least 1 of stdin, stdout, stderr".into(),
                ));
            }
            cri.exec(exec).await.map_err(failed)?
        }
        _ => {
            let spec = pod::find(&pod, container)
                .map(|m| m.container.into_owned())
                .unwrap_or_default();
            let tty = spec.tty.unwrap_or(false);
            let attach = AttachRequest {
                container_id: id,
                tty,
                stdin: query.on(&["input", "stdin"]),
                stdout: query.on(&["output", "stdout"]),
                stderr: query.on(&["error", "stderr"]) && !tty,
            };
            cri.attach(attach).await.map_err(failed)?
        }
    };
    proxy(&url, request).await
}

async fn port_forward(
    server: &Server,
    (namespace, name, uid): PodName<'_>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let pod = find(server, namespace, name, uid)?;
    let query = Query::parse(request.uri().query());
    let port = query
        .all("port")
        .flat_map(|p| p.split(','))
        .filter_map(|p| p.parse().ok())
        .collect();
    let selector = HashMap::from([(
        crate::runtime::labels::POD_UID.to_owned(),
        pod::uid(&pod).to_owned(),
    )]);
    let filter = PodSandboxFilter {
        label_selector: selector,
        ..PodSandboxFilter::default()
    };
    let failed = |status: tonic::Status| (StatusCode::INTERNAL_SERVER_ERROR, cri::describe(&status));
    let sandboxes = server.host.cri.list_pod_sandbox(filter).await.map_err(failed)?;
    let ready = sandboxes
        .into_iter()
        .find(|s| s.state() == PodSandboxState::SandboxReady);
    let id = ready
        .ok_or((
            StatusCode::NOT_FOUND,
            format!("pod not found (\"{name}_{namespace}\")"),
        ))?
        .id;
    let url = server
        .host
        .cri
        .port_forward(PortForwardRequest {
            pod_sandbox_id: id,
            port,
        })
        .await
        .map_err(failed)?;
    proxy(&url, request).await
}

fn find(
    server: &Server,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<std::sync::Arc<Pod>, Refusal> {
    server
        .find(namespace, name, uid)
        .ok_or((StatusCode::NOT_FOUND, "pod does not exist".to_owned()))
}

/// The id of the container's running instance.
async fn running(server: &Server, pod: &Pod, container: &str) -> Result<String, Refusal> {
    use keelson_proto::cri::v1::{ContainerFilter, ContainerState};
    let selector = HashMap::from([
        (
            crate::runtime::labels::POD_UID.to_owned(),
            pod::uid(pod).to_owned(),
        ),
        (
            crate::runtime::labels::CONTAINER_NAME.to_owned(),
            container.to_owned(),
        ),
    ]);
    let filter = ContainerFilter {
        label_selector: selector,
        ..ContainerFilter::default()
    };
    let list = server.host.cri.list_containers(filter).await;
    let list = list.map_err(|s| (StatusCode::INTERNAL_SERVER_ERROR, cri::describe(&s)))?;
    let newest = list
        .into_iter()
        .filter(|c| c.state() == ContainerState::ContainerRunning)
        .max_by_key(|c| c.created_at);
    newest.map(|c| c.id).ok_or((
        StatusCode::NOT_FOUND,
        format!("container not found (\"{container}\")"),
    ))
}

/// Sends the request on to `url` and joins the two connections when the other side switches protocols.
async fn proxy(url: &str, mut request: Request<Incoming>) -> Result<Answer, Refusal> {
    let broken = |why: String| {
        (
            StatusCode::BAD_GATEWAY,
            format!("cannot reach the container runtime's stream: {why}"),
        )
    };
    let uri: Uri = url.parse().map_err(|_| broken(format!("bad address {url:?}")))?;
    let authority = uri
        .authority()
        .ok_or_else(|| broken(format!("bad address {url:?}")))?
        .clone();
    let stream = TcpStream::connect((
        authority.host().trim_matches(['[', ']']),
        authority.port_u16().unwrap_or(80),
    ))
    .await
    .map_err(|e| broken(e.to_string()))?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broken(e.to_string()))?;
    tokio::spawn(async move {
        // Its end is seen by whoever waits for the answer or the upgrade.
        let _ = connection.with_upgrades().await;
    });
    let mut onward = Request::new(Empty::<Bytes>::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = uri
        .path_and_query()
        .map_or_else(|| Uri::from_static("/"), |p| Uri::from(p.clone()));
    *onward.headers_mut() = request.headers().clone();
    // Credentials for the kubelet are not the runtime's business.
    onward.headers_mut().remove(http::header::AUTHORIZATION);
    onward.headers_mut().remove(http::header::CONTENT_LENGTH);
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        onward.headers_mut().insert(http::header::HOST, host);
    }
    let mut answer = sender
        .send_request(onward)
        .await
        .map_err(|e| broken(e.to_string()))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer.map(|body| body.map_err(std::io::Error::other).boxed()));
    }
    let mut reply = Response::new(
        Empty::new()
            .map_err(|never: std::convert::Infallible| match never {})
            .boxed(),
    );
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *reply.headers_mut() = answer.headers().clone();
    let there = hyper::upgrade::on(&mut answer);
    let here = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let (Ok(here), Ok(there)) = tokio::join!(here, there) {
            let (mut here, mut there) = (TokioIo::new(here), TokioIo::new(there));
            if let Err(error) = tokio::io::copy_bidirectional(&mut here, &mut there).await {
                tracing::debug!(%error, "stream ended");
            }
        }
    });
    Ok(reply)
}

/// A decoded query string.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|p| !p.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub(super) fn on(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| matches!(self.get(key), Some("1" | "true")))
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let escaped = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(if bytes[i] == b'+' { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_decode() {
        let query = Query::parse(Some(
            "command=sh&command=-c&command=echo+%22a%26b%22&input=1&tty=false",
        ));
        assert_eq!(
            query.all("command").collect::<Vec<_>>(),
            ["sh", "-c", "echo \"a&b\""]
        );
        assert!(query.on(&["stdin", "input"]) && !query.on(&["tty"]));
        assert_eq!(Query::parse(Some("a=%zz%4")).get("a"), Some("%zz%4"));
    }
}
