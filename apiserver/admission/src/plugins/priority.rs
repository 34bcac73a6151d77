//! Priority: the number behind a pod's priority class, and at most one default class.

use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::Value;

use crate::value::str_of;
use crate::{Admission, AdmissionAttributes, Operation};

const CLASSES: GroupResource = GroupResource::new("scheduling.k8s.io", "priorityclasses");

pub struct Priority;

impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        matches!(a.operation, Operation::Create | Operation::Update)
            && (a.is("", "pods") || a.is("scheduling.k8s.io", "priorityclasses"))
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        pod: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if a.resource.resource != "pods" {
            return Ok(());
        }
        if a.operation == Operation::Update {
            keep(pod, a.old.unwrap_or(&Value::Null));
            return Ok(());
        }
        resolve(&mut pod["spec"], reader).map_err(|why| a.forbidden(pod, &why))
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        class: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if a.resource.resource != "priorityclasses" || class["globalDefault"] != true {
            return Ok(());
        }
        match default_class(reader) {
            Some(other) if meta::name(&other) != meta::name(class) => {
                let other = meta::name(&other);
                let why =
                    format!("PriorityClass {other} is already marked as default. Only one default can exist");
                Err(a.forbidden(class, &why))
            }
            _ => Ok(()),
        }
    }
}

/// An update that does not name what was computed keeps it.
fn keep(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        let stored = &old["spec"][field];
        if pod["spec"][field].is_null() && !stored.is_null() {
            pod["spec"][field] = stored.clone();
        }
    }
}

/// The default class with the lowest value, should there be several.
fn default_class(reader: &dyn ObjectReader) -> Option<std::sync::Arc<Value>> {
    let classes = reader.list(&CLASSES, None).into_iter();
    classes
        .filter(|class| class["globalDefault"] == true)
        .min_by_key(|class| class["value"].as_i64())
}

fn resolve(spec: &mut Value, reader: &dyn ObjectReader) -> Result<(), String> {
    let name = str_of(&spec["priorityClassName"]).to_owned();
    let class = match name.is_empty() {
        true => default_class(reader),
        false => {
            let found = reader.get(&CLASSES, None, &name);
            Some(found.ok_or_else(|| format!("no PriorityClass with name {name} was found"))?)
        }
    };
    let class = class.as_deref().unwrap_or(&Value::Null);
    let priority = class["value"].as_i64().unwrap_or(0);
    let policy = class["preemptionPolicy"]
        .as_str()
        .unwrap_or("PreemptLowerPriority");
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != priority) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        ));
    }
    if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        ));
    }
    if name.is_empty() && !class.is_null() {
        spec["priorityClassName"] = meta::name(class).into();
    }
    spec["priority"] = priority.into();
    spec["preemptionPolicy"] = policy.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;
    use serde_json::json;

    fn class(name: &str, value: i64, default: bool) -> Value {
        json!({
            "kind": "priorityclasses.scheduling.k8s.io", "metadata": {"name": name},
            "value": value, "globalDefault": default, "preemptionPolicy": "Never",
        })
    }

    #[test]
    fn pods_get_the_number_of_their_class() {
        let lower = "PreemptLowerPriority";
        for (spec, classes, priority, policy) in [
            (json!({}), vec![], 0, lower),
            (json!({}), vec![class("usual", 5, true)], 5, "Never"),
            (
                json!({"priorityClassName": "high"}),
                vec![class("high", 9, false)],
                9,
                "Never",
            ),
            (json!({"priority": 0}), vec![], 0, lower),
        ] {
            let case = Case::pod(Operation::Create, json!({"spec": spec}));
            let pod = case.run(&Priority, &classes).object().unwrap();
            assert_eq!(
                (&pod["spec"]["priority"], &pod["spec"]["preemptionPolicy"]),
                (&priority.into(), &policy.into())
            );
        }
    }

    #[test]
    fn refusals_are_upstreams() {
        for (spec, message) in [
            (
                json!({"priorityClassName": "none"}),
                "no PriorityClass with name none was found",
            ),
            (
                json!({"priority": 7}),
                "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed \
                 0 from the given PriorityClass name",
            ),
        ] {
            let case = Case::pod(
                Operation::Create,
                json!({"metadata": {"name": "web"}, "spec": spec}),
            );
            let done = case.run(&Priority, &[]);
            assert_eq!(done.message(), format!("pods \"web\" is forbidden: {message}"));
        }
        let resource = ("scheduling.k8s.io", "PriorityClass", "priorityclasses");
        let second = Case::new(Operation::Create, resource, class("b", 1, true));
        assert_eq!(
            second.run(&Priority, &[class("a", 1, true)]).message(),
            "priorityclasses.scheduling.k8s.io \"b\" is forbidden: PriorityClass a is already marked as default. Only one \
             default can exist"
        );
    }
}
