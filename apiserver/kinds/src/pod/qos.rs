//! The quality of service class of a pod, from its requests and limits.

use keelson_machinery::Value;
use keelson_machinery::quantity::Quantity;

use crate::check;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(spec: &Value) -> &'static str {
    let own = &spec["resources"];
    if own["requests"].is_object() || own["limits"].is_object() {
        return of_many(&[own]);
    }
    let containers: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|key| spec[*key].as_array().into_iter().flatten())
        .map(|container| &container["resources"])
        .collect();
    of_many(&containers)
}

fn of_many(all: &[&Value]) -> &'static str {
    let amount = |resources: &Value, list: &str, name: &str| -> Option<Quantity> {
        check::parse_quantity(&resources[list][name]).filter(|amount| amount.sign() > 0)
    };
    let names = ["cpu", "memory"];
    let any = all.iter().any(|resources| {
        names.iter().any(|name| {
            amount(resources, "requests", name).is_some() || amount(resources, "limits", name).is_some()
        })
    });
    let guaranteed = all.iter().all(|resources| {
        names.iter().all(|name| {
            let limit = amount(resources, "limits", name);
            let request = amount(resources, "requests", name);
            limit.is_some() && (request.is_none() || request == limit)
        })
    });
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, expected) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "100m"}}), "Burstable"),
            (json!({"limits": both, "requests": both}), "Guaranteed"),
            (json!({"limits": both}), "Guaranteed"),
            (json!({"limits": both, "requests": {"cpu": "500m"}}), "Burstable"),
        ] {
            let spec = json!({"containers": [{"resources": resources}]});
            assert_eq!(class(&spec), expected, "{spec}");
        }
    }
}
