//! Metrics, with etcd's names where they mean the same.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Labels of one value of a metric.
pub type Labels = Vec<(&'static str, String)>;

/// The member's own metrics; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub wal_fsync: Histogram,
    pub leader_changes: Counter,
    pub has_leader: Gauge,
    pub is_leader: Gauge,
    pub proposals_committed: Gauge,
    pub proposals_applied: Gauge,
    pub proposals_pending: Gauge,
    pub proposals_failed: Counter,
    pub keys: Gauge,
    pub db_size: Gauge,
    pub db_size_in_use: Gauge,
    pub watchers: Gauge,
    pub watch_streams: Gauge,
    pub slow_watchers: Counter,
    pub puts: Counter,
    pub deletes: Counter,
    pub ranges: Counter,
    pub txns: Counter,
    pub leases: Gauge,
    pub quota: Gauge,
    pub snapshots_sent: Counter,
    pub peer_messages_dropped: Counter,
    pub connections: Gauge,
    pub connections_max: Gauge,
    pub backend_commit: Histogram,
    pub is_learner: Gauge,
    pub current_revision: Gauge,
    pub compact_revision: Gauge,
    pub leases_granted: Counter,
    pub leases_revoked: Counter,
    pub leases_renewed: Counter,
    pub read_indexes_failed: Counter,
    pub learner_promotions: Gauge,
    pub health_successes: Gauge,
    pub health_failures: Gauge,
    pub server_version: Family<Labels, Gauge>,
    pub cluster_version: Family<Labels, Gauge>,
    pub server_id: Family<Labels, Gauge>,
    /// Requests refused at a limit, by the limit.
    pub refused: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            wal_fsync: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            leader_changes: Counter::default(),
            has_leader: Gauge::default(),
            is_leader: Gauge::default(),
            proposals_committed: Gauge::default(),
            proposals_applied: Gauge::default(),
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
            keys: Gauge::default(),
            db_size: Gauge::default(),
            db_size_in_use: Gauge::default(),
            watchers: Gauge::default(),
            watch_streams: Gauge::default(),
            slow_watchers: Counter::default(),
            puts: Counter::default(),
            deletes: Counter::default(),
            ranges: Counter::default(),
            txns: Counter::default(),
            leases: Gauge::default(),
            quota: Gauge::default(),
            snapshots_sent: Counter::default(),
            peer_messages_dropped: Counter::default(),
            connections: Gauge::default(),
            connections_max: Gauge::default(),
            backend_commit: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            is_learner: Gauge::default(),
            current_revision: Gauge::default(),
            compact_revision: Gauge::default(),
            leases_granted: Counter::default(),
            leases_revoked: Counter::default(),
            leases_renewed: Counter::default(),
            read_indexes_failed: Counter::default(),
            learner_promotions: Gauge::default(),
            health_successes: Gauge::default(),
            health_failures: Gauge::default(),
            server_version: Family::default(),
            cluster_version: Family::default(),
            server_id: Family::default(),
            refused: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers everything under etcd's names (counters get their `_total` when rendered).
    pub fn register(&self, registry: &keelson_base::metrics::Registry) {
        macro_rules! register {
            ($($field:ident $name:literal $help:literal)*) => {
                $(registry.register($name, $help, self.$field.clone());)*
            };
        }
        register! {
            wal_fsync "etcd_disk_wal_fsync_duration_seconds" "The latency distributions of fsync called by WAL"
            leader_changes "etcd_server_leader_changes_seen" "The number of leader changes seen"
            has_leader "etcd_server_has_leader" "Whether or not a leader exists. 1 is existence, 0 is not"
            is_leader "etcd_server_is_leader" "Whether or not this member is a leader. 1 if is, 0 otherwise"
            proposals_committed "etcd_server_proposals_committed_total" "The total number of consensus proposals committed"
            proposals_applied "etcd_server_proposals_applied_total" "The total number of consensus proposals applied"
            proposals_pending "etcd_server_proposals_pending" "The current number of pending proposals to commit"
            proposals_failed "etcd_server_proposals_failed" "The total number of failed proposals seen"
            keys "etcd_debugging_mvcc_keys_total" "Total number of keys"
            db_size "etcd_mvcc_db_total_size_in_bytes" "Total size of the underlying database physically allocated in bytes"
            db_size_in_use "etcd_mvcc_db_total_size_in_use_in_bytes" "Total size of the underlying database logically in use in bytes"
            watchers "etcd_debugging_mvcc_watcher_total" "Total number of watchers"
            watch_streams "etcd_debugging_mvcc_watch_stream_total" "Total number of watch streams"
            slow_watchers "etcd_debugging_mvcc_slow_watcher" "Times a watcher's stream had no room and it had to read from history"
            puts "etcd_mvcc_put" "Total number of puts seen by this member"
            deletes "etcd_mvcc_delete" "Total number of deletes seen by this member"
            ranges "etcd_mvcc_range" "Total number of ranges seen by this member"
            txns "etcd_mvcc_txn" "Total number of txns seen by this member"
            leases "etcd_debugging_lease_total" "Leases that exist"
            quota "etcd_server_quota_backend_bytes" "Current backend storage quota size in bytes"
            snapshots_sent "etcd_network_snapshot_send_success" "Total number of successful snapshot sends"
            peer_messages_dropped "etcd_network_peer_sent_failures" "Messages to peers dropped"
            connections "etcd_network_client_connections" "Client connections that are open"
            connections_max "kube_store_client_connections_max" "Client connections that are served at once"
            backend_commit "etcd_disk_backend_commit_duration_seconds" "The latency distributions of commit called by backend"
            is_learner "etcd_server_is_learner" "Whether or not this member is a learner. 1 if is, 0 otherwise"
            current_revision "etcd_debugging_mvcc_current_revision" "The current revision of store"
            compact_revision "etcd_debugging_mvcc_compact_revision" "The revision of the last compaction in store"
            leases_granted "etcd_debugging_lease_granted" "The total number of granted leases"
            leases_revoked "etcd_debugging_lease_revoked" "The total number of revoked leases"
            leases_renewed "etcd_debugging_lease_renewed" "The number of renewed leases seen by the leader"
            read_indexes_failed "etcd_server_read_indexes_failed" "The total number of failed read indexes seen"
            learner_promotions "etcd_server_learner_promote_successes" "The total number of successful learner promotions while this member is leader"
            health_successes "etcd_server_health_success" "The total number of successful health checks"
            health_failures "etcd_server_health_failures" "The total number of failed health checks"
            server_version "etcd_server_version" "Which version is running. 1 for 'server_version' label with current version"
            cluster_version "etcd_cluster_version" "Which version is running. 1 for 'cluster_version' label with current cluster version"
            server_id "etcd_server_id" "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID"
            refused "kube_store_requests_refused" "Requests refused at a limit"
        }
    }

    /// Counts a request that was refused at a limit.
    pub fn refuse(&self, limit: &'static str) {
        self.refused
            .get_or_create(&vec![("limit", limit.to_owned())])
            .inc();
    }
}
