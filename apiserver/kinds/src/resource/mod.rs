//! Kinds of `resource.k8s.io`: devices, classes of them and claims to them. CEL expressions are compiled where they
//! run; here they must be there.

mod claim;
mod device_class;
mod slice;

pub use claim::{ResourceClaim, ResourceClaimTemplate};
pub use device_class::DeviceClass;
pub use slice::ResourceSlice;
