//! Which scheduled time counts now. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus};

use super::schedule::Schedule;

/// More missed starts than this are told of.
const MISSED_MAX: i64 = 100;
/// Steps that the search of an irregular schedule takes at most.
const STEPS_MAX: usize = 1000;

/// Whether a job is to be started.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    /// The next time is yet to come, or its job was made.
    Nothing,
    /// For this time.
    At(Timestamp),
    /// It would have been for this time, but the deadline for starting has passed.
    TooLate(Timestamp),
}

/// What was found.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub due: Due,
    /// How many starts were missed, where that is worth a warning.
    pub too_many: Option<i64>,
}

/// The latest scheduled time that is not over, and what became of it.
pub(super) fn find(
    cron: &CronJob,
    spec: &CronJobSpec,
    status: &CronJobStatus,
    schedule: &Schedule,
    now: Timestamp,
) -> Found {
    let last = status.last_schedule_time.as_ref().map(|time| time.0);
    let created = cron.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let mut since = last.or(created).unwrap_or(now);
    if let Some(earliest) = deadline.and_then(|deadline| now.checked_sub(deadline).ok()) {
        since = since.max(earliest);
    }
    let (latest, missed) = latest(schedule, since, now);
    let too_late = |at: Timestamp| deadline.is_some_and(|deadline| now.duration_since(at) > deadline);
    let due = match latest {
        None => Due::Nothing,
        Some(at) if Some(at) == last => Due::Nothing,
        Some(at) if too_late(at) => Due::TooLate(at),
        Some(at) => Due::At(at),
    };
    Found {
        due,
        too_many: (missed > MISSED_MAX).then_some(missed),
    }
}

/// The last scheduled time in (since, now], and about how many there were.
fn latest(schedule: &Schedule, since: Timestamp, now: Timestamp) -> (Option<Timestamp>, i64) {
    let Some(first) = schedule.next(since).filter(|first| *first <= now) else {
        return (None, 0);
    };
    let Some(second) = schedule.next(first).filter(|second| *second <= now) else {
        return (Some(first), 1);
    };
    // A long outage of a schedule by the minute is not walked step by step: two steps before the estimate is early
    // enough for regular ones, and the walk from there is exact.
    let pause_s = second.duration_since(first).as_secs().max(1);
    let missed = now.duration_since(first).as_secs() / pause_s + 1;
    let leap = SignedDuration::from_secs((missed - 2).max(0) * pause_s);
    let mut from = first.checked_add(leap).unwrap_or(first);
    if schedule.next(from).is_none_or(|next| next > now) {
        from = first;
    }
    let mut latest = if from == first { Some(first) } else { None };
    for _ in 0..STEPS_MAX {
        match schedule.next(from).filter(|next| *next <= now) {
            Some(next) => {
                latest = Some(next);
                from = next;
            }
            None => break,
        }
    }
    (latest, missed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::cronjob::schedule::parse;

    #[test]
    fn the_latest_time_counts() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let table = [
            (
                "* * * * *",
                "2026-01-01T00:00:30Z",
                "2026-01-01T00:00:59Z",
                None,
                0,
            ),
            (
                "* * * * *",
                "2026-01-01T00:00:30Z",
                "2026-01-01T00:01:00Z",
                Some("2026-01-01T00:01:00Z"),
                1,
            ),
            (
                "* * * * *",
                "2026-01-01T00:00:00Z",
                "2026-01-02T00:00:30Z",
                Some("2026-01-02T00:00:00Z"),
                1440,
            ),
            (
                "30 6-16/4 * * 1-5",
                "2026-01-02T05:00:00Z",
                "2026-01-04T12:00:00Z",
                Some("2026-01-02T14:30:00Z"),
                14,
            ),
            (
                "@every 7s",
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:00:20Z",
                Some("2026-01-01T00:00:14Z"),
                2,
            ),
        ];
        for (text, since, now, expected, missed) in table {
            let schedule = parse(text, Some("UTC")).unwrap();
            let found = latest(&schedule, at(since), at(now));
            assert_eq!(found, (expected.map(at), missed), "{text} from {since} to {now}");
        }
    }
}
