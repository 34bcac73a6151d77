//! Event, in the core group and in events.k8s.io: one stored form (core/v1), two shapes.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Path, Value, names};

use crate::kind::{Column, Kind, Name, resource};
use crate::{cells, check, equal, events, metadata, strategy};

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
        sensible(&mut e, &Cursor::root(new), "reportingComponent");
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
        let (new, old) = (events::to_core(new), old.map(events::to_core));
        let event = Cursor::root(&new);
        let mut e = FieldErrors::default();
        sensible(&mut e, &event, "reportingController");
        e.extend(strategy::metadata_errors(
            self,
            &new,
            old.as_ref(),
            names::is_dns1123_subdomain,
        ));
        match &old {
            None => {
                series(&mut e, &event);
                new_only(&mut e, &event);
            }
            Some(old) => counted_only(&mut e, &event, &Cursor::root(old)),
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

/// What events of both groups must be; `controller` is what the group calls the reporter. Events with an `eventTime` are
/// of the new style and say more.
fn sensible(e: &mut FieldErrors, event: &Cursor, controller: &str) {
    let own = event.child("metadata").child("namespace");
    let about = event.child("involvedObject").child("namespace");
    let new_style = !event.child("eventTime").is_absent();
    let fits = match (about.str(), new_style) {
        ("", false) => ["", "default"].contains(&own.str()),
        ("", true) => ["default", "kube-system"].contains(&own.str()),
        (namespace, false) => namespace == own.str(),
        (_, true) => true,
    };
    if !fits {
        check::invalid_str(e, &about, "does not match event.namespace");
    }
    if new_style {
        reported(e, event, controller);
    }
    for message in names::is_dns1123_subdomain(own.str()) {
        e.invalid(&Path::new("namespace"), own.str(), message);
    }
}

fn reported(e: &mut FieldErrors, event: &Cursor, controller: &str) {
    let reporter = event.child("reportingComponent").str();
    if reporter.is_empty() {
        e.required(&Path::new(controller), "");
    }
    for message in names::is_qualified_name(reporter) {
        e.invalid(&Path::new(controller), reporter, message);
    }
    for key in ["reportingInstance", "action", "reason"] {
        let field = event.child(key);
        if check::required(e, &field) {
            short(e, key, &field, SHORT_MAX);
        }
    }
    short(e, "message", &event.child("message"), MESSAGE_MAX);
}

fn short(e: &mut FieldErrors, key: &str, field: &Cursor, max: usize) {
    if field.str().len() > max {
        e.invalid(&Path::new(key), "", format!("can have at most {max} characters"));
    }
}

/// A new event of events.k8s.io has a time and a type, and none of the fields of old.
fn new_only(e: &mut FieldErrors, event: &Cursor) {
    if event.child("eventTime").is_absent() {
        e.required(event.child("eventTime").path(), "");
    }
    let kind = event.child("type");
    if !["Normal", "Warning"].contains(&kind.str()) {
        e.invalid(kind.path(), "", format!("has invalid value: {}", kind.str()));
    }
    let source = event.child("source");
    let sourced = !source.child("component").is_zero() || !source.child("host").is_zero();
    for (key, set) in [
        ("firstTimestamp", !event.child("firstTimestamp").is_absent()),
        ("lastTimestamp", !event.child("lastTimestamp").is_absent()),
        ("count", !event.child("count").is_zero()),
        ("source", sourced),
    ] {
        if set {
            e.invalid(&Path::new(key), "", "needs to be unset");
        }
    }
}

/// An event of events.k8s.io changes by being counted, and in nothing else.
fn counted_only(e: &mut FieldErrors, event: &Cursor, old: &Cursor) {
    if !equal::unchanged(event.child("series").value(), old.child("series").value()) {
        series(e, event);
    }
    for key in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reason",
        "type",
        "eventTime",
        "action",
        "related",
    ] {
        check::immutable(e, &event.child(key), &old.child(key));
    }
    let reporter = event.child("reportingComponent");
    if !equal::unchanged(reporter.value(), old.child("reportingComponent").value()) {
        let path = Path::new("reportingController");
        e.invalid(&path, reporter.value().clone(), check::IMMUTABLE);
    }
    let instance = "reportingInstance";
    check::immutable(e, &event.child(instance), &old.child(instance));
}

fn series(e: &mut FieldErrors, event: &Cursor) {
    let series = event.child("series");
    if series.is_absent() {
        return;
    }
    if series.child("count").i64().unwrap_or(0) < 2 {
        e.invalid(series.child("count").path(), "", "should be at least 2");
    }
    if series.child("lastObservedTime").is_absent() {
        e.required(series.child("lastObservedTime").path(), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{create, update};
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

    fn new_style() -> Value {
        json!({"metadata": {"name": "e", "namespace": "a"}, "regarding": {"namespace": "a"},
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "x/y", "reportingInstance": "z",
            "action": "Do", "reason": "Why", "type": "Normal"})
    }

    #[test]
    fn events_of_the_new_group_are_checked_strictly() {
        assert_eq!(create(&EventsEvent, new_style()), [""; 0]);
        let mut event = new_style();
        event["type"] = "Odd".into();
        event["deprecatedCount"] = 2.into();
        event["series"] = json!({"count": 1, "lastObservedTime": null});
        event.as_object_mut().unwrap().remove("reportingController");
        event.as_object_mut().unwrap().remove("eventTime");
        assert_eq!(
            create(&EventsEvent, event),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "eventTime: Required value",
                "type: Invalid value: \"\": has invalid value: Odd",
                "count: Invalid value: \"\": needs to be unset",
            ]
        );
        let mut event = new_style();
        event["reportingController"] = "".into();
        let errors = create(&EventsEvent, event);
        assert_eq!(errors[0], "reportingController: Required value");
        // Of the old group the same is enough, or the other namespace is nobody's business.
        let mut event = events::to_core(&new_style());
        event["involvedObject"]["namespace"] = "b".into();
        event["type"] = "Odd".into();
        assert_eq!(create(&Event, event), [""; 0]);
    }

    #[test]
    fn events_of_the_new_group_are_only_counted() {
        let mut counted = new_style();
        counted["series"] = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
        assert_eq!(update(&EventsEvent, counted.clone(), new_style()), [""; 0]);
        counted["note"] = "other".into();
        counted["action"] = "Undo".into();
        assert_eq!(
            update(&EventsEvent, counted, new_style()),
            [
                "message: Invalid value: \"other\": field is immutable",
                "action: Invalid value: \"Undo\": field is immutable",
            ]
        );
    }
}
