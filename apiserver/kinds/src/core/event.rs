//! Event, in the core group and in events.k8s.io: one stored form (core/v1), two shapes.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use crate::kind::{Column, Kind, Name, resource};
use crate::{cells, check, events, metadata, strategy};

const SHORT_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

pub const COLUMNS: &[Column] = &[
    cells::text(
        "Last Seen",
        "The time at which the most recent occurrence of this event was recorded.",
    ),
    cells::text(
        "Type",
        "Type of this event (Normal, Warning), new types could be added in the future",
    ),
    cells::text(
        "Reason",
        "This should be a short, machine understandable string that gives the reason for the transition into \
         the object's current status.",
    ),
    cells::text("Object", "The object that this event is about."),
    cells::wide("Subobject", "fieldPath of the object"),
    cells::wide("Source", "The component reporting this event."),
    cells::text(
        "Message",
        "A human-readable description of the status of this operation.",
    ),
    cells::wide("First Seen", "The time at which the event was first recorded."),
    cells::wide("Count", "The number of times this event has occurred."),
    NAME,
];

/// The name is of no interest to people, so only wide output has it.
const NAME: Column = Column {
    name: Name::Borrowed("Name"),
    type_: Name::Borrowed("string"),
    format: Name::Borrowed("name"),
    description: Name::Borrowed("Name must be unique within a namespace."),
    priority: 1,
};

/// Labels of both groups' field selectors; the value is the core path.
const FIELDS: &[Name] = &[
    Name::Borrowed("involvedObject.kind"),
    Name::Borrowed("involvedObject.namespace"),
    Name::Borrowed("involvedObject.name"),
    Name::Borrowed("involvedObject.uid"),
    Name::Borrowed("involvedObject.apiVersion"),
    Name::Borrowed("involvedObject.resourceVersion"),
    Name::Borrowed("involvedObject.fieldPath"),
    Name::Borrowed("reason"),
    Name::Borrowed("reportingComponent"),
    Name::Borrowed("source"),
    Name::Borrowed("type"),
];

pub struct Event;

impl Kind for Event {
    resource!("", "v1", "events");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = match old {
            None => strategy::metadata_errors(self, new, old, metadata::path_segment_name),
            // Recorders patch events without a version: upstream checks no metadata here.
            Some(_) => FieldErrors::default(),
        };
        let event = Cursor::root(new);
        namespace(&mut e, &event);
        if !event.child("eventTime").is_absent() {
            new_style(&mut e, &event, "reportingComponent");
        }
        e
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, event: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(event, true);
        for name in FIELDS {
            let value = match name.split_once('.') {
                Some((object, key)) => &event[object][key],
                None if name == "source" && event["source"]["component"].is_string() => {
                    &event["source"]["component"]
                }
                None if name == "source" => &event["reportingComponent"],
                None => &event[name.as_ref()],
            };
            fields.push((name.clone(), value.as_str().unwrap_or("").to_owned()));
        }
        fields
    }

    fn convert_field_label(&self, label: &str) -> Result<Name, String> {
        core_label(label)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, event: &Value, now: Timestamp) -> Vec<Value> {
        row(event, now)
    }
}

/// Selectors of both groups end at the one stored form, so both groups' labels are understood.
fn core_label(label: &str) -> Result<Name, String> {
    let core = match label.strip_prefix("regarding.") {
        Some(key) => format!("involvedObject.{key}"),
        None => label.replace("reportingController", "reportingComponent"),
    };
    strategy::convert_field_label(FIELDS, &core)
}

/// The same resource in events.k8s.io/v1.
pub struct EventsEvent;

impl Kind for EventsEvent {
    resource!("events.k8s.io", "v1", "events");

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let event = Cursor::root(new);
        if old.is_none() {
            let core = events::to_core(new);
            namespace(&mut e, &Cursor::root(&core));
            if event.child("eventTime").is_absent() {
                e.required(event.child("eventTime").path(), "");
            } else {
                new_style(&mut e, &event, "reportingController");
            }
            unset(&mut e, &event);
        }
        series(&mut e, &event);
        e
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, event: &Value) -> Vec<(Name, String)> {
        Event.selectable_fields(&events::to_core(event))
    }

    fn convert_field_label(&self, label: &str) -> Result<Name, String> {
        core_label(label)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, event: &Value, now: Timestamp) -> Vec<Value> {
        row(&events::to_core(event), now)
    }
}

fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let time = |value: &Value| cells::since(value, now);
    let first = match event["firstTimestamp"].is_null() {
        true => time(&event["eventTime"]),
        false => time(&event["firstTimestamp"]),
    };
    let mut last = match event["lastTimestamp"].is_null() {
        true => first.clone(),
        false => time(&event["lastTimestamp"]),
    };
    let mut count = event["count"].as_i64().unwrap_or(0).max(1);
    if event["series"].is_object() {
        last = time(&event["series"]["lastObservedTime"]);
        count = event["series"]["count"].as_i64().unwrap_or(0);
    }
    let object = &event["involvedObject"];
    let kind = text(&object["kind"]).to_lowercase();
    let target = match text(&object["name"]).as_str() {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let either = |a: &Value, b: &Value| match text(a).as_str() {
        "" => text(b),
        set => set.to_owned(),
    };
    let component = either(&event["source"]["component"], &event["reportingComponent"]);
    let source = match either(&event["source"]["host"], &event["reportingInstance"]).as_str() {
        "" => component,
        host => format!("{component}, {host}"),
    };
    vec![
        last.into(),
        text(&event["type"]).into(),
        text(&event["reason"]).into(),
        target.into(),
        text(&object["fieldPath"]).into(),
        source.into(),
        text(&event["message"]).trim().into(),
        first.into(),
        count.into(),
        cells::name(event),
    ]
}

/// Events about cluster-scoped objects live in `default`, or in `kube-system` where they are of the new style.
fn namespace(e: &mut FieldErrors, event: &Cursor) {
    let own = event.child("metadata").child("namespace").str();
    let about = event.child("involvedObject").child("namespace");
    let new_style = !event.child("eventTime").is_absent();
    let fits = match about.str() {
        "" => own == "default" || own.is_empty() || new_style && own == "kube-system",
        namespace => namespace == own,
    };
    if !fits {
        check::invalid_str(e, &about, "does not match event.namespace");
    }
}

fn new_style(e: &mut FieldErrors, event: &Cursor, controller: &str) {
    check::required_name(e, &event.child(controller), names::is_qualified_name);
    for key in ["reportingInstance", "action", "reason"] {
        let field = event.child(key);
        if check::required(e, &field) && field.str().len() > SHORT_MAX {
            e.invalid(
                field.path(),
                "",
                format!("can have at most {SHORT_MAX} characters"),
            );
        }
    }
    for key in ["message", "note"] {
        if event.child(key).str().len() > MESSAGE_MAX {
            e.invalid(
                &keelson_machinery::Path::new("message"),
                "",
                format!("can have at most {MESSAGE_MAX} characters"),
            );
        }
    }
}

fn unset(e: &mut FieldErrors, event: &Cursor) {
    let kind = event.child("type");
    if !["Normal", "Warning"].contains(&kind.str()) {
        e.invalid(kind.path(), "", format!("has invalid value: {}", kind.str()));
    }
    for (key, shown) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        if !event.child(key).is_zero() {
            e.invalid(&keelson_machinery::Path::new(shown), "", "needs to be unset");
        }
    }
}

fn series(e: &mut FieldErrors, event: &Cursor) {
    let series = event.child("series");
    if series.is_absent() {
        return;
    }
    if series.child("count").i64().unwrap_or(0) < 2 {
        e.invalid(series.child("count").path(), "", "should be at least 2");
    }
    if series.child("lastObservedTime").is_zero() {
        e.required(series.child("lastObservedTime").path(), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;
    use serde_json::json;

    #[test]
    fn rows() {
        let event = json!({
            "metadata": {"name": "p.1", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default",
                "fieldPath": "spec.containers{a}"},
            "type": "Normal", "reason": "Pulled", "message": "Container image present\n", "count": 2,
            "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z",
        });
        let now: Timestamp = "2026-01-01T00:02:00Z".parse().unwrap();
        assert_eq!(
            Event.cells(&event, now),
            [
                json!("60s"),
                json!("Normal"),
                json!("Pulled"),
                json!("pod/p"),
                json!("spec.containers{a}"),
                json!("kubelet, n1"),
                json!("Container image present"),
                json!("2m"),
                json!(2),
                json!("p.1"),
            ]
        );
    }

    #[test]
    fn namespaces_must_agree() {
        let event =
            json!({"metadata": {"name": "e", "namespace": "a"}, "involvedObject": {"namespace": "b"}});
        assert_eq!(
            create(&Event, event),
            ["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"]
        );
    }
}
