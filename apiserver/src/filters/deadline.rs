//! Requests that are not long-running end by a deadline: the server's, or an earlier one of the client's `timeout`.

use std::time::Duration;

use keelson_machinery::{Status, time};

use crate::context::Context;
use crate::server::Server;

pub fn apply(server: &Server, context: &mut Context) -> Result<(), Status> {
    if context.info.is_long_running() {
        return Ok(());
    }
    let limit = server.options.request_timeout;
    let asked = match context.query.get("timeout") {
        None | Some("") => limit,
        Some(text) => {
            let nanos = time::parse_duration(text).map_err(|error| {
                Status::bad_request(format!("invalid timeout specified in the request URL - {error}"))
            })?;
            match u64::try_from(nanos) {
                Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos).min(limit),
                _ => limit,
            }
        }
    };
    context.deadline = Some(context.received + asked);
    Ok(())
}
