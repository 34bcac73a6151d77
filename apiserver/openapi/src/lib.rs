//! The OpenAPI documents of the built-in kinds: `/openapi/v2` and `/openapi/v3/...`.
//!
//! Shapes, required fields, list types, patch strategies and defaults come from the schema tables, verbs from the resources
//! table, descriptions from k8s-openapi (compressed at build time). A document is made when asked for and not kept; its hash
//! is of what it is made from, so asking for the index makes none of them.
//!
//! v2 comes in JSON and in protobuf, v3 in JSON.
//!
//! Left out: documents of custom and aggregated resources, the deprecated `/watch/` paths, the protobuf form of v3.

mod descriptions;
mod paths;
mod protobuf;
mod schema;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use keelson_schema::resources::{self, ResourceInfo};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use descriptions::Descriptions;
use protobuf::Protobuf;
use schema::Form;

/// The whole API as OpenAPI v2 (Swagger), in JSON. `version` is the server's (`v1.36.0`).
pub fn v2(version: &str) -> Vec<u8> {
    swagger(Document::default(), version)
}

/// The same in protobuf, as `openapi.v2.Document`.
pub fn v2_protobuf(version: &str) -> Vec<u8> {
    swagger(Protobuf::v2(), version)
}

fn swagger(mut out: impl Writer, version: &str) -> Vec<u8> {
    let served: Vec<&ResourceInfo> = served().collect();
    let descriptions = Descriptions::load();
    out.entry("swagger", &"2.0".into());
    out.entry("info", &info(version));
    out.section("paths");
    for (path, item) in paths::items(&served, Form::V2) {
        out.entry(&path, &item);
    }
    out.close();
    out.section("definitions");
    for name in schema::closure(&paths::roots(&served)) {
        out.entry(&name, &schema::definition(&name, &descriptions, Form::V2));
    }
    out.close();
    let token = json!({"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"});
    out.entry("securityDefinitions", &json!({"BearerToken": token}));
    out.entry("security", &json!([{"BearerToken": []}]));
    out.finish()
}

/// One document of OpenAPI v3, in JSON: `api/v1`, `apis/apps/v1`; `None` where the path names none.
pub fn v3(path: &str, version: &str) -> Option<Vec<u8>> {
    versioned(Document::default(), path, version)
}

/// The same in protobuf, as `openapi.v3.Document`.
pub fn v3_protobuf(path: &str, version: &str) -> Option<Vec<u8>> {
    versioned(Protobuf::v3(), path, version)
}

fn versioned(mut out: impl Writer, path: &str, version: &str) -> Option<Vec<u8>> {
    let served: Vec<&ResourceInfo> = served().filter(|one| document_of(one) == path).collect();
    let known = !served.is_empty();
    out.entry("openapi", &"3.0.0".into());
    out.entry("info", &info(version));
    out.section("paths");
    let items = if known {
        paths::items(&served, Form::V3)
    } else {
        vec![paths::root_item(path)?]
    };
    for (path, item) in items {
        out.entry(&path, &item);
    }
    out.close();
    out.section("components");
    out.section("schemas");
    let roots = if known {
        paths::roots(&served)
    } else {
        BTreeSet::new()
    };
    let descriptions = known.then(Descriptions::load).unwrap_or_default();
    for name in schema::closure(&roots) {
        out.entry(&name, &schema::definition(&name, &descriptions, Form::V3));
    }
    out.close();
    let token = json!({"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"});
    out.entry("securitySchemes", &json!({"BearerToken": token}));
    out.close();
    Some(out.finish())
}

/// `/openapi/v3`: every document with the hash that makes it cacheable for ever.
pub fn v3_index(version: &str) -> Vec<u8> {
    let entry = |path: &String| {
        let url = format!("/openapi/v3/{path}?hash={}", hash(path, version));
        (path.clone(), json!({"serverRelativeURL": url}))
    };
    let paths: serde_json::Map<String, Value> = documents().iter().map(entry).collect();
    json!({"paths": paths}).to_string().into_bytes()
}

/// The hash of a document: changes whenever its text does. `path` is `v2`, `v2.protobuf` or one of [`documents`].
pub fn hash(path: &str, version: &str) -> String {
    let mut hasher = Sha512::new();
    for part in [
        descriptions::BLOB,
        schema::FACTS,
        env!("CARGO_PKG_VERSION").as_bytes(),
    ] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.update(version);
    hasher.update([0]);
    hasher.update(path);
    let mut text = String::with_capacity(128);
    for byte in hasher.finalize() {
        write!(text, "{byte:02X}").expect("writing to a string cannot fail");
    }
    text
}

/// The paths of the documents of OpenAPI v3.
pub fn documents() -> BTreeSet<String> {
    let mut paths: BTreeSet<String> = served().map(document_of).collect();
    paths.extend(["api", "apis", "version"].map(str::to_owned));
    let groups = served().filter(|one| !one.group.is_empty());
    paths.extend(groups.map(|one| format!("apis/{}", one.group)));
    paths
}

fn served() -> impl Iterator<Item = &'static ResourceInfo> {
    resources::all().iter().filter(|one| one.by_default)
}

/// `api/v1` or `apis/apps/v1`.
fn document_of(resource: &ResourceInfo) -> String {
    match &*resource.group {
        "" => format!("api/{}", resource.version),
        group => format!("apis/{group}/{}", resource.version),
    }
}

fn info(version: &str) -> Value {
    json!({"title": "Kubernetes", "version": version})
}

/// A document written entry by entry, so that none stands in memory twice.
trait Writer {
    /// A field of the document, or of the section being written.
    fn entry(&mut self, key: &str, value: &Value);
    /// Starts a field that is an object, to be written by its entries.
    fn section(&mut self, key: &str);
    /// Ends what was started last.
    fn close(&mut self);
    fn finish(self) -> Vec<u8>;
}

/// A document as JSON text.
#[derive(Default)]
struct Document {
    text: Vec<u8>,
}

impl Document {
    fn key(&mut self, key: &str) {
        match self.text.last() {
            None => self.text.push(b'{'),
            // The first of its section.
            Some(b'{') => {}
            Some(_) => self.text.push(b','),
        }
        self.text
            .extend_from_slice(Value::from(key).to_string().as_bytes());
        self.text.push(b':');
    }
}

impl Writer for Document {
    fn entry(&mut self, key: &str, value: &Value) {
        self.key(key);
        serde_json::to_writer(&mut self.text, value).expect("writing to memory cannot fail");
    }

    fn section(&mut self, key: &str) {
        self.key(key);
        self.text.push(b'{');
    }

    fn close(&mut self) {
        self.text.push(b'}');
    }

    fn finish(mut self) -> Vec<u8> {
        self.text.push(b'}');
        self.text
    }
}

#[cfg(test)]
mod tests;
