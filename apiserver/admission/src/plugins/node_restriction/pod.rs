//! Pods a kubelet may write: its mirror pods, and status and evictions of the pods on its node.

use keelson_auth::pod_references::{MIRROR_ANNOTATION, Referenced, is_mirror, refers_any};
use keelson_machinery::{GroupResource, Status, meta};
use serde_json::Value;

use super::{Refusal, Request, Verdict, ensure, on_node};
use crate::Operation;
use crate::value::str_of;

const PODS: GroupResource = GroupResource::new("", "pods");
const NODES: GroupResource = GroupResource::new("", "nodes");

pub(super) fn check(request: &Request<'_>) -> Verdict {
    let own = request.own;
    match (request.a.subresource, request.a.operation) {
        ("", Operation::Create) => create(request),
        ("", Operation::Delete) => {
            let pod = stored(request)?;
            ensure(on_node(&pod, own), || {
                format!("node {own:?} can only delete pods with spec.nodeName set to itself")
            })
        }
        ("", other) => Err(format!(
            "unexpected operation {:?}, node {own:?} can only create and delete mirror pods",
            other.as_str()
        )
        .into()),
        ("status", Operation::Update) => status(request),
        ("eviction", Operation::Create) => {
            let pod = stored(request)?;
            ensure(on_node(&pod, own), || {
                format!("node {own} can only evict pods with spec.nodeName set to itself")
            })
        }
        ("status" | "eviction", other) => Err(format!("unexpected operation {:?}", other.as_str()).into()),
        (other, _) => Err(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        )
        .into()),
    }
}

fn stored(request: &Request<'_>) -> Result<std::sync::Arc<Value>, Refusal> {
    let name = request.name();
    let found = request.reader.get(&PODS, Some(request.a.namespace), name);
    found.ok_or_else(|| Refusal::Missing(Status::not_found(&PODS, name)))
}

fn create(request: &Request<'_>) -> Verdict {
    let (own, pod) = (request.own, request.object);
    ensure(is_mirror(pod), || {
        format!(
            "pod does not have {MIRROR_ANNOTATION:?} annotation, node {own:?} can only create mirror pods"
        )
    })?;
    ensure(on_node(pod, own), || {
        format!("node {own:?} can only create pods with spec.nodeName set to itself")
    })?;
    owner(request)?;
    let account = str_of(&pod["spec"]["serviceAccountName"]);
    let named = |what: &str| format!("node {own:?} can not create pods that reference {what}");
    ensure(account.is_empty(), || named("a service account"))?;
    for (kind, what) in [
        (Referenced::Secret, "secrets"),
        (Referenced::ConfigMap, "configmaps"),
        (Referenced::PersistentVolumeClaim, "persistentvolumeclaims"),
        (Referenced::ResourceClaim, "resourceclaims"),
    ] {
        ensure(!refers_any(pod, kind), || named(what))?;
    }
    Ok(())
}

fn owner(request: &Request<'_>) -> Verdict {
    let own = request.own;
    let references = meta::owner_references(request.object);
    let [owner] = references else {
        return ensure(references.is_empty(), || {
            format!("node {own:?} can only create pods with a single owner reference set to itself")
        });
    };
    let itself = owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == own;
    ensure(itself, || {
        format!("node {own:?} can only create pods with an owner reference set to itself")
    })?;
    ensure(owner["controller"] == true, || {
        format!("node {own:?} can only create pods with a controller reference set to itself")
    })?;
    ensure(owner["blockOwnerDeletion"] != true, || {
        format!("node {own:?} must not set blockOwnerDeletion on an owner reference")
    })?;
    let node = request.reader.get(&NODES, None, own);
    let node = node.ok_or_else(|| Refusal::Missing(Status::not_found(&NODES, own)))?;
    let (claimed, uid) = (str_of(&owner["uid"]), meta::uid(&node));
    ensure(claimed == uid, || {
        format!("node {own} UID mismatch: expected {claimed} got {uid}")
    })
}

fn status(request: &Request<'_>) -> Verdict {
    let own = request.own;
    let old = request.a.old.unwrap_or(&Value::Null);
    ensure(on_node(old, own), || {
        format!("node {own:?} can only update pod status for pods with spec.nodeName set to itself")
    })?;
    ensure(meta::labels(old) == meta::labels(request.object), || {
        format!("node {own:?} cannot update labels through pod status")
    })?;
    let claims = |pod: &Value| pod["status"]["resourceClaimStatuses"].clone();
    ensure(claims(old) == claims(request.object), || {
        format!("node {own:?} cannot update resource claim statuses")
    })
}
