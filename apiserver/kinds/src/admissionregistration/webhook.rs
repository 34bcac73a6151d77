//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};

use super::matching;
use crate::kind::{Column, Kind, resource};
use crate::{cells, check, set, strategy};

const COLUMNS: &[Column] = &[
    cells::NAME,
    cells::integer(
        "Webhooks",
        "Webhooks is a list of webhooks and the affected resources and operations.",
    ),
    cells::AGE,
];

pub struct ValidatingWebhookConfiguration;
pub struct MutatingWebhookConfiguration;

/// The two differ in name and in the reinvocation of mutating webhooks.
macro_rules! configuration {
    ($kind:ident, $resource:literal, $mutating:literal) => {
        impl Kind for $kind {
            resource!("admissionregistration.k8s.io", "v1", $resource);

            fn set_defaults(&self, obj: &mut Value) {
                for webhook in set::items(obj, "webhooks") {
                    set_defaults(webhook, $mutating);
                }
            }

            fn prepare_create(&self, obj: &mut Value) {
                strategy::first_generation(obj);
            }

            fn prepare_update(&self, new: &mut Value, old: &Value) {
                strategy::count_generation(new, old, &["webhooks"]);
            }

            fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
                let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
                let list = Cursor::root(new).child("webhooks");
                check::unique(&mut e, &list, "name");
                for webhook in list.items() {
                    self::webhook(&mut e, &webhook);
                }
                e
            }

            fn columns(&self) -> &[Column] {
                COLUMNS
            }

            fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
                let count = cells::list(&obj["webhooks"]).len();
                vec![cells::name(obj), count.into(), cells::age(obj, now)]
            }
        }
    };
}

configuration!(
    ValidatingWebhookConfiguration,
    "validatingwebhookconfigurations",
    false
);
configuration!(
    MutatingWebhookConfiguration,
    "mutatingwebhookconfigurations",
    true
);

fn set_defaults(webhook: &mut Value, mutating: bool) {
    set::absent(webhook, "failurePolicy", "Fail");
    matching::set_defaults(webhook);
    set::absent(webhook, "timeoutSeconds", 10);
    if mutating {
        set::absent(webhook, "reinvocationPolicy", "Never");
    }
    if let Some(service) = set::some(webhook, "clientConfig").and_then(|c| set::some(c, "service")) {
        set::absent(service, "port", 443);
    }
}

fn webhook(e: &mut FieldErrors, c: &Cursor) {
    let name = c.child("name");
    if check::required(e, &name) {
        check::named(e, &name, fully_qualified_name);
    }
    for rule in c.child("rules").items() {
        matching::rule(e, &rule);
    }
    check::one_of_or_absent(e, &c.child("failurePolicy"), &["Fail", "Ignore"]);
    matching::selectors(e, c);
    let effects = c.child("sideEffects");
    match effects.is_absent() {
        true => e.required(effects.path(), "must specify one of None, NoneOnDryRun"),
        false => check::supported(e, &effects, &["None", "NoneOnDryRun"]),
    }
    let timeout = c.child("timeoutSeconds");
    if timeout.i64().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        check::invalid_int(e, &timeout, "the timeout value must be between 1 and 30 seconds");
    }
    check::one_of_or_absent(e, &c.child("reinvocationPolicy"), &["IfNeeded", "Never"]);
    versions(e, &c.child("admissionReviewVersions"));
    client_config(e, &c.child("clientConfig"));
    matching::conditions(e, &c.child("matchConditions"));
}

fn fully_qualified_name(name: &str) -> Vec<String> {
    let messages = names::is_dns1123_subdomain(name);
    if messages.is_empty() && name.split('.').count() < 3 {
        return vec!["should be a domain with at least three segments separated by dots".to_owned()];
    }
    messages
}

fn versions(e: &mut FieldErrors, list: &Cursor) {
    if list.is_empty() {
        e.required(list.path(), "must specify one of v1, v1beta1");
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for version in list.items() {
        if seen.contains(&version.str()) {
            check::invalid_str(e, &version, "duplicate version");
            continue;
        }
        seen.push(version.str());
        for message in names::is_dns1035_label(version.str()) {
            check::invalid_str(e, &version, message);
        }
    }
    if !seen.iter().any(|version| ["v1", "v1beta1"].contains(version)) {
        check::invalid(e, list, "must include at least one of v1, v1beta1");
    }
}

/// Where a webhook is: a URL, or a Service.
pub fn client_config(e: &mut FieldErrors, c: &Cursor) {
    let (url, service) = (c.child("url"), c.child("service"));
    if url.is_absent() == service.is_absent() {
        e.required(c.path(), "exactly one of url or service is required");
    }
    if !url.is_absent() {
        web_url(e, &url);
    }
    if !service.is_absent() {
        for key in ["name", "namespace"] {
            let field = service.child(key);
            if field.str().is_empty() {
                e.required(field.path(), format!("service {key} is required"));
            }
        }
        let path = service.child("path");
        if !path.str().is_empty() && !path.str().starts_with('/') {
            check::invalid_str(e, &path, "must start with a '/'");
        }
        let port = service.child("port");
        if !port.is_absent() {
            for message in names::is_valid_port_num(port.i64().unwrap_or(0)) {
                check::invalid_int(e, &port, format!("port is not valid: {message}"));
            }
        }
    }
}

fn web_url(e: &mut FieldErrors, c: &Cursor) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = c.str().split_once("://").unwrap_or(("", c.str()));
    if scheme != "https" {
        check::invalid_str(e, c, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.is_empty() {
        check::invalid_str(e, c, format!("host must be specified{FORM}"));
    }
    for (bad, what) in [
        (host.contains('@'), "user information is not permitted in the URL"),
        (rest.contains('#'), "fragments are not permitted in the URL"),
        (
            rest.contains('?'),
            "query parameters are not permitted in the URL",
        ),
    ] {
        if bad {
            check::invalid_str(e, c, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;
    use serde_json::json;

    #[test]
    fn webhooks() {
        let configuration = |webhook: Value| json!({"metadata": {"name": "w"}, "webhooks": [webhook]});
        let good = json!({"name": "a.b.c", "clientConfig": {"url": "https://a/b"}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "rules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods"], "operations": ["CREATE"]}]});
        let kind = &ValidatingWebhookConfiguration;
        assert_eq!(create(kind, configuration(good)), Vec::<String>::new());
        assert_eq!(
            create(kind, configuration(json!({"name": "a"}))),
            [
                "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated \
                 by dots",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ]
        );
    }
}
