//! Kinds of `flowcontrol.apiserver.k8s.io`.

mod flow_schema;
mod priority_level;

pub use flow_schema::FlowSchema;
pub use priority_level::PriorityLevelConfiguration;
