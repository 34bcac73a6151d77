//! `meta.v1.Status`: how every refusal is told, with upstream's reasons, codes and messages
//! (`k8s.io/apimachinery/pkg/api/errors`).

use serde_json::{Map, Value, json};

use crate::field::FieldErrors;
use crate::gvk::{GroupKind, GroupResource};

/// A refusal on its way to the client.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, e.g. `NotFound`; empty where upstream gives none.
    pub reason: &'static str,
    pub message: String,
    /// `details` as JSON, or null.
    pub details: Value,
}

impl Status {
    /// Any other refusal.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>, details: Value) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details,
        }
    }

    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(
            404,
            "NotFound",
            format!("{resource} {name:?} not found"),
            named(resource, name),
        )
    }

    /// The path is none the server knows.
    pub fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
            json!({}),
        )
    }

    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("{resource} {name:?} already exists"),
            named(resource, name),
        )
    }

    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(409, "Conflict", message, named(resource, name))
    }

    /// The stale-resourceVersion conflict that clients retry on.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 422 with one cause per field error.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &FieldErrors) -> Self {
        let causes: Vec<Value> = errors
            .0
            .iter()
            .map(|e| json!({"reason": e.kind.reason(), "message": e.body(), "field": e.field}))
            .collect();
        let mut details = Map::new();
        details.insert("name".to_owned(), name.into());
        details.insert("group".to_owned(), kind.group.as_ref().into());
        details.insert("kind".to_owned(), kind.kind.as_ref().into());
        details.insert("causes".to_owned(), causes.into());
        details.retain(|_, value| value != "");
        Self::new(
            422,
            "Invalid",
            format!("{kind} {name:?} is invalid: {errors}"),
            Value::Object(details),
        )
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, Value::Null)
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized", Value::Null)
    }

    /// A refusal by admission or by policy on a named resource.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message, named(resource, name))
    }

    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(405, "MethodNotAllowed", message, json!({}))
    }

    /// The verb is not one of this resource's.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        let message = format!(
            "{verb} is not supported on resources of kind {:?}",
            resource.to_string()
        );
        Self::new(405, "MethodNotAllowed", message, named(resource, ""))
    }

    pub fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::new(406, "NotAcceptable", message, json!({}))
    }

    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message, json!({}))
    }

    /// The asked-for resourceVersion or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message, Value::Null)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message, Value::Null)
    }

    pub fn request_entity_too_large(limit: usize) -> Self {
        let message = format!("limit is {limit}");
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {message}"),
            Value::Null,
        )
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(
            429,
            "TooManyRequests",
            message,
            json!({"retryAfterSeconds": retry_after_s}),
        )
    }

    pub fn timeout(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self::new(
            504,
            "Timeout",
            message,
            json!({"retryAfterSeconds": retry_after_s}),
        )
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message, Value::Null)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        let cause = message.into();
        let details = json!({"causes": [{"message": cause}]});
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {cause}"),
            details,
        )
    }

    /// The body that goes on the wire.
    pub fn to_value(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = self.reason.into();
        }
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        body
    }
}

fn named(resource: &GroupResource, name: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [
        ("name", name),
        ("group", &resource.group),
        ("kind", &resource.resource),
    ] {
        if !value.is_empty() {
            details.insert(key.to_owned(), value.into());
        }
    }
    Value::Object(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_reads_as_kubectl_prints_it() {
        let status = Status::not_found(&GroupResource::new("apps", "deployments"), "web");
        assert_eq!(status.message, "deployments.apps \"web\" not found");
        assert_eq!(
            status.to_value()["details"],
            json!({"name": "web", "group": "apps", "kind": "deployments"})
        );
    }
}
