//! LimitRanger: default requests and limits of containers, and the bounds a namespace sets.

use keelson_machinery::quantity::Quantity;
use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::Value;

use crate::pod_resources::{self, ResourceList};
use crate::value::{items, items_mut, str_of};
use crate::{Admission, AdmissionAttributes, Operation};

const LIMIT_RANGES: GroupResource = GroupResource::new("", "limitranges");
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger;

impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    /// Pods when they are made or resized: at other times their resources cannot change.
    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        match a.operation {
            Operation::Create => a.is("", "pods") || a.is("", "persistentvolumeclaims"),
            Operation::Update => {
                a.is("", "persistentvolumeclaims") || (a.is_any("", "pods") && a.subresource == "resize")
            }
            _ => false,
        }
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if a.operation == Operation::Create && a.is("", "pods") {
            for range in reader.list(&LIMIT_RANGES, Some(a.namespace)) {
                set_defaults(object, &range);
            }
        }
        Ok(())
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if meta::deletion_timestamp(object).is_some() {
            return Ok(());
        }
        for range in reader.list(&LIMIT_RANGES, Some(a.namespace)) {
            let mut errors = Vec::new();
            for limit in items(&range["spec"]["limits"]) {
                match a.resource.resource == "pods" {
                    true => check_pod(limit, object, &mut errors),
                    false => check_claim(limit, object, &mut errors),
                }
            }
            match errors.as_slice() {
                [] => {}
                [one] => return Err(a.forbidden(object, one)),
                many => return Err(a.forbidden(object, &format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

fn set_defaults(pod: &mut Value, range: &Value) {
    let mut notes: Vec<String> = Vec::new();
    for (field, kind) in [("containers", "container"), ("initContainers", "init container")] {
        for container in items_mut(&mut pod["spec"], field) {
            for (resources, default) in [("requests", "defaultRequest"), ("limits", "default")] {
                let set = set_missing(&mut container["resources"], resources, range, default);
                if !set.is_empty() {
                    let what = resources.trim_end_matches('s');
                    let name = str_of(&container["name"]);
                    notes.push(format!("{} {what} for {kind} {name}", set.join(", ")));
                }
            }
            // Indexing made a null where the container has no resources.
            if container["resources"].is_null() {
                container["resources"] = Value::Object(serde_json::Map::new());
            }
        }
    }
    if !notes.is_empty() {
        meta::set_annotation(
            pod,
            ANNOTATION,
            &format!("LimitRanger plugin set: {}", notes.join("; ")),
        );
    }
}

fn set_missing(resources: &mut Value, field: &str, range: &Value, default: &str) -> Vec<String> {
    let mut set = Vec::new();
    let limits = items(&range["spec"]["limits"]).filter(|limit| limit["type"] == "Container");
    for (name, value) in limits.flat_map(|limit| limit[default].as_object().into_iter().flatten()) {
        if resources[field].get(name).is_none() {
            resources[field][name.as_str()] = value.clone();
            set.push(name.clone());
        }
    }
    set.sort_unstable();
    set
}

fn check_pod(limit: &Value, pod: &Value, errors: &mut Vec<String>) {
    match str_of(&limit["type"]) {
        "Container" => {
            for field in ["containers", "initContainers"] {
                for container in items(&pod["spec"][field]) {
                    let resources = &container["resources"];
                    let requests = pod_resources::list(&resources["requests"]);
                    check(
                        "Container",
                        limit,
                        &requests,
                        &pod_resources::list(&resources["limits"]),
                        errors,
                    );
                }
            }
        }
        "Pod" => {
            let requests = pod_resources::of_pod(&pod["spec"], "requests");
            check(
                "Pod",
                limit,
                &requests,
                &pod_resources::of_pod(&pod["spec"], "limits"),
                errors,
            );
        }
        _ => {}
    }
}

fn check(
    kind: &str,
    limit: &Value,
    requests: &ResourceList,
    limits: &ResourceList,
    errors: &mut Vec<String>,
) {
    let mut found = |result: Result<(), String>| errors.extend(result.err());
    for (name, bound) in pod_resources::list(&limit["min"]) {
        found(min(kind, &name, &bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in pod_resources::list(&limit["max"]) {
        found(max(kind, &name, &bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in pod_resources::list(&limit["maxLimitRequestRatio"]) {
        found(ratio(kind, &name, &bound, requests.get(&name), limits.get(&name)));
    }
}

fn min(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Result<(), String> {
    let head = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Err(format!("{head}.  No request is specified")),
        (Some(request), _) if request < bound => Err(format!("{head}, but request is {request}")),
        (_, Some(limit)) if limit < bound => Err(format!("{head}, but limit is {limit}")),
        _ => Ok(()),
    }
}

fn max(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Result<(), String> {
    let head = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Err(format!("{head}.  No limit is specified")),
        (_, Some(limit)) if limit > bound => Err(format!("{head}, but limit is {limit}")),
        (Some(request), _) if request > bound => Err(format!("{head}, but request is {request}")),
        _ => Ok(()),
    }
}

fn ratio(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Result<(), String> {
    let head = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Err(format!("{head}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Err(format!("{head}, but no limit is specified or limit is 0"));
    };
    let provided = limit.as_f64() / request.as_f64();
    match provided > bound.as_f64() {
        true => Err(format!("{head}, but provided ratio is {provided:.6}")),
        false => Ok(()),
    }
}

fn check_claim(limit: &Value, claim: &Value, errors: &mut Vec<String>) {
    if limit["type"] != "PersistentVolumeClaim" {
        return;
    }
    let kind = "PersistentVolumeClaim";
    let requests = pod_resources::list(&claim["spec"]["resources"]["requests"]);
    for (name, bound) in pod_resources::list(&limit["min"]) {
        errors.extend(min(kind, &name, &bound, requests.get(&name), None).err());
    }
    for (name, bound) in pod_resources::list(&limit["max"]) {
        let head = format!("maximum {name} usage per {kind} is {bound}");
        match requests.get(&name) {
            None => errors.push(format!("{head}.  No request is specified")),
            Some(request) if *request > bound => errors.push(format!("{head}, but request is {request}")),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;
    use serde_json::json;

    fn range(limit: Value) -> Value {
        json!({"kind": "limitranges", "metadata": {"namespace": "dev", "name": "l"}, "spec": {"limits": [limit]}})
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn defaults_are_set_and_noted() {
        let limit = json!({
            "type": "Container",
            "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"},
        });
        let case = Case::pod(Operation::Create, pod(json!({"limits": {"cpu": "1"}})));
        let pod = case.run(&LimitRanger, &[range(limit)]).object().unwrap();
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(
            meta::annotation(&pod, ANNOTATION),
            Some("LimitRanger plugin set: cpu request for container c; memory limit for container c")
        );
    }

    #[test]
    fn bounds_are_told_as_upstream() {
        let bounds =
            |kind: &str, field: &str, value: &str| range(json!({"type": kind, field: {"cpu": value}}));
        let two = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
        for (range, resources, message) in [
            (bounds("Container", "min", "500m"), two.clone(), ""),
            (
                bounds("Container", "min", "1500m"),
                two.clone(),
                "minimum cpu usage per Container is 1500m, but request is 1",
            ),
            (
                bounds("Container", "min", "1"),
                json!({}),
                "minimum cpu usage per Container is 1.  No request is specified",
            ),
            (
                bounds("Pod", "max", "1"),
                two.clone(),
                "maximum cpu usage per Pod is 1, but limit is 2",
            ),
            (
                bounds("Container", "max", "1"),
                json!({}),
                "maximum cpu usage per Container is 1.  No limit is specified",
            ),
            (
                bounds("Container", "maxLimitRequestRatio", "1500m"),
                two,
                "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
            ),
        ] {
            let wanted = match message {
                "" => String::new(),
                message => format!("pods \"web\" is forbidden: {message}"),
            };
            assert_eq!(
                Case::pod(Operation::Create, pod(resources))
                    .run(&LimitRanger, &[range])
                    .message(),
                wanted
            );
        }
    }
}
