//! Metrics with the names operators alert on.

use http::StatusCode;
use keelson_base::metrics::Registry;
use keelson_base::version::FULL;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;

use crate::context::Context;
use crate::server::Server;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: String,
    component: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    dry_run: String,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InFlightLabels {
    request_kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TerminationLabels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    component: &'static str,
    code: u16,
}

/// What the alerts' queries select by.
const COMPONENT: &str = "apiserver";

const BUCKETS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 10.0, 60.0];

type Histograms = Family<DurationLabels, Histogram, fn() -> Histogram>;

/// The server's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Histograms,
    sli_durations: Histograms,
    in_flight: Family<InFlightLabels, Gauge>,
    terminations: Family<TerminationLabels, Counter>,
    objects: Family<ResourceLabels, Gauge>,
    watchers: Family<ResourceLabels, Gauge>,
}

/// Answers by which the server defends itself.
const TERMINATED: [StatusCode; 2] = [StatusCode::TOO_MANY_REQUESTS, StatusCode::GATEWAY_TIMEOUT];

fn termination(labels: &DurationLabels, code: StatusCode) -> TerminationLabels {
    TerminationLabels {
        verb: labels.verb.clone(),
        group: labels.group.clone(),
        version: labels.version.clone(),
        resource: labels.resource.clone(),
        subresource: labels.subresource.clone(),
        scope: labels.scope,
        component: labels.component,
        code: code.as_u16(),
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::default();
        let metrics = Self {
            requests: Family::default(),
            durations: Histograms::new_with_constructor(|| Histogram::new(BUCKETS)),
            sli_durations: Histograms::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Family::default(),
            terminations: Family::default(),
            objects: Family::default(),
            watchers: Family::default(),
            registry,
        };
        metrics.registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code",
            metrics.requests.clone(),
        );
        metrics.registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component",
            metrics.durations.clone(),
        );
        metrics.registry.register(
            "apiserver_request_sli_duration_seconds",
            "Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component",
            metrics.sli_durations.clone(),
        );
        metrics.registry.register(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second",
            metrics.in_flight.clone(),
        );
        metrics.registry.register(
            "apiserver_request_terminations",
            "Number of requests which apiserver terminated in self-defense",
            metrics.terminations.clone(),
        );
        metrics.registry.register(
            "kubernetes_build",
            "A metric with a constant '1' value labeled by major, minor, git version",
            Info::new([("major", "1"), ("minor", "36"), ("git_version", FULL)]),
        );
        metrics.registry.register(
            "apiserver_storage_objects",
            "Number of stored objects at the time of last check split by kind",
            metrics.objects.clone(),
        );
        metrics.registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests",
            metrics.watchers.clone(),
        );
        metrics
    }
}

impl Metrics {
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// One request was answered; of long-running ones only the start counts.
    pub fn observe(&self, context: &Context, code: StatusCode) {
        let info = &context.info;
        if !info.is_resource {
            return;
        }
        let labels = DurationLabels {
            verb: match info.verb.as_str() {
                "create" => "POST".to_owned(),
                "update" => "PUT".to_owned(),
                other => other.to_ascii_uppercase(),
            },
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            scope: match (info.name.is_empty(), info.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            },
            dry_run: context.query.get("dryRun").unwrap_or_default().to_owned(),
            component: COMPONENT,
        };
        if code == StatusCode::NOT_FOUND {
            // Paths that a client made up must not become series.
            return;
        }
        if !info.is_long_running() {
            // Neither webhooks nor queues delay a request here yet, so both histograms see the same time.
            let took = context.received.elapsed().as_secs_f64();
            self.durations.get_or_create(&labels).observe(took);
            self.sli_durations.get_or_create(&labels).observe(took);
        }
        if TERMINATED.contains(&code) {
            self.terminations.get_or_create(&termination(&labels, code)).inc();
        }
        self.requests
            .get_or_create(&RequestLabels {
                verb: labels.verb,
                group: labels.group,
                version: labels.version,
                resource: labels.resource,
                subresource: labels.subresource,
                scope: labels.scope,
                dry_run: labels.dry_run,
                component: labels.component,
                code: code.as_u16(),
            })
            .inc();
    }

    /// Figures that are read when asked for.
    pub fn refresh(&self, server: &Server) {
        let (reads, writes) = server.in_flight.in_use();
        for (request_kind, used) in [("readOnly", reads), ("mutating", writes)] {
            let used = i64::try_from(used).unwrap_or(i64::MAX);
            self.in_flight
                .get_or_create(&InFlightLabels { request_kind })
                .set(used);
        }
        for hub in server.registry.hubs() {
            let labels = ResourceLabels {
                resource: hub.kind.info().group_resource().to_string(),
            };
            let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            self.objects.get_or_create(&labels).set(count(hub.cache.len()));
            self.watchers
                .get_or_create(&labels)
                .set(count(hub.cache.watchers()));
        }
    }
}
