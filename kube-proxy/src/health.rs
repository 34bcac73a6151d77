//! What load balancers and people ask: is this proxy working (10256), and has this node endpoints of a service
//! (`healthCheckNodePort`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use jiff::Timestamp;
use keelson_base::Shutdown;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::model::ServiceName;
use crate::server::{self, Answer, Handler};

/// Longer than this with changes that are not in the kernel is unhealthy (upstream: twice the sync period).
const LATE: Duration = Duration::from_secs(60);

/// What the answers are made of.
#[derive(Debug)]
struct State {
    updated: Timestamp,
    /// Since when changes wait that are not in the kernel.
    behind_since: Option<Instant>,
    eligible: bool,
    /// Endpoints on this node, per service that is health-checked.
    local_endpoints: BTreeMap<ServiceName, usize>,
}

/// Shared by the loop and the servers.
#[derive(Clone, Debug)]
pub struct Health {
    /// Guards the state; held for a read or a write of it.
    state: Arc<Mutex<State>>,
}

impl Default for Health {
    fn default() -> Self {
        let state = State {
            updated: Timestamp::now(),
            behind_since: None,
            eligible: true,
            local_endpoints: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl Health {
    /// Changes arrived that the kernel does not have yet.
    pub fn behind(&self) {
        self.state.lock().behind_since.get_or_insert_with(Instant::now);
    }

    /// The kernel has everything.
    pub fn updated(&self) {
        let mut state = self.state.lock();
        state.behind_since = None;
        state.updated = Timestamp::now();
    }

    /// Whether load balancers may use this node.
    pub fn set_eligible(&self, eligible: bool) {
        self.state.lock().eligible = eligible;
    }

    fn is_working(&self) -> bool {
        self.state
            .lock()
            .behind_since
            .is_none_or(|since| since.elapsed() < LATE)
    }

    /// `/healthz` says whether this node should get traffic, `/livez` whether the process works.
    pub fn answer(&self, path: &str) -> Answer {
        if !matches!(path, "/healthz" | "/livez" | "/readyz") {
            return Answer::not_found();
        }
        let working = self.is_working();
        let state = self.state.lock();
        let good = working && (state.eligible || path != "/healthz");
        let status = if good {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let now = Timestamp::now();
        let body = json!({
            "lastUpdated": (if working { now } else { state.updated }).to_string(),
            "currentTime": now.to_string(),
            "nodeEligible": state.eligible,
        });
        Answer::json(status, &body)
    }

    fn answer_service(&self, name: &ServiceName) -> Answer {
        let working = self.is_working();
        let count = self.state.lock().local_endpoints.get(name).copied().unwrap_or(0);
        let good = working && count > 0;
        let status = if good {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let body = json!({
            "service": {"namespace": name.namespace, "name": name.name},
            "localEndpoints": count,
            "serviceProxyHealthy": working,
        });
        Answer {
            weight: Some(count),
            ..Answer::json(status, &body)
        }
    }
}

/// A service that is health-checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub port: u16,
    pub local_endpoints: usize,
}

/// The servers of `healthCheckNodePort`s.
pub struct ServiceServers {
    health: Health,
    running: BTreeMap<ServiceName, (u16, JoinHandle<()>)>,
    shutdown: Shutdown,
}

impl ServiceServers {
    /// None yet.
    pub fn new(health: Health, shutdown: Shutdown) -> Self {
        Self {
            health,
            running: BTreeMap::new(),
            shutdown,
        }
    }

    /// Starts and stops servers so that exactly these run.
    pub async fn update(&mut self, wanted: BTreeMap<ServiceName, Checked>) {
        self.running.retain(|name, (port, task)| {
            let stays = wanted.get(name).is_some_and(|checked| checked.port == *port);
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, checked) in &wanted {
            if self.running.contains_key(name) {
                continue;
            }
            let (health, service) = (self.health.clone(), name.clone());
            let handler: Handler = Arc::new(move |_| health.answer_service(&service));
            let address = ([0, 0, 0, 0], checked.port).into();
            match server::serve(address, handler, self.shutdown.clone()).await {
                Ok(task) => {
                    self.running.insert(name.clone(), (checked.port, task));
                }
                Err(error) => tracing::warn!(service = %name, "cannot serve its health: {error:#}"),
            }
        }
        self.health.state.lock().local_endpoints = wanted
            .into_iter()
            .map(|(name, checked)| (name, checked.local_endpoints))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaving_node_is_alive_but_gets_no_traffic() {
        let health = Health::default();
        assert_eq!(health.answer("/healthz").status, StatusCode::OK);
        health.set_eligible(false);
        assert_eq!(health.answer("/healthz").status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.answer("/livez").status, StatusCode::OK);
        assert!(health.answer("/healthz").body.contains("\"nodeEligible\":false"));
    }

    #[test]
    fn a_service_without_endpoints_here_is_unhealthy() {
        let health = Health::default();
        let name = ServiceName {
            namespace: "ns".into(),
            name: "web".into(),
        };
        assert_eq!(
            health.answer_service(&name).status,
            StatusCode::SERVICE_UNAVAILABLE
        );
        health.state.lock().local_endpoints.insert(name.clone(), 2);
        let answer = health.answer_service(&name);
        assert_eq!((answer.status, answer.weight), (StatusCode::OK, Some(2)));
    }
}
