//! Kinds that extend the API: `apiextensions.k8s.io` and `apiregistration.k8s.io`.

mod api_service;
mod definition;
mod schema;

pub use api_service::APIService;
pub use definition::CustomResourceDefinition;
