//! TTL after finished: deletes a Job, with its pods, once it has been over for `ttlSecondsAfterFinished`.
//!
//! The deletion carries the uid and the version the decision was made on: a Job whose TTL was raised meanwhile is
//! refused and looked at again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use keelson_client::{Informer, Key};
use keelson_controller::{Action, Controller, Failure, Plan, Queue};
use serde_json::json;

use crate::context::Context;
use crate::controllers::job::finished;
use crate::triggers;

const NAME: &str = "ttl-after-finished-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let jobs = context.informer::<Job>();
    let queue = Queue::default();
    triggers::on_self(&jobs, &queue);
    let workers = context.config.concurrent.ttl_after_finished_syncs;
    context.run(Arc::new(Finished { jobs }), queue, NAME, workers);
}

struct Finished {
    jobs: Informer<Job>,
}

impl Controller for Finished {
    fn name(&self) -> &'static str {
        NAME
    }

    fn plan(&self, key: &Key, now: Timestamp, _: Option<&Failure>) -> Plan {
        self.jobs
            .get_key(key)
            .map_or_else(Plan::nothing, |job| reconcile(&job, now))
    }
}

fn reconcile(job: &Job, now: Timestamp) -> Plan {
    let ttl_s = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
    let over = finished(job).and_then(|condition| condition.last_transition_time.as_ref());
    let (Some(ttl_s), Some(over), None) = (ttl_s, over, &job.metadata.deletion_timestamp) else {
        return Plan::nothing();
    };
    let left = over.0 + Duration::from_secs(ttl_s.max(0).unsigned_abs().into()) - now;
    match Duration::try_from(left) {
        Ok(left) if !left.is_zero() => {
            let mut plan = Plan::waiting("the time to live is not over");
            plan.again_after(left);
            plan
        }
        _ => Plan::of(vec![
            Action::delete(job)
                .at_version(job.metadata.resource_version.as_deref())
                .option("propagationPolicy", json!("Foreground")),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn job(ttl_s: Option<i32>, finished_at: Option<i64>) -> Job {
        let condition = |at| JobCondition {
            type_: "Complete".into(),
            status: "True".into(),
            last_transition_time: Some(Time(Timestamp::from_second(at).unwrap())),
            ..JobCondition::default()
        };
        Job {
            spec: Some(JobSpec {
                ttl_seconds_after_finished: ttl_s,
                ..JobSpec::default()
            }),
            status: Some(JobStatus {
                conditions: finished_at.map(|at| vec![condition(at)]),
                ..JobStatus::default()
            }),
            ..Job::default()
        }
    }

    #[test]
    fn only_what_is_over_for_long_enough_goes() {
        let now = Timestamp::from_second(100).unwrap();
        let table = [
            (job(None, Some(1)), 0, None),
            (job(Some(5), None), 0, None),
            (job(Some(5), Some(98)), 0, Some(3)),
            (job(Some(5), Some(95)), 1, None),
            (job(Some(0), Some(100)), 1, None),
        ];
        for (job, deletions, again_s) in table {
            let plan = reconcile(&job, now);
            assert_eq!(plan.actions.len(), deletions, "{job:?}");
            assert_eq!(plan.retry_after.map(|pause| pause.as_secs()), again_s, "{job:?}");
        }
        let mut leaving = job(Some(0), Some(1));
        leaving.metadata.deletion_timestamp = Some(Time(now));
        assert!(reconcile(&leaving, now).actions.is_empty());
    }
}
