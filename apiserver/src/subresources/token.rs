//! `serviceaccounts/token`: tokens for service accounts.

use std::sync::Arc;

use http::StatusCode;
use keelson_admission::Operation;
use keelson_auth::token_request::{self, TokenConfig};
use keelson_machinery::{GroupVersionKind, Status, meta};
use keelson_schema::types;

use crate::context::Context;
use crate::forms::object::respond_value;
use crate::options::Options;
use crate::server::Server;
use crate::verbs::admit::Write;
use crate::verbs::{Target, decode, get};
use crate::wire::Response;

/// What the command line says of tokens.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    max_expiration_s: i64,
    extend_expiration: bool,
}

impl TokenOptions {
    pub fn new(options: &Options) -> Self {
        let authn = &options.authn;
        Self {
            max_expiration_s: authn.service_account_max_token_expiration.as_secs().cast_signed(),
            extend_expiration: authn.service_account_extend_token_expiration,
        }
    }
}

const TOKEN_REQUEST: GroupVersionKind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");

/// Answers a TokenRequest.
pub async fn create(
    server: &Arc<Server>,
    context: &mut Context,
    target: &Target,
) -> Result<Response, Status> {
    let def = types::of_kind(&TOKEN_REQUEST).ok_or_else(Status::no_such_path)?;
    let mut request = decode::object(context, &TOKEN_REQUEST, def).await?;
    let account = get::fetch(server, context, target).await?.value();
    if meta::name(&request).is_empty() {
        meta::set_str(&mut request, "name", &target.name);
    }
    if meta::namespace(&request).is_empty() {
        meta::set_str(&mut request, "namespace", &target.namespace);
    }
    let mut write = Write::new(target, Operation::Create, None, context.dry_run()?);
    write.kind = TOKEN_REQUEST;
    write.mutate(server, context, &mut request).await?;
    write.validate(server, context, &request).await?;
    let Some(issuer) = &server.auth.issuer else {
        return Err(Status::internal(
            "tokens cannot be issued: the server runs without --service-account-signing-key-file",
        ));
    };
    let config = TokenConfig {
        issuer,
        audiences: &server.auth.bearer.audiences,
        max_expiration_s: server.tokens.max_expiration_s,
        extend_expiration: server.tokens.extend_expiration,
    };
    let id = uuid::Uuid::new_v4().to_string();
    let issued = token_request::create(&request, &account, &config, &*server.reader, context.now, &id)?;
    for warning in issued.warnings {
        context.warn(warning);
    }
    respond_value(StatusCode::CREATED, &issued.response, target.form)
}
