//! Writes the descriptions of every definition, as k8s-openapi carries them, into one compressed blob.
//!
//! Lines of `definition<TAB>description` and `<TAB>field<TAB>description`, line ends within written as `\n`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use k8s_openapi::api::{
    admissionregistration, apps, authentication, authorization, autoscaling, batch, certificates,
    coordination, core, discovery, events, flowcontrol, networking, node, policy, rbac, resource, scheduling,
    storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration;
use schemars::SchemaGenerator;
use serde_json::Value;

macro_rules! kinds {
    ($generator:ident: $($kind:ty),* $(,)?) => { $( $generator.subschema_for::<$kind>(); )* };
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    add_core(&mut generator);
    add_workloads(&mut generator);
    add_cluster(&mut generator);
    let mut definitions: BTreeMap<String, Value> = BTreeMap::new();
    for (name, schema) in generator.take_definitions(true) {
        definitions.insert(name, schema);
    }
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let file =
        std::fs::File::create(Path::new(&out).join("descriptions.zlib")).expect("OUT_DIR can be written");
    let mut encoder = flate2::write::ZlibEncoder::new(file, flate2::Compression::best());
    encoder
        .write_all(text(&definitions).as_bytes())
        .expect("OUT_DIR can be written");
    encoder.finish().expect("OUT_DIR can be written");
}

fn text(definitions: &BTreeMap<String, Value>) -> String {
    let mut text = String::new();
    let described = |schema: &Value| {
        let text = schema.get("description").and_then(Value::as_str).unwrap_or("");
        text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', " ")
    };
    for (name, schema) in definitions {
        text += &format!("{name}\t{}\n", described(schema));
        for (field, schema) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            text += &format!("\t{field}\t{}\n", described(schema));
        }
    }
    text
}

fn add_core(generator: &mut SchemaGenerator) {
    kinds!(generator:
        core::v1::Binding, core::v1::ComponentStatus, core::v1::ConfigMap, core::v1::Endpoints, core::v1::Event,
        core::v1::LimitRange, core::v1::Namespace, core::v1::Node, core::v1::PersistentVolume,
        core::v1::PersistentVolumeClaim, core::v1::Pod, core::v1::PodTemplate, core::v1::ReplicationController,
        core::v1::ResourceQuota, core::v1::Secret, core::v1::Service, core::v1::ServiceAccount,
        meta::v1::APIGroup, meta::v1::APIGroupList, meta::v1::APIResourceList, meta::v1::APIVersions,
        meta::v1::DeleteOptions, meta::v1::Status,
    );
}

fn add_workloads(generator: &mut SchemaGenerator) {
    kinds!(generator:
        apps::v1::ControllerRevision, apps::v1::DaemonSet, apps::v1::Deployment, apps::v1::ReplicaSet,
        apps::v1::StatefulSet, autoscaling::v1::HorizontalPodAutoscaler, autoscaling::v1::Scale,
        autoscaling::v2::HorizontalPodAutoscaler, batch::v1::CronJob, batch::v1::Job, policy::v1::Eviction,
        policy::v1::PodDisruptionBudget, discovery::v1::EndpointSlice, events::v1::Event,
        networking::v1::Ingress, networking::v1::IngressClass, networking::v1::IPAddress,
        networking::v1::NetworkPolicy, networking::v1::ServiceCIDR, coordination::v1::Lease, node::v1::RuntimeClass,
        scheduling::v1::PriorityClass, resource::v1::DeviceClass, resource::v1::ResourceClaim,
        resource::v1::ResourceClaimTemplate, resource::v1::ResourceSlice,
    );
}

fn add_cluster(generator: &mut SchemaGenerator) {
    kinds!(generator:
        admissionregistration::v1::MutatingAdmissionPolicy, admissionregistration::v1::MutatingAdmissionPolicyBinding,
        admissionregistration::v1::MutatingWebhookConfiguration,
        admissionregistration::v1::ValidatingAdmissionPolicy,
        admissionregistration::v1::ValidatingAdmissionPolicyBinding,
        admissionregistration::v1::ValidatingWebhookConfiguration, apiextensions::v1::CustomResourceDefinition,
        apiregistration::v1::APIService, authentication::v1::SelfSubjectReview, authentication::v1::TokenRequest,
        authentication::v1::TokenReview, authorization::v1::LocalSubjectAccessReview,
        authorization::v1::SelfSubjectAccessReview, authorization::v1::SelfSubjectRulesReview,
        authorization::v1::SubjectAccessReview, certificates::v1::CertificateSigningRequest,
        flowcontrol::v1::FlowSchema, flowcontrol::v1::PriorityLevelConfiguration, rbac::v1::ClusterRole,
        rbac::v1::ClusterRoleBinding, rbac::v1::Role, rbac::v1::RoleBinding, storage::v1::CSIDriver,
        storage::v1::CSINode, storage::v1::CSIStorageCapacity, storage::v1::StorageClass,
        storage::v1::VolumeAttachment, storage::v1::VolumeAttributesClass,
    );
}
