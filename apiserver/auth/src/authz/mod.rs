//! Authorization: may this user do this?

pub mod attributes;
pub mod modes;
pub mod node;
pub mod rbac;

pub use attributes::{Attributes, SelectorRequirement};

/// An authorizer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// Refused, whatever the authorizers after this one would say.
    Deny,
    /// The next authorizer decides; where none is left, the request is refused.
    NoOpinion,
}

/// One way to decide on requests.
pub trait Authorizer: Send + Sync {
    /// The decision and the reason for it, as upstream words it; the reason may be empty.
    fn authorize(&self, attributes: &Attributes) -> (Decision, String);
}

/// Asks each authorizer in order and takes the first opinion; without one, the reasons of all, one per line.
pub struct Union(pub Vec<std::sync::Arc<dyn Authorizer>>);

impl Authorizer for Union {
    fn authorize(&self, attributes: &Attributes) -> (Decision, String) {
        let mut reasons: Vec<String> = Vec::new();
        for authorizer in &self.0 {
            let (decision, reason) = authorizer.authorize(attributes);
            if decision != Decision::NoOpinion {
                return (decision, reason);
            }
            if !reason.is_empty() {
                reasons.push(reason);
            }
        }
        (Decision::NoOpinion, reasons.join("\n"))
    }
}
