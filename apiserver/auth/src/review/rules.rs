//! What may I do here? SelfSubjectRulesReview, for `kubectl auth can-i --list`.

use keelson_machinery::Status;
use serde_json::{Value, json};

use crate::authz::node::Node;
use crate::authz::rbac::Rbac;
use crate::authz::rbac::rule::Rule;
use crate::user::UserInfo;

/// The rules a user holds, as far as an authorizer can list them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub rules: Vec<Rule>,
    /// Some of what the user may do cannot be listed.
    pub incomplete: bool,
    pub errors: Vec<String>,
}

/// An authorizer that can list what it would allow.
pub trait RuleResolver: Send + Sync {
    fn rules_for(&self, user: &UserInfo, namespace: &str) -> Rules;
}

impl RuleResolver for Rbac {
    fn rules_for(&self, user: &UserInfo, namespace: &str) -> Rules {
        let (rules, errors) = Rbac::rules_for(self, user, namespace);
        Rules {
            rules,
            incomplete: !errors.is_empty(),
            errors,
        }
    }
}

impl RuleResolver for Node {
    fn rules_for(&self, user: &UserInfo, _namespace: &str) -> Rules {
        match user.is_node() {
            false => Rules::default(),
            true => Rules {
                incomplete: true,
                errors: vec!["node authorizer does not support user rule resolution".to_owned()],
                ..Rules::default()
            },
        }
    }
}

/// Answers a SelfSubjectRulesReview from all authorizers of the server.
///
/// # Errors
/// The review names no namespace.
pub fn self_subject_rules_review(
    review: &Value,
    user: &UserInfo,
    resolvers: &[std::sync::Arc<dyn RuleResolver>],
) -> Result<Value, Status> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or("");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (mut resource_rules, mut path_rules) = (Vec::new(), Vec::new());
    let (mut incomplete, mut errors) = (false, Vec::new());
    for resolver in resolvers {
        let own = resolver.rules_for(user, namespace);
        incomplete |= own.incomplete;
        errors.extend(own.errors);
        for rule in own.rules {
            match rule.urls.is_empty() {
                true => resource_rules.push(rule.to_value()),
                false => path_rules.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls})),
            }
        }
    }
    let mut status = json!({
        "resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": incomplete,
    });
    if !errors.is_empty() {
        status["evaluationError"] = errors.join(", ").into();
    }
    let mut answer = review.clone();
    answer["status"] = status;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn rules_of_all_authorizers_are_listed() {
        let objects: Arc<keelson_testkit::Objects> = Arc::default();
        let resolvers: Vec<Arc<dyn RuleResolver>> =
            vec![Arc::new(Node::new(objects.clone())), Arc::new(Rbac::new(objects))];
        let node = UserInfo::new("system:node:n1", &[crate::user::NODES]);
        let review = json!({"spec": {"namespace": "dev"}});
        let answer = self_subject_rules_review(&review, &node, &resolvers).unwrap();
        let status = json!({
            "resourceRules": [], "nonResourceRules": [], "incomplete": true,
            "evaluationError": "node authorizer does not support user rule resolution",
        });
        assert_eq!(answer["status"], status);
        assert_eq!(
            self_subject_rules_review(&json!({}), &node, &resolvers)
                .unwrap_err()
                .code,
            400
        );
    }
}
