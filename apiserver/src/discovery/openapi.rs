//! `/openapi/v3`: the index, and one document per group and version, made when first asked for.
//!
//! Each document is hashed; the index names it by its hash, and an answer under the right hash may be cached for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use keelson_machinery::Status;
use parking_lot::Mutex;
use serde_json::json;
use sha2::{Digest, Sha512};

use super::{Group, hex_upper, schemas};
use crate::context::Context;
use crate::server::Server;
use crate::wire::body::{self, Body, Response};

/// The documents made so far.
#[derive(Debug, Default)]
pub struct OpenApi {
    index: OnceLock<Bytes>,
    /// By path below `/openapi/v3/`; guards the making, so that each is made once.
    documents: Mutex<BTreeMap<String, Arc<Document>>>,
}

/// A document and its hash.
#[derive(Debug)]
struct Document {
    bytes: Bytes,
    hash: String,
}

/// The answer, where the path is one of these.
pub fn serve(server: &Server, context: &Context, path: &str) -> Option<Result<Response, Status>> {
    let openapi = &server.discovery.openapi;
    let groups = &server.discovery.groups;
    if path == "/openapi/v3" {
        let index = openapi.index.get_or_init(|| openapi.make_index(groups));
        return Some(Ok(body::response(
            StatusCode::OK,
            "application/json",
            Body::whole(index.clone()),
        )));
    }
    let name = path.strip_prefix("/openapi/v3/")?;
    let document = openapi.document(groups, name)?;
    let mut response = body::response(
        StatusCode::OK,
        "application/json",
        Body::whole(document.bytes.clone()),
    );
    let etag = format!("\"{}\"", document.hash);
    if context
        .parts
        .headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == etag.as_bytes())
    {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::Empty;
    }
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    if context.query.get("hash") == Some(document.hash.as_str()) {
        response.headers_mut().insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, immutable"),
        );
    }
    Some(Ok(response))
}

impl OpenApi {
    fn make_index(&self, groups: &[Group]) -> Bytes {
        let mut paths = serde_json::Map::new();
        for group in groups {
            for (version, _) in &group.versions {
                let name = match group.name.as_str() {
                    "" => format!("api/{version}"),
                    group => format!("apis/{group}/{version}"),
                };
                if let Some(document) = self.document(groups, &name) {
                    let url = format!("/openapi/v3/{name}?hash={}", document.hash);
                    paths.insert(name, json!({"serverRelativeURL": url}));
                }
            }
        }
        json!({"paths": paths}).to_string().into()
    }

    fn document(&self, groups: &[Group], name: &str) -> Option<Arc<Document>> {
        let mut documents = self.documents.lock();
        if let Some(made) = documents.get(name) {
            return Some(made.clone());
        }
        let (group, version) = match name.split('/').collect::<Vec<_>>()[..] {
            ["api", version] => ("", version),
            ["apis", group, version] => (group, version),
            _ => return None,
        };
        let group = groups.iter().find(|one| one.name == group)?;
        let (_, resources) = group.versions.iter().find(|(one, _)| one == version)?;
        let bytes: Bytes = schemas::document(&group.name, version, resources)
            .to_string()
            .into();
        let hash = hex_upper(&Sha512::digest(&bytes));
        let made = Arc::new(Document { bytes, hash });
        documents.insert(name.to_owned(), made.clone());
        Some(made)
    }
}
