//! LIST: slices of the cache, as recent as asked for, or as they were.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use keelson_machinery::Status;
use keelson_proto::etcd::etcdserverpb as pb;

use super::Target;
use super::continue_token::Continue;
use super::list_options::{ListOptions, Match};
use crate::cache::feed::Decode;
use crate::cache::resource::{Listing, Page};
use crate::context::Context;
use crate::forms::list;
use crate::forms::object::respond_value;
use crate::forms::protobuf::ListMeta;
use crate::server::Server;
use crate::storage::StoreError;
use crate::storage::keys::range_end;
use crate::wire::Response;

const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. \
You can start a new list without the continue parameter, or use the continue token in this response to \
retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - \
objects that were created, modified, or deleted between the time the first chunk was returned and now may \
show up in the list.";

pub async fn serve(server: &Arc<Server>, context: &Context, target: &Target) -> Result<Response, Status> {
    let options = ListOptions::parse(&context.query, target, false)?;
    let (listing, consistent) = match read(server, target, &options).await {
        Ok(listing) => listing,
        Err(Refusal::Status(status)) => return Err(status),
        Err(Refusal::Expired(after)) => return expired(&after, target),
    };
    let (meta, listing) = meta(listing, consistent, &options, target);
    list::respond(&target.served, listing.entries, &meta, target.form, target.view).await
}

/// What keeps a list from being read.
enum Refusal {
    Status(Status),
    /// History does not reach back that far; the page would go on after this key.
    Expired(String),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The list, and whether its pages are of one revision.
async fn read(server: &Server, target: &Target, options: &ListOptions) -> Result<(Listing, bool), Refusal> {
    let page = Page {
        after: options
            .next
            .as_ref()
            .map_or_else(String::new, |next| format!("{}{}", scope(target), next.after)),
        limit: options.limit,
    };
    let cache = &target.served.hub.cache;
    let at = match (&options.next, options.revision, options.revision_match) {
        (Some(next), _, _) => next.revision,
        (None, Some(revision), Some(Match::Exact)) => Some(revision),
        // Upstream reads a limit with a revision and no match as "exact" of old.
        (None, Some(revision), None) if options.limit > 0 && revision > 0 => Some(revision),
        _ => None,
    };
    let Some(at) = at else {
        match (&options.next, options.revision) {
            (Some(_), _) | (None, None) => server.progress.wait_current().await?,
            (None, Some(0)) => {}
            (None, Some(revision)) => server.progress.wait_for(revision).await?,
        }
        return Ok((cache.list(&options.selection, &page), options.next.is_none()));
    };
    server.progress.wait_for(at).await?;
    match cache.list_at(at, &options.selection, &page) {
        Ok(listing) => Ok((listing, true)),
        Err(_) => from_store(server, target, options, &page, at).await,
    }
}

/// A page out of the store's history.
async fn from_store(
    server: &Server,
    target: &Target,
    options: &ListOptions,
    page: &Page,
    at: i64,
) -> Result<(Listing, bool), Refusal> {
    let hub = &target.served.hub;
    let prefix = server.keys.resource(&hub.kind.info().clone());
    let scope = match &options.selection.namespace {
        Some(namespace) => format!("{prefix}{namespace}/"),
        None => prefix.clone(),
    };
    let start = match page.after.is_empty() {
        true => scope.clone(),
        false => format!("{prefix}{}\0", page.after),
    };
    let request = pb::RangeRequest {
        key: Bytes::from(start),
        range_end: range_end(scope.as_bytes()).into(),
        revision: at,
        ..Default::default()
    };
    let answer = match server.store.range(request).await {
        Ok(answer) => answer,
        Err(StoreError::Compacted) => return Err(Refusal::Expired(page.after.clone())),
        Err(error) => return Err(Refusal::Status(error.into())),
    };
    let limit = if page.limit == 0 { usize::MAX } else { page.limit };
    let mut selected = answer
        .kvs
        .iter()
        .filter_map(|kv| {
            let key = String::from_utf8_lossy(&kv.key);
            hub.entry(&key[prefix.len().min(key.len())..], &kv.value, kv.mod_revision)
        })
        .filter(|entry| options.selection.matches(entry));
    let entries: Vec<_> = selected.by_ref().take(limit).map(Arc::new).collect();
    let remaining = selected.count();
    let listing = Listing {
        entries: Arc::new(entries),
        revision: at,
        remaining,
        more: remaining > 0,
    };
    Ok((listing, true))
}

/// What a token leaves out of the keys: the namespace of a list of one. Upstream's tokens do, and either server goes on
/// where the other stopped.
fn scope(target: &Target) -> String {
    match target.namespace.is_empty() || !target.served.info.namespaced {
        true => String::new(),
        false => format!("{}/", target.namespace),
    }
}

/// A token that goes on after a key.
fn token(after: &str, revision: Option<i64>, target: &Target) -> String {
    let after = after.strip_prefix(&scope(target)).unwrap_or(after).to_owned();
    Continue { revision, after }.encode()
}

fn meta(listing: Listing, consistent: bool, options: &ListOptions, target: &Target) -> (ListMeta, Listing) {
    let next = match (listing.more, listing.entries.last()) {
        (true, Some(last)) => token(&last.key, consistent.then_some(listing.revision), target),
        _ => String::new(),
    };
    let plain = options.selection.is_plain();
    let remaining = (listing.more && plain).then(|| i64::try_from(listing.remaining).unwrap_or(i64::MAX));
    let meta = ListMeta {
        resource_version: listing.revision.to_string(),
        next,
        remaining,
    };
    (meta, listing)
}

/// 410, with a token that goes on inconsistently.
fn expired(after: &str, target: &Target) -> Result<Response, Status> {
    if after.is_empty() {
        return Err(Status::expired(
            "The resourceVersion for the provided list is too old.",
        ));
    }
    let mut status = Status::expired(TOO_OLD).to_value();
    status["metadata"]["continue"] = token(after, None, target).into();
    respond_value(StatusCode::GONE, &status, target.form)
}
