//! Who asks. Credentials are taken off the request, so that nothing behind this filter can pass them on.

use http::header::AUTHORIZATION;
use keelson_auth::Credentials;
use keelson_machinery::Status;

use crate::context::Context;
use crate::server::Server;

pub fn apply(server: &Server, context: &mut Context) -> Result<(), Status> {
    server.auth_files.follow(&server.auth);
    let credentials = Credentials {
        client_certificates: &context.peer.certificates,
        headers: &context.parts.headers,
    };
    let outcome = server.auth.authenticator.authenticate(&credentials, context.now);
    context.parts.headers.remove(AUTHORIZATION);
    if let Some(proxy) = &server.auth.front_proxy {
        proxy.strip(&mut context.parts.headers);
    }
    match outcome {
        Ok(Some(user)) => {
            context.user = user;
            Ok(())
        }
        Ok(None) => Err(Status::unauthorized()),
        Err(error) => {
            tracing::info!(%error, peer = %context.peer.address, "authentication failed");
            Err(Status::unauthorized())
        }
    }
}
