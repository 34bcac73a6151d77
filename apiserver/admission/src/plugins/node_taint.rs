//! TaintNodesByCondition: a new node takes no pods until the node lifecycle controller has seen it ready.

use keelson_machinery::{ObjectReader, Status};
use serde_json::{Value, json};

use crate::value::{items, push};
use crate::{Admission, AdmissionAttributes, Operation};

pub struct TaintNodesByCondition;

impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Create && a.is("", "nodes")
    }

    fn mutate(
        &self,
        _: &AdmissionAttributes<'_>,
        node: &mut Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        let taints = &mut node["spec"]["taints"];
        let has = items(taints).any(|own| own["key"] == taint["key"] && own["effect"] == taint["effect"]);
        if !has {
            push(taints, taint);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

    #[test]
    fn new_nodes_are_tainted_once() {
        let taints = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
        for node in [
            json!({"metadata": {"name": "n1"}}),
            json!({"spec": {"taints": taints.clone()}}),
        ] {
            let case = Case::new(Operation::Create, ("", "Node", "nodes"), node);
            let node = case.run(&TaintNodesByCondition, &[]).object().unwrap();
            assert_eq!(node["spec"]["taints"], taints);
        }
    }
}
