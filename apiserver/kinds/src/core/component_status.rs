//! ComponentStatus: made by the server on each read, never stored, deprecated.

use jiff::Timestamp;
use keelson_machinery::{FieldErrors, Value};

use crate::cells;
use crate::kind::{Column, Kind, resource};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Status", "Status of the component conditions"),
    cells::text("Message", "Message of the component conditions"),
    cells::text("Error", "Error of the component conditions"),
];

pub struct ComponentStatus;

impl Kind for ComponentStatus {
    resource!("", "v1", "componentstatuses");

    /// Clients cannot write it.
    fn validate(&self, _new: &Value, _old: Option<&Value>) -> FieldErrors {
        FieldErrors::default()
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 ComponentStatus is deprecated in v1.19+")
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, _now: Timestamp) -> Vec<Value> {
        let healthy = cells::list(&obj["conditions"])
            .iter()
            .find(|c| c["type"] == "Healthy");
        let none = Value::Null;
        let condition = healthy.unwrap_or(&none);
        let status = match condition["status"].as_str() {
            Some("True") => "Healthy",
            Some("False") => "Unhealthy",
            _ => "Unknown",
        };
        let text = |key: &str| condition[key].as_str().unwrap_or("").to_owned();
        vec![
            cells::name(obj),
            status.into(),
            text("message").into(),
            text("error").into(),
        ]
    }
}
