//! CustomResourceDefinition.

use jiff::Timestamp;
use keelson_machinery::{Cursor, FieldErrors, Value, names};
use serde_json::json;

use super::schema;
use crate::admissionregistration::client_config;
use crate::kind::{Column, Kind, Subresource, resource};
use crate::strategy::{self, Status};
use crate::{cells, check, equal, set};

const COLUMNS: &[Column] = &[
    cells::NAME,
    Column::new(
        "Created At",
        "date",
        "CreationTimestamp is a timestamp representing the server time when this object was created.",
        0,
    ),
];

pub struct CustomResourceDefinition;

impl Kind for CustomResourceDefinition {
    resource!("apiextensions.k8s.io", "v1", "customresourcedefinitions");

    fn set_defaults(&self, obj: &mut Value) {
        let spec = set::object(obj, "spec");
        let names = set::object(spec, "names");
        let kind = names["kind"].as_str().unwrap_or("").to_owned();
        if !kind.is_empty() {
            set::zero(names, "singular", kind.to_lowercase());
            set::zero(names, "listKind", format!("{kind}List"));
        }
        let conversion = set::object(spec, "conversion");
        set::zero(conversion, "strategy", "None");
        let service = set::some(conversion, "webhook")
            .and_then(|webhook| set::some(webhook, "clientConfig"))
            .and_then(|config| set::some(config, "service"));
        if let Some(service) = service {
            set::absent(service, "port", 443);
        }
    }

    fn prepare_create(&self, obj: &mut Value) {
        strategy::first_generation(obj);
        let stored: Vec<Value> = storage_versions(obj).collect();
        set::put(
            obj,
            "status",
            json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored}),
        );
    }

    /// Objects may be stored in any version that ever was the stored one, until somebody migrates them.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        strategy::keep_status_and_count(new, old);
        let stored: Vec<Value> = storage_versions(new).collect();
        let status = set::object(new, "status");
        set::absent(status, "storedVersions", json!([]));
        if let Some(versions) = status["storedVersions"].as_array_mut() {
            for version in stored {
                if !versions.contains(&version) {
                    versions.push(version);
                }
            }
        }
    }

    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut e = strategy::metadata_errors(self, new, old, names::is_dns1123_subdomain);
        let definition = Cursor::root(new);
        let spec = definition.child("spec");
        let name = definition.child("metadata").child("name");
        let plural = spec.child("names").child("plural").str();
        if name.str() != format!("{plural}.{}", spec.child("group").str()) {
            check::invalid_str(&mut e, &name, "must be spec.names.plural+\".\"+spec.group");
        }
        self::spec(&mut e, &spec);
        if let Some(old) = old {
            unchanged(&mut e, &spec, old);
        }
        stored_versions(&mut e, new);
        e
    }

    fn subresource(&self, name: &str) -> Option<&dyn Subresource> {
        (name == "status").then_some(&STATUS)
    }

    fn columns(&self) -> &[Column] {
        COLUMNS
    }

    fn cells(&self, obj: &Value, _now: Timestamp) -> Vec<Value> {
        vec![cells::name(obj), obj["metadata"]["creationTimestamp"].clone()]
    }
}

fn storage_versions(obj: &Value) -> impl Iterator<Item = Value> {
    cells::list(&obj["spec"]["versions"])
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
}

