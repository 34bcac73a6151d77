//! Kinds of `networking.k8s.io`.

mod addresses;
mod ingress;
mod ingress_class;
mod network_policy;

pub use addresses::{IPAddress, ServiceCIDR};
pub use ingress::Ingress;
pub use ingress_class::IngressClass;
pub use network_policy::NetworkPolicy;
