//! The review kinds: questions about authentication and authorization, answered and never stored.
//!
//! Each function takes the posted review and returns it with its status. The server has checked already that the author
//! may post it.

mod access;
mod identity;
mod rules;

pub use access::{local_subject_access_review, self_subject_access_review, subject_access_review};
pub use identity::{self_subject_review, token_review};
pub use rules::{RuleResolver, Rules, self_subject_rules_review};
