//! May someone do something? SubjectAccessReview and its self and local forms.

use std::sync::Arc;

use keelson_machinery::gvk::GroupKind;
use keelson_machinery::{FieldErrors, Path, Status, fields};
use serde_json::{Value, json};

use crate::authz::{Attributes, Authorizer, Decision, SelectorRequirement};
use crate::user::UserInfo;

const GROUP: &str = "authorization.k8s.io";

/// Answers a SubjectAccessReview about the user it names.
///
/// # Errors
/// The review is not valid.
pub fn subject_access_review(review: &Value, authorizer: &dyn Authorizer) -> Result<Value, Status> {
    validate(review, "SubjectAccessReview", true)?;
    let user = named_user(&review["spec"]);
    Ok(answered(review, &Arc::new(user), authorizer))
}

/// Answers a SelfSubjectAccessReview about its author.
///
/// # Errors
/// The review is not valid.
pub fn self_subject_access_review(
    review: &Value,
    user: &Arc<UserInfo>,
    authorizer: &dyn Authorizer,
) -> Result<Value, Status> {
    validate(review, "SelfSubjectAccessReview", false)?;
    Ok(answered(review, user, authorizer))
}

/// Answers a LocalSubjectAccessReview, which may only ask about its own namespace.
///
/// # Errors
/// The review is not valid, or asks about another namespace.
pub fn local_subject_access_review(
    review: &Value,
    namespace: &str,
    authorizer: &dyn Authorizer,
) -> Result<Value, Status> {
    validate(review, "LocalSubjectAccessReview", true)?;
    if review["spec"]["resourceAttributes"]["namespace"]
        .as_str()
        .unwrap_or("")
        != namespace
    {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    let user = named_user(&review["spec"]);
    Ok(answered(review, &Arc::new(user), authorizer))
}

fn named_user(spec: &Value) -> UserInfo {
    let text = |key: &str| spec[key].as_str().unwrap_or("").to_owned();
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let extra = spec["extra"].as_object().into_iter().flatten();
    UserInfo {
        name: text("user"),
        uid: text("uid"),
        groups: list(&spec["groups"]),
        extra: extra
            .map(|(key, values)| (key.to_lowercase(), list(values)))
            .collect(),
    }
}

fn validate(review: &Value, kind: &'static str, names_user: bool) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    let spec = &review["spec"];
    let path = Path::new("spec");
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if kind == "LocalSubjectAccessReview" {
        if !other.is_null() {
            let detail = "disallowed on this kind of request";
            errors.invalid(&path.child("nonResourceAttributes"), other.clone(), detail);
        }
    } else if resource.is_object() && other.is_object() {
        let detail = "cannot be specified in combination with resourceAttributes";
        errors.invalid(&path.child("nonResourceAttributes"), other.clone(), detail);
    }
    if !resource.is_object() && !other.is_object() {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.invalid(&path.child("resourceAttributes"), Value::Null, detail);
    }
    let empty = |value: &Value| value.as_str().is_none_or(str::is_empty);
    let no_groups = spec["groups"].as_array().is_none_or(Vec::is_empty);
    if names_user && empty(&spec["user"]) && no_groups {
        let detail = "at least one of user or group must be specified";
        errors.invalid(&path.child("user"), "", detail);
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&GroupKind::new(GROUP, kind), "", &errors))
}

fn answered(review: &Value, user: &Arc<UserInfo>, authorizer: &dyn Authorizer) -> Value {
    let (decision, reason) = authorizer.authorize(&attributes(&review["spec"], user));
    let mut status = json!({"allowed": decision == Decision::Allow});
    if decision == Decision::Deny {
        status["denied"] = true.into();
    }
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    let mut answer = review.clone();
    answer["status"] = status;
    answer
}

fn attributes(spec: &Value, user: &Arc<UserInfo>) -> Attributes {
    let asked = &spec["resourceAttributes"];
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    if !asked.is_object() {
        let asked = &spec["nonResourceAttributes"];
        return Attributes {
            user: user.clone(),
            verb: text(asked, "verb").into(),
            path: text(asked, "path"),
            ..Attributes::default()
        };
    }
    Attributes {
        user: user.clone(),
        verb: text(asked, "verb").into(),
        namespace: text(asked, "namespace"),
        group: text(asked, "group").into(),
        version: text(asked, "version").into(),
        resource: text(asked, "resource").into(),
        subresource: text(asked, "subresource").into(),
        name: text(asked, "name"),
        path: String::new(),
        is_resource: true,
        field_selector: field_selector(&asked["fieldSelector"]),
        label_selector: requirements(&asked["labelSelector"]),
    }
}

/// Requirements that cannot be read are left out: the request then counts as wider, and so less is allowed.
fn requirements(selector: &Value) -> Vec<SelectorRequirement> {
    let items = selector["requirements"].as_array().into_iter().flatten();
    items
        .filter_map(|item| {
            let operator = match item["operator"].as_str()? {
                "In" => "In",
                "NotIn" => "NotIn",
                "Exists" => "Exists",
                "DoesNotExist" => "DoesNotExist",
                _ => return None,
            };
            let values = item["values"].as_array().into_iter().flatten();
            Some(SelectorRequirement {
                key: item["key"].as_str()?.to_owned(),
                operator,
                values: values.filter_map(Value::as_str).map(str::to_owned).collect(),
            })
        })
        .collect()
}

fn field_selector(selector: &Value) -> Vec<SelectorRequirement> {
    let Some(raw) = selector["rawSelector"].as_str().filter(|raw| !raw.is_empty()) else {
        return requirements(selector);
    };
    Attributes::field_requirements(
        &fields::Selector::parse(raw).unwrap_or_else(|_| fields::Selector::everything()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::modes::{AlwaysAllow, AlwaysDeny};

    #[test]
    fn answers_carry_decision_and_reason() {
        let spec = json!({"user": "bob", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "dev"}});
        let review = json!({"spec": spec});
        assert_eq!(
            subject_access_review(&review, &AlwaysAllow).unwrap()["status"],
            json!({"allowed": true})
        );
        assert_eq!(
            local_subject_access_review(&review, "dev", &AlwaysDeny).unwrap()["status"],
            json!({"allowed": false, "reason": "Everything is forbidden."})
        );
        let other = local_subject_access_review(&review, "prod", &AlwaysDeny).unwrap_err();
        assert_eq!(
            other.message,
            "spec.resourceAttributes.namespace must match namespace: prod"
        );
    }

    #[test]
    fn invalid_reviews_are_refused_with_every_error() {
        let refused = subject_access_review(&json!({"spec": {}}), &AlwaysAllow).unwrap_err();
        assert_eq!(
            refused.message,
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: \
             [spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes \
             must be specified, spec.user: Invalid value: \"\": at least one of user or group must be specified]"
        );
    }
}
