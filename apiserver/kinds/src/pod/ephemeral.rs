//! The `ephemeralcontainers` subresource: adds debugging containers to a running pod.

use keelson_machinery::{Cursor, FieldErrors, Path, Value, meta};

use crate::kind::Subresource;
use crate::{equal, metadata, set};

/// Marks the API's image of a static pod.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

pub struct EphemeralContainers;

impl Subresource for EphemeralContainers {
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let containers = new["spec"]["ephemeralContainers"].take();
        let mut pod = old.clone();
        for key in ["resourceVersion", "managedFields"] {
            set::copy(set::object(&mut pod, "metadata"), &new["metadata"], key);
        }
        match containers {
            Value::Null => drop(set::remove(set::object(&mut pod, "spec"), "ephemeralContainers")),
            containers => set::put(set::object(&mut pod, "spec"), "ephemeralContainers", containers),
        }
        crate::strategy::count_generation(&mut pod, old, &["spec"]);
        *new = pod;
    }

    fn validate(&self, new: &Value, old: &Value) -> FieldErrors {
        let mut e = FieldErrors::default();
        if meta::annotation(old, MIRROR).is_some() {
            e.forbidden(
                &Path::default(),
                "static pods do not support ephemeral containers",
            );
            return e;
        }
        e.extend(metadata::validate_update(new, old));
        let pod = Cursor::root(new);
        super::validate_pod(&mut e, &pod);
        let list = pod.child("spec").child("ephemeralContainers");
        for before in Cursor::root(old)
            .child("spec")
            .child("ephemeralContainers")
            .items()
        {
            let name = before.child("name").str();
            match list.items().find(|c| c.child("name").str() == name) {
                None => e.forbidden(
                    list.path(),
                    format!("existing ephemeral containers {name:?} may not be removed\n"),
                ),
                Some(now) if !equal::unchanged(now.value(), before.value()) => e.forbidden(
                    list.path(),
                    format!("existing ephemeral containers {name:?} may not be changed\n"),
                ),
                Some(_) => {}
            }
        }
        e
    }
}
