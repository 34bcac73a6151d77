//! The four small plugins of storage and ingress classes: DefaultStorageClass, DefaultIngressClass, PersistentVolumeClaimResize,
//! StorageObjectInUseProtection.

use std::sync::Arc;

use keelson_machinery::quantity::Quantity;
use keelson_machinery::{GroupResource, ObjectReader, Status, meta};
use serde_json::Value;

use crate::value::{items, push, str_of};
use crate::{Admission, AdmissionAttributes, Operation};

const STORAGE_CLASSES: GroupResource = GroupResource::new("storage.k8s.io", "storageclasses");
const INGRESS_CLASSES: GroupResource = GroupResource::new("networking.k8s.io", "ingressclasses");

/// The newest class marked as default; of those equally new, the first by name.
fn default_class(
    reader: &dyn ObjectReader,
    resource: &GroupResource,
    annotations: &[&str],
) -> Option<Arc<Value>> {
    let is_default = |class: &Arc<Value>| {
        annotations
            .iter()
            .any(|key| meta::annotation(class, key) == Some("true"))
    };
    let newest_first = |a: &Arc<Value>, b: &Arc<Value>| {
        let by_age = meta::creation_timestamp(b).cmp(&meta::creation_timestamp(a));
        by_age.then_with(|| meta::name(a).cmp(meta::name(b)))
    };
    let classes = reader.list(resource, None).into_iter();
    classes.filter(is_default).min_by(newest_first)
}

/// A claim that names no class gets the default one.
pub struct DefaultStorageClass;

impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Create && a.is("", "persistentvolumeclaims")
    }

    fn mutate(
        &self,
        _: &AdmissionAttributes<'_>,
        claim: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let beta = meta::annotation(claim, "volume.beta.kubernetes.io/storage-class");
        // "" is a choice: no class.
        if beta.is_some() || claim["spec"]["storageClassName"].is_string() {
            return Ok(());
        }
        let marks = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        if let Some(class) = default_class(reader, &STORAGE_CLASSES, &marks) {
            claim["spec"]["storageClassName"] = meta::name(&class).into();
        }
        Ok(())
    }
}

/// An ingress that names no class gets the default one.
pub struct DefaultIngressClass;

impl Admission for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Create && a.is("networking.k8s.io", "ingresses")
    }

    fn mutate(
        &self,
        _: &AdmissionAttributes<'_>,
        ingress: &mut Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let old_style = meta::annotation(ingress, "kubernetes.io/ingress.class");
        if old_style.is_some() || ingress["spec"]["ingressClassName"].is_string() {
            return Ok(());
        }
        let marks = ["ingressclass.kubernetes.io/is-default-class"];
        if let Some(class) = default_class(reader, &INGRESS_CLASSES, &marks) {
            ingress["spec"]["ingressClassName"] = meta::name(&class).into();
        }
        Ok(())
    }
}

/// A claim grows only if it is bound and its class allows it.
pub struct PersistentVolumeClaimResize;

impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Update && a.is("", "persistentvolumeclaims")
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        claim: &Value,
        reader: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let old = a.old.unwrap_or(&Value::Null);
        let size =
            |claim: &Value| Quantity::parse(str_of(&claim["spec"]["resources"]["requests"]["storage"])).ok();
        match (size(old), size(claim)) {
            (Some(old), Some(new)) if new > old => {}
            _ => return Ok(()),
        }
        if old["status"]["phase"] != "Bound" {
            return Err(a.forbidden(claim, "Only bound persistent volume claims can be expanded"));
        }
        let class_of = |claim: &Value| {
            let beta = meta::annotation(claim, "volume.beta.kubernetes.io/storage-class");
            beta.unwrap_or_else(|| str_of(&claim["spec"]["storageClassName"]))
                .to_owned()
        };
        let (class, old_class) = (class_of(claim), class_of(old));
        let expandable = !class.is_empty()
            && class == old_class
            && reader
                .get(&STORAGE_CLASSES, None, &class)
                .is_some_and(|class| class["allowVolumeExpansion"] == true);
        if expandable {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
                   resize";
        Err(a.forbidden(claim, why))
    }
}

