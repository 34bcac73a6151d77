//! Kinds that extend the API: `apiextensions.k8s.io` and `apiregistration.k8s.io`.

mod api_service;
pub mod beta;
mod definition;
mod schema;

pub use api_service::APIService;
pub use definition::CustomResourceDefinition;
