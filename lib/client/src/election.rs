//! Leader election on a Lease: any number of replicas run, one acts.
//!
//! The rules are client-go's: a candidate takes a lease that is free, released or has not been renewed for its
//! duration *as observed here* (clocks are not compared across machines). The leader renews each retry period and
//! gives up when it could not for the renew deadline, which is shorter than the duration: before another can take
//! over. On shutdown the lease is released, so that the next one leads within a retry period.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use keelson_base::Shutdown;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::events::{EventType, Recorder};
use crate::limits;

/// Which lease, who, how fast.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the lease ("kube-system").
    pub namespace: String,
    /// Name of the lease ("kube-scheduler").
    pub name: String,
    /// This candidate, unique among all: host name and a random part.
    pub identity: String,
    /// How long a lease holds without renewal.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it gives up.
    pub renew_deadline: Duration,
    /// Pause between tries.
    pub retry_period: Duration,
}

impl Config {
    /// Upstream's durations (15 s, 10 s, 2 s) and an identity made from the host name.
    pub fn new(namespace: &str, name: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: format!("{}_{}", host.trim(), uuid::Uuid::new_v4()),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Why an election ended before shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// The lease could not be renewed in time; this process must stop acting (and usually end).
    #[error("leaderelection lost: lease {namespace}/{name} was not renewed within the deadline")]
    Lost {
        /// Of the lease.
        namespace: String,
        /// Of the lease.
        name: String,
    },
}

/// What is known of the lease, and since when by our own clock.
#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    changed: Instant,
}

/// The next write, if any.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Box<Lease>),
    Update(Box<Lease>),
    Wait,
}

/// What a candidate does about the lease it sees. Pure.
fn next_step(config: &Config, seen: Option<&Seen>, now: Instant, wall: Timestamp) -> Step {
    let wanted = |acquired: Option<MicroTime>, transitions: i32| LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(config.lease_duration.as_secs() as i32),
        acquire_time: Some(acquired.unwrap_or(MicroTime(wall))),
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    let Some(seen) = seen else {
        return Step::Create(Box::new(Lease {
            metadata: ObjectMeta {
                namespace: Some(config.namespace.clone()),
                name: Some(config.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(wanted(None, 0)),
        }));
    };
    let spec = seen.lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let transitions = spec.lease_transitions.unwrap_or(0);
    let held_for = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0) as u64);
    let mut lease = seen.lease.clone();
    lease.spec = Some(if holder == config.identity {
        wanted(spec.acquire_time, transitions)
    } else if holder.is_empty() || now >= seen.changed + held_for {
        wanted(None, transitions + 1)
    } else {
        return Step::Wait;
    });
    Step::Update(Box::new(lease))
}

/// The lease as written on shutdown: free at once.
fn released(lease: &Lease, wall: Timestamp) -> Lease {
    let mut lease = lease.clone();
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(wall));
    spec.acquire_time = Some(MicroTime(wall));
    lease
}

/// How long to wait after another failure, when the last one was followed by `pause`. Pure.
fn next_failure_pause(pause: Duration, longest: Duration) -> Duration {
    (pause * 2).max(limits::ACQUIRE_BACKOFF_MIN).min(longest)
}

struct Candidate {
    config: Config,
    api: Api<Lease>,
    seen: Option<Seen>,
}

