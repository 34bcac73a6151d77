//! Exponential back-off as upstream's `flowcontrol.Backoff`: 10 s, doubled to 5 min, forgotten after twice the maximum.

use jiff::{SignedDuration, Timestamp};

/// One key's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub delay_s: i64,
    pub updated: Timestamp,
}

/// First delay and cap, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub initial_s: i64,
    pub max_s: i64,
}

/// Bounds of container restarts and image pulls.
pub const DEFAULT: Bounds = Bounds {
    initial_s: 10,
    max_s: 300,
};

/// How long to wait yet, when the key is held back since `event_time` (the failure).
pub fn remaining(
    entry: Option<&Backoff>,
    event_time: Timestamp,
    now: Timestamp,
    bounds: Bounds,
) -> Option<SignedDuration> {
    let entry = entry.filter(|e| !expired(e, event_time, bounds))?;
    let left = SignedDuration::from_secs(entry.delay_s) - now.duration_since(event_time);
    (left > SignedDuration::ZERO).then_some(left)
}

/// The state after one more attempt.
pub fn next(entry: Option<&Backoff>, event_time: Timestamp, now: Timestamp, bounds: Bounds) -> Backoff {
    let delay_s = match entry {
        Some(e) if !expired(e, event_time, bounds) => (e.delay_s * 2).min(bounds.max_s),
        _ => bounds.initial_s,
    };
    Backoff {
        delay_s,
        updated: now,
    }
}

fn expired(entry: &Backoff, event_time: Timestamp, bounds: Bounds) -> bool {
    event_time.duration_since(entry.updated) > SignedDuration::from_secs(bounds.max_s * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_cap_and_forgets() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let mut entry = None;
        let mut now = 0;
        let mut delays = vec![];
        for _ in 0..7 {
            assert_eq!(remaining(entry.as_ref(), at(now), at(now + 1000), DEFAULT), None);
            entry = Some(next(entry.as_ref(), at(now), at(now), DEFAULT));
            let delay = entry.unwrap().delay_s;
            assert_eq!(
                remaining(entry.as_ref(), at(now + 1), at(now + 2), DEFAULT)
                    .unwrap()
                    .as_secs(),
                delay - 1
            );
            delays.push(delay);
            now += delay;
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(
            next(entry.as_ref(), at(now + 601), at(now + 601), DEFAULT).delay_s,
            10
        );
    }
}
