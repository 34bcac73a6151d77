//! autoscaling/v1 to v2 and back (`pkg/apis/autoscaling/v1/conversion.go`).
//!
//! v1 knows one number, the CPU percentage. What v2 has beyond it is kept as JSON in annotations of the v1 form and
//! taken out of them again on the way back. The JSON in the annotations is v1's own: its field names differ.

use keelson_machinery::{Value, meta};
use serde_json::{Map, json};

use crate::{cells, set};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The v1 form of a v2 object.
pub fn to_v1(v2: &Value) -> Value {
    let mut v1 = v2.clone();
    set::put(&mut v1, "apiVersion", "autoscaling/v1");
    let spec = set::object(&mut v1, "spec");
    let metrics = set::remove(spec, "metrics").unwrap_or(Value::Null);
    let behavior = set::remove(spec, "behavior").unwrap_or(Value::Null);
    let mut others = Vec::new();
    let mut cpu = None;
    for metric in cells::list(&metrics) {
        let target = &metric["resource"]["target"];
        match is_cpu(metric) && target["averageUtilization"].is_number() && cpu.is_none() {
            true => cpu = Some(target["averageUtilization"].clone()),
            false => others.push(spec_to_v1(metric)),
        }
    }
    if let Some(percent) = cpu {
        set::put(spec, "targetCPUUtilizationPercentage", percent);
    }
    annotate(&mut v1, METRICS, &json!(others));
    annotate(&mut v1, BEHAVIOR, &behavior);
    if let Some(status) = set::some(&mut v1, "status") {
        let current = set::remove(status, "currentMetrics").unwrap_or(Value::Null);
        let conditions = set::remove(status, "conditions").unwrap_or(Value::Null);
        let seen: Vec<Value> = cells::list(&current).iter().map(status_to_v1).collect();
        let cpu = cells::list(&current).iter().find(|metric| is_cpu(metric));
        if let Some(percent) = cpu.map(|metric| &metric["resource"]["current"]["averageUtilization"])
            && percent.is_number()
        {
            set::put(status, "currentCPUUtilizationPercentage", percent.clone());
        }
        set::absent(status, "currentReplicas", 0);
        set::absent(status, "desiredReplicas", 0);
        annotate(&mut v1, CURRENT_METRICS, &json!(seen));
        annotate(&mut v1, CONDITIONS, &conditions);
    }
    v1
}

/// The v2 form of a v1 object.
pub fn to_v2(v1: &Value) -> Value {
    let mut v2 = v1.clone();
    set::put(&mut v2, "apiVersion", "autoscaling/v2");
    let taken = |key: &str| -> Value {
        meta::annotation(v1, key)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(Value::Null)
    };
    let mut metrics: Vec<Value> = cells::list(&taken(METRICS)).iter().map(spec_to_v2).collect();
    let spec = set::object(&mut v2, "spec");
    if let Some(percent) = set::remove(spec, "targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.insert(
            0,
            json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}),
        );
    }
    if !metrics.is_empty() {
        set::put(spec, "metrics", metrics);
    }
    let behavior = taken(BEHAVIOR);
    if !behavior.is_null() {
        set::put(spec, "behavior", behavior);
    }
    if let Some(status) = set::some(&mut v2, "status") {
        let mut current: Vec<Value> = cells::list(&taken(CURRENT_METRICS))
            .iter()
            .map(status_to_v2)
            .collect();
        let percent = set::remove(status, "currentCPUUtilizationPercentage");
        if let (Some(percent), false) = (percent, current.iter().any(is_cpu)) {
            let seen = json!({"averageUtilization": percent});
            current.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": seen}}));
        }
        if !current.is_empty() {
            set::put(status, "currentMetrics", current);
        }
        let conditions = taken(CONDITIONS);
        if !conditions.is_null() {
            set::put(status, "conditions", conditions);
        }
    }
    drop_annotations(&mut v2);
    v2
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn annotate(obj: &mut Value, key: &str, value: &Value) {
    if !set::is_zero(value) {
        meta::set_annotation(obj, key, &value.to_string());
    }
}

fn drop_annotations(obj: &mut Value) {
    let metadata = set::object(obj, "metadata");
    let Some(annotations) = set::some(metadata, "annotations") else {
        return;
    };
    for key in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
        set::remove(annotations, key);
    }
    if set::is_zero(annotations) {
        set::remove(metadata, "annotations");
    }
}

/// The field of a metric that its type names.
fn source(metric: &Value) -> (&'static str, &Value) {
    let field = match metric["type"].as_str().unwrap_or("") {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        _ => "external",
    };
    (field, &metric[field])
}

fn with_source(metric: &Value, field: &str, fields: Vec<(&str, Value)>) -> Value {
    let map: Map<String, Value> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    json!({"type": metric["type"], field: map})
}

