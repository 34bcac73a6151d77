//! The scopes that narrow a quota to some pods.

use keelson_machinery::GroupResource;
use serde_json::Value;

use crate::value::{items, str_of};

/// Whether the object is in every scope of the quota. Scopes are about pods (and claims); a scoped quota concerns nothing else.
pub fn match_all(resource: &GroupResource, quota: &Value, object: &Value) -> bool {
    let spec = &quota["spec"];
    let plain = items(&spec["scopes"]).map(|scope| (str_of(scope), &Value::Null));
    let selected = items(&spec["scopeSelector"]["matchExpressions"])
        .map(|expression| (str_of(&expression["scopeName"]), expression));
    let is_pod = resource.group.is_empty() && resource.resource == "pods";
    let is_claim = resource.group.is_empty() && resource.resource == "persistentvolumeclaims";
    plain.chain(selected).all(|(scope, expression)| match scope {
        "VolumeAttributesClass" => {
            is_claim && selects(expression, object["spec"]["volumeAttributesClassName"].as_str())
        }
        _ => is_pod && in_scope(scope, expression, &object["spec"]),
    })
}

fn in_scope(scope: &str, expression: &Value, spec: &Value) -> bool {
    let terminating = spec["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => {
            let class = spec["priorityClassName"]
                .as_str()
                .filter(|class| !class.is_empty());
            selects(expression, class)
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

/// A scope without expression only asks that there is a value.
fn selects(expression: &Value, value: Option<&str>) -> bool {
    let listed = || items(&expression["values"]).any(|own| own.as_str() == value);
    match expression["operator"].as_str() {
        None | Some("Exists") => value.is_some(),
        Some("DoesNotExist") => value.is_none(),
        Some("In") => value.is_some() && listed(),
        Some("NotIn") => value.is_none() || !listed(),
        Some(_) => false,
    }
}

/// No container asks for or is limited in cpu or memory.
fn is_best_effort(spec: &Value) -> bool {
    let says = |resources: &Value| {
        ["requests", "limits"].iter().any(|field| {
            ["cpu", "memory"]
                .iter()
                .any(|name| !matches!(&resources[field][name], Value::Null))
        })
    };
    let mut containers = items(&spec["containers"]).chain(items(&spec["initContainers"]));
    !says(&spec["resources"]) && !containers.any(|container| says(&container["resources"]))
}

fn crosses_namespaces(spec: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &spec["affinity"][kind];
        let required = items(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]);
        let preferred = items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"]);
        let mut terms = required.chain(preferred.map(|weighted| &weighted["podAffinityTerm"]));
        terms.any(|term| items(&term["namespaces"]).len() > 0 || term["namespaceSelector"].is_object())
    })
}
