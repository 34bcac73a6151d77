//! Job: pods that run to completion.

use jiff::Timestamp;
use keelson_machinery::labels::Selector;
use keelson_machinery::{Cursor, FieldErrors, Value, meta, names, time};
use serde_json::json;

use crate::kind::{Column, Kind, Name, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, equal, pod, set};

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// Labels of before 1.27, still written beside.
const OLD_LABELS: &[&str] = &["controller-uid", "job-name"];
const INDEXED_PARALLELISM_MAX: i64 = 100_000;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text("Status", "Status of the job."),
    cells::text(
        "Completions",
        "Specifies the desired number of successfully finished pods the job should be run with.",
    ),
    cells::text("Duration", "Time required to complete the job."),
    cells::AGE,
    cells::CONTAINERS,
    cells::IMAGES,
    cells::wide(
        "Selector",
        "A label query over pods that should match the pod count.",
    ),
];

const FIELDS: &[Name] = &[Name::Borrowed("status.successful")];

pub struct Job;

impl Kind for Job {
    resource!("batch", "v1", "jobs");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        if spec["completions"].is_null() && spec["parallelism"].is_null() {
            set::put(spec, "completions", 1);
        }
        set::absent(spec, "parallelism", 1);
        let limit = match spec["backoffLimitPerIndex"].is_null() {
            true => 6,
            false => i64::from(i32::MAX),
        };
        set::absent(spec, "backoffLimit", limit);
        set::absent(spec, "completionMode", "NonIndexed");
        set::absent(spec, "suspend", false);
        let replacement = match spec["podFailurePolicy"].is_null() {
            true => "TerminatingOrFailed",
            false => "Failed",
        };
        set::absent(spec, "podReplacementPolicy", replacement);
        if let Some(policy) = set::some(spec, "podFailurePolicy") {
            for rule in set::items(policy, "rules") {
                for condition in set::items(rule, "onPodConditions") {
                    set::zero(condition, "status", "True");
                }
            }
        }
        pod::set_template_defaults(set::object(spec, "template"));
        let labels = spec["template"]["metadata"]["labels"].clone();
        if !set::is_zero(&labels) {
            set::zero(set::object(obj, "metadata"), "labels", labels);
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        generate_selector(obj);
        strategy::start(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let spec = Cursor::root(new).child("spec");
        if old.is_none() {
            generated_selector(&mut e, new);
            if spec.child("completionMode").str() == "Indexed" {
                pod_names_fit(&mut e, new);
            }
        }
        spec_rules(&mut e, &spec);
        selector(&mut e, &spec);
        if let Some(old) = old {
            immutable(&mut e, &spec, old);
        }
        e
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() {
            warnings.extend(pod::warnings::name(
                new,
                "this is used in Pod names and hostnames",
            ));
        }
        let spec = Cursor::root(new).child("spec");
        warnings.extend(pod::warnings::template(&spec.child("template")));
        warnings
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn selectable_field_names(&self) -> &[Name] {
        FIELDS
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        let mut fields = strategy::metadata_fields(obj, true);
        let succeeded = obj["status"]["succeeded"].as_i64().unwrap_or(0);
        fields.push((FIELDS[0].clone(), succeeded.to_string()));
        fields
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let [names, images] = cells::containers_and_images(&obj["spec"]["template"]["spec"]);
        vec![
            cells::name(obj),
            status_text(obj).into(),
            completions(obj).into(),
            duration(&obj["status"], now).into(),
            cells::age(obj, now),
            names,
            images,
            cells::selector(&obj["spec"]["selector"]).into(),
        ]
    }

    fn orphans_by_default(&self) -> bool {
        true
    }
}

fn status_text(obj: &Value) -> &'static str {
    let is = |kind: &str| {
        cells::list(&obj["status"]["conditions"])
            .iter()
            .any(|c| c["type"] == kind && c["status"] == "True")
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if meta::deletion_timestamp(obj).is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(obj: &Value) -> String {
    let succeeded = cells::int(&obj["status"]["succeeded"]);
    match (
        obj["spec"]["completions"].as_i64(),
        obj["spec"]["parallelism"].as_i64(),
    ) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(parallelism @ 2..)) => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(status: &Value, now: Timestamp) -> String {
    let at = |key: &str| {
        status[key]
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok())
    };
    let Some(start) = at("startTime") else {
        return String::new();
    };
    let end = at("completionTime").unwrap_or(now);
    time::human_duration(end.as_second() - start.as_second())
}

/// Pods are told apart by the Job's uid, unless the author wants to select them.
fn generate_selector(obj: &mut Value) {
    if obj["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (meta::uid(obj).to_owned(), meta::name(obj).to_owned());
    let spec = set::object(obj, "spec");
    let labels = set::object(set::object(set::object(spec, "template"), "metadata"), "labels");
    for (key, value) in [
        (CONTROLLER_UID, &uid),
        (JOB_NAME, &name),
        (OLD_LABELS[0], &uid),
        (OLD_LABELS[1], &name),
    ] {
        set::absent(labels, key, value.clone());
    }
    let selector = set::object(spec, "selector");
    set::absent(set::object(selector, "matchLabels"), CONTROLLER_UID, uid);
}

fn generated_selector(e: &mut FieldErrors, obj: &Value) {
    if obj["spec"]["manualSelector"] == true {
        return;
    }
    let job = Cursor::root(obj);
    let uid = job.child("metadata").child("uid");
    if uid.str().is_empty() {
        e.required(uid.path(), "");
    }
    let labels = job
        .child("spec")
        .child("template")
        .child("metadata")
        .child("labels");
    let expected = [(CONTROLLER_UID, meta::uid(obj)), (JOB_NAME, meta::name(obj))];
    for (key, wanted) in expected {
        let at = labels.path().key(key);
        match labels.value()[key].as_str() {
            None => e.required(&at, format!("must be '{wanted}'")),
            Some(value) if value != wanted => {
                e.invalid(&at, labels.value().clone(), format!("must be '{wanted}'"));
            }
            Some(_) => {}
        }
    }
    let c = job.child("spec").child("selector");
    let expected = json!({CONTROLLER_UID: meta::uid(obj), OLD_LABELS[0]: meta::uid(obj),
        JOB_NAME: meta::name(obj), OLD_LABELS[1]: meta::name(obj)});
    if Selector::from_label_selector(c.value()).is_ok_and(|selector| !selector.matches(&expected)) {
        check::invalid(e, &c, "`selector` not auto-generated");
    }
}

/// The pod of the last index must have a name that is a host name.
fn pod_names_fit(e: &mut FieldErrors, obj: &Value) {
    let last = obj["spec"]["completions"].as_i64().unwrap_or(0) - 1;
    if last < 0 {
        return;
    }
    let name = format!("{}-{last}", meta::name(obj));
    if let Some(message) = names::is_dns1123_label(&name).first() {
        let detail = format!("will not able to create pod with invalid DNS label: {message}");
        let at = crate::metadata::path().child("name");
        e.invalid(&at, meta::name(obj), detail);
    }
}

fn selector(e: &mut FieldErrors, spec: &Cursor) {
    let c = spec.child("selector");
    if c.is_absent() {
        e.required(c.path(), "");
    } else {
        check::label_selector(e, &c);
    }
    let labels = spec.child("template").child("metadata").child("labels");
    if Selector::from_label_selector(c.value()).is_ok_and(|selector| !selector.matches(labels.value())) {
        check::invalid(e, &labels, "`selector` does not match template `labels`");
    }
}

/// A `JobSpec` but for its selector, which templates of CronJobs do not have.
pub fn spec_rules(e: &mut FieldErrors, spec: &Cursor) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        check::non_negative(e, &spec.child(key));
    }
    completion_mode(e, spec);
    let manager = spec.child("managedBy");
    if !manager.is_absent()
        && let Err((_, detail)) = names::is_domain_prefixed_path(manager.str())
    {
        check::invalid_str(e, &manager, detail);
    }
    let failure = spec.child("podFailurePolicy");
    let replacement = spec.child("podReplacementPolicy");
    match failure.is_absent() {
        true => check::one_of_or_absent(e, &replacement, &["Failed", "TerminatingOrFailed"]),
        false => check::one_of_or_absent(e, &replacement, &["Failed"]),
    }
    failure_policy(e, &failure, spec);
    template(e, spec);
}

fn completion_mode(e: &mut FieldErrors, spec: &Cursor) {
    let mode = spec.child("completionMode");
    check::one_of_or_absent(e, &mode, &["Indexed", "NonIndexed"]);
    let indexed = mode.str() == "Indexed";
    if indexed {
        if spec.child("completions").is_absent() {
            e.required(
                spec.child("completions").path(),
                "when completion mode is Indexed",
            );
        }
        let parallelism = spec.child("parallelism");
        if parallelism
            .i64()
            .is_some_and(|value| value > INDEXED_PARALLELISM_MAX)
        {
            let detail = format!(
                "must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed"
            );
            check::invalid_int(e, &parallelism, detail);
        }
    }
    let (per_index, failed) = (spec.child("backoffLimitPerIndex"), spec.child("maxFailedIndexes"));
    if !per_index.is_absent() && !indexed {
        check::invalid_int(e, &per_index, "requires indexed completion mode");
    }
    if !failed.is_absent() && per_index.is_absent() {
        e.required(per_index.path(), "when maxFailedIndexes is specified");
    }
}

fn failure_policy(e: &mut FieldErrors, c: &Cursor, spec: &Cursor) {
    const RULES_MAX: usize = 20;
    let rules = c.child("rules");
    if rules.len() > RULES_MAX {
        e.too_many(rules.path(), rules.len(), RULES_MAX);
    }
    for rule in rules.items() {
        let action = rule.child("action");
        check::one_of(e, &action, &["Count", "FailIndex", "FailJob", "Ignore"]);
        if action.str() == "FailIndex" && spec.child("backoffLimitPerIndex").is_absent() {
            check::invalid_str(e, &action, "requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (rule.child("onExitCodes"), rule.child("onPodConditions"));
        match (codes.is_absent(), conditions.is_empty()) {
            (false, false) => check::invalid(
                e,
                &rule,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (true, true) => check::invalid(
                e,
                &rule,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            _ => {}
        }
        if !codes.is_absent() {
            check::one_of(e, &codes.child("operator"), &["In", "NotIn"]);
            let values = codes.child("values");
            if values.is_empty() {
                check::invalid(e, &values, "at least one value is required");
            }
            for value in values.items() {
                if value.i64() == Some(0) && codes.child("operator").str() == "In" {
                    check::invalid_int(e, &value, "must not be 0 for the In operator");
                }
            }
        }
        for condition in conditions.items() {
            check::label_name(e, &condition.child("type"));
            check::one_of(e, &condition.child("status"), &["False", "True", "Unknown"]);
        }
    }
}

/// `Always` is what an author who said nothing gets, so it reads as missing.
fn template(e: &mut FieldErrors, spec: &Cursor) {
    let template = spec.child("template");
    pod::validate_template(e, &template);
    let policy = template.child("spec").child("restartPolicy");
    match policy.str() {
        "Always" | "" => e.required(policy.path(), "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if !spec.child("podFailurePolicy").is_absent() => check::invalid_str(
            e,
            &policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        "OnFailure" | "Never" => {}
        other => e.not_supported(policy.path(), other, &["OnFailure", "Never"]),
    }
}

fn immutable(e: &mut FieldErrors, spec: &Cursor, old: &Value) {
    let before = Cursor::root(old).child("spec");
    let completions = spec.child("completions");
    let indexed = spec.child("completionMode").str() == "Indexed";
    if !indexed {
        check::immutable(e, &completions, &before.child("completions"));
    } else if completions.i64() != before.child("completions").i64()
        && completions.i64() != spec.child("parallelism").i64()
    {
        check::invalid(
            e,
            &completions,
            "can only be modified in tandem with spec.parallelism",
        );
    }
    for key in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        check::immutable(e, &spec.child(key), &before.child(key));
    }
    let mut template = spec.child("template").value().clone();
    let waiting = before.child("suspend").bool() == Some(true)
        && old["status"]["startTime"].is_null()
        && cells::int(&old["status"]["active"]) == 0;
    if waiting {
        // A job that never started may still be told where to run: queueing systems do so.
        for key in ["nodeSelector", "tolerations", "schedulingGates", "affinity"] {
            let value = &old["spec"]["template"]["spec"];
            set::copy(set::object(&mut template, "spec"), value, key);
        }
        for key in ["labels", "annotations"] {
            let value = &old["spec"]["template"]["metadata"];
            set::copy(set::object(&mut template, "metadata"), value, key);
        }
    }
    if !equal::unchanged(&template, &old["spec"]["template"]) {
        check::invalid(e, &spec.child("template"), check::IMMUTABLE);
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &[],
    validate: |new, old, e| {
        let status = Cursor::root(new).child("status");
        for key in ["active", "succeeded", "failed", "ready", "terminating"] {
            check::non_negative(e, &status.child(key));
        }
        let is = |obj: &Value, kind: &str| {
            cells::list(&obj["status"]["conditions"])
                .iter()
                .any(|c| c["type"] == kind && c["status"] == "True")
        };
        for kind in ["Complete", "Failed"] {
            if is(old, kind) && !is(new, kind) {
                let list = status.child("conditions");
                check::invalid(
                    e,
                    &list,
                    format!("cannot disable the terminal {kind}=True condition"),
                );
            }
        }
        if is(new, "Complete") && is(new, "Failed") {
            let list = status.child("conditions");
            check::invalid(e, &list, "cannot set Complete=True and Failed=true conditions");
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{create, update};

    fn pi(policy: &str) -> Value {
        json!({"metadata": {"name": "pi", "namespace": "d", "uid": "u"}, "spec": {"template": {"spec": {
            "restartPolicy": policy, "containers": [{"name": "pi", "image": "perl:5"}]}}}})
    }

    #[test]
    fn selector_is_generated() {
        let mut obj = pi("Never");
        Job.set_defaults(&mut obj);
        Job.prepare_create(&mut obj);
        assert_eq!(
            obj["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
        );
        assert_eq!(obj["spec"]["template"]["metadata"]["labels"]["job-name"], "pi");
        assert_eq!(
            (&obj["spec"]["completions"], &obj["spec"]["backoffLimit"]),
            (&json!(1), &json!(6))
        );
        assert_eq!(create(&Job, pi("Never")), Vec::<String>::new());
    }

    #[test]
    fn restart_policy_must_be_chosen() {
        assert_eq!(
            create(&Job, pi("Always")),
            ["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]
        );
    }

    #[test]
    fn completions_are_fixed() {
        let mut old = pi("Never");
        Job.set_defaults(&mut old);
        Job.prepare_create(&mut old);
        let mut new = old.clone();
        new["spec"]["completions"] = 2.into();
        assert_eq!(
            update(&Job, new, old),
            ["spec.completions: Invalid value: 2: field is immutable"]
        );
    }
}
