//! Review kinds: asked, answered, never stored. The answers are made by authentication and authorization; here is
//! what a question must look like.

use keelson_machinery::{Cursor, FieldErrors, Value};

use crate::kind::{Kind, resource};
use crate::{check, set};

/// Seconds a requested token may live at most: 2^32.
const TOKEN_S_MAX: i64 = 1 << 32;
const TOKEN_S_MIN: i64 = 600;

pub struct TokenReview;
pub struct SelfSubjectReview;
pub struct SubjectAccessReview;
pub struct LocalSubjectAccessReview;
pub struct SelfSubjectAccessReview;
pub struct SelfSubjectRulesReview;

impl Kind for TokenReview {
    resource!("authentication.k8s.io", "v1", "tokenreviews");

    /// Upstream refuses an empty token with 400, not as a field error: the caller checks that.
    fn validate(&self, _new: &Value, _old: Option<&Value>) -> FieldErrors {
        FieldErrors::default()
    }
}

impl Kind for SelfSubjectReview {
    resource!("authentication.k8s.io", "v1", "selfsubjectreviews");

    fn validate(&self, _new: &Value, _old: Option<&Value>) -> FieldErrors {
        FieldErrors::default()
    }
}

impl Kind for SubjectAccessReview {
    resource!("authorization.k8s.io", "v1", "subjectaccessreviews");

    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut e = FieldErrors::default();
        let spec = Cursor::root(new).child("spec");
        attributes(&mut e, &spec);
        subject(&mut e, &spec);
        no_metadata(&mut e, new, &[]);
        e
    }
}

impl Kind for LocalSubjectAccessReview {
    resource!("authorization.k8s.io", "v1", "localsubjectaccessreviews");

    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut e = FieldErrors::default();
        let spec = Cursor::root(new).child("spec");
        attributes(&mut e, &spec);
        subject(&mut e, &spec);
        no_metadata(&mut e, new, &["namespace"]);
        let namespace = spec.child("resourceAttributes").child("namespace");
        let own = new["metadata"]["namespace"].as_str().unwrap_or("");
        if !spec.child("resourceAttributes").is_absent() && namespace.str() != own {
            check::invalid_str(&mut e, &namespace, "must match metadata.namespace");
        }
        let paths = spec.child("nonResourceAttributes");
        if !paths.is_absent() {
            check::invalid(&mut e, &paths, "disallowed on this kind of request");
        }
        e
    }
}

impl Kind for SelfSubjectAccessReview {
    resource!("authorization.k8s.io", "v1", "selfsubjectaccessreviews");

    fn validate(&self, new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut e = FieldErrors::default();
        attributes(&mut e, &Cursor::root(new).child("spec"));
        no_metadata(&mut e, new, &[]);
        e
    }
}

impl Kind for SelfSubjectRulesReview {
    resource!("authorization.k8s.io", "v1", "selfsubjectrulesreviews");

    fn validate(&self, _new: &Value, _old: Option<&Value>) -> FieldErrors {
        FieldErrors::default()
    }
}

/// Exactly one of resource and path is asked about.
fn attributes(e: &mut FieldErrors, spec: &Cursor) {
    let (resource, path) = (
        spec.child("resourceAttributes"),
        spec.child("nonResourceAttributes"),
    );
    match (resource.is_absent(), path.is_absent()) {
        (false, false) => check::invalid(
            e,
            &path,
            "cannot be specified in combination with resourceAttributes",
        ),
        (true, true) => check::invalid(
            e,
            &resource,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        _ => {}
    }
    for selector in ["fieldSelector", "labelSelector"] {
        let c = resource.child(selector);
        if !c.child("rawSelector").str().is_empty() && !c.child("requirements").is_empty() {
            check::invalid_str(
                e,
                &c.child("rawSelector"),
                "may not specified at the same time as requirements",
            );
        }
    }
}

fn subject(e: &mut FieldErrors, spec: &Cursor) {
    let user = spec.child("user");
    if user.str().is_empty() && spec.child("groups").is_empty() {
        check::invalid_str(e, &user, "at least one of user or group must be specified");
    }
}

/// A question has no name: metadata must be empty but for the fields given.
fn no_metadata(e: &mut FieldErrors, obj: &Value, except: &[&str]) {
    let mut metadata = obj["metadata"].clone();
    for key in except.iter().chain(&["managedFields", "creationTimestamp"]) {
        set::remove(&mut metadata, key);
    }
    if !set::is_zero(&metadata) {
        let detail = match except.is_empty() {
            true => "must be empty",
            false => "must be empty except for namespace",
        };
        e.invalid(&crate::metadata::path(), metadata, detail);
    }
}

/// Fills what a `TokenRequest` leaves open.
pub fn set_token_request_defaults(request: &mut Value) {
    set::absent(set::object(request, "spec"), "expirationSeconds", 3600);
}

/// A `TokenRequest` to a ServiceAccount's `token` subresource.
pub fn validate_token_request(request: &Value) -> FieldErrors {
    let mut e = FieldErrors::default();
    let expiration = Cursor::root(request).child("spec").child("expirationSeconds");
    let seconds = expiration.i64().unwrap_or(0);
    if seconds < TOKEN_S_MIN {
        check::invalid_int(
            &mut e,
            &expiration,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > TOKEN_S_MAX {
        check::invalid_int(
            &mut e,
            &expiration,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    e
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn questions() {
        let review = json!({"spec": {"user": "", "resourceAttributes": {"verb": "get"}}});
        assert_eq!(
            SubjectAccessReview.validate(&review, None).to_string(),
            "spec.user: Invalid value: \"\": at least one of user or group must be specified"
        );
        assert_eq!(
            SelfSubjectAccessReview
                .validate(&json!({"spec": {}}), None)
                .to_string(),
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or \
             resourceAttributes must be specified"
        );
        assert_eq!(
            validate_token_request(&json!({"spec": {"expirationSeconds": 5}})).to_string(),
            "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"
        );
    }
}
