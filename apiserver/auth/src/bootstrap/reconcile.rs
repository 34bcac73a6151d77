//! What to write so that the stored objects are at least what the server ships.

use std::sync::Arc;

use keelson_machinery::GroupResource;
use serde_json::{Map, Value};

use super::flow_control::{AUTOUPDATE_SPEC, MANDATORY};
use super::rule::AUTOUPDATE;
use crate::authz::rbac::rule::{Rule, covers};

/// One write. The server performs them in order; a conflict means another server did the same, and is no error.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create {
        resource: GroupResource,
        object: Value,
    },
    /// The stored object with what was missing; carries the stored resourceVersion.
    Update {
        resource: GroupResource,
        object: Value,
    },
    /// A binding to another role: a binding's role cannot be changed, so it is deleted by its uid and made anew.
    Recreate {
        resource: GroupResource,
        uid: String,
        object: Value,
    },
}

/// Compares what the server ships with what `stored` finds (by resource, namespace and name).
pub fn plan(
    shipped: &[(GroupResource, Value)],
    stored: impl Fn(&GroupResource, Option<&str>, &str) -> Option<Arc<Value>>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for (resource, object) in shipped {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().unwrap_or("");
        let resource = resource.clone();
        match stored(&resource, metadata["namespace"].as_str(), name) {
            None => actions.push(Action::Create {
                resource,
                object: object.clone(),
            }),
            Some(stored) => actions.extend(update(resource, object, &stored)),
        }
    }
    actions
}

fn update(resource: GroupResource, shipped: &Value, stored: &Value) -> Option<Action> {
    let object = match resource.resource.as_ref() {
        "clusterroles" | "roles" => updated_role(shipped, stored)?,
        "clusterrolebindings" | "rolebindings" if protected(stored) => return None,
        "clusterrolebindings" | "rolebindings" if stored["roleRef"] != shipped["roleRef"] => {
            let uid = stored["metadata"]["uid"].as_str().unwrap_or("").to_owned();
            let object = shipped.clone();
            return Some(Action::Recreate {
                resource,
                uid,
                object,
            });
        }
        "clusterrolebindings" | "rolebindings" => {
            let mut object = with_metadata(shipped, stored);
            add_missing(&mut object, &shipped["subjects"], "subjects");
            (&object != stored).then_some(object)?
        }
        "flowschemas" | "prioritylevelconfigurations" => updated_flow_control(shipped, stored)?,
        _ => return None,
    };
    Some(Action::Update { resource, object })
}

fn protected(stored: &Value) -> bool {
    stored["metadata"]["annotations"][AUTOUPDATE] == "false"
}

/// Adds rules the stored role does not cover; an aggregate's rules belong to its controller, so it only gets its
/// missing selectors.
fn updated_role(shipped: &Value, stored: &Value) -> Option<Value> {
    if protected(stored) {
        return None;
    }
    let mut object = with_metadata(shipped, stored);
    let selectors = &shipped["aggregationRule"]["clusterRoleSelectors"];
    if selectors.is_array() {
        if object["aggregationRule"].is_null() {
            object["aggregationRule"] = Value::Object(Map::new());
        }
        add_missing(&mut object["aggregationRule"], selectors, "clusterRoleSelectors");
    } else {
        let held = Rule::list(&stored["rules"]);
        let missing = covers(&held, &Rule::list(&shipped["rules"]));
        if !missing.is_empty() {
            let mut rules = stored["rules"].as_array().cloned().unwrap_or_default();
            rules.extend(missing.iter().map(Rule::to_value));
            object["rules"] = rules.into();
        }
    }
    (&object != stored).then_some(object)
}

/// The stored object with the shipped labels and annotations it lacks; those it has keep their values.
fn with_metadata(shipped: &Value, stored: &Value) -> Value {
    let mut object = stored.clone();
    for field in ["labels", "annotations"] {
        let Some(wanted) = shipped["metadata"][field].as_object() else {
            continue;
        };
        let has = &mut object["metadata"][field];
        if !has.is_object() {
            *has = Value::Object(Map::new());
        }
        for (key, value) in wanted {
            if has.get(key).is_none() {
                has[key.as_str()] = value.clone();
            }
        }
    }
    object
}

