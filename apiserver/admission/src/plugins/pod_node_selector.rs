//! PodNodeSelector (off by default): a namespace's annotation says on which nodes its pods run.

use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::Value;

use crate::{Admission, AdmissionAttributes, Operation};

const NAMESPACES: GroupResource = GroupResource::new("", "namespaces");
const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";

/// `default` is the selector (`key=value,...`) of namespaces without the annotation.
#[derive(Default)]
pub struct PodNodeSelector {
    pub default: String,
}

impl PodNodeSelector {
    fn wanted(&self, a: &AdmissionAttributes<'_>, reader: &dyn ObjectReader) -> Vec<(String, String)> {
        let namespace = reader.get(&NAMESPACES, None, a.namespace);
        let own = namespace
            .as_deref()
            .and_then(|namespace| meta::annotation(namespace, ANNOTATION));
        let pairs = own
            .unwrap_or(&self.default)
            .split(',')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect()
    }
}

impl Admission for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
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
        for (key, value) in self.wanted(a, reader) {
            let own = &pod["spec"]["nodeSelector"][key.as_str()];
            if own.is_string() && own != value.as_str() {
                let why = "pod node label selector conflicts with its namespace node label selector";
                return Err(a.forbidden(pod, why));
            }
            pod["spec"]["nodeSelector"][key.as_str()] = value.into();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;
    use serde_json::json;

    #[test]
    fn the_namespace_decides() {
        let namespace = json!({
            "kind": "namespaces", "metadata": {"name": "dev", "annotations": {ANNOTATION: "disk=ssd, zone=a"}},
        });
        let run = |selector: Value| {
            let pod = json!({"metadata": {"name": "web"}, "spec": {"nodeSelector": selector}});
            Case::pod(Operation::Create, pod)
                .run(&PodNodeSelector::default(), std::slice::from_ref(&namespace))
        };
        let pod = run(json!({"disk": "ssd"})).object().unwrap();
        assert_eq!(pod["spec"]["nodeSelector"], json!({"disk": "ssd", "zone": "a"}));
        assert_eq!(
            run(json!({"disk": "hdd"})).message(),
            "pods \"web\" is forbidden: pod node label selector conflicts with its namespace node label selector"
        );
    }
}
