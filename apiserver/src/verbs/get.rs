//! GET of one object: the cached bytes.

use std::sync::Arc;

use keelson_machinery::Status;

use super::Target;
use super::list_options::parse_revision;
use crate::cache::Entry;
use crate::context::Context;
use crate::forms::object;
use crate::server::Server;
use crate::wire::Response;

pub async fn serve(server: &Arc<Server>, context: &Context, target: &Target) -> Result<Response, Status> {
    let entry = fetch(server, context, target).await?;
    object::respond_cached(&target.served, &entry, target.form, target.view)
}

/// The object, as recent as the request asks for.
pub async fn fetch(server: &Server, context: &Context, target: &Target) -> Result<Arc<Entry>, Status> {
    match context.query.get("resourceVersion") {
        None | Some("") => server.progress.wait_current().await?,
        Some("0") => {}
        Some(text) => server.progress.wait_for(parse_revision(text)?).await?,
    }
    let entry = target.served.hub.cache.get(&target.key());
    entry.ok_or_else(|| target.not_found())
}