/// Volumes and claims are not deleted while in use: a finalizer holds them until their controller lets go.
pub struct StorageObjectInUseProtection;

impl Admission for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        a.operation == Operation::Create && finalizer(a).is_some()
    }

    fn mutate(
        &self,
        a: &AdmissionAttributes<'_>,
        object: &mut Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        let Some(finalizer) = finalizer(a) else {
            return Ok(());
        };
        let finalizers = &mut object["metadata"]["finalizers"];
        if !items(finalizers).any(|own| own == finalizer) {
            push(finalizers, finalizer.into());
        }
        Ok(())
    }
}

fn finalizer(a: &AdmissionAttributes<'_>) -> Option<&'static str> {
    match (
        a.subresource,
        a.resource.group.as_ref(),
        a.resource.resource.as_ref(),
    ) {
        ("", "", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("", "", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("", "storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Case;
    use serde_json::json;

    const CLAIM: (&str, &str, &str) = ("", "PersistentVolumeClaim", "persistentvolumeclaims");

    fn class(name: &str, created: &str, extra: Value) -> Value {
        let mut class = json!({
            "kind": "storageclasses.storage.k8s.io",
            "metadata": {
                "name": name, "creationTimestamp": created,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
        });
        for (key, value) in extra.as_object().unwrap() {
            class[key.as_str()] = value.clone();
        }
        class
    }

    #[test]
    fn the_newest_default_class_is_taken() {
        let classes = [
            class("old", "2020-01-01T00:00:00Z", json!({})),
            class("b", "2021-01-01T00:00:00Z", json!({})),
            class("a", "2021-01-01T00:00:00Z", json!({})),
        ];
        for (spec, taken) in [(json!({}), "a"), (json!({"storageClassName": ""}), "")] {
            let case = Case::new(Operation::Create, CLAIM, json!({"spec": spec}));
            let claim = case.run(&DefaultStorageClass, &classes).object().unwrap();
            assert_eq!(claim["spec"]["storageClassName"], taken);
        }
    }

    #[test]
    fn claims_grow_only_where_the_class_allows() {
        let claim = |size: &str, phase: &str, class: &str| {
            json!({
                "metadata": {"name": "data"}, "status": {"phase": phase},
                "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}},
            })
        };
        let classes = [
            class(
                "grow",
                "2020-01-01T00:00:00Z",
                json!({"allowVolumeExpansion": true}),
            ),
            class("fixed", "2020-01-01T00:00:00Z", json!({})),
        ];
        for (old, size, message) in [
            (claim("1Gi", "Bound", "grow"), "2Gi", ""),
            (claim("1Gi", "Bound", "fixed"), "1024Mi", ""),
            (
                claim("1Gi", "Pending", "grow"),
                "2Gi",
                "Only bound persistent volume claims can be expanded",
            ),
            (
                claim("1Gi", "Bound", "fixed"),
                "2Gi",
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
                 resize",
            ),
        ] {
            let mut new = old.clone();
            new["spec"]["resources"]["requests"]["storage"] = size.into();
            let mut case = Case::new(Operation::Update, CLAIM, new);
            case.old = Some(old);
            let wanted = match message {
                "" => String::new(),
                why => format!("persistentvolumeclaims \"data\" is forbidden: {why}"),
            };
            assert_eq!(case.run(&PersistentVolumeClaimResize, &classes).message(), wanted);
        }
    }

    #[test]
    fn claims_are_held_by_a_finalizer() {
        let case = Case::new(Operation::Create, CLAIM, json!({"metadata": {"name": "data"}}));
        let claim = case.run(&StorageObjectInUseProtection, &[]).object().unwrap();
        assert_eq!(
            claim["metadata"]["finalizers"],
            json!(["kubernetes.io/pvc-protection"])
        );
    }
}
