//! What a watch does about its failures: how long it pauses, and who tells of them.
//!
//! An API server that restarts fails every watch of the process many times; the log gets one line when it goes and
//! one when it is back. A watch that is refused (403, 404) is first taken for one that came before the server's
//! roles; when that lasts it is told by itself, since it may be refused for ever.
//!
//! Success cannot always be seen (a resumed watch says nothing until an object changes), so a failure after a quiet
//! time begins anew.

use std::time::Duration;

use kube::runtime::watcher;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::limits;

/// Outages as this process sees them: components talk to one API server.
static UNREACHABLE: Mutex<Outage> = Mutex::new(Outage::none());
/// Refusals while the server's roles are not there yet, apart from outages: one kind may be refused for ever.
static REFUSED: Mutex<Outage> = Mutex::new(Outage::none());

/// A time of failures, told of once. Pure.
struct Outage {
    last_failure: Option<Instant>,
    began: Option<Instant>,
}

impl Outage {
    const fn none() -> Self {
        Self {
            last_failure: None,
            began: None,
        }
    }

    /// Whether this failure begins an outage.
    fn failed(&mut self, now: Instant) -> bool {
        let begins = quiet(self.last_failure, now);
        self.last_failure = Some(now);
        if begins {
            self.began = Some(now);
        }
        begins
    }

    /// How long the outage lasted, for the first who sees its end.
    fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        self.began.take().map(|began| now - began)
    }
}

fn quiet(last_failure: Option<Instant>, now: Instant) -> bool {
    last_failure.is_none_or(|last| now - last >= limits::WATCH_QUIET)
}

/// The pauses of one watch. Pure.
#[derive(Default)]
struct Backoff {
    pause: Duration,
    last_failure: Option<Instant>,
    refused_since: Option<Instant>,
    /// The lasting refusal was told of.
    told: bool,
}

impl Backoff {
    /// The pause before the next try.
    fn failed(&mut self, refused: bool, now: Instant) -> Duration {
        if quiet(self.last_failure, now) {
            *self = Self::default();
        }
        self.last_failure = Some(now);
        self.refused_since = refused.then(|| self.refused_since.unwrap_or(now));
        if self.is_refused_lastingly(now) {
            return limits::WATCH_BACKOFF_REFUSED;
        }
        let longest = if refused {
            limits::WATCH_BACKOFF_REFUSED_SOON
        } else {
            limits::WATCH_BACKOFF_MAX
        };
        self.pause = (self.pause * 2).clamp(limits::WATCH_BACKOFF_MIN, longest);
        self.pause
    }

    fn is_refused_lastingly(&self, now: Instant) -> bool {
        self.refused_since
            .is_some_and(|since| now - since >= limits::WATCH_REFUSED_PATIENCE)
    }

    /// Whether to tell that this very watch is refused; true once per time of failures.
    fn tell_refused(&mut self, now: Instant) -> bool {
        self.is_refused_lastingly(now) && !std::mem::replace(&mut self.told, true)
    }
}

/// The failures of one watch.
pub struct WatchFailures {
    kind: String,
    backoff: Backoff,
}

impl WatchFailures {
    /// None yet; `kind` is for the log.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            backoff: Backoff::default(),
        }
    }

    /// The server answered. Not for `watcher::Event::Init`, which comes before anything was asked.
    pub fn succeeded(&mut self) {
        if self.backoff.last_failure.is_none() {
            return;
        }
        self.backoff = Backoff::default();
        // The end of refusals is no news: nobody was waiting for a server.
        REFUSED.lock().succeeded(Instant::now());
        if let Some(lasted) = UNREACHABLE.lock().succeeded(Instant::now()) {
            tracing::info!(seconds = lasted.as_secs_f32(), "the API server answers again");
        }
    }

    /// Tells of the failure where it is news, and returns when the watch is to be polled again.
    pub async fn failed(&mut self, error: &watcher::Error) {
        let kind = &self.kind;
        if expired(error) {
            tracing::debug!(%kind, "watch is too old; listing again");
            return;
        }
        let (now, refused) = (Instant::now(), is_refused(error));
        let pause = self.backoff.failed(refused, now);
        let outage = if refused { &REFUSED } else { &UNREACHABLE };
        let begins = outage.lock().failed(now);
        let cause = keelson_base::error::chain(error);
        if self.backoff.tell_refused(now) {
            tracing::warn!(%kind, error = cause, "the API server refuses the watch; still trying");
        } else if begins {
            tracing::warn!(%kind, error = cause, "watches fail; trying again until the API server answers");
        } else {
            tracing::debug!(%kind, error = cause, "watch failed");
        }
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Between `pause` and 1.5 times it, so that a returning server is not hit by all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + rand::random::<f64>() / 2.0)
}

fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn is_refused(error: &watcher::Error) -> bool {
    matches!(status(error), Some(403..=405))
}

fn expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(_)) && status(error) == Some(410)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_outage_is_told_once_however_many_notice() {
        let start = Instant::now();
        let mut outage = Outage::none();
        assert!(outage.succeeded(start).is_none());
        let told: Vec<bool> = [0, 0, 1, 4, 14].map(|s| outage.failed(after(start, s))).to_vec();
        assert_eq!(told, [true, false, false, false, false]);
        assert_eq!(outage.succeeded(after(start, 16)), Some(Duration::from_secs(16)));
        assert!(outage.succeeded(after(start, 16)).is_none());
        assert!(!outage.failed(after(start, 17)), "a straggler of the same outage");
        assert!(outage.failed(after(start, 60)));
    }

    #[test]
    fn pauses_double_and_begin_anew_after_a_quiet_time() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        let pauses = [0; 7].map(|s| backoff.failed(false, after(start, s)).as_millis());
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000]);
        assert_eq!(backoff.failed(false, after(start, 60)), limits::WATCH_BACKOFF_MIN);
    }

    #[test]
    fn a_refusal_is_retried_fast_at_first_and_told_once_when_it_lasts() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(true, start), limits::WATCH_BACKOFF_MIN);
        assert!(!backoff.tell_refused(start));
        for seconds in [10, 20] {
            assert!(backoff.failed(true, after(start, seconds)) <= limits::WATCH_BACKOFF_REFUSED_SOON);
        }
        assert_eq!(
            backoff.failed(true, after(start, 30)),
            limits::WATCH_BACKOFF_REFUSED
        );
        assert!(backoff.tell_refused(after(start, 30)));
        backoff.failed(true, after(start, 40));
        assert!(!backoff.tell_refused(after(start, 40)));
        // An outage in between is no refusal.
        assert!(backoff.failed(false, after(start, 41)) <= limits::WATCH_BACKOFF_MAX);
    }
}
