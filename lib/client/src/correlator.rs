//! Which events are written, counted or dropped: upstream's EventCorrelator. Pure; time is given.
//!
//! Three stages, with client-go's figures: (1) more than ten events alike but for their message, within ten
//! minutes, become one "(combined from similar events)"; (2) an event equal to an earlier one raises that one's
//! count; (3) each source may tell of each object 25 times at once and then once in five minutes.
//!
//! Example: `Scheduled` for pod a is created; `BackOff` with the same message again becomes a patch of count 2.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::limits::EVENT_KEYS_MAX;

const AGGREGATE_AFTER: usize = 10;
const AGGREGATE_WITHIN_S: i64 = 600;
const SPAM_BURST: f64 = 25.0;
const SPAM_REFILL_PER_S: f64 = 1.0 / 300.0;

/// What to do with an event.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Its source tells too much of this object.
    Drop,
    /// Write it.
    Create(Box<Event>),
    /// An equal one was written: patch that one.
    Patch {
        /// Name of the event written before.
        name: String,
        /// Strategic merge patch of count, lastTimestamp and message.
        patch: Value,
        /// What to create, with the raised count, when the earlier one is gone.
        instead: Box<Event>,
    },
}

/// Memory of events lately seen; bounded, the longest unused forgotten first.
#[derive(Default)]
pub struct Correlator {
    alike: Recent<String, Alike>,
    equal: Recent<String, Counted>,
    told: Recent<String, Bucket>,
}

#[derive(Default)]
struct Alike {
    messages: HashSet<String>,
    last: Timestamp,
}

#[derive(Clone, Default)]
struct Counted {
    count: i32,
    first: Option<Time>,
    name: String,
}

struct Bucket {
    tokens: f64,
    last: Timestamp,
}

impl Correlator {
    /// Decides on an event, and remembers it.
    pub fn decide(&mut self, mut event: Event, now: Timestamp) -> Verdict {
        let alike_key = key_without_message(&event);
        if self.aggregate(&alike_key, &event, now) {
            event.message = Some(format!(
                "(combined from similar events): {}",
                event.message.unwrap_or_default()
            ));
        } else {
            let message = event.message.as_deref().unwrap_or_default();
            return self.count(format!("{alike_key}\u{0}{message}"), event, now);
        }
        self.count(alike_key, event, now)
    }

    /// Records the name the server knows an event by, after a create.
    pub fn written(&mut self, event: &Event, name: &str) {
        let alike = key_without_message(event);
        let message = event.message.as_deref().unwrap_or_default();
        for key in [format!("{alike}\u{0}{message}"), alike] {
            if let Some(counted) = self.equal.get(&key)
                && counted.name == event.metadata.name.as_deref().unwrap_or_default()
            {
                counted.name = name.to_owned();
                return;
            }
        }
    }

    fn aggregate(&mut self, key: &str, event: &Event, now: Timestamp) -> bool {
        let alike = self.alike.entry(key.to_owned());
        if now.as_second() - alike.last.as_second() > AGGREGATE_WITHIN_S {
            alike.messages.clear();
        }
        alike.last = now;
        alike.messages.insert(event.message.clone().unwrap_or_default());
        if alike.messages.len() < AGGREGATE_AFTER {
            return false;
        }
        // Keep the set at its bound: one of them makes room, as upstream pops any.
        if let Some(any) = alike.messages.iter().next().cloned() {
            alike.messages.remove(&any);
        }
        true
    }

    fn count(&mut self, key: String, mut event: Event, now: Timestamp) -> Verdict {
        let counted = self.equal.entry(key);
        counted.count += 1;
        event.count = Some(counted.count);
        let earlier = (counted.count > 1).then(|| counted.name.clone());
        if earlier.is_some() {
            event.first_timestamp = counted.first.clone();
        } else {
            counted.first = event.first_timestamp.clone();
            counted.name = event.metadata.name.clone().unwrap_or_default();
        }
        if !self.may_tell(&event, now) {
            return Verdict::Drop;
        }
        match earlier {
            None => Verdict::Create(Box::new(event)),
            Some(name) => Verdict::Patch {
                patch: json!({
                    "count": event.count,
                    "lastTimestamp": event.last_timestamp,
                    "message": event.message,
                }),
                name,
                instead: Box::new(event),
            },
        }
    }

