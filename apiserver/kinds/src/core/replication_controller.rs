//! ReplicationController: the predecessor of ReplicaSet, with a plain map as selector.

use jiff::Timestamp;
use keelson_machinery::labels::Selector;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::apps::replicas;
use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::{cells, check, pod, set, strategy};

pub struct ReplicationController;

impl Kind for ReplicationController {
    resource!("", "v1", "replicationcontrollers");

    /// Labels and selector not given are the template's labels.
    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::absent(spec, "replicas", 1);
        let Some(template) = set::some(spec, "template") else {
            return;
        };
        pod::set_template_defaults(template);
        let labels = template["metadata"]["labels"].clone();
        if !set::is_zero(&labels) {
            set::zero(spec, "selector", labels.clone());
            set::zero(set::object(obj, "metadata"), "labels", labels);
        }
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
        check::non_negative(&mut e, &spec.child("minReadySeconds"));
        check::required(&mut e, &spec.child("selector"));
        check::non_negative(&mut e, &spec.child("replicas"));
        template(&mut e, &spec);
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
        replicas::row(obj, cells::labels(&obj["spec"]["selector"]), now)
    }

    fn orphans_by_default(&self) -> bool {
        true
    }
}

fn template(e: &mut FieldErrors, spec: &Cursor) {
    let template = spec.child("template");
    if template.is_absent() {
        e.required(template.path(), "");
        return;
    }
    let labels = template.child("metadata").child("labels");
    if !spec.child("selector").is_empty()
        && !Selector::from_map(spec.child("selector").value()).matches(labels.value())
    {
        check::invalid(e, &labels, "`selector` does not match template `labels`");
    }
    pod::validate_template(e, &template);
    replicas::always_running(e, &template, "ReplicationController");
}
