//! What every request passes before its verb, in upstream's order.
//!
//! A filter looks at the request, adds what it found out, or refuses it. The table below is the order; audit takes its
//! place after authentication, and priority and fairness takes that of the limits in flight.

mod authentication;
mod authorization;
mod deadline;
mod impersonation;
mod in_flight;

use keelson_machinery::Status;

use crate::context::Context;
use crate::server::Server;

pub use authorization::attributes;
pub use in_flight::InFlight;

/// One filter: `Err` answers the request.
pub type Filter = fn(&Server, &mut Context) -> Result<(), Status>;

/// All filters by name.
pub const FILTERS: &[(&str, Filter)] = &[
    ("deadline", deadline::apply),
    ("authentication", authentication::apply),
    ("impersonation", impersonation::apply),
    ("in-flight", in_flight::apply),
    ("authorization", authorization::apply),
];

/// Runs them all.
pub fn apply(server: &Server, context: &mut Context) -> Result<(), Status> {
    FILTERS.iter().try_for_each(|(_, filter)| filter(server, context))
}
