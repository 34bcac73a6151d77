//! Kinds of `node.k8s.io`.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, resource};
use crate::pod::{resources, tolerations};
use crate::{cells, check, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Handler",
        "handler specifies the underlying runtime and configuration that the CRI implementation will use to handle pods of this class.",
    ),
    cells::AGE,
];

/// RuntimeClass: a way to run pods.
pub struct RuntimeClass;

impl Kind for RuntimeClass {
    resource!("node.k8s.io", "v1", "runtimeclasses");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let class = Cursor::root(new);
        let handler = class.child("handler");
        match old {
            Some(old) => check::immutable(&mut e, &handler, &Cursor::root(old).child("handler")),
            None => check::named(&mut e, &handler, names::is_dns1123_label),
        }
        for (name, amount) in class.child("overhead").child("podFixed").entries() {
            resources::name(&mut e, &amount, name);
            resources::amount(&mut e, &amount, name);
        }
        let scheduling = class.child("scheduling");
        check::labels(&mut e, &scheduling.child("nodeSelector"));
        tolerations::list(&mut e, &scheduling.child("tolerations"));
        e
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let handler = obj["handler"].as_str().unwrap_or("");
        vec![cells::name(obj), handler.into(), cells::age(obj, now)]
    }
}
