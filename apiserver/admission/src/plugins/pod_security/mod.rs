//! PodSecurity: the Pod Security Standards, as a namespace's labels ask for them (KEP-2579).
//!
//! `enforce` refuses pods, `warn` tells the author (also of workloads with pod templates), `audit` is for the audit log. Without labels
//! everything is privileged. Versions are read and shown; the checks are those of this release.

mod baseline;
mod names;
mod restricted;

use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::Value;

use crate::value::{items, str_of};
use crate::{Admission, AdmissionAttributes, Operation};

const NAMESPACES: GroupResource = GroupResource::new("", "namespaces");
const LABEL_PREFIX: &str = "pod-security.kubernetes.io/";

pub struct PodSecurity;

/// What a pod does that a level forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    reason: String,
    detail: String,
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    let reason = reason.to_owned();
    Some(Violation { reason, detail })
}

type Check = fn(&Value, &Value) -> Option<Violation>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level with the version it is asked for in, as `baseline:latest`.
struct Policy {
    level: Level,
    shown: String,
}

fn policy(namespace: &Value, mode: &str) -> Policy {
    let label = |key: String| meta::label(namespace, &key).map(str::to_owned);
    let level = label(format!("{LABEL_PREFIX}{mode}"));
    let version = label(format!("{LABEL_PREFIX}{mode}-version")).unwrap_or_else(|| "latest".to_owned());
    let (level, name) = match level.as_deref() {
        None | Some("privileged") => (Level::Privileged, "privileged"),
        Some("baseline") => (Level::Baseline, "baseline"),
        // A level that cannot be read must not open the namespace; warnings and audit can wait for a good label.
        Some("restricted") => (Level::Restricted, "restricted"),
        Some(_) if mode == "enforce" => (Level::Restricted, "restricted"),
        Some(_) => (Level::Privileged, "privileged"),
    };
    let shown = format!("{name}:{version}");
    Policy { level, shown }
}

/// Each violation as `reason (detail)`, joined; "" where the pod is within the level.
fn violations(level: Level, metadata: &Value, spec: &Value) -> String {
    let checks: Vec<Check> = match level {
        Level::Privileged => Vec::new(),
        Level::Baseline => baseline::CHECKS
            .iter()
            .chain(baseline::OVERRIDDEN)
            .copied()
            .collect(),
        Level::Restricted => baseline::CHECKS
            .iter()
            .chain(restricted::CHECKS)
            .copied()
            .collect(),
    };
    let found = checks.iter().filter_map(|check| check(metadata, spec));
    let texts: Vec<String> = found
        .map(|violation| match violation.detail.is_empty() {
            true => violation.reason,
            false => format!("{} ({})", violation.reason, violation.detail),
        })
        .collect();
    texts.join(", ")
}

/// The pod template of a workload: its metadata and spec.
fn template<'a>(a: &AdmissionAttributes<'_>, object: &'a Value) -> Option<&'a Value> {
    match (a.resource.group.as_ref(), a.resource.resource.as_ref()) {
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&object["spec"]["template"]),
        ("batch", "cronjobs") => Some(&object["spec"]["jobTemplate"]["spec"]["template"]),
        ("", "podtemplates") => Some(&object["template"]),
        _ => None,
    }
}

/// An update matters only if it changes what the checks look at and may change at all.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let images = |pod: &Value| -> Vec<Value> {
        let fields = ["containers", "initContainers"].into_iter();
        let containers = fields.flat_map(|field| items(&pod["spec"][field]));
        containers.map(|container| container["image"].clone()).collect()
    };
    images(pod) != images(old)
        || items(&pod["spec"]["ephemeralContainers"]).len()
            != items(&old["spec"]["ephemeralContainers"]).len()
        || baseline::app_armor_annotations(pod) != baseline::app_armor_annotations(old)
}

impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        let write = matches!(a.operation, Operation::Create | Operation::Update);
        let pods = a.is_any("", "pods") && matches!(a.subresource, "" | "ephemeralcontainers");
        write && (pods || (a.subresource.is_empty() && template(a, &Value::Null).is_some()))
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        pod: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if a.resource.resource != "pods" || a.old.is_some_and(|old| !is_significant(pod, old)) {
            return Ok(());
        }
        let namespace = reader.get(&NAMESPACES, None, a.namespace);
        let policy = policy(namespace.as_deref().unwrap_or(&Value::Null), "enforce");
        let found = violations(policy.level, &pod["metadata"], &pod["spec"]);
        match found.is_empty() {
            true => Ok(()),
            false => Err(a.forbidden(pod, &format!("violates PodSecurity {:?}: {found}", policy.shown))),
        }
    }

    fn warnings(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &Value,
        reader: &dyn ObjectReader,
    ) -> Vec<String> {
        let is_pod = a.resource.resource == "pods";
        if is_pod && a.old.is_some_and(|old| !is_significant(object, old)) {
            return Vec::new();
        }
        let pod = template(a, object).unwrap_or(object);
        if str_of(&pod["metadata"]["name"]).is_empty() && !pod["spec"].is_object() {
            return Vec::new();
        }
        let namespace = reader.get(&NAMESPACES, None, a.namespace);
        let policy = policy(namespace.as_deref().unwrap_or(&Value::Null), "warn");
        let found = violations(policy.level, &pod["metadata"], &pod["spec"]);
        match found.is_empty() {
            true => Vec::new(),
            false => vec![format!("would violate PodSecurity {:?}: {found}", policy.shown)],
        }
    }
}

#[cfg(test)]
mod tests;
