//! Pods and pod templates. The rules are spread over one file per part of the spec; this one walks the spec.

pub mod affinity;
mod claims;
mod columns;
mod containers;
pub mod defaults;
mod dns;
mod env;
mod ephemeral;
mod image;
mod kind;
mod match_keys;
mod mounts;
mod probes;
mod projected;
pub mod qos;
mod resize;
pub mod resources;
mod security;
mod status;
pub mod tolerations;
mod update;
pub mod volumes;
pub mod warnings;

use keelson_machinery::{Cursor, FieldErrors, Value, names};

pub use kind::Pod;

use crate::{check, metadata, set};

/// What the parts of a spec must know of each other.
pub struct Context<'a> {
    volumes: Vec<(&'a str, Cursor<'a>)>,
    claims: Vec<&'a str>,
    grace_period_s: Option<i64>,
    restart_policy: &'a str,
    host_users: bool,
}

impl<'a> Context<'a> {
    fn volume(&self, name: &str) -> Option<&Cursor<'a>> {
        self.volumes
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, volume)| volume)
    }
}

/// Defaults of a template within another kind.
pub fn set_template_defaults(template: &mut Value) {
    set::object(template, "metadata");
    defaults::spec(set::object(template, "spec"));
}

/// A `PodTemplateSpec`. Upstream's paths of the template's labels and annotations leave `metadata` out.
pub fn validate_template(e: &mut FieldErrors, template: &Cursor) {
    let meta = template.child("metadata");
    let at = |key: &str| Cursor::at(meta.child(key).value(), template.path().child(key));
    check::labels(e, &at("labels"));
    check::annotations(e, &at("annotations"));
    pod_annotations(e, &at("annotations"));
    let spec = template.child("spec");
    validate_spec(e, &spec, false);
    if !spec.child("ephemeralContainers").is_empty() {
        e.forbidden(
            spec.child("ephemeralContainers").path(),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// A `PodSpec`, of a pod or of a template.
pub fn validate_spec(e: &mut FieldErrors, spec: &Cursor, is_pod: bool) {
    let grace = spec.child("terminationGracePeriodSeconds");
    if grace.is_absent() {
        e.required(grace.path(), "");
    }
    let ctx = Context {
        volumes: volumes::list(e, &spec.child("volumes"), is_pod),
        claims: claims::list(e, &spec.child("resourceClaims")),
        grace_period_s: grace.i64(),
        restart_policy: spec.child("restartPolicy").str(),
        host_users: spec.child("hostUsers").bool() != Some(false),
    };
    let regular = spec.child("containers");
    containers::regular(e, &regular, &ctx);
    containers::init(e, &spec.child("initContainers"), &regular, &ctx);
    containers::ephemeral(e, &spec.child("ephemeralContainers"), spec, &ctx);
    if !spec.child("resources").is_absent() {
        resources::pod(e, &spec.child("resources"));
    }
    host_network(e, spec, is_pod);
    check::one_of(e, &spec.child("restartPolicy"), &["Always", "OnFailure", "Never"]);
    dns::policy(e, spec);
    check::labels(e, &spec.child("nodeSelector"));
    security::pod(e, spec);
    affinity::affinity(e, &spec.child("affinity"));
    dns::config(e, spec);
    gates(e, spec);
    affinity::topology_spread(e, &spec.child("topologySpreadConstraints"));
    host_users(e, spec, &ctx);
    scheduling(e, spec);
}

fn scheduling(e: &mut FieldErrors, spec: &Cursor) {
    for (key, rule) in [
        (
            "serviceAccountName",
            names::is_dns1123_subdomain as check::NameRule,
        ),
        ("nodeName", names::is_dns1123_subdomain),
        ("hostname", names::is_dns1123_label),
        ("subdomain", names::is_dns1123_label),
        ("hostnameOverride", names::is_dns1123_subdomain),
        ("priorityClassName", names::is_dns1123_subdomain),
        ("runtimeClassName", names::is_dns1123_subdomain),
    ] {
        if !spec.child(key).str().is_empty() {
            check::named(e, &spec.child(key), rule);
        }
    }
    let deadline = spec.child("activeDeadlineSeconds");
    if deadline
        .i64()
        .is_some_and(|value| !(1..=i64::from(i32::MAX)).contains(&value))
    {
        check::invalid_int(e, &deadline, "must be between 1 and 2147483647, inclusive");
    }
    tolerations::list(e, &spec.child("tolerations"));
    dns::host_aliases(e, &spec.child("hostAliases"));
    check::one_of_or_absent(
        e,
        &spec.child("preemptionPolicy"),
        &["PreemptLowerPriority", "Never"],
    );
    for (name, overhead) in spec.child("overhead").entries() {
        resources::name(e, &overhead, name);
        resources::amount(e, &overhead, name);
    }
    let os = spec.child("os");
    if !os.is_absent() {
        match os.child("name").str() {
            "linux" | "windows" => {}
            "" => e.required(os.child("name").path(), "cannot be empty"),
            other => e.not_supported(os.path(), other, &["linux", "windows"]),
        }
    }
}

fn gates(e: &mut FieldErrors, spec: &Cursor) {
    for gate in spec.child("readinessGates").items() {
        check::label_name(e, &gate.child("conditionType"));
    }
    let mut seen: Vec<&str> = Vec::new();
    for gate in spec.child("schedulingGates").items() {
        let name = gate.child("name").str();
        for message in names::is_qualified_name(name) {
            e.invalid(gate.path(), name, message);
        }
        match seen.contains(&name) {
            true => e.duplicate(gate.path(), name),
            false => seen.push(name),
        }
    }
}

/// In a template `hostPort` may be left out, as pods are defaulted when they are made.
fn host_network(e: &mut FieldErrors, spec: &Cursor, is_pod: bool) {
    if spec.child("hostNetwork").bool() != Some(true) {
        return;
    }
    for container in spec.child("containers").items() {
        for port in container.child("ports").items() {
            let host = port.child("hostPort").i64().unwrap_or(0);
            let inner = port.child("containerPort").i64().unwrap_or(0);
            if (is_pod || host != 0) && host != inner {
                check::invalid_int(
                    e,
                    &port.child("hostPort"),
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

fn host_users(e: &mut FieldErrors, spec: &Cursor, ctx: &Context) {
    if ctx.host_users {
        return;
    }
    for (key, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.child(key).bool() == Some(true) {
            e.forbidden(&spec.path().child(shown), "when `pod.Spec.HostUsers` is false");
        }
    }
}

/// Metadata and spec of a pod, on create and on update.
fn validate_pod(e: &mut FieldErrors, pod: &Cursor) {
    metadata::validate_at(e, &pod.child("metadata"), Some(true), names::is_dns1123_subdomain);
    pod_annotations(e, &pod.child("metadata").child("annotations"));
    let spec = pod.child("spec");
    validate_spec(e, &spec, true);
    if spec.child("serviceAccountName").str().is_empty() {
        for volume in spec.child("volumes").items() {
            for source in volume.child("projected").child("sources").items() {
                let token = source.child("serviceAccountToken");
                if !token.is_absent() {
                    e.forbidden(
                        token.path(),
                        "must not be specified when serviceAccountName is not set",
                    );
                }
            }
        }
    }
    for key in ["containers", "initContainers"] {
        for container in spec.child(key).items() {
            containers::image_is_trimmed(e, &container);
        }
    }
}

fn pod_annotations(e: &mut FieldErrors, annotations: &Cursor) {
    const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let cost = annotations.value().get(DELETION_COST).and_then(Value::as_str);
    if let Some(cost) = cost
        && !is_deletion_cost(cost)
    {
        e.invalid(
            &annotations.path().key(DELETION_COST),
            cost,
            "must be a 32bit integer",
        );
    }
}

/// A 32-bit integer without leading zeros or plus.
fn is_deletion_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|cost| cost.to_string() == text)
}
