//! HorizontalPodAutoscaler.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};
use serde_json::json;

use super::{convert, metrics};
use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, metadata, set};

const WINDOW_S_MAX: i64 = 3600;
const PERIOD_S_MAX: i64 = 1800;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Reference",
        "scaleTargetRef points to the target resource to scale, and is used to the pods for which metrics should be collected, as well as to actually change the replica count.",
    ),
    cells::text(
        "Targets",
        "metrics contains the specifications for which to use to calculate the desired replica count (the maximum replica count across all metrics will be used).",
    ),
    cells::text(
        "MinPods",
        "minReplicas is the lower limit for the number of replicas to which the autoscaler can scale down.",
    ),
    cells::text(
        "MaxPods",
        "maxReplicas is the upper limit for the number of replicas to which the autoscaler can scale up.",
    ),
    cells::text(
        "Replicas",
        "currentReplicas is current number of replicas of pods managed by this autoscaler, as last seen by the autoscaler.",
    ),
    cells::AGE,
];

/// autoscaling/v2, the stored form.
pub struct HorizontalPodAutoscaler;

impl Kind for HorizontalPodAutoscaler {
    resource!("autoscaling", "v2", "horizontalpodautoscalers");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::absent(spec, "minReplicas", 1);
        if set::is_zero(&spec["metrics"]) {
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            set::put(
                spec,
                "metrics",
                json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
            );
        }
        if let Some(behavior) = set::some(spec, "behavior") {
            behavior_defaults(behavior);
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        set::put(
            obj,
            "status",
            json!({"currentMetrics": null, "desiredReplicas": 0}),
        );
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        let (min, max) = (spec.child("minReplicas"), spec.child("maxReplicas"));
        if min.i64().is_some_and(|count| count < 1) {
            check::invalid_int(&mut e, &min, "must be greater than or equal to 1");
        }
        if max.i64().unwrap_or(0) < 1 {
            check::invalid_int(&mut e, &max, "must be greater than 0");
        }
        if min.i64().is_some_and(|count| max.i64().unwrap_or(0) < count) {
            check::invalid_int(&mut e, &max, "must be greater than or equal to `minReplicas`");
        }
        target(&mut e, &spec.child("scaleTargetRef"));
        metrics::specs(&mut e, &spec.child("metrics"), min.i64());
        behavior(&mut e, &spec.child("behavior"));
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&obj["spec"], &obj["status"]);
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let target = &spec["scaleTargetRef"];
        let min = spec["minReplicas"]
            .as_i64()
            .map_or("<unset>".to_owned(), |min| min.to_string());
        vec![
            cells::name(obj),
            format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
            metrics::cell(&spec["metrics"], &status["currentMetrics"]).into(),
            min.into(),
            cells::int(&spec["maxReplicas"]),
            cells::int(&status["currentReplicas"]),
            cells::age(obj, now),
        ]
    }
}

/// autoscaling/v1: what v2 knows beyond it travels in annotations.
pub struct HorizontalPodAutoscalerV1;

impl Kind for HorizontalPodAutoscalerV1 {
    resource!("autoscaling", "v1", "horizontalpodautoscalers");

    fn set_defaults(&self, obj: &mut Value) {
        set::absent(set::object(obj, "spec"), "minReplicas", 1);
    }

    fn prepare_create(&self, obj: &mut Value) {
        set::remove(obj, "status");
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut v2 = convert::to_v2(new);
        HorizontalPodAutoscaler.set_defaults(&mut v2);
        HorizontalPodAutoscaler.validate(&v2, old.map(convert::to_v2).as_ref())
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        HorizontalPodAutoscaler.cells(&convert::to_v2(obj), now)
    }
}

fn behavior_defaults(behavior: &mut Value) {
    for (key, policies) in [
        (
            "scaleUp",
            json!([{"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15}]),
        ),
        (
            "scaleDown",
            json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
        ),
    ] {
        let rules = set::object(behavior, key);
        if key == "scaleUp" {
            set::absent(rules, "stabilizationWindowSeconds", 0);
        }
        set::absent(rules, "selectPolicy", "Max");
        if set::is_zero(&rules["policies"]) {
            set::put(rules, "policies", policies);
        }
    }
}

fn target(e: &mut FieldErrors, c: &Cursor) {
    for key in ["kind", "name"] {
        check::required_name(e, &c.child(key), metadata::path_segment_name);
    }
    let version = c.child("apiVersion");
    if version.str().matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {}", version.str());
        check::invalid_str(e, &version, detail);
    }
}

fn behavior(e: &mut FieldErrors, c: &Cursor) {
    for direction in ["scaleUp", "scaleDown"] {
        let rules = c.child(direction);
        if rules.is_absent() {
            continue;
        }
        let window = rules.child("stabilizationWindowSeconds");
        if window.i64().is_some_and(|seconds| seconds < 0) {
            check::invalid_int(e, &window, "must be greater than or equal to zero");
        }
        if window.i64().is_some_and(|seconds| seconds > WINDOW_S_MAX) {
            check::invalid_int(
                e,
                &window,
                format!("must be less than or equal to {WINDOW_S_MAX}"),
            );
        }
        check::one_of_or_absent(e, &rules.child("selectPolicy"), &["Disabled", "Max", "Min"]);
        let policies = rules.child("policies");
        if policies.is_empty() {
            e.required(policies.path(), "must specify at least one Policy");
        }
        for policy in policies.items() {
            check::supported(e, &policy.child("type"), &["Percent", "Pods"]);
            for key in ["value", "periodSeconds"] {
                if policy.child(key).i64().unwrap_or(0) <= 0 {
                    check::invalid_int(e, &policy.child(key), "must be greater than zero");
                }
            }
            let period = policy.child("periodSeconds");
            if period.i64().unwrap_or(0) > PERIOD_S_MAX {
                check::invalid_int(
                    e,
                    &period,
                    format!("must be less than or equal to {PERIOD_S_MAX}"),
                );
            }
        }
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, _, e| {
        let status = Cursor::root(new).child("status");
        for key in ["currentReplicas", "desiredReplicas"] {
            check::non_negative(e, &status.child(key));
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;

    fn hpa(spec: Value) -> Value {
        json!({"metadata": {"name": "h", "namespace": "d"}, "spec": spec})
    }

    #[test]
    fn invalid() {
        let target = json!({"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"});
        assert_eq!(
            create(
                &HorizontalPodAutoscaler,
                hpa(json!({"scaleTargetRef": target, "maxReplicas": 3}))
            ),
            Vec::<String>::new()
        );
        assert_eq!(
            create(
                &HorizontalPodAutoscaler,
                hpa(json!({"scaleTargetRef": {}, "maxReplicas": 0}))
            ),
            [
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Required value",
            ]
        );
    }

    #[test]
    fn rows() {
        let obj = hpa(
            json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1,
            "maxReplicas": 3, "metrics": [{"type": "Resource", "resource":
                {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}),
        );
        let row = HorizontalPodAutoscaler.cells(&obj, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&row[1], &row[2]),
            (&json!("Deployment/web"), &json!("cpu: <unknown>/80%"))
        );
    }
}
