//! IngressClass: which controller serves an Ingress.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, metadata, set, strategy};

const CONTROLLER_BYTES_MAX: usize = 250;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Controller",
        "Controller that is responsible for handling this class",
    ),
    cells::text(
        "Parameters",
        "A reference to a resource with additional parameters",
    ),
    cells::AGE,
];

pub struct IngressClass;

impl Kind for IngressClass {
    resource!("networking.k8s.io", "v1", "ingressclasses");

    fn set_defaults(&self, obj: &mut Value) {
        if let Some(parameters) = set::some(set::object(obj, "spec"), "parameters") {
            set::absent(parameters, "scope", "Cluster");
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::count_generation(new, old, &["spec"]);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        let controller = spec.child("controller");
        match old {
            Some(old) => {
                let before = Cursor::root(old).child("spec").child("controller");
                check::immutable(&mut e, &controller, &before);
            }
            None => {
                if controller.str().len() > CONTROLLER_BYTES_MAX {
                    e.too_long(controller.path(), CONTROLLER_BYTES_MAX);
                }
                domain_prefixed_path(&mut e, &controller);
            }
        }
        parameters(&mut e, &spec.child("parameters"));
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &obj["spec"];
        let reference = &spec["parameters"];
        let text = |key: &str| reference[key].as_str().unwrap_or("");
        let parameters = match (reference.is_object(), text("apiGroup")) {
            (false, _) => "<none>".to_owned(),
            (true, "") => format!("{}/{}", text("kind"), text("name")),
            (true, group) => format!("{}.{group}/{}", text("kind"), text("name")),
        };
        vec![
            cells::name(obj),
            spec["controller"].as_str().unwrap_or("").into(),
            parameters.into(),
            cells::age(obj, now),
        ]
    }
}

fn domain_prefixed_path(e: &mut FieldErrors, c: &Cursor) {
    if c.str().is_empty() {
        e.required(c.path(), "");
    } else if let Err((_, message)) = names::is_domain_prefixed_path(c.str()) {
        check::invalid_str(e, c, message);
    }
}

fn parameters(e: &mut FieldErrors, c: &Cursor) {
    if c.is_absent() {
        return;
    }
    for key in ["kind", "name"] {
        check::required_name(e, &c.child(key), metadata::path_segment_name);
    }
    let group = c.child("apiGroup");
    if !group.is_absent() {
        check::named(e, &group, names::is_dns1123_subdomain);
    }
    let (scope, namespace) = (c.child("scope"), c.child("namespace"));
    check::one_of(e, &scope, &["Cluster", "Namespace"]);
    if scope.str() == "Namespace" {
        match namespace.is_absent() {
            true => e.required(namespace.path(), "`parameters.scope` is set to 'Namespace'"),
            false => check::named(e, &namespace, names::is_dns1123_label),
        }
    } else if scope.str() == "Cluster" && !namespace.is_absent() {
        e.forbidden(namespace.path(), "`parameters.scope` is set to 'Cluster'");
    }
}
