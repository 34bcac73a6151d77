//! Kinds of `admissionregistration.k8s.io`.

mod matching;
mod policy;
mod webhook;

pub use policy::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
};
pub use webhook::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration, client_config};
