//! RuntimeClass: a pod takes overhead, node selector and tolerations of its runtime class.

use keelson_machinery::{GroupResource, ObjectReader, Status};
use serde_json::Value;

use crate::pod_resources;
use crate::value::{items, push, str_of};
use crate::{Admission, AdmissionAttributes, Operation};

const CLASSES: GroupResource = GroupResource::new("node.k8s.io", "runtimeclasses");

pub struct RuntimeClass;

impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Create && a.is("", "pods")
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        pod: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let name = str_of(&pod["spec"]["runtimeClassName"]).to_owned();
        if name.is_empty() {
            return Ok(());
        }
        let class = reader
            .get(&CLASSES, None, &name)
            .ok_or_else(|| a.forbidden(pod, &format!("pod rejected: RuntimeClass {name:?} not found")))?;
        let spec = &mut pod["spec"];
        let done = set_overhead(spec, &class["overhead"]["podFixed"])
            .and_then(|()| set_scheduling(spec, &class["scheduling"]));
        done.map_err(|why| a.forbidden(pod, &why))
    }

    fn validate(&self, a: &AdmissionAttributes<'_>, pod: &Value, _: &dyn ObjectReader) -> Result<(), Status> {
        let spec = &pod["spec"];
        let overhead = spec["overhead"]
            .as_object()
            .is_some_and(|overhead| !overhead.is_empty());
        match overhead && str_of(&spec["runtimeClassName"]).is_empty() {
            true => {
                let why =
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
                Err(a.forbidden(pod, why))
            }
            false => Ok(()),
        }
    }
}

fn set_overhead(spec: &mut Value, overhead: &Value) -> Result<(), String> {
    if !overhead.is_object() {
        return Ok(());
    }
    let given = spec["overhead"]
        .as_object()
        .is_some_and(|given| !given.is_empty());
    if given && pod_resources::list(&spec["overhead"]) != pod_resources::list(overhead) {
        return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
    }
    spec["overhead"] = overhead.clone();
    Ok(())
}

fn set_scheduling(spec: &mut Value, scheduling: &Value) -> Result<(), String> {
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let own = &mut spec["nodeSelector"][key.as_str()];
        if !own.is_null() && own != value {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                str_of(value),
                str_of(own)
            ));
        }
        *own = value.clone();
    }
    for toleration in items(&scheduling["tolerations"]) {
        if !items(&spec["tolerations"]).any(|own| own == toleration) {
            push(&mut spec["tolerations"], toleration.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;
    use serde_json::json;

    fn run(spec: Value) -> crate::testing::Done {
        let class = json!({
            "kind": "runtimeclasses.node.k8s.io", "metadata": {"name": "vm"},
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm"}]},
        });
        let pod = json!({"metadata": {"name": "web"}, "spec": spec});
        Case::pod(Operation::Create, pod).run(&RuntimeClass, &[class])
    }

    #[test]
    fn a_class_gives_overhead_and_scheduling() {
        let pod = run(json!({"runtimeClassName": "vm"})).object().unwrap();
        assert_eq!(
            pod["spec"],
            json!({
                "runtimeClassName": "vm", "overhead": {"cpu": "250m"}, "nodeSelector": {"vm": "yes"},
                "tolerations": [{"key": "vm"}],
            })
        );
    }

    #[test]
    fn refusals_are_upstreams() {
        for (spec, why) in [
            (
                json!({"runtimeClassName": "x"}),
                "pod rejected: RuntimeClass \"x\" not found",
            ),
            (
                json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
        ] {
            assert_eq!(run(spec).message(), format!("pods \"web\" is forbidden: {why}"));
        }
    }
}