impl Candidate {
    /// One try to acquire or renew; whether this candidate holds the lease now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        if !self.holds() {
            self.observe().await?;
        }
        let step = next_step(&self.config, self.seen.as_ref(), Instant::now(), Timestamp::now());
        let params = PostParams::default();
        let written = match step {
            Step::Wait => return Ok(false),
            Step::Create(lease) => self.api.create(&params, &lease).await,
            Step::Update(lease) => self.api.replace(&self.config.name, &params, &lease).await,
        };
        match written {
            Ok(lease) => {
                self.note(Some(lease));
                Ok(true)
            }
            Err(error) => {
                // Whatever is in the way is seen by the next try.
                self.observe().await?;
                match error {
                    kube::Error::Api(status) if status.code == 409 => Ok(false),
                    error => Err(error),
                }
            }
        }
    }

    fn holds(&self) -> bool {
        self.holder() == Some(self.config.identity.as_str())
    }

    fn holder(&self) -> Option<&str> {
        let spec = self.seen.as_ref()?.lease.spec.as_ref()?;
        spec.holder_identity.as_deref()
    }

    async fn observe(&mut self) -> Result<(), kube::Error> {
        let lease = self.api.get_opt(&self.config.name).await?;
        self.note(lease);
        Ok(())
    }

    fn note(&mut self, lease: Option<Lease>) {
        let before = self.seen.as_ref().map(|seen| &seen.lease.spec);
        let changed = match &lease {
            Some(lease) if before == Some(&lease.spec) => self.seen.as_ref().map(|s| s.changed),
            _ => None,
        };
        self.seen = lease.map(|lease| Seen {
            lease,
            changed: changed.unwrap_or_else(Instant::now),
        });
    }

    async fn acquire(&mut self) {
        let mut failed = Duration::ZERO;
        loop {
            let tried = tokio::time::timeout(self.config.renew_deadline, self.attempt()).await;
            match &tried {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                // A cluster that starts refuses for a moment: told once.
                Ok(Err(error)) if failed.is_zero() => {
                    tracing::warn!(
                        lease = self.config.name,
                        error = keelson_base::error::chain(error),
                        "cannot acquire the lease; trying again"
                    );
                }
                Ok(Err(error)) => {
                    tracing::debug!(
                        lease = self.config.name,
                        error = keelson_base::error::chain(error),
                        "cannot acquire the lease"
                    );
                }
                Err(_) => tracing::warn!(lease = self.config.name, "acquiring the lease timed out"),
            }
            failed = match tried {
                Ok(Err(_)) => next_failure_pause(failed, self.config.retry_period),
                _ => Duration::ZERO,
            };
            let pause = if failed.is_zero() {
                self.config.retry_period
            } else {
                failed
            };
            tokio::time::sleep(pause.mul_f64(1.0 + rand::random::<f64>() / 5.0)).await;
        }
    }

    /// Renews until it could not for the deadline.
    async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            let deadline = renewed + self.config.renew_deadline;
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) if !self.holds() => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(
                        lease = self.config.name,
                        error = keelson_base::error::chain(&error),
                        "cannot renew the lease"
                    );
                }
                Err(_) => return,
            }
            if Instant::now() >= deadline && renewed + self.config.renew_deadline == deadline {
                return;
            }
        }
    }

    async fn release(&mut self) {
        if !self.holds() {
            return;
        }
        match tokio::time::timeout(limits::RELEASE_TIMEOUT, self.give_back()).await {
            Ok(Ok(())) => tracing::info!(lease = self.config.name, "released the lease"),
            Ok(Err(error)) => {
                tracing::warn!(
                    lease = self.config.name,
                    error = keelson_base::error::chain(&error),
                    "cannot release the lease"
                );
            }
            Err(_) => tracing::warn!(lease = self.config.name, "releasing the lease timed out"),
        }
    }

    async fn give_back(&mut self) -> Result<(), kube::Error> {
        match self.write_released().await {
            // A renewal that was cut off here may have reached the server.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                self.observe().await?;
                self.write_released().await
            }
            outcome => outcome,
        }
    }

    /// Nothing is written when the lease is another's by now.
    async fn write_released(&self) -> Result<(), kube::Error> {
        let Some(seen) = self.seen.as_ref().filter(|_| self.holds()) else {
            return Ok(());
        };
        let lease = released(&seen.lease, Timestamp::now());
        let params = PostParams::default();
        self.api.replace(&self.config.name, &params, &lease).await?;
        Ok(())
    }
}

/// Waits to become leader, then runs `lead` until it ends, shutdown is set, or the lease is lost.
///
/// `lead` is dropped where it stands when the lease is lost; the caller must then end the process, so that nothing
/// it spawned keeps acting. On shutdown `lead` is awaited first: it must watch for shutdown itself.
pub async fn run<F, Fut>(
    client: Client,
    config: Config,
    recorder: Option<Recorder>,
    shutdown: Shutdown,
    lead: F,
) -> Result<(), ElectionError>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = ()>,
{
    let mut candidate = Candidate {
        api: Api::namespaced(client, &config.namespace),
        config,
        seen: None,
    };
    tokio::select! {
        () = candidate.acquire() => {}
        () = shutdown.wait() => return Ok(()),
    }
    let config = candidate.config.clone();
    tracing::info!(lease = config.name, identity = config.identity, "became leader");
    if let (Some(recorder), Some(seen)) = (&recorder, &candidate.seen) {
        let message = format!("{} became leader", config.identity);
        recorder.event(&seen.lease, EventType::Normal, "LeaderElection", message);
    }
    tokio::select! {
        () = lead() => {}
        () = candidate.hold() => {
            return Err(ElectionError::Lost { namespace: config.namespace, name: config.name });
        }
    }
    candidate.release().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, changed: Instant) -> Seen {
        Seen {
            lease: Lease {
                spec: Some(LeaseSpec {
                    holder_identity: Some(holder.into()),
                    lease_duration_seconds: Some(15),
                    lease_transitions: Some(3),
                    ..LeaseSpec::default()
                }),
                ..Lease::default()
            },
            changed,
        }
    }

    fn transitions(step: &Step) -> Option<i32> {
        match step {
            Step::Update(lease) => lease.spec.as_ref().unwrap().lease_transitions,
            _ => None,
        }
    }

    #[test]
    fn failures_are_repeated_soon_then_at_the_usual_pace() {
        let mut pause = Duration::ZERO;
        let pauses = [(); 8].map(|()| {
            pause = next_failure_pause(pause, Duration::from_secs(2));
            pause.as_millis()
        });
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn a_lease_is_taken_only_when_free() {
        let mut config = Config::new("kube-system", "x");
        config.identity = "me".into();
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        let step = |seen: Option<&Seen>, s| next_step(&config, seen, later(s), Timestamp::UNIX_EPOCH);
        assert!(matches!(step(None, 0), Step::Create(_)));
        assert_eq!(step(Some(&seen("other", start)), 14), Step::Wait);
        assert_eq!(transitions(&step(Some(&seen("other", start)), 15)), Some(4));
        assert_eq!(transitions(&step(Some(&seen("", start)), 0)), Some(4));
        assert_eq!(transitions(&step(Some(&seen("me", start)), 1)), Some(3));
        let free = released(&seen("me", start).lease, Timestamp::UNIX_EPOCH);
        assert_eq!(free.spec.unwrap().holder_identity.as_deref(), Some(""));
    }
}
