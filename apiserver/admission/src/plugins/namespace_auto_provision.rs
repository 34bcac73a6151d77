//! NamespaceAutoProvision (off by default): a namespace that is written to comes into being.

use keelson_machinery::{GroupResource, ObjectReader, Status};
use serde_json::{Value, json};

use crate::{Admission, AdmissionAttributes, Effect, Operation};

const NAMESPACES: GroupResource = GroupResource::new("", "namespaces");

pub struct NamespaceAutoProvision;

impl Admission for NamespaceAutoProvision {
    fn name(&self) -> &'static str {
        "NamespaceAutoProvision"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Create && !a.namespace.is_empty() && !a.is_any("", "namespaces")
    }

    /// Stands before NamespaceLifecycle, so the namespace is made before that looks for it.
    fn early_effects(
        &self,
        a: &AdmissionAttributes<'_>,
        _object: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<Vec<Effect>, Status> {
        if a.dry_run || reader.get(&NAMESPACES, None, a.namespace).is_some() {
            return Ok(Vec::new());
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": a.namespace}});
        let resource = NAMESPACES;
        Ok(vec![Effect::Create { resource, object }])
    }
}
