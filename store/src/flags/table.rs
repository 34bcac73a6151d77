//! Flags of etcd that are not ours: those that change nothing here, and those that would.

/// Taken and named in a warning, so that an existing unit or manifest works unchanged.
pub const WITHOUT_MEANING: &[&str] = &[
    "max-snapshots",
    "max-wals",
    "backend-bbolt-freelist-type",
    "backend-batch-interval",
    "backend-batch-limit",
    "max-concurrent-streams",
    "grpc-keepalive-min-time",
    "grpc-keepalive-interval",
    "grpc-keepalive-timeout",
    "socket-reuse-port",
    "socket-reuse-address",
    "initial-election-tick-advance",
    "strict-reconfig-check",
    "enable-v2",
    "enable-v2v3",
    "client-cert-file",
    "client-key-file",
    "peer-client-cert-file",
    "peer-client-key-file",
    "cors",
    "enable-pprof",
    "metrics",
    "logger",
    "log-outputs",
    "log-format",
    "enable-log-rotation",
    "log-rotation-config-json",
    "unsafe-no-fsync",
    "enable-grpc-gateway",
    "experimental-initial-corrupt-check",
    "experimental-corrupt-check-time",
    "experimental-compact-hash-check-enabled",
    "experimental-compact-hash-check-time",
    "experimental-compaction-batch-limit",
    "experimental-compaction-sleep-interval",
    "experimental-enable-lease-checkpoint",
    "experimental-enable-lease-checkpoint-persist",
    "experimental-peer-skip-client-san-verification",
    "experimental-warning-apply-duration",
    "experimental-warning-unary-request-duration",
    "experimental-max-learners",
    "experimental-bootstrap-defrag-threshold-megabytes",
    "experimental-memory-mlock",
    "experimental-txn-mode-write-with-shared-buffer",
    "experimental-stop-grpc-service-on-defrag",
    "experimental-snapshot-catchup-entries",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "compact-hash-check-time",
    "corrupt-check-time",
    "bootstrap-defrag-threshold-megabytes",
    "peer-skip-client-san-verification",
    "max-learners",
    "memory-mlock",
    "snapshot-catchup-entries",
    "feature-gates",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "downgrade-check-time",
    "discovery-fallback",
    "v2-deprecation",
    "socket-options",
    "distributed-tracing-address",
    "self-signed-cert-validity",
    "experimental-enable-distributed-tracing",
    "experimental-distributed-tracing-address",
    "enable-distributed-tracing",
    "experimental-distributed-tracing-sampling-rate",
    "distributed-tracing-sampling-rate",
    "experimental-downgrade-check-time",
    "experimental-wait-cluster-ready-timeout",
    "experimental-enable-v2v3",
    "discovery-failfast",
    "discovery-dial-timeout",
    "discovery-request-timeout",
    "discovery-keepalive-time",
    "discovery-keepalive-timeout",
];

/// A flag that asks for something this program does not do. To start without it would be unsafe or would make another
/// cluster than was asked for.
pub struct Refused {
    pub name: &'static str,
    /// Values that ask for nothing.
    pub harmless: &'static [&'static str],
    pub instead: &'static str,
}

const fn refused(name: &'static str, harmless: &'static [&'static str], instead: &'static str) -> Refused {
    Refused {
        name,
        harmless,
        instead,
    }
}

/// Refused unless their value is empty or harmless.
pub const REFUSED: &[Refused] = &[
    refused("client-crl-file", &[], REVOKE),
    refused("peer-crl-file", &[], REVOKE),
    refused("peer-cert-allowed-cn", &[], OWN_CA),
    refused("peer-cert-allowed-hostname", &[], OWN_CA),
    refused("client-cert-allowed-hostname", &[], OWN_CA),
    refused(
        "cipher-suites",
        &[],
        "leave it out: only suites without known weakness are offered",
    ),
    refused(
        "tls-min-version",
        &["TLS1.0", "TLS1.1", "TLS1.2"],
        "leave it out: TLS 1.2 and 1.3 are offered",
    ),
    refused(
        "tls-max-version",
        &["TLS1.3"],
        "leave it out: TLS 1.2 and 1.3 are offered",
    ),
    refused(
        "host-whitelist",
        &["*"],
        "leave it out and let --listen-client-urls name the addresses",
    ),
    refused(
        "auth-token",
        &["simple"],
        "give simple: other tokens are not issued",
    ),
    refused("discovery", &[], LIST),
    refused("discovery-token", &[], LIST),
    refused("discovery-endpoints", &[], LIST),
    refused("discovery-proxy", &[], LIST),
    refused("discovery-srv", &[], LIST),
    refused("discovery-srv-name", &[], LIST),
    refused("proxy", &["off"], "leave it out: members do not act as proxies"),
];

const REVOKE: &str = "leave it out: revocation lists are not read; use short-lived certificates";
const OWN_CA: &str = "leave it out and give members and clients a certificate authority of their own";
const LIST: &str = "leave it out and name the members in --initial-cluster";
