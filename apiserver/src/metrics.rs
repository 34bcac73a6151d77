//! Metrics with the names operators alert on.

use http::StatusCode;
use keelson_base::metrics::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

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
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: String,
}

const BUCKETS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 10.0, 60.0];

type Histograms = Family<DurationLabels, Histogram, fn() -> Histogram>;

/// The server's metrics.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Histograms,
    objects: Family<ResourceLabels, Gauge>,
    watchers: Family<ResourceLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::default();
        let metrics = Self {
            requests: Family::default(),
            durations: Histograms::new_with_constructor(|| Histogram::new(BUCKETS)),
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
        };
        if code == StatusCode::NOT_FOUND {
            // Paths that a client made up must not become series.
            return;
        }
        if !info.is_long_running() {
            self.durations
                .get_or_create(&labels)
                .observe(context.received.elapsed().as_secs_f64());
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
                code: code.as_u16(),
            })
            .inc();
    }

    /// Figures that are read when asked for.
    pub fn refresh(&self, server: &Server) {
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
