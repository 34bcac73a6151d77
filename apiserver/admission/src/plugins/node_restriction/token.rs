//! Tokens a kubelet may ask for: bound to a pod on its node, for an audience that pod names.

use keelson_auth::{Attributes, Decision};
use keelson_machinery::{GroupResource, Status, meta};
use serde_json::Value;

use super::{Refusal, Request, Verdict, ensure, on_node};
use crate::Operation;
use crate::value::{items, str_of};

const PODS: GroupResource = GroupResource::new("", "pods");
const DRIVERS: GroupResource = GroupResource::new("storage.k8s.io", "csidrivers");

pub(super) fn check(request: &Request<'_>) -> Verdict {
    if request.a.operation != Operation::Create || request.a.subresource != "token" {
        return Ok(());
    }
    let reference = &request.object["spec"]["boundObjectRef"];
    let name = str_of(&reference["name"]);
    let to_pod = reference["apiVersion"] == "v1" && reference["kind"] == "Pod" && !name.is_empty();
    ensure(to_pod, || "node requested token not bound to a pod".to_owned())?;
    let uid = str_of(&reference["uid"]);
    ensure(!uid.is_empty(), || {
        "node requested token with a pod binding without a uid".to_owned()
    })?;
    let pod = request.reader.get(&PODS, Some(request.a.namespace), name);
    let pod = pod.ok_or_else(|| Refusal::Missing(Status::not_found(&PODS, name)))?;
    ensure(meta::uid(&pod) == uid, || {
        format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        )
    })?;
    ensure(on_node(&pod, request.own), || {
        "node requested token bound to a pod scheduled on a different node".to_owned()
    })?;
    audience(request, &pod)
}

fn audience(request: &Request<'_>, pod: &Value) -> Verdict {
    let audiences: Vec<&str> = items(&request.object["spec"]["audiences"]).map(str_of).collect();
    let audience = match audiences.as_slice() {
        [] => "",
        [one] => one,
        _ => return Err("node may only request 0 or 1 audiences".to_owned().into()),
    };
    let known =
        in_volumes(pod, audience) || in_drivers(request, pod, audience) || authorized(request, audience);
    ensure(known, || {
        format!("audience {audience:?} not found in pod spec volume")
    })
}

/// A projected token without audience is for the server, which the kubelet asks for as none.
fn in_volumes(pod: &Value, audience: &str) -> bool {
    let sources = items(&pod["spec"]["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
    let mut tokens = sources
        .map(|source| &source["serviceAccountToken"])
        .filter(|token| token.is_object());
    tokens.any(|token| str_of(&token["audience"]) == audience)
}

/// CSI drivers name the audiences of the tokens they want; the pod must use one through a volume or a claim.
fn in_drivers(request: &Request<'_>, pod: &Value, audience: &str) -> bool {
    let uses = |driver: &str| {
        items(&pod["spec"]["volumes"]).any(|volume| {
            volume["csi"]["driver"] == driver
                || volume["persistentVolumeClaim"].is_object()
                || volume["ephemeral"].is_object()
        })
    };
    request.reader.list(&DRIVERS, None).iter().any(|driver| {
        let mut wanted = items(&driver["spec"]["tokenRequests"]);
        wanted.any(|wanted| str_of(&wanted["audience"]) == audience) && uses(meta::name(driver))
    })
}

fn authorized(request: &Request<'_>, audience: &str) -> bool {
    let asked = Attributes {
        user: request.a.user.clone(),
        verb: "request-serviceaccounts-token-audience".into(),
        namespace: request.a.namespace.to_owned(),
        resource: audience.to_owned().into(),
        name: request.a.name.to_owned(),
        is_resource: true,
        ..Attributes::default()
    };
    request.a.authorizer.authorize(&asked).0 == Decision::Allow
}
