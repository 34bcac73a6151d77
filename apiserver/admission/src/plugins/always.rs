//! The plugins that look at nothing: AlwaysAdmit, AlwaysDeny (both deprecated upstream), AlwaysPullImages. All off by default.

use keelson_machinery::{ObjectReader, Status};
use serde_json::Value;

use crate::value::items_mut;
use crate::{Admission, AdmissionAttributes, Operation};

/// Lets everything pass.
pub struct AlwaysAdmit;

impl Admission for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }

    fn handles(&self, _: &AdmissionAttributes<'_>) -> bool {
        false
    }
}

/// Refuses everything.
pub struct AlwaysDeny;

impl Admission for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn handles(&self, _: &AdmissionAttributes<'_>) -> bool {
        true
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        Err(a.forbidden(object, "admission control is denying all modifications"))
    }
}

/// Every container pulls its image at every start, so that nobody runs an image they may not pull.
pub struct AlwaysPullImages;

impl Admission for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        matches!(a.operation, Operation::Create | Operation::Update)
            && a.is_any("", "pods")
            && matches!(a.subresource, "" | "ephemeralcontainers")
    }

    fn mutate(
        &self,
        _: &AdmissionAttributes<'_>,
        pod: &mut Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        for field in ["initContainers", "containers", "ephemeralContainers"] {
            for container in items_mut(&mut pod["spec"], field) {
                container["imagePullPolicy"] = "Always".into();
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
    fn images_are_always_pulled_and_all_is_denied() {
        let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]}});
        let done = Case::pod(Operation::Create, pod.clone())
            .run(&AlwaysPullImages, &[])
            .object()
            .unwrap();
        assert_eq!(done["spec"]["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(
            Case::pod(Operation::Create, pod).run(&AlwaysDeny, &[]).message(),
            "pods \"web\" is forbidden: admission control is denying all modifications"
        );
    }
}
