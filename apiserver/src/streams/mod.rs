//! The way to nodes, pods and services behind log, exec, attach, port-forward and proxy.
//!
//! A request is turned into one for the kubelet (or the pod itself) and passed through, upgrades included: what the client and the kubelet
//! speak with each other after an upgrade is theirs.

mod forward;
mod kubelet;
mod pod;
mod proxy;

use std::sync::Arc;

use keelson_admission::Operation;
use keelson_machinery::{Status, Value};

use crate::context::Context;
use crate::server::Server;
use crate::verbs::admit::Write;
use crate::verbs::{Target, get};
use crate::wire::Response;

pub use forward::Upstream;
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
        write.mutate(server, context, &mut options)?;
        write.validate(server, context, &options).await?;
    }
    let path = pod::kubelet_path(&pod, target, &context.query)?;
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let upstream = server.kubelets.upstream(&*server.reader, node)?;
    forward::forward(context, &upstream, &path).await
}
