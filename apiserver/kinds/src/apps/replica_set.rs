//! ReplicaSet.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::{replicas, template};
use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::{cells, check, pod, set, strategy};

pub struct ReplicaSet;

impl Kind for ReplicaSet {
    resource!("apps", "v1", "replicasets");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::absent(spec, "replicas", 1);
        pod::set_template_defaults(set::object(spec, "template"));
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
        replicas::start(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        check::non_negative(&mut e, &spec.child("replicas"));
        check::non_negative(&mut e, &spec.child("minReadySeconds"));
        // Upstream's text names the wrong kind.
        template::selector(&mut e, &spec.child("selector"), "deployment");
        template::template(&mut e, &spec, "ReplicaSet");
        if let Some(old) = old {
            template::immutable_selector(&mut e, &spec, &Cursor::root(old).child("spec"));
        }
        e
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        pod::warnings::template(&Cursor::root(new).child("spec").child("template"))
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&replicas::STATUS)
    }

    fn selectable_field_names(&self) -> &[Name] {
        replicas::FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        replicas::fields(obj)
    }

    fn columns(&self) -> &[Column] {
        replicas::COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        replicas::row(obj, cells::selector(&obj["spec"]["selector"]), now)
    }
}