    fn may_tell(&mut self, event: &Event, now: Timestamp) -> bool {
        let bucket = self.told.entry(spam_key(event));
        let passed = (now.as_millisecond() - bucket.last.as_millisecond()).max(0) as f64 / 1000.0;
        bucket.tokens = (bucket.tokens + passed * SPAM_REFILL_PER_S).min(SPAM_BURST);
        bucket.last = now;
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        may
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            tokens: SPAM_BURST,
            last: Timestamp::UNIX_EPOCH,
        }
    }
}

fn spam_key(event: &Event) -> String {
    let (source, object) = (event.source.as_ref(), &event.involved_object);
    [
        source.and_then(|s| s.component.as_deref()),
        source.and_then(|s| s.host.as_deref()),
        object.kind.as_deref(),
        object.namespace.as_deref(),
        object.name.as_deref(),
        object.uid.as_deref(),
        object.api_version.as_deref(),
    ]
    .map(Option::unwrap_or_default)
    .join("\u{0}")
}

fn key_without_message(event: &Event) -> String {
    [
        spam_key(event).as_str(),
        event.involved_object.field_path.as_deref().unwrap_or_default(),
        event.type_.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        event.reporting_component.as_deref().unwrap_or_default(),
        event.reporting_instance.as_deref().unwrap_or_default(),
    ]
    .join("\u{0}")
}

/// A map that forgets the least recently used beyond its bound.
struct Recent<K, V> {
    values: HashMap<K, (u64, V)>,
    used: BTreeMap<u64, K>,
    clock: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            used: BTreeMap::new(),
            clock: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Recent<K, V> {
    fn entry(&mut self, key: K) -> &mut V {
        self.clock += 1;
        let clock = self.clock;
        let slot = self.values.entry(key.clone()).or_default();
        self.used.remove(&slot.0);
        slot.0 = clock;
        self.used.insert(clock, key.clone());
        if self.values.len() > EVENT_KEYS_MAX
            && let Some((_, oldest)) = self.used.pop_first()
        {
            self.values.remove(&oldest);
        }
        &mut self.values.entry(key).or_default().1
    }

    fn get(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str, number: usize) -> Event {
        let mut event = Event {
            message: Some(message.into()),
            reason: Some("BackOff".into()),
            ..Event::default()
        };
        event.metadata.name = Some(format!("e{number}"));
        event.involved_object.name = Some("pod".into());
        event
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn equal_events_are_counted() {
        let mut correlator = Correlator::default();
        assert!(matches!(
            correlator.decide(event("m", 1), at(1)),
            Verdict::Create(_)
        ));
        let Verdict::Patch { name, patch, .. } = correlator.decide(event("m", 2), at(2)) else {
            panic!("the second is a patch");
        };
        assert_eq!((name.as_str(), &patch["count"]), ("e1", &json!(2)));
    }

    #[test]
    fn many_alike_are_combined() {
        let mut correlator = Correlator::default();
        let verdicts: Vec<Verdict> = (0..12)
            .map(|n| correlator.decide(event(&format!("m{n}"), n), at(1)))
            .collect();
        let Verdict::Create(tenth) = &verdicts[9] else {
            panic!("the tenth is created as a combined event");
        };
        assert_eq!(
            tenth.message.as_deref(),
            Some("(combined from similar events): m9")
        );
        assert!(matches!(&verdicts[10], Verdict::Patch { name, .. } if name == "e9"));
    }

    #[test]
    fn a_source_may_not_flood() {
        let mut correlator = Correlator::default();
        let dropped = (0..30)
            .filter(|n| correlator.decide(event("m", *n), at(1)) == Verdict::Drop)
            .count();
        assert_eq!(dropped, 5);
        assert!(correlator.decide(event("m", 31), at(400)) != Verdict::Drop);
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::<usize, usize>::default();
        (0..EVENT_KEYS_MAX + 10).for_each(|n| *recent.entry(n) = n);
        assert_eq!(recent.values.len(), EVENT_KEYS_MAX);
        assert!(recent.get(&0).is_none() && recent.get(&20).is_some());
    }
}
