//! The one table of kinds: adding a kind is a file and a row here.

use crate::kind::Kind;
use crate::{
    admissionregistration, apps, autoscaling, batch, certificates, coordination, core, discovery, extensions,
    flowcontrol, networking, node, pod, policy, rbac, resource, review, scheduling, storage,
};

static KINDS: &[&dyn Kind] = &[
    &core::ComponentStatus,
    &core::ConfigMap,
    &core::Endpoints,
    &core::Event,
    &core::LimitRange,
    &core::Namespace,
    &core::Node,
    &core::PersistentVolume,
    &core::PersistentVolumeClaim,
    &pod::Pod,
    &core::PodTemplate,
    &core::ReplicationController,
    &core::ResourceQuota,
    &core::Secret,
    &core::Service,
    &core::ServiceAccount,
    &admissionregistration::MutatingAdmissionPolicy,
    &admissionregistration::MutatingAdmissionPolicyBinding,
    &admissionregistration::MutatingWebhookConfiguration,
    &admissionregistration::ValidatingAdmissionPolicy,
    &admissionregistration::ValidatingAdmissionPolicyBinding,
    &admissionregistration::ValidatingWebhookConfiguration,
    &extensions::CustomResourceDefinition,
    &extensions::APIService,
    &apps::ControllerRevision,
    &apps::DaemonSet,
    &apps::Deployment,
    &apps::ReplicaSet,
    &apps::StatefulSet,
    &review::SelfSubjectReview,
    &review::TokenReview,
    &review::LocalSubjectAccessReview,
    &review::SelfSubjectAccessReview,
    &review::SelfSubjectRulesReview,
    &review::SubjectAccessReview,
    &autoscaling::HorizontalPodAutoscaler,
    &autoscaling::HorizontalPodAutoscalerV1,
    &batch::CronJob,
    &batch::Job,
    &certificates::CertificateSigningRequest,
    &coordination::Lease,
    &discovery::EndpointSlice,
    &core::event::EventsEvent,
    &flowcontrol::FlowSchema,
    &flowcontrol::PriorityLevelConfiguration,
    &networking::IPAddress,
    &networking::Ingress,
    &networking::IngressClass,
    &networking::NetworkPolicy,
    &networking::ServiceCIDR,
    &node::RuntimeClass,
    &policy::PodDisruptionBudget,
    &rbac::ClusterRole,
    &rbac::ClusterRoleBinding,
    &rbac::Role,
    &rbac::RoleBinding,
    &resource::DeviceClass,
    &resource::ResourceClaim,
    &resource::ResourceClaimTemplate,
    &resource::ResourceSlice,
    &scheduling::PriorityClass,
    &storage::CSIDriver,
    &storage::CSINode,
    &storage::CSIStorageCapacity,
    &storage::StorageClass,
    &storage::VolumeAttachment,
    &storage::VolumeAttributesClass,
];

/// Every built-in kind, one entry per group, version and resource.
pub fn kinds() -> &'static [&'static dyn Kind] {
    KINDS
}

/// The kind of a resource, whatever the version: where a group serves several versions, the first in the
/// table, which is the preferred one.
pub fn find(group: &str, resource: &str) -> Option<&'static dyn Kind> {
    KINDS
        .iter()
        .copied()
        .find(|kind| kind.info().group == group && kind.info().resource == resource)
}
