//! Acting as somebody else: the user changes, the headers go.

use keelson_auth::impersonation;
use keelson_machinery::Status;

use crate::context::Context;
use crate::server::Server;

pub fn apply(server: &Server, context: &mut Context) -> Result<(), Status> {
    let headers = &context.parts.headers;
    if let Some(user) = impersonation::resolve(headers, &context.user, &*server.auth.authorizer)? {
        context.user = user;
        impersonation::strip(&mut context.parts.headers);
    }
    Ok(())
}
