//! StatefulSet.

use jiff::Timestamp;
use keelson_machinery::labels::Selector;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::replicas;
use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, equal, pod, rolling, set};

/// What an update may change.
const MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Ready", "Number of the pod with ready state"),
    cells::AGE,
    cells::CONTAINERS,
    cells::IMAGES,
];

pub struct StatefulSet;

impl Kind for StatefulSet {
    resource!("apps", "v1", "statefulsets");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::zero(spec, "podManagementPolicy", "OrderedReady");
        let strategy = set::object(spec, "updateStrategy");
        set::zero(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = set::object(strategy, "rollingUpdate");
            set::absent(rolling, "partition", 0);
        }
        let retention = set::object(spec, "persistentVolumeClaimRetentionPolicy");
        set::zero(retention, "whenDeleted", "Retain");
        set::zero(retention, "whenScaled", "Retain");
        set::absent(spec, "replicas", 1);
        set::absent(spec, "revisionHistoryLimit", 10);
        for claim in set::items(spec, "volumeClaimTemplates") {
            set::zero(claim, "apiVersion", "v1");
            set::zero(claim, "kind", "PersistentVolumeClaim");
            set::zero(set::object(claim, "status"), "phase", "Pending");
            let spec = set::object(claim, "spec");
            set::absent(spec, "volumeMode", "Filesystem");
            set::object(spec, "resources");
        }
        pod::set_template_defaults(set::object(spec, "template"));
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
        let status = set::object(obj, "status");
        set::put(status, "replicas", 0);
        set::put(status, "availableReplicas", 0);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        self::spec(&mut e, &spec);
        if let Some(old) = old {
            only_mutable(&mut e, &spec, &old["spec"]);
        }
        e
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = pod::warnings::template(&Cursor::root(new).child("spec").child("template"));
        if new["spec"]["revisionHistoryLimit"]
            .as_i64()
            .is_some_and(|limit| limit < 0)
        {
            warnings.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                 recommended"
                    .to_owned(),
            );
        }
        warnings
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
            cells::age(obj, now),
            names,
            images,
        ]
    }
}

fn spec(e: &mut FieldErrors, spec: &Cursor) {
    let policy = spec.child("podManagementPolicy");
    match policy.str() {
        "OrderedReady" | "Parallel" => {}
        "" => e.required(policy.path(), ""),
        _ => check::invalid_str(e, &policy, "must be 'OrderedReady' or 'Parallel'"),
    }
    update_strategy(e, &spec.child("updateStrategy"));
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        check::supported(e, &retention.child(key), &["Delete", "Retain"]);
    }
    check::non_negative(e, &spec.child("replicas"));
    check::non_negative(e, &spec.child("minReadySeconds"));
    check::non_negative(e, &spec.child("ordinals").child("start"));
    let selector = spec.child("selector");
    if selector.is_absent() {
        e.required(selector.path(), "");
    } else {
        check::label_selector(e, &selector);
        if check::selects_everything(&selector) {
            check::invalid(e, &selector, "empty selector is invalid for statefulset");
        }
    }
    template(e, spec, &selector);
}

fn update_strategy(e: &mut FieldErrors, c: &Cursor) {
    let rolling_update = c.child("rollingUpdate");
    match c.child("type").str() {
        "" => e.required(c.path(), ""),
        "OnDelete" if !rolling_update.is_absent() => check::invalid(
            e,
            &rolling_update,
            "only allowed for updateStrategy 'RollingUpdate'",
        ),
        "OnDelete" => {}
        "RollingUpdate" => {
            check::non_negative(e, &rolling_update.child("partition"));
            let unavailable = rolling_update.child("maxUnavailable");
            if !unavailable.is_absent() {
                rolling::int_or_percent(e, &unavailable);
                if rolling::amount(&unavailable) == 0 {
                    check::invalid(e, &unavailable, "cannot be 0");
                }
                rolling::at_most_all(e, &unavailable);
            }
        }
        _ => check::invalid(e, c, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// Upstream leaves the pod spec itself to the pods: volumes of claim templates are not among its volumes.
fn template(e: &mut FieldErrors, spec: &Cursor, selector: &Cursor) {
    let template = spec.child("template");
    let meta = template.child("metadata");
    if !check::selects_everything(selector) {
        match Selector::from_label_selector(selector.value()) {
            Err(_) => check::invalid(e, selector, ""),
            Ok(parsed) if !parsed.matches(meta.child("labels").value()) => check::invalid(
                e,
                &meta.child("labels"),
                "`selector` does not match template `labels`",
            ),
            Ok(_) => {}
        }
    }
    for (key, rule) in [
        ("labels", check::labels as fn(&mut FieldErrors, &Cursor)),
        ("annotations", check::annotations),
    ] {
        let at = Cursor::at(meta.child(key).value(), template.path().child(key));
        rule(e, &at);
    }
    let pod = template.child("spec");
    let policy = pod.child("restartPolicy");
    if policy.str() != "Always" {
        e.not_supported(policy.path(), policy.str(), &["Always"]);
    }
    let deadline = pod.child("activeDeadlineSeconds");
    if !deadline.is_absent() {
        e.forbidden(
            deadline.path(),
            "activeDeadlineSeconds in StatefulSet is not Supported",
        );
    }
}

fn only_mutable(e: &mut FieldErrors, spec: &Cursor, old: &Value) {
    let mut munged = spec.value().clone();
    for key in MUTABLE {
        set::copy(&mut munged, old, key);
    }
    if !equal::unchanged(&munged, old) {
        e.forbidden(
            spec.path(),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
             'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
             'minReadySeconds' are forbidden",
        );
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, old, e| {
        let status = Cursor::root(new).child("status");
        for key in [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ] {
            check::non_negative(e, &status.child(key));
        }
        replicas::bounded(
            e,
            &status,
            &[
                ("readyReplicas", "replicas"),
                ("currentReplicas", "replicas"),
                ("updatedReplicas", "replicas"),
                ("availableReplicas", "replicas"),
                ("availableReplicas", "readyReplicas"),
            ],
        );
        rolling::collision_count(e, &status, old);
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{create, update};
    use serde_json::json;

    fn db() -> Value {
        json!({"metadata": {"name": "db", "namespace": "d"}, "spec": {
            "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": "db:1",
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}})
    }

    #[test]
    fn claims_are_fixed() {
        assert_eq!(create(&StatefulSet, db()), Vec::<String>::new());
        let mut new = db();
        new["spec"]["serviceName"] = "other".into();
        assert_eq!(
            update(&StatefulSet, new, db()),
            [
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                 'minReadySeconds' are forbidden",
            ]
        );
    }
}
