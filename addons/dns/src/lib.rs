//! Cluster DNS: one process per node, answering from its own watch of services and endpoints.
//!
//! `zone` holds what is known, `answer` decides (pure), `server` and `forward` move packets, `publish` tells the
//! cluster where to ask. Schema: Kubernetes DNS-Based Service Discovery 1.1.0.

pub mod answer;
pub mod flags;
pub mod forward;
pub mod limits;
pub mod publish;
pub mod run;
pub mod server;
pub mod zone;
