//! DeviceClass: a kind of device to ask for.

use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::claim;
use crate::kind::{Kind, resource};
use crate::strategy;

const LISTS_MAX: usize = 32;

pub struct DeviceClass;

impl Kind for DeviceClass {
    resource!("resource.k8s.io", "v1", "deviceclasses");

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::count_generation(new, old, &["spec"]);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        claim::selectors(&mut e, &spec.child("selectors"));
        let config = spec.child("config");
        if config.len() > LISTS_MAX {
            e.too_many(config.path(), config.len(), LISTS_MAX);
        }
        for one in config.items() {
            claim::opaque(&mut e, &one);
        }
        e
    }
}
