//! CronJob: Jobs on a schedule.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::{job, schedule};
use crate::kind::{Column, Kind, Subresource, resource};
use crate::{cells, check, pod, set, strategy};

/// Jobs get a suffix of 11 characters, and their names are labels of pods.
const NAME_MAX: usize = 52;

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::text(
        "Schedule",
        "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron.",
    ),
    cells::text("Timezone", "The time zone name for the given schedule."),
    Column::new(
        "Suspend",
        "boolean",
        "This flag tells the controller to suspend subsequent executions.",
        0,
    ),
    cells::integer("Active", "A list of pointers to currently running jobs."),
    cells::text(
        "Last Schedule",
        "Information when was the last time the job was successfully scheduled.",
    ),
    cells::AGE,
    cells::CONTAINERS,
    cells::IMAGES,
    cells::wide(
        "Selector",
        "A label query over pods that should match the pod count.",
    ),
];

pub struct CronJob;

impl Kind for CronJob {
    resource!("batch", "v1", "cronjobs");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        set::zero(spec, "concurrencyPolicy", "Allow");
        set::absent(spec, "suspend", false);
        set::absent(spec, "successfulJobsHistoryLimit", 3);
        set::absent(spec, "failedJobsHistoryLimit", 1);
        let template = set::object(spec, "jobTemplate");
        set::object(template, "metadata");
        pod::set_template_defaults(set::object(set::object(template, "spec"), "template"));
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::start(obj);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let name = Cursor::root(new).child("metadata").child("name");
        if old.is_none() && name.str().len() > NAME_MAX {
            check::invalid_str(
                &mut e,
                &name,
                format!("must be no more than {NAME_MAX} characters"),
            );
        }
        let spec = Cursor::root(new).child("spec");
        timing(&mut e, &spec, old);
        check::non_negative(&mut e, &spec.child("startingDeadlineSeconds"));
        check::one_of(
            &mut e,
            &spec.child("concurrencyPolicy"),
            &["Allow", "Forbid", "Replace"],
        );
        template(&mut e, &spec.child("jobTemplate").child("spec"));
        for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            check::non_negative(&mut e, &spec.child(key));
        }
        e
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() {
            let used = "this is used in Pod names and hostnames";
            warnings.extend(pod::warnings::name(new, used));
        }
        let spec = Cursor::root(new).child("spec");
        let template = spec.child("jobTemplate").child("spec").child("template");
        warnings.extend(pod::warnings::template(&template));
        warnings
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&strategy::STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&obj["spec"], &obj["status"]);
        let job = &spec["jobTemplate"]["spec"];
        let [names, images] = cells::containers_and_images(&job["template"]["spec"]);
        let last = match status["lastScheduleTime"].is_null() {
            true => "<none>".to_owned(),
            false => cells::since(&status["lastScheduleTime"], now),
        };
        let suspend = match spec["suspend"].as_bool() {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        vec![
            cells::name(obj),
            spec["schedule"].as_str().unwrap_or("").into(),
            cells::or_none(spec["timeZone"].as_str().unwrap_or("")).into(),
            suspend.into(),
            cells::list(&status["active"]).len().into(),
            last.into(),
            cells::age(obj, now),
            names,
            images,
            cells::selector(&job["selector"]).into(),
        ]
    }
}

fn timing(e: &mut FieldErrors, spec: &Cursor, old: Option<&Value>) {
    let schedule = spec.child("schedule");
    let zone = spec.child("timeZone");
    if check::required(e, &schedule) {
        let in_schedule = schedule.str().contains("TZ");
        let kept = old.is_some_and(|old| &old["spec"]["schedule"] == schedule.value());
        if in_schedule && !kept {
            check::invalid_str(
                e,
                &schedule,
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            );
        } else if !in_schedule && let Err(error) = schedule::check(schedule.str()) {
            check::invalid_str(e, &schedule, error);
        }
    }
    if !zone.is_absent() {
        match zone.str() {
            "" => check::invalid_str(e, &zone, "timeZone must be nil or non-empty string"),
            name if name.eq_ignore_ascii_case("local") => {
                check::invalid_str(
                    e,
                    &zone,
                    "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                );
            }
            name if jiff::tz::TimeZone::get(name).is_err() => {
                check::invalid_str(e, &zone, format!("unknown time zone {name}"));
            }
            _ => {}
        }
    }
}

fn template(e: &mut FieldErrors, spec: &Cursor) {
    job::spec_rules(e, spec);
    let (selector, manual) = (spec.child("selector"), spec.child("manualSelector"));
    if !selector.is_absent() {
        check::invalid(e, &selector, "`selector` will be auto-generated");
    }
    if manual.bool() == Some(true) {
        e.not_supported(manual.path(), true, &["nil", "false"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;
    use serde_json::json;

    #[test]
    fn schedules_and_names() {
        let cron = |name: &str, schedule: &str| {
            json!({"metadata": {"name": name, "namespace": "d"}, "spec": {"schedule": schedule, "jobTemplate":
                {"spec": {"template": {"spec": {"restartPolicy": "Never",
                    "containers": [{"name": "a", "image": "b"}]}}}}}})
        };
        assert_eq!(create(&CronJob, cron("a", "*/1 * * * *")), Vec::<String>::new());
        assert_eq!(
            create(&CronJob, cron("a", "often")),
            ["spec.schedule: Invalid value: \"often\": expected exactly 5 fields, found 1: [often]"]
        );
        let long = "a".repeat(53);
        assert_eq!(
            create(&CronJob, cron(&long, "@daily")),
            [format!(
                "metadata.name: Invalid value: {long:?}: must be no more than 52 characters"
            )]
        );
    }
}
