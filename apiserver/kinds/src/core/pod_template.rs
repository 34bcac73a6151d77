//! PodTemplate: a template stored on its own.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, pod, set, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Containers", "Names of each container in the template."),
    cells::text("Images", "Images referenced by each container in the template."),
    cells::text("Pod Labels", "The labels for the pod template."),
];

pub struct PodTemplate;

impl Kind for PodTemplate {
    resource!("", "v1", "podtemplates");

    fn set_defaults(&self, obj: &mut Value) {
        pod::set_template_defaults(set::object(obj, "template"));
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::count_generation(new, old, &["template"]);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        pod::validate_template(&mut e, &Cursor::root(new).child("template"));
        e
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        pod::warnings::template(&Cursor::root(new).child("template"))
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, _now: Timestamp) -> Vec<Value> {
        let template = &obj["template"];
        let [names, images] = cells::containers_and_images(&template["spec"]);
        vec![
            cells::name(obj),
            names,
            images,
            cells::labels(&template["metadata"]["labels"]).into(),
        ]
    }
}
