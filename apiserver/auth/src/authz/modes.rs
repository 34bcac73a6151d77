//! The authorization modes (`--authorization-mode`) as one table.
//!
//! ABAC is not built in. Webhook waits on the network: the server asks it where it stands in the list, after the modes
//! before it had no opinion.

use std::sync::Arc;

use keelson_machinery::ObjectReader;

use super::node::Node;
use super::rbac::Rbac;
use super::{Attributes, Authorizer, Decision};
use crate::user::MASTERS;

/// What this server can do, as named on the command line.
pub const MODES: [&str; 4] = ["Node", "RBAC", "AlwaysAllow", "AlwaysDeny"];

/// Members of system:masters may do everything; nothing after this can take that away.
pub struct PrivilegedGroup;

impl Authorizer for PrivilegedGroup {
    fn authorize(&self, request: &Attributes) -> (Decision, String) {
        match request.user.in_group(MASTERS) {
            true => (Decision::Allow, String::new()),
            false => (Decision::NoOpinion, String::new()),
        }
    }
}

/// Everyone may do everything.
pub struct AlwaysAllow;

impl Authorizer for AlwaysAllow {
    fn authorize(&self, _: &Attributes) -> (Decision, String) {
        (Decision::Allow, String::new())
    }
}

/// Nobody may do anything.
pub struct AlwaysDeny;

impl Authorizer for AlwaysDeny {
    fn authorize(&self, _: &Attributes) -> (Decision, String) {
        (Decision::NoOpinion, "Everything is forbidden.".to_owned())
    }
}

/// Paths anyone may read, whatever the modes say (`--authorization-always-allow-paths`); a trailing `*` matches a prefix.
pub struct AlwaysAllowPaths(pub Vec<String>);

impl Authorizer for AlwaysAllowPaths {
    fn authorize(&self, request: &Attributes) -> (Decision, String) {
        let path = request.path.trim_start_matches('/');
        let matches = |own: &String| {
            let own = own.trim_start_matches('/');
            own.strip_suffix('*')
                .map_or(own == path, |prefix| path.starts_with(prefix))
        };
        match !request.is_resource && self.0.iter().any(matches) {
            true => (Decision::Allow, String::new()),
            false => (Decision::NoOpinion, String::new()),
        }
    }
}

/// The authorizer of a mode.
///
/// # Errors
/// The mode is none of [`MODES`].
pub fn authorizer(
    mode: &str,
    reader: &Arc<dyn ObjectReader>,
    rbac: &Arc<Rbac>,
) -> Result<Arc<dyn Authorizer>, String> {
    match mode {
        "Node" => Ok(Arc::new(Node::new(reader.clone()))),
        "RBAC" => Ok(rbac.clone()),
        "AlwaysAllow" => Ok(Arc::new(AlwaysAllow)),
        "AlwaysDeny" => Ok(Arc::new(AlwaysDeny)),
        other => Err(format!(
            "authorization-mode {other:?} is not a valid mode here: choose from {}",
            MODES.join(", ")
        )),
    }
}
