//! The `resize` subresource: changes CPU and memory of running containers.

use keelson_machinery::{Cursor, FieldErrors, Path, Value, meta};

use super::{ephemeral::MIRROR, qos};
use crate::kind::Subresource;
use crate::{check, equal, metadata, set};

pub struct Resize;

impl Subresource for Resize {
    /// Everything but the resources and resize policies of containers comes from the old pod.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        let mut pod = old.clone();
        for key in ["resourceVersion", "managedFields"] {
            set::copy(set::object(&mut pod, "metadata"), &new["metadata"], key);
        }
        for list in ["containers", "initContainers"] {
            let asked = new["spec"][list].as_array().cloned().unwrap_or_default();
            let spec = set::object(&mut pod, "spec");
            for container in set::items(spec, list) {
                let Some(wanted) = asked.iter().find(|c| c["name"] == container["name"]) else {
                    continue;
                };
                for key in ["resources", "resizePolicy"] {
                    set::copy(container, wanted, key);
                }
            }
        }
        crate::strategy::count_generation(&mut pod, old, &["spec"]);
        *new = pod;
    }

    fn validate(&self, new: &Value, old: &Value) -> FieldErrors {
        let mut e = FieldErrors::default();
        let refused = if meta::annotation(old, MIRROR).is_some() {
            Some("static pods cannot be resized")
        } else if old["spec"]["os"]["name"] == "windows" {
            Some("windows pods cannot be resized")
        } else {
            None
        };
        if let Some(why) = refused {
            e.forbidden(&Path::default(), why);
            return e;
        }
        e.extend(metadata::validate_update(new, old));
        let pod = Cursor::root(new);
        super::validate_pod(&mut e, &pod);
        let spec = pod.child("spec");
        if old["status"]["qosClass"]
            .as_str()
            .unwrap_or_else(|| qos::class(&old["spec"]))
            != qos::class(&new["spec"])
        {
            e.invalid(
                spec.path(),
                new["status"]["qosClass"].clone(),
                "Pod QOS Class may not change as a result of resizing",
            );
        }
        for list in ["initContainers", "containers"] {
            let before = old["spec"][list].as_array().map_or(&[][..], Vec::as_slice);
            for (container, before) in spec.child(list).items().zip(before) {
                self::container(&mut e, &spec, &container, before, list == "initContainers");
            }
        }
        e
    }
}

fn container(e: &mut FieldErrors, spec: &Cursor, c: &Cursor, old: &Value, init: bool) {
    let resources = c.child("resources");
    let sidecar = c.child("restartPolicy").str() == "Always";
    if init && !sidecar {
        if !equal::unchanged(c.value(), old) {
            e.forbidden(
                spec.path(),
                "resources for non-sidecar init containers are immutable",
            );
        }
        return;
    }
    for (list, what) in [("requests", "requests"), ("limits", "limits")] {
        let removed = old["resources"][list].as_object().is_some_and(|before| {
            before
                .keys()
                .any(|key| resources.value()[list].get(key).is_none())
        });
        if removed {
            e.forbidden(
                resources.child(list).path(),
                format!("resource {what} cannot be removed"),
            );
        }
        let others = |value: &Value| -> Value {
            let mut value = value["resources"][list].clone();
            for name in ["cpu", "memory"] {
                set::remove(&mut value, name);
            }
            value
        };
        if !equal::unchanged(&others(c.value()), &others(old)) {
            let detail = match init {
                true => "only cpu and memory resources for sidecar containers are mutable",
                false => "only cpu and memory resources are mutable",
            };
            e.forbidden(spec.path(), detail);
        }
    }
    memory_limit(e, c, old);
}

/// A limit may shrink in place since 1.34; adding one to a running container still needs a restart.
fn memory_limit(e: &mut FieldErrors, c: &Cursor, old: &Value) {
    let restarts = c.child("resizePolicy").items().any(|p| {
        p.child("resourceName").str() == "memory" && p.child("restartPolicy").str() == "RestartContainer"
    });
    let limits = c.child("resources").child("limits");
    let (new, before) = (
        check::parse_quantity(&limits.value()["memory"]),
        check::parse_quantity(&old["resources"]["limits"]["memory"]),
    );
    if !restarts && new.is_some() && before.is_none() {
        e.forbidden(
            &limits.path().key("memory"),
            "memory limits cannot be added unless resizePolicy is RestartContainer",
        );
    }
}
