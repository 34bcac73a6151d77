//! A client that speaks as client-go does by default: protobuf bodies, answers and watches; JSON only where client-go
//! sends JSON.

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use keelson_schema::protobuf;
use serde_json::{Value, json};

use crate::cluster::{Client, next_frame};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What typed clients accept.
const TYPED: &str = "application/vnd.kubernetes.protobuf,application/json";
/// What metadata-only clients accept of lists.
const METADATA_LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// What metadata-only clients accept of objects and watches.
const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
/// How informers start.
pub const STREAMING_LIST: &str =
    "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

/// Typed requests over one connection.
pub struct Typed(pub Client);

impl Typed {
    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> (StatusCode, Value) {
        let response = self.0.send(method, path, headers, body).await;
        let (code, kind) = (response.status(), response.headers()["content-type"].clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(kind, PROTOBUF, "{path}: {}", String::from_utf8_lossy(&bytes));
        (code, protobuf::decode(&bytes).unwrap())
    }

    async fn write(&self, method: Method, path: &str, object: &Value) -> (StatusCode, Value) {
        let body = protobuf::encode(object).unwrap();
        let headers = [("accept", TYPED), ("content-type", PROTOBUF)];
        self.call(method, path, &headers, body).await
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, &[("accept", TYPED)], "").await
    }

    pub async fn get_metadata(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, &[("accept", METADATA)], "").await
    }

    pub async fn list_metadata(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, &[("accept", METADATA_LIST)], "")
            .await
    }

    pub async fn create(&self, path: &str, object: &Value) -> (StatusCode, Value) {
        self.write(Method::POST, path, object).await
    }

    pub async fn update(&self, path: &str, object: &Value) -> (StatusCode, Value) {
        self.write(Method::PUT, path, object).await
    }

    /// Patches travel as JSON or YAML; the answer is protobuf.
    pub async fn patch(&self, path: &str, content_type: &str, patch: &Value) -> (StatusCode, Value) {
        let headers = [("accept", TYPED), ("content-type", content_type)];
        self.call(Method::PATCH, path, &headers, patch.to_string()).await
    }

    /// `DeleteOptions` are framed under the group and version of the object's client.
    pub async fn delete(&self, path: &str, api_version: &str, mut options: Value) -> (StatusCode, Value) {
        options["kind"] = "DeleteOptions".into();
        options["apiVersion"] = "v1".into();
        let framed = protobuf::encode(&options).unwrap();
        let (_, raw) = protobuf::unframe(&framed).unwrap();
        let body = protobuf::frame(api_version, "DeleteOptions", raw);
        let headers = [("accept", TYPED), ("content-type", PROTOBUF)];
        self.call(Method::DELETE, path, &headers, body).await
    }

    pub async fn watch(&self, path: &str) -> Frames {
        self.open(path, TYPED).await
    }

    pub async fn watch_metadata(&self, path: &str) -> Frames {
        self.open(path, METADATA).await
    }

    async fn open(&self, path: &str, accept: &str) -> Frames {
        let response = self.0.send(Method::GET, path, &[("accept", accept)], "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let kind = &response.headers()["content-type"];
        assert_eq!(kind, "application/vnd.kubernetes.protobuf;stream=watch", "{path}");
        Frames {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }
}

/// A watch's events out of length-prefixed frames.
pub struct Frames {
    body: hyper::body::Incoming,
    rest: Vec<u8>,
}

impl Frames {
    /// The next event; panics where none comes in time.
    pub async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((head, rest)) = self.rest.split_at_checked(4) {
                let length = u32::from_be_bytes(head.try_into().unwrap()) as usize;
                if let Some(event) = rest.get(..length) {
                    let (kind, object) = protobuf::decode_watch_event(event).unwrap();
                    let event = (kind.to_owned(), protobuf::decode(object).unwrap());
                    self.rest.drain(..4 + length);
                    return event;
                }
            }
            let bytes = next_frame(&mut self.body).await;
            self.rest.extend_from_slice(&bytes);
        }
    }

    /// Takes events up to the bookmark that ends the initial ones; returns them and the bookmark.
    pub async fn initial(&mut self) -> (Vec<Value>, Value) {
        let mut objects = Vec::new();
        loop {
            let (kind, object) = self.next().await;
            match kind.as_str() {
                "ADDED" => objects.push(object),
                "BOOKMARK" => return (objects, object),
                other => panic!("{other} among the initial events: {object}"),
            }
        }
    }

    /// The types and names of the next events, bookmarks left out.
    pub async fn types(&mut self, count: usize) -> Vec<String> {
        let mut types = Vec::new();
        while types.len() < count {
            let (kind, _) = self.next().await;
            if kind != "BOOKMARK" {
                types.push(kind);
            }
        }
        types
    }
}

/// Options that delete exactly this object.
pub fn exactly(object: &Value) -> Value {
    json!({"preconditions": {"uid": object["metadata"]["uid"]}})
}
