//! APIService: who serves a group and version.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, metadata, set};

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1_000;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Service",
        "The reference to the service that hosts this API endpoint.",
    ),
    cells::text("Available", "Whether this service is available."),
    cells::AGE,
];

pub struct APIService;

impl Kind for APIService {
    resource!("apiregistration.k8s.io", "v1", "apiservices");

    fn set_defaults(&self, obj: &mut Value) {
        if let Some(service) = set::some(set::object(obj, "spec"), "service") {
            set::absent(service, "port", 443);
        }
    }

    /// What the server serves itself is available from the start.
    fn prepare_create(&self, obj: &mut Value) {
        set::put(obj, "status", serde_json::Map::new());
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, metadata::path_segment_name);
        let service = Cursor::root(new);
        let spec = service.child("spec");
        let (group, version) = (spec.child("group"), spec.child("version"));
        let name = service.child("metadata").child("name");
        if name.str() != format!("{}.{}", version.str(), group.str()) {
            check::invalid_str(&mut e, &name, "must be `spec.version+\".\"+spec.group`");
        }
        if group.str().is_empty() {
            if version.str() != "v1" {
                e.required(
                    group.path(),
                    "only v1 may have an empty group and it better be legacy kube",
                );
            }
        } else {
            check::named(&mut e, &group, names::is_dns1123_subdomain);
        }
        check::named(&mut e, &version, names::is_dns1035_label);
        for (key, max) in [
            ("groupPriorityMinimum", GROUP_PRIORITY_MAX),
            ("versionPriority", VERSION_PRIORITY_MAX),
        ] {
            let priority = spec.child(key);
            if !(1..=max).contains(&priority.i64().unwrap_or(0)) {
                let detail = format!("must be positive and less than {max}");
                check::invalid_int(&mut e, &priority, detail);
            }
        }
        backend(&mut e, &spec);
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let service = &obj["spec"]["service"];
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let host = match service.is_object() {
            true => format!("{}/{}", text(&service["namespace"]), text(&service["name"])),
            false => "Local".to_owned(),
        };
        let available = cells::list(&obj["status"]["conditions"])
            .iter()
            .find(|condition| condition["type"] == "Available");
        let available = match available {
            None => "Unknown".to_owned(),
            Some(condition) if condition["status"] == "True" => "True".to_owned(),
            Some(condition) => format!("{} ({})", text(&condition["status"]), text(&condition["reason"])),
        };
        vec![
            cells::name(obj),
            host.into(),
            available.into(),
            cells::age(obj, now),
        ]
    }
}

fn backend(e: &mut FieldErrors, spec: &Cursor) {
    let (service, bundle, insecure) = (
        spec.child("service"),
        spec.child("caBundle"),
        spec.child("insecureSkipTLSVerify"),
    );
    if service.is_absent() {
        if !bundle.is_zero() {
            check::invalid(e, &bundle, "local APIServices may not have a caBundle");
        }
        if insecure.bool() == Some(true) {
            check::invalid(
                e,
                &insecure,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return;
    }
    check::required(e, &service.child("namespace"));
    check::required(e, &service.child("name"));
    for message in names::is_valid_port_num(service.child("port").i64().unwrap_or(0)) {
        check::invalid_int(e, &service.child("port"), format!("port is not valid: {message}"));
    }
    if insecure.bool() == Some(true) && !bundle.is_zero() {
        check::invalid(e, &insecure, "may not be true if caBundle is present");
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &["labels", "annotations", "finalizers", "ownerReferences"],
    validate: |new, _, e| {
        let list = Cursor::root(new).child("status").child("conditions");
        for condition in list.items() {
            let status = condition.child("status");
            check::supported(e, &status, &["False", "True", "Unknown"]);
        }
    },
};
