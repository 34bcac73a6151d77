//! What the server tells about itself: groups, versions, resources, schemas, token issuer.
//!
//! Documents are made once and answered as bytes, with their hash as ETag.

mod aggregated;
mod legacy;
pub mod oidc;
pub mod openapi;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, StatusCode};
use keelson_machinery::{Status, Value};
use keelson_schema::resources::{self, ResourceInfo, SubresourceInfo};
use sha2::{Digest, Sha512};

use crate::context::Context;
use crate::forms::object::respond_value;
use crate::registry::Registry;
use crate::server::Server;
use crate::wire::body::{self, Body, Response};
use crate::wire::negotiate::Form;

/// The group of a subresource's kind: the table leaves out the resource's own.
fn kind_group<'a>(info: &'a ResourceInfo, subresource: &'a SubresourceInfo) -> &'a str {
    match subresource.group.is_empty() {
        true => &info.group,
        false => &subresource.group,
    }
}

/// Groups in the order upstream lists them; others follow by name.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
];

/// One group with its versions, best first, and their resources by name.
pub struct Group {
    pub name: String,
    pub versions: Vec<(String, Vec<ResourceInfo>)>,
}

/// The documents.
pub struct Discovery {
    groups: Vec<Group>,
    documents: BTreeMap<String, Value>,
    aggregated: [OnceLock<(Bytes, String)>; 2],
    pub oidc: Option<oidc::Documents>,
}

impl Discovery {
    /// Of all resources that are served.
    pub fn new(registry: &Registry, address: &str, oidc: Option<oidc::Documents>) -> Self {
        let groups = groups(registry);
        let documents = legacy::documents(&groups, address);
        Self {
            groups,
            documents,
            aggregated: Default::default(),
            oidc,
        }
    }

    /// Paths of the index at `/`.
    fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.documents.keys().cloned().collect();
        for path in [
            "/.well-known/openid-configuration",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ] {
            paths.push(path.to_owned());
        }
        paths.sort();
        paths
    }
}

fn groups(registry: &Registry) -> Vec<Group> {
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    let mut extra = GROUP_ORDER.len();
    for info in resources::all().iter().filter(|info| is_served(registry, info)) {
        let place = GROUP_ORDER.iter().position(|group| *group == info.group);
        let known = groups
            .iter()
            .find(|(_, group)| group.name == info.group)
            .map(|(place, _)| *place);
        let place = place.or(known).unwrap_or_else(|| {
            extra += 1;
            extra
        });
        let group = groups.entry(place).or_insert_with(|| Group {
            name: info.group.to_string(),
            versions: Vec::new(),
        });
        match group
            .versions
            .iter_mut()
            .find(|(version, _)| *version == info.version)
        {
            Some((_, resources)) => resources.push(info.clone()),
            None => group
                .versions
                .push((info.version.to_string(), vec![info.clone()])),
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    for group in &mut groups {
        // v2 before v1: of stable versions the newest is preferred.
        group.versions.sort_by(|a, b| b.0.cmp(&a.0));
        for (_, resources) in &mut group.versions {
            resources.sort_by(|a, b| a.resource.cmp(&b.resource));
        }
    }
    groups
}

fn is_served(registry: &Registry, info: &ResourceInfo) -> bool {
    info.by_default
        && (info.storage_prefix.is_empty()
            || registry
                .find(&info.group, &info.version, &info.resource)
                .is_some())
}

/// The answer, where the path is one of discovery's.
pub fn serve(server: &Server, context: &Context) -> Option<Result<Response, Status>> {
    if !matches!(context.info.verb.as_str(), "get" | "head") {
        return None;
    }
    let discovery = &server.discovery;
    let path = match context.info.path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    if path == "/" {
        let value = serde_json::json!({"paths": discovery.paths()});
        return Some(Ok(json_document(&value.to_string().into_bytes())));
    }
    if let Some(outcome) = openapi::serve(context, path) {
        return Some(outcome);
    }
    if let Some(response) = discovery.oidc.as_ref().and_then(|oidc| oidc.serve(path)) {
        return Some(Ok(response));
    }
    if matches!(path, "/api" | "/apis")
        && let Some(version) = wants_aggregated(context)
    {
        return Some(Ok(aggregated_document(discovery, context, path, version)));
    }
    let document = discovery.documents.get(path)?;
    let form = Form::negotiate(&context.parts.headers, &context.query, false);
    Some(form.and_then(|form| respond_value(StatusCode::OK, document, form)))
}

fn json_document(bytes: &[u8]) -> Response {
    body::response(
        StatusCode::OK,
        "application/json",
        Body::whole(Bytes::copy_from_slice(bytes)),
    )
}

/// The version of the aggregated form that the client prefers over the plain one.
fn wants_aggregated(context: &Context) -> Option<&'static str> {
    let accept = context.parts.headers.get(ACCEPT)?.to_str().ok()?;
    let first = accept.split(',').find(|clause| {
        let clause = clause.trim();
        clause.contains("as=APIGroupDiscoveryList") || !clause.contains("as=")
    })?;
    if !first.contains("g=apidiscovery.k8s.io") || !first.trim().starts_with("application/json") {
        return None;
    }
    if first.contains("v=v2beta1") {
        return Some("v2beta1");
    }
    first.contains("v=v2").then_some("v2")
}

fn aggregated_document(
    discovery: &Discovery,
    context: &Context,
    path: &str,
    version: &'static str,
) -> Response {
    let core = path == "/api";
    let slot = &discovery.aggregated[usize::from(core)];
    let (bytes, etag) = slot.get_or_init(|| {
        let document = aggregated::document(&discovery.groups, core).to_string();
        let etag = format!("\"{}\"", hex_upper(&Sha512::digest(&document)));
        (document.into(), etag)
    });
    let unchanged = context
        .parts
        .headers
        .get(IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == etag.as_bytes());
    let mut response = http::Response::new(Body::Empty);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = match version {
            "v2" => Body::whole(bytes.clone()),
            other => Body::whole(String::from_utf8_lossy(bytes).replacen(
                "apidiscovery.k8s.io/v2",
                &format!("apidiscovery.k8s.io/{other}"),
                1,
            )),
        };
        let content_type =
            format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        if let Ok(value) = HeaderValue::from_str(&content_type) {
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
    }
    if let Ok(value) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, value);
    }
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    response
}

fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
