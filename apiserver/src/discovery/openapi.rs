//! `/openapi/v2` and `/openapi/v3`: documents of the schema crate, made when first asked for.

use keelson_machinery::Status;

use crate::context::Context;
use crate::server::Server;
use crate::wire::Response;

/// The documents made so far.
#[derive(Debug, Default)]
pub struct OpenApi {}

/// The answer, where the path is one of these.
pub fn serve(_server: &Server, _context: &Context, path: &str) -> Option<Result<Response, Status>> {
    match path.starts_with("/openapi/") {
        true => Some(Err(Status::no_such_path())),
        false => None,
    }
}
