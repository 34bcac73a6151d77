//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is being deleted, and the system's namespaces stay.

use keelson_machinery::{GroupResource, ObjectReader, Status};
use serde_json::{Value, json};

use crate::{Admission, AdmissionAttributes, Operation};

const NAMESPACES: GroupResource = GroupResource::new("", "namespaces");
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Runs with the mutating plugins, as upstream's, so that later plugins can rely on the namespace.
pub struct NamespaceLifecycle;

impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, attributes: &AdmissionAttributes<'_>) -> bool {
        attributes.operation != Operation::Connect
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        if a.is_any("", "namespaces") {
            return match a.operation == Operation::Delete && IMMORTAL.contains(&a.name) {
                true => Err(Status::forbidden(
                    &NAMESPACES,
                    a.name,
                    "this namespace may not be deleted",
                )),
                false => Ok(()),
            };
        }
        let review = a.is("authorization.k8s.io", "localsubjectaccessreviews");
        if a.namespace.is_empty() || a.operation == Operation::Delete || review {
            return Ok(());
        }
        let namespace = reader.get(&NAMESPACES, None, a.namespace);
        let namespace = namespace.ok_or_else(|| Status::not_found(&NAMESPACES, a.namespace))?;
        if a.operation == Operation::Create && namespace["status"]["phase"] == "Terminating" {
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                a.namespace
            );
            let mut status = a.forbidden(object, &why);
            status.details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {} is being terminated", a.namespace),
                "field": "metadata.namespace",
            }]);
            return Err(status);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;

    #[test]
    fn namespaces_must_exist_and_live() {
        let objects = [
            json!({"kind": "namespaces", "metadata": {"name": "dev"}}),
            json!({"kind": "namespaces", "metadata": {"name": "gone"}, "status": {"phase": "Terminating"}}),
        ];
        let case = |operation, namespace, name: &'static str| {
            let mut case = Case::pod(operation, json!({"metadata": {"name": name}}));
            case.namespace = namespace;
            case.name = name;
            case
        };
        for (case, message) in [
            (case(Operation::Create, "dev", "web"), ""),
            (
                case(Operation::Create, "none", "web"),
                "namespaces \"none\" not found",
            ),
            (
                case(Operation::Create, "gone", "web"),
                "pods \"web\" is forbidden: unable to create new content in namespace gone because it is being terminated",
            ),
            (case(Operation::Update, "gone", "web"), ""),
            (case(Operation::Delete, "none", "web"), ""),
        ] {
            assert_eq!(case.run(&NamespaceLifecycle, &objects).message(), message);
        }
        let mut delete = Case::new(Operation::Delete, ("", "Namespace", "namespaces"), Value::Null);
        delete.name = "kube-system";
        delete.namespace = "";
        assert_eq!(
            delete.run(&NamespaceLifecycle, &[]).message(),
            "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
        );
    }
}
