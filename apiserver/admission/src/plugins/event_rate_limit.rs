//! EventRateLimit (off by default): how many events the server, a namespace, a user or a source and object may write.

use std::collections::HashMap;

use jiff::Timestamp;
use keelson_machinery::{ObjectReader, Status};
use parking_lot::Mutex;
use serde_json::Value;

use crate::value::str_of;
use crate::{Admission, AdmissionAttributes, Operation};

/// How many buckets one limit may keep; when full, all start anew.
const BUCKETS_MAX: usize = 4096;

/// What the bucket of an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitType {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

/// One limit of the plugin's configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub kind: LimitType,
    /// Events per second in the long run.
    pub qps: f64,
    /// Events at once.
    pub burst: f64,
}

/// Tokens left, and when they were counted.
type Buckets = HashMap<String, (f64, Timestamp)>;

/// Token buckets per limit; the time is the request's.
pub struct EventRateLimit {
    limits: Vec<(Limit, Mutex<Buckets>)>,
}

impl EventRateLimit {
    pub fn new(limits: Vec<Limit>) -> Self {
        let limits = limits.into_iter().map(|limit| (limit, Mutex::default()));
        Self {
            limits: limits.collect(),
        }
    }
}

fn key(limit: &Limit, a: &AdmissionAttributes<'_>, event: &Value) -> String {
    match limit.kind {
        LimitType::Server => String::new(),
        LimitType::Namespace => a.namespace.to_owned(),
        LimitType::User => a.user.name.clone(),
        LimitType::SourceAndObject => {
            let object = match event["involvedObject"].is_object() {
                true => &event["involvedObject"],
                false => &event["regarding"],
            };
            let source = &event["source"];
            let parts = [
                &source["component"],
                &source["host"],
                &event["reportingComponent"],
                &object["kind"],
            ];
            let more = [
                &object["namespace"],
                &object["name"],
                &object["uid"],
                &object["apiVersion"],
            ];
            let parts: Vec<&str> = parts.into_iter().chain(more).map(str_of).collect();
            parts.join("\n")
        }
    }
}

fn take(limit: &Limit, buckets: &mut Buckets, key: String, now: Timestamp) -> bool {
    if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&key) {
        buckets.clear();
    }
    let (tokens, since) = buckets.entry(key).or_insert((limit.burst, now));
    let elapsed_s = now.duration_since(*since).as_secs_f64().max(0.0);
    *tokens = (*tokens + elapsed_s * limit.qps).min(limit.burst);
    *since = now;
    let granted = *tokens >= 1.0;
    if granted {
        *tokens -= 1.0;
    }
    granted
}

impl Admission for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn handles(&self, a: &AdmissionAttributes<'_>) -> bool {
        let write = matches!(a.operation, Operation::Create | Operation::Update);
        write && !a.dry_run && (a.is("", "events") || a.is("events.k8s.io", "events"))
    }

    fn validate(
        &self,
        a: &AdmissionAttributes<'_>,
        event: &Value,
        _: &dyn ObjectReader,
    ) -> Result<(), Status> {
        for (limit, buckets) in &self.limits {
            if !take(limit, &mut buckets.lock(), key(limit, a, event), a.now) {
                return Err(Status::too_many_requests(
                    format!("limit reached on type {:?}", limit.kind),
                    1,
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_fill_with_time() {
        let limit = Limit {
            kind: LimitType::Server,
            qps: 1.0,
            burst: 2.0,
        };
        let mut buckets = Buckets::new();
        let at = |second| Timestamp::from_second(second).unwrap();
        let answers =
            [0, 0, 0, 1, 1, 9, 9, 9].map(|second| take(&limit, &mut buckets, String::new(), at(second)));
        assert_eq!(answers, [true, true, false, true, false, true, true, false]);
    }
}
