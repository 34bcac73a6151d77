//! What a quota counts, for the controller that counts it too: one rule for charging and for putting right.

pub use crate::plugins::resource_quota::scopes::match_all as in_scopes;
pub use crate::plugins::resource_quota::usage::{of as usage, tracks};
