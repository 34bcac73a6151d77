//! Kinds of the core group.

pub mod claim;
mod component_status;
mod config_map;
mod endpoints;
pub mod event;
mod limit_range;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod_template;
mod replication_controller;
mod resource_quota;
mod secret;
pub mod service;
mod service_account;
mod service_ips;

pub use component_status::ComponentStatus;
pub use config_map::ConfigMap;
pub use endpoints::{Endpoints, non_special_ip};
pub use event::Event;
pub use limit_range::LimitRange;
pub use namespace::Namespace;
pub use node::Node;
pub use persistent_volume::PersistentVolume;
pub use persistent_volume_claim::PersistentVolumeClaim;
pub use pod_template::PodTemplate;
pub use replication_controller::ReplicationController;
pub use resource_quota::ResourceQuota;
pub use secret::Secret;
pub use service::Service;
pub use service_account::ServiceAccount;
