//! PodTolerationRestriction and ExtendedResourceToleration (both off by default): tolerations from the namespace, and
//! for the extended resources a pod asks for.

use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::{Value, json};

use crate::value::{items, push, str_of};
use crate::{Admission, AdmissionAttributes, Operation};

const NAMESPACES: GroupResource = GroupResource::new("", "namespaces");
const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const WHITELIST: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

fn annotated(namespace: Option<&Value>, key: &str) -> Option<Vec<Value>> {
    let text = meta::annotation(namespace?, key)?;
    serde_json::from_str(text).ok()
}

/// Whether everything `other` tolerates is tolerated by `own`.
fn covers(own: &Value, other: &Value) -> bool {
    let text = |toleration: &Value, field: &str| str_of(&toleration[field]).to_owned();
    let (key, effect) = (text(own, "key"), text(own, "effect"));
    let exists = own["operator"] == "Exists";
    (key.is_empty() || key == text(other, "key"))
        && (effect.is_empty() || effect == text(other, "effect"))
        && (exists || (other["operator"] != "Exists" && text(own, "value") == text(other, "value")))
        && match (
            own["tolerationSeconds"].as_i64(),
            other["tolerationSeconds"].as_i64(),
        ) {
            (None, _) => true,
            (Some(own), Some(other)) => other <= own,
            (Some(_), None) => false,
        }
}

/// Adds the namespace's default tolerations and refuses what its whitelist does not cover.
pub struct PodTolerationRestriction;

impl Admission for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        matches!(a.operation, Operation::Create | Operation::Update) && a.is("", "pods")
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        pod: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if a.operation != Operation::Create {
            return Ok(());
        }
        let namespace = reader.get(&NAMESPACES, None, a.namespace);
        for toleration in annotated(namespace.as_deref(), DEFAULTS).unwrap_or_default() {
            if !items(&pod["spec"]["tolerations"]).any(|own| own == &toleration) {
                push(&mut pod["spec"]["tolerations"], toleration);
            }
        }
        Ok(())
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        pod: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let namespace = reader.get(&NAMESPACES, None, a.namespace);
        let Some(whitelist) = annotated(namespace.as_deref(), WHITELIST).filter(|list| !list.is_empty())
        else {
            return Ok(());
        };
        let mut given = items(&pod["spec"]["tolerations"]);
        match given.all(|toleration| whitelist.iter().any(|own| covers(own, toleration))) {
            true => Ok(()),
            false => {
                let why = "pod tolerations (possibly merged with namespace default tolerations) conflict with its \
                           namespace whitelist";
                Err(a.forbidden(pod, why))
            }
        }
    }
}

/// A pod that asks for an extended resource tolerates taints of its name.
pub struct ExtendedResourceToleration;

impl Admission for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        matches!(a.operation, Operation::Create | Operation::Update) && a.is("", "pods")
    }

    fn mutate(
        &self,
        _: &AdmissionAttributes<'_>,
        pod: &mut Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let spec = &pod["spec"];
        let containers = items(&spec["containers"]).chain(items(&spec["initContainers"]));
        let requests = containers.flat_map(|container| {
            container["resources"]["requests"]
                .as_object()
                .into_iter()
                .flatten()
        });
        let mut names: Vec<String> = requests
            .map(|(name, _)| name.clone())
            .filter(|name| is_extended(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let toleration = json!({"key": name, "operator": "Exists"});
            if !items(&pod["spec"]["tolerations"]).any(|own| covers(own, &toleration)) {
                push(&mut pod["spec"]["tolerations"], toleration);
            }
        }
        Ok(())
    }
}

fn is_extended(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(domain, _)| !domain.ends_with("kubernetes.io"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

    #[test]
    fn the_namespace_adds_and_restricts() {
        let namespace = json!({"kind": "namespaces", "metadata": {"name": "dev", "annotations": {
            DEFAULTS: r#"[{"key": "a", "operator": "Exists"}]"#,
            WHITELIST: r#"[{"key": "a", "operator": "Exists"}]"#,
        }}});
        let run = |tolerations: Value| {
            let pod = json!({"metadata": {"name": "web"}, "spec": {"tolerations": tolerations}});
            Case::pod(Operation::Create, pod).run(&PodTolerationRestriction, std::slice::from_ref(&namespace))
        };
        let pod = run(json!([])).object().unwrap();
        assert_eq!(
            pod["spec"]["tolerations"],
            json!([{"key": "a", "operator": "Exists"}])
        );
        assert!(
            run(json!([{"key": "b"}]))
                .message()
                .ends_with("conflict with its namespace whitelist")
        );
    }

    #[test]
    fn extended_resources_are_tolerated() {
        let resources =
            json!({"requests": {"example.com/gpu": "1", "cpu": "1", "node.kubernetes.io/x": "1"}});
        let pod = json!({"spec": {"containers": [{"resources": resources}]}});
        let done = Case::pod(Operation::Create, pod)
            .run(&ExtendedResourceToleration, &[])
            .object()
            .unwrap();
        assert_eq!(
            done["spec"]["tolerations"],
            json!([{"key": "example.com/gpu", "operator": "Exists"}])
        );
    }
}
