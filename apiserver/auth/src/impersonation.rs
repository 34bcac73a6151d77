//! Acting as someone else: the `Impersonate-*` headers, each checked against the verb `impersonate`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use keelson_machinery::Status;

use crate::authn::request_header::percent_decoded;
use crate::authz::{Attributes, Authorizer, Decision};
use crate::user::{
    ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, UserInfo, service_account_groups,
    split_service_account,
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// The user a request acts as, where it carries such headers; `None` where it acts as itself.
///
/// # Errors
/// 403 where the requestor may not impersonate one of the parts; 500, as upstream, where no user is named.
pub fn resolve(
    headers: &HeaderMap,
    requestor: &Arc<UserInfo>,
    authorizer: &dyn Authorizer,
) -> Result<Option<Arc<UserInfo>>, Status> {
    let Some(mut wanted) = wanted(headers)? else {
        return Ok(None);
    };
    for attributes in checks(&wanted, requestor) {
        let (decision, reason) = authorizer.authorize(&attributes);
        if decision != Decision::Allow {
            return Err(attributes.forbidden(&reason));
        }
    }
    if let (Some((namespace, _)), true) = (split_service_account(&wanted.name), wanted.groups.is_empty()) {
        wanted.groups = service_account_groups(namespace);
    }
    let everyone = match wanted.name == ANONYMOUS {
        true => ALL_UNAUTHENTICATED,
        false => ALL_AUTHENTICATED,
    };
    let complete = wanted.in_group(everyone) || wanted.in_group(ALL_UNAUTHENTICATED);
    if !complete {
        wanted.groups.push(everyone.to_owned());
    }
    Ok(Some(Arc::new(wanted)))
}

/// Removes the headers, so that nothing behind this server impersonates again.
pub fn strip(headers: &mut HeaderMap) {
    let ours: Vec<_> = headers
        .keys()
        .filter(|key| [USER, GROUP, UID].contains(&key.as_str()) || key.as_str().starts_with(EXTRA_PREFIX))
        .cloned()
        .collect();
    for key in ours {
        headers.remove(key);
    }
}

fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or("").to_owned();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA_PREFIX) {
            extra.entry(percent_decoded(key)).or_default().push(text(value));
        }
    }
    let user = UserInfo {
        name: headers.get(USER).map(text).unwrap_or_default(),
        uid: headers.get(UID).map(text).unwrap_or_default(),
        groups: headers.get_all(GROUP).iter().map(text).collect(),
        extra,
    };
    match user.name.is_empty() {
        true if user == UserInfo::default() => Ok(None),
        true => Err(Status::internal(
            "requested impersonation of groups, uid or extra without impersonating a user: set Impersonate-User as well",
        )),
        false => Ok(Some(user)),
    }
}

/// One request per part of the wanted identity.
fn checks(wanted: &UserInfo, requestor: &Arc<UserInfo>) -> Vec<Attributes> {
    let ask = |group: &'static str, resource: &'static str, name: &str| Attributes {
        user: requestor.clone(),
        verb: "impersonate".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        name: name.to_owned(),
        is_resource: true,
        ..Attributes::default()
    };
    let mut checks = vec![match split_service_account(&wanted.name) {
        Some((namespace, name)) => Attributes {
            namespace: namespace.to_owned(),
            ..ask("", "serviceaccounts", name)
        },
        None => ask("", "users", &wanted.name),
    }];
    checks.extend(wanted.groups.iter().map(|group| ask("", "groups", group)));
    for (key, values) in &wanted.extra {
        checks.extend(values.iter().map(|value| Attributes {
            subresource: key.clone().into(),
            ..ask("authentication.k8s.io", "userextras", value)
        }));
    }
    if !wanted.uid.is_empty() {
        checks.push(ask("authentication.k8s.io", "uids", &wanted.uid));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allows what is listed, as `resource[/subresource] name`.
    struct Allow(Vec<&'static str>);

    impl Authorizer for Allow {
        fn authorize(&self, request: &Attributes) -> (Decision, String) {
            let asked = format!("{} {}", request.combined_resource(), request.name);
            match self.0.contains(&asked.as_str()) {
                true => (Decision::Allow, String::new()),
                false => (Decision::NoOpinion, String::new()),
            }
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn every_part_is_checked_and_groups_are_completed() {
        let requestor = Arc::new(UserInfo::new("admin", &[]));
        let allow = Allow(vec![
            "users bob",
            "groups dev",
            "userextras/scopes view",
            "serviceaccounts ci",
        ]);
        let ask = |pairs: &[(&'static str, &'static str)]| resolve(&headers(pairs), &requestor, &allow);
        assert_eq!(ask(&[]), Ok(None));
        let full = [
            ("impersonate-user", "bob"),
            ("impersonate-group", "dev"),
            ("impersonate-extra-scopes", "view"),
        ];
        let bob = ask(&full).unwrap().unwrap();
        assert_eq!(bob.groups, ["dev", "system:authenticated"]);
        assert_eq!(bob.extra["scopes"], ["view"]);
        let account = ask(&[("impersonate-user", "system:serviceaccount:dev:ci")])
            .unwrap()
            .unwrap();
        let groups = [
            "system:serviceaccounts",
            "system:serviceaccounts:dev",
            "system:authenticated",
        ];
        assert_eq!(account.groups, groups);
        let refused = ask(&[("impersonate-user", "bob"), ("impersonate-group", "ops")]).unwrap_err();
        let text = r#"groups "ops" is forbidden: User "admin" cannot impersonate resource "groups" in API group "" at the cluster scope"#;
        assert_eq!(refused.message, text);
        assert_eq!(ask(&[("impersonate-group", "dev")]).unwrap_err().code, 500);
        let mut left = headers(&full);
        strip(&mut left);
        assert!(left.is_empty());
    }
}
