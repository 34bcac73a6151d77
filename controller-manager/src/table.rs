//! The one table of controllers.

use std::time::Duration;

use anyhow::bail;

use crate::context::Context;
use crate::controllers as c;
use crate::credentials::Credentials;

/// One controller.
pub struct Entry {
    /// Its name for --controllers.
    pub name: &'static str,
    /// Names of earlier releases, taken too.
    pub aliases: &'static [&'static str],
    /// Its service account, which upstream's roles `system:controller:*` are bound to.
    pub account: &'static str,
    /// Whether '*' includes it.
    pub by_default: bool,
    /// Starts it in the background.
    pub start: fn(&Context),
}

const fn entry(
    name: &'static str,
    aliases: &'static [&'static str],
    account: &'static str,
    start: fn(&Context),
) -> Entry {
    Entry {
        name,
        aliases,
        account,
        by_default: true,
        start,
    }
}

/// One that '*' leaves out.
const fn when_asked(entry: Entry) -> Entry {
    Entry {
        by_default: false,
        ..entry
    }
}

/// All of them.
pub static CONTROLLERS: &[Entry] = &[
    entry(
        "deployment-controller",
        &["deployment"],
        "deployment-controller",
        c::deployment::start,
    ),
    entry(
        "replicaset-controller",
        &["replicaset"],
        "replicaset-controller",
        c::replicaset::start,
    ),
    entry(
        "replicationcontroller-controller",
        &["replicationcontroller"],
        "replication-controller",
        c::replicationcontroller::start,
    ),
    entry(
        "endpointslice-controller",
        &["endpointslice"],
        "endpointslice-controller",
        c::endpointslice::start,
    ),
    entry(
        "endpointslice-mirroring-controller",
        &["endpointslicemirroring"],
        "endpointslicemirroring-controller",
        c::endpointslice_mirroring::start,
    ),
    entry(
        "endpoints-controller",
        &["endpoint"],
        "endpoint-controller",
        c::endpoints::start,
    ),
    entry(
        "namespace-controller",
        &["namespace"],
        "namespace-controller",
        c::namespace::start,
    ),
    entry(
        "serviceaccount-controller",
        &["serviceaccount"],
        "service-account-controller",
        c::serviceaccount::start,
    ),
    entry(
        "root-ca-certificate-publisher-controller",
        &["root-ca-cert-publisher"],
        "root-ca-cert-publisher",
        c::root_ca::start,
    ),
    entry(
        "garbage-collector-controller",
        &["garbagecollector"],
        "generic-garbage-collector",
        c::garbage_collector::start,
    ),
    entry(
        "node-lifecycle-controller",
        &["nodelifecycle"],
        "node-controller",
        c::node_lifecycle::start,
    ),
    entry(
        "taint-eviction-controller",
        &[],
        "node-controller",
        c::taint_eviction::start,
    ),
    entry(
        "daemonset-controller",
        &["daemonset"],
        "daemon-set-controller",
        c::daemonset::start,
    ),
    entry(
        "statefulset-controller",
        &["statefulset"],
        "statefulset-controller",
        c::statefulset::start,
    ),
    entry("job-controller", &["job"], "job-controller", c::job::start),
    entry(
        "cronjob-controller",
        &["cronjob"],
        "cronjob-controller",
        c::cronjob::start,
    ),
    entry(
        "ttl-after-finished-controller",
        &["ttl-after-finished"],
        "ttl-after-finished-controller",
        c::ttl_after_finished::start,
    ),
    entry(
        "resourcequota-controller",
        &["resourcequota"],
        "resourcequota-controller",
        c::resource_quota::start,
    ),
    entry(
        "pod-garbage-collector-controller",
        &["podgc"],
        "pod-garbage-collector",
        c::pod_gc::start,
    ),
    entry(
        "disruption-controller",
        &["disruption"],
        "disruption-controller",
        c::disruption::start,
    ),
    entry(
        "certificatesigningrequest-approving-controller",
        &["csrapproving"],
        "certificate-controller",
        c::certificates::approving::start,
    ),
    entry(
        "certificatesigningrequest-signing-controller",
        &["csrsigning"],
        "certificate-controller",
        c::certificates::signing::start,
    ),
    entry(
        "certificatesigningrequest-cleaner-controller",
        &["csrcleaner"],
        "certificate-controller",
        c::certificates::cleaner::start,
    ),
    when_asked(entry(
        "bootstrap-signer-controller",
        &["bootstrapsigner"],
        "bootstrap-signer",
        c::bootstrap::start_signer,
    )),
    when_asked(entry(
        "token-cleaner-controller",
        &["tokencleaner"],
        "token-cleaner",
        c::bootstrap::start_cleaner,
    )),
    entry(
        "clusterrole-aggregation-controller",
        &["clusterrole-aggregation"],
        "clusterrole-aggregation-controller",
        c::clusterrole_aggregation::start,
    ),
    entry(
        "node-ipam-controller",
        &["nodeipam"],
        "node-controller",
        c::node_ipam::start,
    ),
];

