//! The way to nodes, pods and services behind log, exec, attach, port-forward and proxy.
//!
//! Here it is decided where a request goes; `keelson-streams` moves the bytes.

mod kubelet;
mod proxy;

use std::sync::Arc;

use keelson_admission::Operation;
use keelson_machinery::{Status, Value};
use keelson_streams::location;

use crate::context::Context;
use crate::server::Server;
use crate::verbs::admit::Write;
use crate::verbs::{Target, get};
use crate::wire::{Body, Response};

pub use kubelet::Kubelets;

/// Answers a streaming subresource.
pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    if target.subresource == "proxy" {
        return proxy::serve(server, context, target).await;
    }
    let pod = get::fetch(server, context, target).await?.value();
    if target.subresource != "log" {
        let write = Write::new(target, Operation::Connect, None, false);
        let mut options = Value::Null;
        write.mutate(server, context, &mut options).await?;
        write.validate(server, context, &options).await?;
    }
    let query = context.query.pairs();
    let container = || location::container(&pod, context.query.get("container").unwrap_or_default());
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let onward = |path_and_query: String| -> Result<keelson_streams::Target, Status> {
        if node.is_empty() {
            let name = &target.name;
            return Err(Status::bad_request(format!(
                "pod {name} does not have a host assigned"
            )));
        }
        Ok(keelson_streams::Target {
            backend: server.kubelets.backend(&*server.reader, node)?,
            path_and_query,
        })
    };
    let all = |name: &str| {
        context
            .query
            .all(name)
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let answer = match target.subresource.as_str() {
        "log" => keelson_streams::log(onward(location::log(&pod, &container()?, query))?).await?,
        "exec" => {
            let streams = location::streams(query)?;
            let path = location::exec(&pod, &container()?, streams, &all("command"));
            let onward = onward(path)?;
            keelson_streams::exec(request(context), onward, streams).await?
        }
        "attach" => {
            let streams = location::streams(query)?;
            let onward = onward(location::attach(&pod, &container()?, streams))?;
            keelson_streams::exec(request(context), onward, streams).await?
        }
        "portforward" => {
            let onward = onward(location::port_forward(&pod, &all("ports")))?;
            keelson_streams::port_forward(request(context), onward).await?
        }
        _ => return Err(Status::no_such_path()),
    };
    Ok(answer.map(Body::wrap))
}

/// The request itself, its upgrade included.
fn request(context: &mut Context) -> http::Request<Body> {
    let mut request = http::Request::new(context.body.take().map_or(Body::Empty, Body::wrap));
    *request.method_mut() = context.parts.method.clone();
    *request.uri_mut() = context.parts.uri.clone();
    *request.version_mut() = context.parts.version;
    *request.headers_mut() = context.parts.headers.clone();
    *request.extensions_mut() = std::mem::take(&mut context.parts.extensions);
    request
}