fn spec_to_v1(metric: &Value) -> Value {
    let (field, from) = source(metric);
    let (target, name) = (&from["target"], from["metric"]["name"].clone());
    let selector = from["metric"]["selector"].clone();
    let fields = match field {
        "resource" | "containerResource" => vec![
            ("name", from["name"].clone()),
            ("targetAverageUtilization", target["averageUtilization"].clone()),
            ("targetAverageValue", target["averageValue"].clone()),
            ("container", from["container"].clone()),
        ],
        "pods" => vec![
            ("metricName", name),
            ("targetAverageValue", target["averageValue"].clone()),
            ("selector", selector),
        ],
        "object" => vec![
            ("target", from["describedObject"].clone()),
            ("metricName", name),
            ("targetValue", target["value"].clone()),
            ("selector", selector),
            ("averageValue", target["averageValue"].clone()),
        ],
        _ => vec![
            ("metricName", name),
            ("metricSelector", selector),
            ("targetValue", target["value"].clone()),
            ("targetAverageValue", target["averageValue"].clone()),
        ],
    };
    with_source(metric, field, fields)
}

fn spec_to_v2(metric: &Value) -> Value {
    let (field, from) = source(metric);
    let average = match field {
        "object" => &from["averageValue"],
        _ => &from["targetAverageValue"],
    };
    let (value, utilization) = (&from["targetValue"], &from["targetAverageUtilization"]);
    let kind = match (utilization.is_null(), average.is_null()) {
        (false, _) => "Utilization",
        (true, false) => "AverageValue",
        (true, true) => "Value",
    };
    let mut target = json!({"type": kind});
    for (key, amount) in [
        ("averageUtilization", utilization),
        ("averageValue", average),
        ("value", value),
    ] {
        let unset = key == "value" && set::is_zero_amount(amount);
        if !amount.is_null() && !unset {
            set::put(&mut target, key, amount.clone());
        }
    }
    let fields = match field {
        "resource" | "containerResource" => vec![
            ("name", from["name"].clone()),
            ("container", from["container"].clone()),
            ("target", target),
        ],
        "object" => vec![
            ("describedObject", from["target"].clone()),
            ("metric", identifier(from, "selector")),
            ("target", target),
        ],
        "pods" => vec![("metric", identifier(from, "selector")), ("target", target)],
        _ => vec![("metric", identifier(from, "metricSelector")), ("target", target)],
    };
    with_source(metric, field, fields)
}

fn identifier(from: &Value, selector: &str) -> Value {
    let mut metric = json!({"name": from["metricName"]});
    if !from[selector].is_null() {
        set::put(&mut metric, "selector", from[selector].clone());
    }
    metric
}

fn status_to_v1(metric: &Value) -> Value {
    let (field, from) = source(metric);
    let (current, name) = (&from["current"], from["metric"]["name"].clone());
    let selector = from["metric"]["selector"].clone();
    let fields = match field {
        "resource" | "containerResource" => vec![
            ("name", from["name"].clone()),
            ("currentAverageUtilization", current["averageUtilization"].clone()),
            ("currentAverageValue", current["averageValue"].clone()),
            ("container", from["container"].clone()),
        ],
        "pods" => vec![
            ("metricName", name),
            ("currentAverageValue", current["averageValue"].clone()),
            ("selector", selector),
        ],
        "object" => vec![
            ("target", from["describedObject"].clone()),
            ("metricName", name),
            ("currentValue", current["value"].clone()),
            ("selector", selector),
            ("averageValue", current["averageValue"].clone()),
        ],
        _ => vec![
            ("metricName", name),
            ("metricSelector", selector),
            ("currentValue", current["value"].clone()),
            ("currentAverageValue", current["averageValue"].clone()),
        ],
    };
    with_source(metric, field, fields)
}

fn status_to_v2(metric: &Value) -> Value {
    let (field, from) = source(metric);
    let average = match field {
        "object" => "averageValue",
        _ => "currentAverageValue",
    };
    let mut current = json!({});
    for (key, amount) in [
        ("averageUtilization", &from["currentAverageUtilization"]),
        ("averageValue", &from[average]),
        ("value", &from["currentValue"]),
    ] {
        if !amount.is_null() {
            set::put(&mut current, key, amount.clone());
        }
    }
    let fields = match field {
        "resource" | "containerResource" => vec![
            ("name", from["name"].clone()),
            ("container", from["container"].clone()),
            ("current", current),
        ],
        "object" => vec![
            ("describedObject", from["target"].clone()),
            ("metric", identifier(from, "selector")),
            ("current", current),
        ],
        "pods" => vec![("metric", identifier(from, "selector")), ("current", current)],
        _ => vec![
            ("metric", identifier(from, "metricSelector")),
            ("current", current),
        ],
    };
    with_source(metric, field, fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_a_number_in_v1() {
        let v1 = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let v2 = to_v2(&v1);
        assert_eq!(
            v2["spec"]["metrics"],
            json!([{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 50}}}])
        );
        assert_eq!(to_v1(&v2), v1);
    }

    #[test]
    fn the_rest_travels_in_annotations() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Max"}}, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "rps"},
                    "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"},
                    "metric": {"name": "hits"}, "target": {"type": "Value", "value": "2k"}}}]},
            "status": {"currentReplicas": 1, "desiredReplicas": 2,
                "conditions": [{"type": "AbleToScale", "status": "True"}]}});
        let v1 = to_v1(&v2);
        assert!(v1["spec"].get("metrics").is_none());
        assert_eq!(to_v2(&v1), v2);
    }
}
