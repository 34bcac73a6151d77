//! Deployment.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::template;
use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, pod, rolling, set};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Ready", "Number of the pod with ready state"),
    cells::text(
        "Up-to-date",
        "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
    ),
    cells::text(
        "Available",
        "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment.",
    ),
    cells::AGE,
    cells::CONTAINERS,
    cells::IMAGES,
    cells::wide(
        "Selector",
        "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected \
         by this deployment. It must match the pod template's labels.",
    ),
];

pub struct Deployment;

impl Kind for Deployment {
    resource!("apps", "v1", "deployments");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::absent(spec, "replicas", 1);
        let strategy = set::object(spec, "strategy");
        set::zero(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = set::object(strategy, "rollingUpdate");
            set::absent(rolling, "maxUnavailable", "25%");
            set::absent(rolling, "maxSurge", "25%");
        }
        set::absent(spec, "revisionHistoryLimit", 10);
        set::absent(spec, "progressDeadlineSeconds", 600);
        pod::set_template_defaults(set::object(spec, "template"));
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
    }

    /// Annotations count as a change of the spec: they carry what a rollback needs.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        set::copy(new, old, "status");
        let changed = !crate::equal::same(&new["spec"], &old["spec"])
            || !crate::equal::same(&new["metadata"]["annotations"], &old["metadata"]["annotations"]);
        let before = old["metadata"]["generation"].as_i64().unwrap_or(0);
        set::put(
            set::object(new, "metadata"),
            "generation",
            before + i64::from(changed),
        );
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        check::non_negative(&mut e, &spec.child("replicas"));
        template::selector(&mut e, &spec.child("selector"), "deployment");
        template::template(&mut e, &spec, "ReplicaSet");
        rollout(&mut e, &spec);
        if let Some(old) = old {
            template::immutable_selector(&mut e, &spec, &Cursor::root(old).child("spec"));
        }
        e
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let spec = Cursor::root(new).child("spec");
        pod::warnings::template(&spec.child("template"))
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&obj["spec"], &obj["status"]);
        let [names, images] = cells::containers_and_images(&spec["template"]["spec"]);
        vec![
            cells::name(obj),
            format!(
                "{}/{}",
                cells::int(&status["readyReplicas"]),
                cells::int(&spec["replicas"])
            )
            .into(),
            cells::int(&status["updatedReplicas"]),
            cells::int(&status["availableReplicas"]),
            cells::age(obj, now),
            names,
            images,
            cells::selector(&spec["selector"]).into(),
        ]
    }
}

fn rollout(e: &mut FieldErrors, spec: &Cursor) {
    let strategy = spec.child("strategy");
    let rolling_update = strategy.child("rollingUpdate");
    match strategy.child("type").str() {
        "Recreate" => {
            if !rolling_update.is_absent() {
                e.forbidden(
                    rolling_update.path(),
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => {
            if rolling_update.is_absent() {
                e.required(rolling_update.path(), "this should be defaulted and never be nil");
            } else {
                rolling::update(e, &rolling_update);
            }
        }
        other => e.not_supported(strategy.path(), other, &["Recreate", "RollingUpdate"]),
    }
    check::non_negative(e, &spec.child("minReadySeconds"));
    check::non_negative(e, &spec.child("revisionHistoryLimit"));
    let deadline = spec.child("progressDeadlineSeconds");
    check::non_negative(e, &deadline);
    let ready = spec.child("minReadySeconds").i64().unwrap_or(0);
    if deadline.i64().is_some_and(|value| value <= ready) {
        check::invalid_int(e, &deadline, "must be greater than minReadySeconds");
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &["labels"],
    validate: |new, old, e| {
        let status = Cursor::root(new).child("status");
        for key in [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ] {
            check::non_negative(e, &status.child(key));
        }
        let number = |key: &str| status.child(key).i64().unwrap_or(0);
        for (key, bound, text) in [
            (
                "updatedReplicas",
                "replicas",
                "cannot be greater than status.replicas",
            ),
            (
                "readyReplicas",
                "replicas",
                "cannot be greater than status.replicas",
            ),
            (
                "availableReplicas",
                "replicas",
                "cannot be greater than status.replicas",
            ),
            (
                "availableReplicas",
                "readyReplicas",
                "cannot be greater than readyReplicas",
            ),
        ] {
            if number(key) > number(bound) {
                check::invalid_int(e, &status.child(key), text);
            }
        }
        rolling::collision_count(e, &status, old);
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{create, update};
    use serde_json::json;

    fn web() -> Value {
        json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": "nginx:1.15"}]}},
            },
        })
    }

    #[test]
    fn defaults() {
        let mut obj = web();
        Deployment.set_defaults(&mut obj);
        assert_eq!(
            obj["spec"],
            json!({
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [{"name": "web", "image": "nginx:1.15", "imagePullPolicy": "IfNotPresent",
                            "resources": {}, "terminationMessagePath": "/dev/termination-log",
                            "terminationMessagePolicy": "File"}],
                        "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
                        "schedulerName": "default-scheduler", "securityContext": {},
                        "terminationGracePeriodSeconds": 30,
                    },
                },
            })
        );
        assert_eq!(create(&Deployment, web()), Vec::<String>::new());
    }

    #[test]
    fn invalid() {
        let with = |path: &str, value: Value| {
            let mut obj = web();
            *obj.pointer_mut(path).unwrap() = value;
            obj
        };
        let table = [
            (
                with("/spec/selector", json!({"matchLabels": {"app": "api"}})),
                vec![
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                with("/spec/selector", json!({})),
                vec!["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                with("/spec/template/spec/containers", json!([])),
                vec!["spec.template.spec.containers: Required value"],
            ),
            (
                with("/spec/template/spec/containers/0", json!({"name": "Web"})),
                vec![
                    "spec.template.spec.containers[0].name: Invalid value: \"Web\": a lowercase RFC 1123 label must \
                     consist of lower case alphanumeric characters or '-', and must start and end with an \
                     alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                    "spec.template.spec.containers[0].image: Required value",
                ],
            ),
        ];
        for (obj, expected) in table {
            assert_eq!(create(&Deployment, obj.clone()), expected, "{obj}");
        }
    }

    #[test]
    fn the_selector_is_immutable() {
        let mut new = web();
        new["spec"]["selector"]["matchLabels"] = json!({"app": "web", "tier": "front"});
        new["spec"]["template"]["metadata"]["labels"] = json!({"app": "web", "tier": "front"});
        assert_eq!(
            update(&Deployment, new, web()),
            [
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"tier\":\"front\"}}: field is immutable"
            ]
        );
    }
}
