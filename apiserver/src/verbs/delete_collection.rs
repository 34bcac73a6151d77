//! DELETE on a collection: every object selected, several at a time.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use keelson_machinery::Status;

use super::delete_options::DeleteOptions;
use super::list_options::ListOptions;
use super::{Target, delete};
use crate::cache::Entry;
use crate::cache::resource::Page;
use crate::context::Context;
use crate::forms::list;
use crate::forms::protobuf::ListMeta;
use crate::limits::DELETE_COLLECTION_WORKERS;
use crate::server::Server;
use crate::wire::Response;

pub async fn serve(server: &Arc<Server>, context: &mut Context, target: &Target) -> Result<Response, Status> {
    let options = DeleteOptions::read(context).await?;
    let selected = ListOptions::parse(&context.query, target, false)?;
    server.progress.wait_current().await?;
    let page = Page {
        limit: selected.limit,
        ..Page::default()
    };
    let listing = target.served.hub.cache.list(&selected.selection, &page);
    let meta = ListMeta {
        resource_version: listing.revision.to_string(),
        ..ListMeta::default()
    };
    let context = &*context;
    let mut waiting = listing.entries.iter();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < DELETE_COLLECTION_WORKERS
            && let Some(entry) = waiting.next()
        {
            running.push(one(server, context, target, entry, &options));
        }
        match running.next().await {
            Some(outcome) => outcome?,
            None => break,
        }
    }
    drop(running);
    list::respond(&target.served, listing.entries, &meta, target.form, target.view).await
}

/// Deletes one; what is gone already is no error.
async fn one(
    server: &Arc<Server>,
    context: &Context,
    target: &Target,
    entry: &Entry,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let mut target = target.clone();
    entry.name().clone_into(&mut target.name);
    entry.namespace().clone_into(&mut target.namespace);
    let mut own = context.for_one_more();
    match delete::run(server, &mut own, &target, options).await {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}