fn spec(e: &mut FieldErrors, spec: &Cursor) {
    let group = spec.child("group");
    if check::required(e, &group) {
        check::named(e, &group, names::is_dns1123_subdomain);
        if !group.str().contains('.') {
            check::invalid_str(e, &group, "should be a domain with at least one dot");
        }
    }
    check::one_of(e, &spec.child("scope"), &["Cluster", "Namespaced"]);
    let preserve = spec.child("preserveUnknownFields");
    if preserve.bool() == Some(true) {
        check::invalid(
            e,
            &preserve,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    versions(e, &spec.child("versions"));
    resource_names(e, &spec.child("names"));
    conversion(e, &spec.child("conversion"));
}

fn versions(e: &mut FieldErrors, list: &Cursor) {
    let mut seen: Vec<&str> = Vec::new();
    let mut repeated = false;
    for version in list.items() {
        let name = version.child("name");
        repeated |= seen.contains(&name.str());
        seen.push(name.str());
        check::named(e, &name, names::is_dns1035_label);
        let warning = version.child("deprecationWarning");
        if !warning.is_absent() && version.child("deprecated").bool() != Some(true) {
            check::invalid_str(e, &warning, "can only be set for deprecated versions");
        }
        let root = version.child("schema").child("openAPIV3Schema");
        match root.is_absent() {
            true => e.required(root.path(), "schemas are required"),
            false => schema::root(e, &root),
        }
        subresources(e, &version.child("subresources"));
        printer_columns(e, &version.child("additionalPrinterColumns"));
    }
    if repeated {
        check::invalid(e, list, "must contain unique version names");
    }
    let stored = list
        .items()
        .filter(|v| v.child("storage").bool() == Some(true))
        .count();
    if stored != 1 {
        check::invalid(e, list, "must have exactly one version marked as storage version");
    }
}

fn subresources(e: &mut FieldErrors, c: &Cursor) {
    let scale = c.child("scale");
    if scale.is_absent() {
        return;
    }
    for (key, prefix) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")] {
        let path = scale.child(key);
        if check::required(e, &path) && !path.str().starts_with(&format!("{prefix}.")) {
            check::invalid_str(e, &path, format!("should be a json path under {prefix}"));
        }
    }
    let selector = scale.child("labelSelectorPath");
    if !selector.str().is_empty()
        && ![".spec.", ".status."]
            .iter()
            .any(|p| selector.str().starts_with(p))
    {
        check::invalid_str(
            e,
            &selector,
            "should be a json path under either .status or .spec",
        );
    }
}

fn printer_columns(e: &mut FieldErrors, list: &Cursor) {
    const FORMATS: &[&str] = &[
        "byte",
        "date",
        "date-time",
        "double",
        "float",
        "int32",
        "int64",
        "password",
    ];
    for column in list.items() {
        check::required(e, &column.child("name"));
        check::one_of(
            e,
            &column.child("type"),
            &["boolean", "date", "integer", "number", "string"],
        );
        let format = column.child("format");
        if !format.str().is_empty() {
            check::supported(e, &format, FORMATS);
        }
        let path = column.child("jsonPath");
        if check::required(e, &path) && !path.str().starts_with('.') {
            check::invalid_str(e, &path, "must be a simple json path starting with .");
        }
    }
}

fn resource_names(e: &mut FieldErrors, c: &Cursor) {
    for key in ["plural", "singular", "kind", "listKind"] {
        let name = c.child(key);
        if name.str().is_empty() {
            if key != "singular" && key != "listKind" {
                e.required(name.path(), "");
            }
            continue;
        }
        let is_kind = key.ends_with("ind");
        let text = if is_kind {
            name.str().to_lowercase()
        } else {
            name.str().to_owned()
        };
        let messages = names::is_dns1035_label(&text);
        if !messages.is_empty() {
            let detail = match is_kind {
                true => format!(
                    "may have mixed case, but should otherwise match: {}",
                    messages.join(",")
                ),
                false => messages.join(","),
            };
            check::invalid_str(e, &name, detail);
        }
    }
    for list in ["shortNames", "categories"] {
        for name in c.child(list).items() {
            let messages = names::is_dns1035_label(name.str());
            if !messages.is_empty() {
                check::invalid_str(e, &name, messages.join(","));
            }
        }
    }
    let (kind, list_kind) = (c.child("kind"), c.child("listKind"));
    if !kind.str().is_empty() && kind.str() == list_kind.str() {
        check::invalid_str(e, &list_kind, "kind and listKind may not be the same");
    }
}

fn conversion(e: &mut FieldErrors, c: &Cursor) {
    let (strategy, webhook) = (c.child("strategy"), c.child("webhook"));
    check::one_of(e, &strategy, &["None", "Webhook"]);
    match (strategy.str(), webhook.is_absent()) {
        ("Webhook", true) => e.required(webhook.path(), "required when strategy is set to \"Webhook\""),
        ("None", false) => e.forbidden(
            webhook.path(),
            "should not be set when strategy is not set to \"Webhook\"",
        ),
        ("Webhook", false) => {
            let config = webhook.child("clientConfig");
            match config.is_absent() {
                true => e.required(config.path(), "required when strategy is set to \"Webhook\""),
                false => client_config(e, &config),
            }
            let versions = webhook.child("conversionReviewVersions");
            check::required(e, &versions);
        }
        _ => {}
    }
}

/// Names and scope are fixed once they were accepted.
fn unchanged(e: &mut FieldErrors, spec: &Cursor, old: &Value) {
    let before = Cursor::root(old).child("spec");
    let established = cells::list(&old["status"]["conditions"])
        .iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True");
    if established {
        check::immutable(e, &spec.child("scope"), &before.child("scope"));
        let names = (spec.child("names"), before.child("names"));
        check::immutable(e, &names.0.child("kind"), &names.1.child("kind"));
    }
    check::immutable(e, &spec.child("group"), &before.child("group"));
    let plural = spec.child("names").child("plural");
    if !equal::unchanged(plural.value(), before.child("names").child("plural").value()) {
        check::invalid(e, &plural, check::IMMUTABLE);
    }
}

/// A version objects are stored in cannot be dropped.
fn stored_versions(e: &mut FieldErrors, obj: &Value) {
    let definition = Cursor::root(obj);
    let served: Vec<&Value> = cells::list(&obj["spec"]["versions"])
        .iter()
        .map(|v| &v["name"])
        .collect();
    let list = definition.child("status").child("storedVersions");
    for version in list.items() {
        if !served.contains(&version.value()) {
            let detail = format!(
                "missing from spec.versions; {} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {} and removes {} from \
                 status.storedVersions",
                version.str(),
                version.str(),
                version.str()
            );
            check::invalid_str(e, &version, detail);
        }
    }
}

const STATUS: Status = Status {
    kept: &["spec"],
    kept_metadata: &["labels", "annotations", "finalizers", "ownerReferences"],
    validate: |new, _, e| stored_versions(e, new),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::create;

    fn crontabs() -> Value {
        json!({"metadata": {"name": "crontabs.stable.example.com"}, "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    }

    #[test]
    fn defaults() {
        let mut obj = crontabs();
        CustomResourceDefinition.set_defaults(&mut obj);
        CustomResourceDefinition.prepare_create(&mut obj);
        assert_eq!(
            obj["spec"]["names"],
            json!({"plural": "crontabs", "kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"})
        );
        assert_eq!(obj["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(obj["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(
            create(&CustomResourceDefinition, crontabs()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn invalid() {
        let mut obj = crontabs();
        obj["metadata"]["name"] = "other.stable.example.com".into();
        obj["spec"]["versions"][0]["storage"] = false.into();
        obj["spec"]["versions"][0]["schema"] = json!({"openAPIV3Schema": {"properties": {"a": {}}}});
        let errors = create(&CustomResourceDefinition, obj);
        let heads: Vec<&str> = errors
            .iter()
            .map(|error| error.split(": Invalid value: {").next().unwrap())
            .collect();
        assert_eq!(
            heads[..3],
            [
                "metadata.name: Invalid value: \"other.stable.example.com\": must be spec.names.plural+\".\"+spec.group",
                "spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for \
                 specified object fields",
                "spec.versions[0].schema.openAPIV3Schema.type: Required value: must not be empty at the root",
            ]
        );
        assert!(errors[3].ends_with("must have exactly one version marked as storage version"));
    }
}