impl Entry {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// Whether --controllers asks for it; the last word of it counts, as with upstream the explicit one.
    fn is_enabled(&self, asked: &[String]) -> bool {
        for word in asked {
            if self.is_called(word) {
                return true;
            }
            if word.strip_prefix('-').is_some_and(|name| self.is_called(name)) {
                return false;
            }
        }
        self.by_default && asked.iter().any(|word| word == "*")
    }
}

/// Names upstream knows and this release does not have; asking for them is no mistake, but does nothing.
const ABSENT: &[&str] = &[
    "cloud-node-lifecycle",
    "cloud-node-lifecycle-controller",
    "device-taint-eviction-controller",
    "ephemeral-volume",
    "ephemeral-volume-controller",
    "horizontal-pod-autoscaler-controller",
    "horizontalpodautoscaling",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller",
    "legacy-serviceaccount-token-cleaner-controller",
    "legacy-service-account-token-cleaner",
    "node-route-controller",
    "persistentvolume-attach-detach-controller",
    "attachdetach",
    "persistentvolume-binder",
    "persistentvolume-binder-controller",
    "persistentvolume-expander",
    "persistentvolume-expander-controller",
    "persistentvolume-protection-controller",
    "pv-protection",
    "persistentvolumeclaim-protection-controller",
    "pvc-protection",
    "podcertificaterequest-cleaner-controller",
    "resource-claim-controller",
    "resourceclaim-controller",
    "route",
    "selinux-warning-controller",
    "service",
    "service-cidr-controller",
    "service-lb-controller",
    "serviceaccount-token",
    "serviceaccount-token-controller",
    "storage-version-migrator-controller",
    "storageversion-garbage-collector-controller",
    "storage-version-gc",
    "ttl",
    "ttl-controller",
    "validatingadmissionpolicy-status-controller",
    "volumeattributesclass-protection-controller",
];

/// Refuses names that are no controller's.
pub fn check_names(asked: &[String]) -> anyhow::Result<()> {
    for word in asked {
        let name = word.strip_prefix('-').unwrap_or(word);
        let known = name == "*" || ABSENT.contains(&name) || CONTROLLERS.iter().any(|e| e.is_called(name));
        if !known {
            let all: Vec<_> = CONTROLLERS.iter().map(|e| e.name).collect();
            bail!(
                "{name:?} is not in the list of known controllers: {}",
                all.join(", ")
            );
        }
    }
    Ok(())
}

/// The names asked for that are upstream's and not built here.
fn absent(asked: &[String]) -> Vec<&str> {
    let asked = asked.iter().map(String::as_str);
    asked.filter(|name| ABSENT.contains(name)).collect()
}

/// Starts all enabled controllers and returns when they have ended after shutdown.
pub async fn run_enabled(context: &Context, credentials: &Credentials) {
    let absent = absent(&context.config.controllers);
    if !absent.is_empty() {
        tracing::info!(
            controllers = absent.join(","),
            "asked for by --controllers but not built in this release; they do not run"
        );
    }
    let enabled = CONTROLLERS
        .iter()
        .filter(|entry| entry.is_enabled(&context.config.controllers));
    futures::future::join_all(enabled.map(|entry| start(entry, context, credentials))).await;
    context.ended().await;
}

async fn start(entry: &Entry, context: &Context, credentials: &Credentials) {
    let mut pause = Duration::from_millis(100);
    loop {
        match credentials.client(entry.account).await {
            Ok(client) => {
                (entry.start)(&context.of_controller(client));
                tracing::debug!(controller = entry.name, "started");
                return;
            }
            Err(error) => tracing::warn!(controller = entry.name, "cannot start yet: {error:#}"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            () = context.shutdown.wait() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for entry in CONTROLLERS {
            for name in entry.aliases.iter().chain([&entry.name]) {
                assert!(seen.insert(*name), "{name} twice");
            }
        }
        for name in ABSENT {
            assert!(seen.insert(name), "{name} exists and is listed as absent");
        }
    }

    #[test]
    fn every_controller_has_a_row() {
        let modules = include_str!("controllers/mod.rs").matches("pub mod ").count();
        // certificates has three rows, bootstrap two.
        assert_eq!(CONTROLLERS.len(), modules + 3);
    }

    #[test]
    fn upstreams_names_are_taken_and_others_are_not() {
        let words = |words: &[&str]| -> Vec<String> { words.iter().map(|s| (*s).to_owned()).collect() };
        let asked = words(&["*", "attachdetach", "-ttl", "deployment", "service-lb-controller"]);
        check_names(&asked).unwrap();
        assert_eq!(absent(&asked), ["attachdetach", "service-lb-controller"]);
        let refused = check_names(&words(&["nosuch"])).unwrap_err().to_string();
        assert!(
            refused.starts_with("\"nosuch\" is not in the list of known controllers"),
            "{refused}"
        );
    }

    #[test]
    fn selection() {
        let entry = &CONTROLLERS[0];
        let table: [(&[&str], bool); 5] = [
            (&["*"], true),
            (&["*", "-deployment-controller"], false),
            (&["-deployment", "*"], false),
            (&["deployment"], true),
            (&["replicaset"], false),
        ];
        for (asked, expected) in table {
            let asked: Vec<String> = asked.iter().map(|s| (*s).to_owned()).collect();
            assert_eq!(entry.is_enabled(&asked), expected, "{asked:?}");
        }
    }
}
