//! PodTopologyLabels: a pod learns zone and region of the node it is bound to (KEP-4742).
//!
//! The labels are put on the Binding, and binding the pod copies them; a pod made with a node gets them at once.

use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::Value;

use crate::value::str_of;
use crate::{Admission, AdmissionAttributes, Operation};

const NODES: GroupResource = GroupResource::new("", "nodes");
const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub struct PodTopologyLabels;

impl Admission for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        let pods = a.is_any("", "pods") && matches!(a.subresource, "" | "binding");
        a.operation == Operation::Create && (pods || a.is("", "bindings"))
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let node = match a.is("", "pods") {
            true => &object["spec"]["nodeName"],
            false if matches!(str_of(&object["target"]["kind"]), "" | "Node") => &object["target"]["name"],
            false => &Value::Null,
        };
        // A node that does not exist is the binding's business.
        let Some(node) = reader.get(&NODES, None, str_of(node)) else {
            return Ok(());
        };
        for key in LABELS {
            if let Some(value) = meta::label(&node, key) {
                meta::set_label(object, key, value);
            }
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
    fn the_nodes_labels_are_put_on_the_binding() {
        let node = json!({
            "kind": "nodes",
            "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z", "disk": "ssd"}},
        });
        let binding = json!({"metadata": {"name": "web"}, "target": {"kind": "Node", "name": "n1"}});
        let mut case = Case::pod(Operation::Create, binding);
        case.subresource = "binding";
        let done = case.run(&PodTopologyLabels, &[node]).object().unwrap();
        assert_eq!(
            done["metadata"]["labels"],
            json!({"topology.kubernetes.io/zone": "z"})
        );
    }
}
