//! ControllerRevision: one frozen state of a DaemonSet or StatefulSet.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, meta, names};

use crate::kind::{Column, Kind, resource};
use crate::{cells, check, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Controller", "Controller of the object"),
    cells::text(
        "Revision",
        "revision indicates the revision of the state represented by Data.",
    ),
    cells::AGE,
];

pub struct ControllerRevision;

impl Kind for ControllerRevision {
    resource!("apps", "v1", "controllerrevisions");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let revision = Cursor::root(new);
        let data = revision.child("data");
        if data.is_absent() {
            e.required(data.path(), "data is mandatory");
        }
        check::non_negative(&mut e, &revision.child("revision"));
        if let Some(old) = old {
            check::immutable(&mut e, &data, &Cursor::root(old).child("data"));
        }
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let controller = match meta::controller_of(obj) {
            None => "<none>".to_owned(),
            Some(owner) => {
                let text = |key: &str| owner[key].as_str().unwrap_or("");
                let kind = text("kind").to_lowercase();
                match text("apiVersion").split_once('/') {
                    Some((group, _)) => format!("{kind}.{group}/{}", text("name")),
                    None => format!("{kind}/{}", text("name")),
                }
            }
        };
        vec![
            cells::name(obj),
            controller.into(),
            cells::int(&obj["revision"]),
            cells::age(obj, now),
        ]
    }
}
