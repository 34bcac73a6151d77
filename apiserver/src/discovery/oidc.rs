//! The token issuer's discovery: `.well-known/openid-configuration` and the key set.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use keelson_machinery::Value;

use crate::wire::body::{self, Body, Response};

/// The two documents.
#[derive(Clone, Debug)]
pub struct Documents {
    configuration: Bytes,
    keys: Bytes,
}

impl Documents {
    pub fn new(configuration: &Value, keys: &Value) -> Self {
        Self {
            configuration: configuration.to_string().into(),
            keys: keys.to_string().into(),
        }
    }

    /// The answer, where the path is one of the two.
    pub fn serve(&self, path: &str) -> Option<Response> {
        let (content_type, bytes) = match path {
            "/.well-known/openid-configuration" => ("application/json", &self.configuration),
            "/openid/v1/jwks" => ("application/jwk-set+json", &self.keys),
            _ => return None,
        };
        let mut response = body::response(StatusCode::OK, content_type, Body::whole(bytes.clone()));
        response.headers_mut().insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=3600"),
        );
        Some(response)
    }
}
