//! core/v1 Event to events.k8s.io/v1 Event and back: the same object under other field names.

use keelson_machinery::Value;
use serde_json::Map;

use crate::set;

/// Core name, events.k8s.io name.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The stored form of an events.k8s.io/v1 event; a core event stays as it is.
pub fn to_core(event: &Value) -> Value {
    rename(event, "v1", |name| {
        NAMES.iter().find(|(_, new)| *new == name).map(|(core, _)| *core)
    })
}

/// An event as events.k8s.io/v1 shows it.
pub fn to_events(event: &Value) -> Value {
    rename(event, "events.k8s.io/v1", |name| {
        NAMES.iter().find(|(core, _)| *core == name).map(|(_, new)| *new)
    })
}

fn rename(event: &Value, api_version: &str, other: impl Fn(&str) -> Option<&'static str>) -> Value {
    let mut fields = Map::new();
    for (name, value) in event.as_object().into_iter().flatten() {
        let name = other(name).unwrap_or(name);
        fields.insert(name.to_owned(), value.clone());
    }
    let mut event = Value::Object(fields);
    set::put(&mut event, "apiVersion", api_version);
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn there_and_back() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
            "involvedObject": {"name": "p"}, "message": "m", "reportingComponent": "c", "count": 2,
            "source": {"component": "c"}, "reason": "R"});
        let new = to_events(&core);
        assert_eq!(
            new,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
                "regarding": {"name": "p"}, "note": "m", "reportingController": "c", "deprecatedCount": 2,
                "deprecatedSource": {"component": "c"}, "reason": "R"})
        );
        assert_eq!(to_core(&new), core);
    }
}