fn add_missing(object: &mut Value, wanted: &Value, field: &str) {
    let mut items = object[field].as_array().cloned().unwrap_or_default();
    let before = items.len();
    for item in wanted.as_array().into_iter().flatten() {
        if !items.contains(item) {
            items.push(item.clone());
        }
    }
    if items.len() != before {
        object[field] = items.into();
    }
}

/// The shipped spec, where the operator has not taken the object over. A suggested object without the annotation is still the
/// server's while nobody changed its spec (generation 1).
fn updated_flow_control(shipped: &Value, stored: &Value) -> Option<Value> {
    let metadata = &stored["metadata"];
    let name = metadata["name"].as_str().unwrap_or("");
    let ours = match metadata["annotations"][AUTOUPDATE_SPEC].as_str() {
        Some(value) => value == "true",
        None => metadata["generation"] == 1,
    };
    if !ours && !MANDATORY.contains(&name) {
        return None;
    }
    let mut object = with_metadata(shipped, stored);
    object["spec"] = shipped["spec"].clone();
    let differs = !contains(&stored["spec"], &shipped["spec"]) || object["metadata"] != stored["metadata"];
    differs.then_some(object)
}

/// Whether `stored` says all that `shipped` says; defaulted fields it has besides do not count as a difference.
fn contains(stored: &Value, shipped: &Value) -> bool {
    match (stored, shipped) {
        (Value::Object(stored), Value::Object(shipped)) => shipped
            .iter()
            .all(|(key, value)| stored.get(key).is_some_and(|own| contains(own, value))),
        (Value::Array(stored), Value::Array(shipped)) => {
            stored.len() == shipped.len()
                && stored
                    .iter()
                    .zip(shipped)
                    .all(|(own, value)| contains(own, value))
        }
        _ => stored == shipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shipped(name: &str) -> (GroupResource, Value) {
        super::super::objects()
            .into_iter()
            .find(|(_, object)| object["metadata"]["name"] == name)
            .unwrap()
    }

    fn check(name: &str, stored: &Value) -> Vec<Action> {
        plan(&[shipped(name)], |_, _, _| Some(Arc::new(stored.clone())))
    }

    #[test]
    fn an_empty_cluster_gets_everything_and_a_complete_one_nothing() {
        let objects = super::super::objects();
        assert_eq!(plan(&objects, |_, _, _| None).len(), objects.len());
        let find = |resource: &GroupResource, namespace: Option<&str>, name: &str| {
            let hit = objects.iter().find(|(other, object)| {
                other == resource
                    && object["metadata"]["name"] == name
                    && object["metadata"]["namespace"].as_str() == namespace
            });
            hit.map(|(_, object)| Arc::new(object.clone()))
        };
        assert_eq!(plan(&objects, find), []);
    }

    #[test]
    fn missing_rules_are_added_unless_the_operator_forbids_it() {
        let (_, mut stored) = shipped("system:kube-dns");
        stored["rules"] = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["*"]}]);
        let actions = check("system:kube-dns", &stored);
        let [Action::Update { object, .. }] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        let rules = json!([
            {"verbs": ["list"], "apiGroups": [""], "resources": ["*"]},
            {"verbs": ["watch"], "apiGroups": [""], "resources": ["endpoints"]},
            {"verbs": ["watch"], "apiGroups": [""], "resources": ["services"]},
        ]);
        assert_eq!(object["rules"], rules);
        stored["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(check("system:kube-dns", &stored), []);
    }

    #[test]
    fn a_taken_over_flow_schema_is_left_alone() {
        let (_, mut stored) = shipped("service-accounts");
        stored["spec"]["matchingPrecedence"] = 1.into();
        stored["metadata"]["annotations"][AUTOUPDATE_SPEC] = "false".into();
        assert_eq!(check("service-accounts", &stored), []);
        stored["metadata"]["annotations"][AUTOUPDATE_SPEC] = "true".into();
        assert_eq!(check("service-accounts", &stored).len(), 1);
    }
}
