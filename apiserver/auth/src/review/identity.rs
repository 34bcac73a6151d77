//! TokenReview: whose token is this? SelfSubjectReview: who am I?

use jiff::Timestamp;
use keelson_machinery::Status;
use serde_json::{Value, json};

use crate::authn::bearer::Bearer;
use crate::user::{ALL_AUTHENTICATED, UserInfo};

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Answers a TokenReview. A token nobody knows is an answer, not an error.
///
/// # Errors
/// The review names no token.
pub fn token_review(review: &Value, bearer: &Bearer, now: Timestamp) -> Result<Value, Status> {
    let token = review["spec"]["token"].as_str().unwrap_or("");
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked = strings(&review["spec"]["audiences"]);
    let audiences = if asked.is_empty() {
        &bearer.audiences
    } else {
        &asked
    };
    let mut status = json!({"user": {}});
    match bearer.review(token, audiences, now) {
        Ok(Some((user, audiences))) => {
            let mut user = UserInfo::clone(&user);
            if !user.in_group(ALL_AUTHENTICATED) {
                user.groups.push(ALL_AUTHENTICATED.to_owned());
            }
            status = json!({"authenticated": true, "user": user.to_value()});
            if !audiences.is_empty() {
                status["audiences"] = audiences.into();
            }
        }
        Ok(None) => status["error"] = "invalid bearer token".into(),
        Err(error) => status["error"] = error.to_string().into(),
    }
    let mut answer = review.clone();
    answer["status"] = status;
    Ok(answer)
}

/// Answers a SelfSubjectReview.
pub fn self_subject_review(review: &Value, user: &UserInfo) -> Value {
    let mut answer = review.clone();
    answer["status"] = json!({"userInfo": user.to_value()});
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::token_file::TokenFile;
    use std::sync::Arc;

    #[test]
    fn tokens_are_told_apart() {
        let file = TokenFile::parse("t1,ann,1,dev", vec!["api".to_owned()]).unwrap();
        let bearer = Bearer {
            kinds: vec![Arc::new(file)],
            audiences: vec!["api".to_owned()],
        };
        let ask = |spec: Value| token_review(&json!({"spec": spec}), &bearer, Timestamp::UNIX_EPOCH);
        let user = json!({"username": "ann", "uid": "1", "groups": ["dev", "system:authenticated"]});
        assert_eq!(
            ask(json!({"token": "t1"})).unwrap()["status"],
            json!({"authenticated": true, "user": user, "audiences": ["api"]})
        );
        assert_eq!(
            ask(json!({"token": "t2"})).unwrap()["status"],
            json!({"user": {}, "error": "invalid bearer token"})
        );
        assert_eq!(ask(json!({})).unwrap_err().code, 400);
    }
}
