//! Environment of a container: `env`, `envFrom`, service variables, field and resource references.
//!
//! Pure: config maps, secrets and services were fetched before. Precedence is upstream's: `envFrom` in order, then
//! `env` in order (later wins, earlier may be referenced), then service variables for names not taken.

use super::expansion::expand;
use super::service_env;
use crate::{pod, quantity};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVarSource, Pod, ResourceFieldSelector, Secret, Service,
};
use std::collections::{BTreeMap, HashMap};

/// Everything outside the pod that its environment may name.
#[derive(Clone, Default)]
pub struct Sources {
    pub config_maps: HashMap<String, ConfigMap>,
    pub secrets: HashMap<String, Secret>,
    /// Services of the pod's namespace, and `kubernetes` of `default`.
    pub services: Vec<std::sync::Arc<Service>>,
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    /// Allocatable of the node: the value of a limit that is not set.
    pub allocatable: BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
}

/// The variables in the order they are set, or why they cannot be made (a `CreateContainerConfigError`).
pub fn of_container(
    pod: &Pod,
    container: &Container,
    from: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let services = service_env::variables(pod, &from.services);
    let mut vars: Vec<(String, String)> = Vec::new();
    for source in container.env_from.iter().flatten() {
        for (name, value) in env_from(pod, source, from)? {
            set(&mut vars, name, value);
        }
    }
    for var in container.env.iter().flatten() {
        let value = match &var.value_from {
            Some(source) => match value_from(pod, container, source, from)? {
                Some(value) => value,
                None => continue,
            },
            None => expand(var.value.as_deref().unwrap_or_default(), |n| {
                find(&vars, n).or_else(|| services.get(n).cloned())
            }),
        };
        set(&mut vars, var.name.clone(), value);
    }
    for (name, value) in services {
        if !vars.iter().any(|(n, _)| *n == name) {
            vars.push((name, value));
        }
    }
    Ok(vars)
}

fn find(vars: &[(String, String)], name: &str) -> Option<String> {
    vars.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
}

fn set(vars: &mut Vec<(String, String)>, name: String, value: String) {
    match vars.iter_mut().find(|(n, _)| *n == name) {
        Some(slot) => slot.1 = value,
        None => vars.push((name, value)),
    }
}

fn env_from(pod: &Pod, source: &EnvFromSource, from: &Sources) -> Result<Vec<(String, String)>, String> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut out = Vec::new();
    if let Some(reference) = &source.config_map_ref {
        match from.config_maps.get(&reference.name) {
            Some(map) => out.extend(map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone()))),
            None if reference.optional.unwrap_or(false) => {}
            None => return Err(format!("configmap \"{}\" not found", reference.name)),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match from.secrets.get(&reference.name) {
            Some(secret) => out.extend(
                secret
                    .data
                    .iter()
                    .flatten()
                    .map(|(k, v)| (k.clone(), String::from_utf8_lossy(&v.0).into_owned())),
            ),
            None if reference.optional.unwrap_or(false) => {}
            None => return Err(format!("secret \"{}\" not found", reference.name)),
        }
    }
    let _ = pod;
    Ok(out
        .into_iter()
        .map(|(k, v)| (format!("{prefix}{k}"), v))
        .filter(|(k, _)| is_env_name(k))
        .collect())
}

/// What the API accepts as a variable's name: printable ASCII without `=`.
fn is_env_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=')
}

fn value_from(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    from: &Sources,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        return field_value(pod, &field.field_path, &from.host_ips, &from.pod_ips).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return resource_value(pod, container, resource, &from.allocatable).map(Some);
    }
    let namespace = pod::namespace(pod);
    if let Some(r) = &source.config_map_key_ref {
        let optional = r.optional.unwrap_or(false);
        let Some(map) = from.config_maps.get(&r.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("configmap \"{}\" not found", r.name))
            };
        };
        return match map.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                r.key, r.name
            )),
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let optional = r.optional.unwrap_or(false);
        let Some(secret) = from.secrets.get(&r.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("secret \"{}\" not found", r.name))
            };
        };
        return match secret.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in Secret {namespace}/{}",
                r.key, r.name
            )),
        };
    }
    Ok(None)
}

/// The value of a downward API field path.
pub fn field_value(pod: &Pod, path: &str, host_ips: &[String], pod_ips: &[String]) -> Result<String, String> {
    let metadata = &pod.metadata;
    let spec = pod::spec(pod);
    if let Some((map, key)) = subscript(path) {
        let from = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(format!("fieldPath \"{path}\" does not support subscript")),
        };
        return Ok(from
            .as_ref()
            .and_then(|m| m.get(key))
            .cloned()
            .unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod::name(pod).to_owned(),
        "metadata.namespace" => pod::namespace(pod).to_owned(),
        "metadata.uid" => pod::uid(pod).to_owned(),
        "metadata.labels" => format_map(&metadata.labels),
        "metadata.annotations" => format_map(&metadata.annotations),
        "spec.nodeName" => spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => host_ips.join(","),
        "status.podIP" => pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` lines, values quoted as Go's `%q` quotes them.
fn format_map(map: &Option<BTreeMap<String, String>>) -> String {
    map.iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", serde_json::Value::from(v.as_str())))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The value of a resource reference, divided and rounded up.
pub fn resource_value(
    pod: &Pod,
    container: &Container,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
) -> Result<String, String> {
    let named;
    let target = match &selector.container_name {
        Some(name) if !name.is_empty() => {
            named = pod::find(pod, name).ok_or_else(|| format!("container {name} not found"))?;
            named.container.as_ref()
        }
        _ => container,
    };
    let resources = target.resources.clone().unwrap_or_default();
    let (side, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let amount = match side {
        "limits" => quantity::get(&resources.limits, name).or_else(|| allocatable.get(name)),
        "requests" => quantity::get(&resources.requests, name),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let milli = amount.map_or(0, quantity::milli);
    let divisor = selector
        .divisor
        .as_ref()
        .map(quantity::milli)
        .filter(|d| *d > 0)
        .unwrap_or(1000);
    Ok((i128::from(milli) + i128::from(divisor) - 1)
        .div_euclid(i128::from(divisor))
        .to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn precedence_references_and_errors() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}},
                "envFrom": [{"prefix": "X_", "configMapRef": {"name": "cm"}}],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "value": "$(A)-$(X_k)-$(NO)"},
                    {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                    {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "S", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": true}}}
                ]}]}
        })).unwrap();
        let cm: ConfigMap = serde_json::from_value(json!({"data": {"k": "v", "bad=": "x"}})).unwrap();
        let mut from = Sources::default();
        from.config_maps.insert("cm".into(), cm);
        let c = &pod::containers(&pod)[0];
        let vars = of_container(&pod, c, &from).unwrap();
        let text: Vec<_> = vars.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            ["X_k=v", "A=1", "B=1-v-$(NO)", "N=p", "L=web", "CPU=2", "MEM=64"]
        );
        from.config_maps.clear();
        assert_eq!(
            of_container(&pod, c, &from).unwrap_err(),
            "configmap \"cm\" not found"
        );
    }
}
