//! One file per plugin, and the table of all of them in upstream's order.
//!
//! Between `PodTopologyLabels` and `ResourceQuota` stand, in upstream's order, MutatingAdmissionPolicy,
//! MutatingAdmissionWebhook, ValidatingAdmissionPolicy and ValidatingAdmissionWebhook: they wait on the network or run programs, so the
//! server calls them itself between the stages of the [`Chain`](crate::Chain).

pub mod always;
pub mod certificates;
pub mod default_toleration_seconds;
pub mod event_rate_limit;
pub mod external_ips;
pub mod limit_ranger;
pub mod namespace_auto_provision;
pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod node_taint;
pub mod owner_references;
pub mod pod_node_selector;
pub mod pod_security;
pub mod pod_topology_labels;
pub mod priority;
pub mod resource_quota;
pub mod runtime_class;
pub mod service_account;
pub mod storage;
pub mod tolerations;

use crate::{Admission, Config};

/// When a plugin is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before policies and webhooks.
    Early,
    /// After them: what must see the final object, or count only what will be stored.
    Late,
}

/// One row of the table.
pub struct Plugin {
    pub name: &'static str,
    pub default_on: bool,
    pub stage: Stage,
    pub make: fn(&Config) -> Box<dyn Admission>,
}

const fn on(name: &'static str, make: fn(&Config) -> Box<dyn Admission>) -> Plugin {
    Plugin {
        name,
        default_on: true,
        stage: Stage::Early,
        make,
    }
}

const fn off(name: &'static str, make: fn(&Config) -> Box<dyn Admission>) -> Plugin {
    Plugin {
        name,
        default_on: false,
        stage: Stage::Early,
        make,
    }
}

const fn late(plugin: Plugin) -> Plugin {
    Plugin {
        stage: Stage::Late,
        ..plugin
    }
}

/// Every built-in plugin, in upstream's order.
pub const PLUGINS: &[Plugin] = &[
    off("AlwaysAdmit", |_| Box::new(always::AlwaysAdmit)),
    off("NamespaceAutoProvision", |_| {
        Box::new(namespace_auto_provision::NamespaceAutoProvision)
    }),
    on("NamespaceLifecycle", |_| {
        Box::new(namespace_lifecycle::NamespaceLifecycle)
    }),
    on("LimitRanger", |_| Box::new(limit_ranger::LimitRanger)),
    on("ServiceAccount", |_| Box::new(service_account::ServiceAccount)),
    off("NodeRestriction", |_| Box::new(node_restriction::NodeRestriction)),
    on("TaintNodesByCondition", |_| {
        Box::new(node_taint::TaintNodesByCondition)
    }),
    off("AlwaysPullImages", |_| Box::new(always::AlwaysPullImages)),
    on("PodSecurity", |_| Box::new(pod_security::PodSecurity)),
    off("PodNodeSelector", |_| {
        Box::new(pod_node_selector::PodNodeSelector::default())
    }),
    on("Priority", |_| Box::new(priority::Priority)),
    on("DefaultTolerationSeconds", |_| {
        Box::new(default_toleration_seconds::DefaultTolerationSeconds::default())
    }),
    off("PodTolerationRestriction", |_| {
        Box::new(tolerations::PodTolerationRestriction)
    }),
    off("EventRateLimit", |config| {
        Box::new(event_rate_limit::EventRateLimit::new(
            config.event_rate_limits.clone(),
        ))
    }),
    off("ExtendedResourceToleration", |_| {
        Box::new(tolerations::ExtendedResourceToleration)
    }),
    on("DefaultStorageClass", |_| Box::new(storage::DefaultStorageClass)),
    on("StorageObjectInUseProtection", |_| {
        Box::new(storage::StorageObjectInUseProtection)
    }),
    off("OwnerReferencesPermissionEnforcement", |config| {
        Box::new(owner_references::OwnerReferencesPermissionEnforcement {
            resource_of: config.resource_of.clone(),
        })
    }),
    on("PersistentVolumeClaimResize", |_| {
        Box::new(storage::PersistentVolumeClaimResize)
    }),
    on("RuntimeClass", |_| Box::new(runtime_class::RuntimeClass)),
    on("CertificateApproval", |_| {
        Box::new(certificates::CertificateApproval)
    }),
    on("CertificateSigning", |_| {
        Box::new(certificates::CertificateSigning)
    }),
    on("CertificateSubjectRestriction", |_| {
        Box::new(certificates::CertificateSubjectRestriction)
    }),
    on("DefaultIngressClass", |_| Box::new(storage::DefaultIngressClass)),
    off("DenyServiceExternalIPs", |_| {
        Box::new(external_ips::DenyServiceExternalIPs)
    }),
    on("PodTopologyLabels", |_| {
        Box::new(pod_topology_labels::PodTopologyLabels)
    }),
    late(on("ResourceQuota", |_| Box::new(resource_quota::ResourceQuota))),
    late(off("AlwaysDeny", |_| Box::new(always::AlwaysDeny))),
];

/// Upstream's plugins that are not in the table; their names are accepted on the command line, and what they would do is not
/// done here.
pub const ELSEWHERE: &[&str] = &[
    "ClusterTrustBundleAttest",
    "ImagePolicyWebhook",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceExists",
    "NodeDeclaredFeatureValidator",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_makes_the_plugin_it_names() {
        let config = Config::default();
        for plugin in PLUGINS {
            assert_eq!((plugin.make)(&config).name(), plugin.name);
            assert!(!ELSEWHERE.contains(&plugin.name), "{}", plugin.name);
        }
    }
}
