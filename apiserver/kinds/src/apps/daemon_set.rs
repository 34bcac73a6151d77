//! DaemonSet.

use jiff::Timestamp;
use keelson_machinery::labels::Selector;
use keelson_machinery::{Cursor, FieldErrors, Value, meta, names};

use super::{replicas, template};
use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, equal, pod, rolling, set};

/// What is left of a field of the beta versions: counts changes of the template.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::integer(
        "Desired",
        "The total number of nodes that should be running the daemon pod.",
    ),
    cells::integer(
        "Current",
        "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod.",
    ),
    cells::integer(
        "Ready",
        "numberReady is the number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.",
    ),
    cells::integer(
        "Up-to-date",
        "The total number of nodes that are running updated daemon pod",
    ),
    cells::integer(
        "Available",
        "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available",
    ),
    cells::text(
        "Node Selector",
        "NodeSelector is a selector which must be true for the pod to fit on a node.",
    ),
    cells::AGE,
    cells::CONTAINERS,
    cells::IMAGES,
    cells::wide(
        "Selector",
        "A label query over pods that are managed by the daemon set.",
    ),
];

pub struct DaemonSet;

impl Kind for DaemonSet {
    resource!("apps", "v1", "daemonsets");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        let strategy = set::object(spec, "updateStrategy");
        set::zero(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = set::object(strategy, "rollingUpdate");
            set::absent(rolling, "maxUnavailable", 1);
            set::absent(rolling, "maxSurge", 0);
        }
        set::absent(spec, "revisionHistoryLimit", 10);
        pod::set_template_defaults(set::object(spec, "template"));
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
        let status = set::object(obj, "status");
        for key in [
            "currentNumberScheduled",
            "desiredNumberScheduled",
            "numberMisscheduled",
            "numberReady",
        ] {
            set::put(status, key, 0);
        }
        meta::set_annotation(obj, TEMPLATE_GENERATION, "1");
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
        let before: i64 = meta::annotation(old, TEMPLATE_GENERATION)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let changed = !equal::same(&new["spec"]["template"], &old["spec"]["template"]);
        let generation = before + i64::from(changed);
        meta::set_annotation(new, TEMPLATE_GENERATION, &generation.to_string());
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        self::spec(&mut e, &spec);
        if let Some(old) = old {
            template::immutable_selector(&mut e, &spec, &Cursor::root(old).child("spec"));
        }
        e
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        pod::warnings::template(&Cursor::root(new).child("spec").child("template"))
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let (pod, status) = (&obj["spec"]["template"]["spec"], &obj["status"]);
        let [names, images] = cells::containers_and_images(pod);
        vec![
            cells::name(obj),
            cells::int(&status["desiredNumberScheduled"]),
            cells::int(&status["currentNumberScheduled"]),
            cells::int(&status["numberReady"]),
            cells::int(&status["updatedNumberScheduled"]),
            cells::int(&status["numberAvailable"]),
            cells::labels(&pod["nodeSelector"]).into(),
            cells::age(obj, now),
            names,
            images,
            cells::selector(&obj["spec"]["selector"]).into(),
        ]
    }
}

fn spec(e: &mut FieldErrors, spec: &Cursor) {
    let (selector, template) = (spec.child("selector"), spec.child("template"));
    check::label_selector(e, &selector);
    let labels = template.child("metadata").child("labels");
    if Selector::from_label_selector(selector.value()).is_ok_and(|s| !s.matches(labels.value())) {
        check::invalid(e, &labels, "`selector` does not match template `labels`");
    }
    if !selector.is_absent() && check::selects_everything(&selector) {
        check::invalid(e, &selector, "empty selector is invalid for daemonset");
    }
    pod::validate_template(e, &template);
    replicas::always_running(e, &template, "DaemonSet");
    check::non_negative(e, &spec.child("minReadySeconds"));
    let strategy = spec.child("updateStrategy");
    match strategy.child("type").str() {
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(e, &strategy.child("rollingUpdate")),
        _ => e.not_supported(
            strategy.path(),
            strategy.value().clone(),
            &["RollingUpdate", "OnDelete"],
        ),
    }
    check::non_negative(e, &spec.child("revisionHistoryLimit"));
}

/// Exactly one of the two lets the update go on.
fn rolling_update(e: &mut FieldErrors, c: &Cursor) {
    if c.is_absent() {
        e.required(c.path(), "");
        return;
    }
    let (unavailable, surge) = (c.child("maxUnavailable"), c.child("maxSurge"));
    for amount in [&unavailable, &surge] {
        rolling::int_or_percent(e, amount);
        rolling::at_most_all(e, amount);
    }
    match (rolling::amount(&unavailable) != 0, rolling::amount(&surge) != 0) {
        (true, true) => check::invalid(e, &surge, "may not be set when maxUnavailable is non-zero"),
        (false, false) => e.required(unavailable.path(), "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, old, e| {
        let status = Cursor::root(new).child("status");
        for key in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ] {
            check::non_negative(e, &status.child(key));
        }
        rolling::collision_count(e, &status, old);
    },
};
