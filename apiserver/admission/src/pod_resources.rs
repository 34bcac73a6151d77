//! What a pod asks for in all: the sums that limits and quotas are compared with.

use std::collections::BTreeMap;

use keelson_machinery::quantity::Quantity;
use serde_json::Value;

use crate::value::items;

/// Quantities by resource name.
pub type ResourceList = BTreeMap<String, Quantity>;

/// A resource list; what is no quantity is left out, validation tells about it.
pub fn list(value: &Value) -> ResourceList {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some((name.clone(), Quantity::parse(&text).ok()?))
        })
        .collect()
}

pub fn add(total: &mut ResourceList, more: &ResourceList) {
    for (name, quantity) in more {
        let sum = match total.get(name) {
            Some(own) => own.add(quantity),
            None => *quantity,
        };
        total.insert(name.clone(), sum);
    }
}

fn max(total: &mut ResourceList, other: &ResourceList) {
    for (name, quantity) in other {
        if total.get(name).is_none_or(|own| own < quantity) {
            total.insert(name.clone(), *quantity);
        }
    }
}

/// `requests` or `limits` of a pod: containers and sidecars together, or what its init containers need at one time if that is
/// more; what the pod says for itself counts instead; plus overhead (for limits only where there is a limit).
pub fn of_pod(spec: &Value, field: &str) -> ResourceList {
    let mut total = ResourceList::new();
    for container in items(&spec["containers"]) {
        add(&mut total, &list(&container["resources"][field]));
    }
    let mut sidecars = ResourceList::new();
    let mut starting = ResourceList::new();
    for container in items(&spec["initContainers"]) {
        let mut own = list(&container["resources"][field]);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own.clone_from(&sidecars);
        } else {
            add(&mut own, &sidecars);
        }
        max(&mut starting, &own);
    }
    max(&mut total, &starting);
    for (name, quantity) in list(&spec["resources"][field]) {
        total.insert(name, quantity);
    }
    for (name, quantity) in list(&spec["overhead"]) {
        match total.get(&name) {
            Some(own) => {
                let sum = own.add(&quantity);
                total.insert(name, sum);
            }
            None if field == "requests" => {
                total.insert(name, quantity);
            }
            None => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sidecars_add_and_init_containers_compete() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = "Always".into();
        let spec = json!({
            "containers": [container("1"), container("500m")],
            "initContainers": [container("2"), sidecar, container("3")],
            "overhead": {"cpu": "250m"},
        });
        let total = of_pod(&spec, "requests");
        assert_eq!(total["cpu"].to_string(), "4250m");
        assert!(of_pod(&spec, "limits").is_empty());
    }
}
