//! CustomResourceDefinitions as upstream stores them: `apiextensions.k8s.io/v1beta1`, also where `v1` is served.
//!
//! The older version says once, beside the versions, what is the same in all of them; calls the printer columns' path
//! `JSONPath`; and has the conversion webhook's fields beside its strategy. Nothing else differs.

use keelson_machinery::Value;
use serde_json::Map;

/// Fields of a version that the older form may say once for all: the name here, and there.
const SHARED: &[(&str, &str)] = &[
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

/// From the stored form to `v1`; what is in that form already stays.
pub fn from_beta(definition: &mut Value) {
    definition["apiVersion"] = "apiextensions.k8s.io/v1".into();
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let version = spec.remove("version").unwrap_or_default();
    let mut versions = match spec.remove("versions") {
        Some(Value::Array(versions)) => versions,
        _ => Vec::new(),
    };
    if versions.is_empty() && version.as_str().is_some_and(|name| !name.is_empty()) {
        versions.push(serde_json::json!({"name": version, "served": true, "storage": true}));
    }
    for (name, above) in SHARED {
        if let Some(shared) = spec.remove(*above) {
            for version in &mut versions {
                version[*name] = shared.clone();
            }
        }
    }
    rename_paths(&mut versions, "JSONPath", "jsonPath");
    spec.insert("versions".to_owned(), versions.into());
    // Absent is true there, and false here.
    let preserved = spec.get("preserveUnknownFields").and_then(Value::as_bool);
    match preserved.unwrap_or(true) {
        true => spec.insert("preserveUnknownFields".to_owned(), true.into()),
        false => spec.remove("preserveUnknownFields"),
    };
    if let Some(conversion) = spec.get_mut("conversion").and_then(Value::as_object_mut) {
        let config = conversion.remove("webhookClientConfig");
        let reviewed = conversion.remove("conversionReviewVersions");
        let pairs = [("clientConfig", config), ("conversionReviewVersions", reviewed)];
        let webhook = collect(pairs);
        if !webhook.is_empty() {
            conversion.insert("webhook".to_owned(), webhook.into());
        }
    }
}

/// From `v1` to the stored form.
pub fn to_beta(definition: &mut Value) {
    definition["apiVersion"] = "apiextensions.k8s.io/v1beta1".into();
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(conversion) = spec.get_mut("conversion").and_then(Value::as_object_mut)
        && let Some(Value::Object(mut webhook)) = conversion.remove("webhook")
    {
        let config = webhook.remove("clientConfig");
        let reviewed = webhook.remove("conversionReviewVersions");
        let pairs = [
            ("webhookClientConfig", config),
            ("conversionReviewVersions", reviewed),
        ];
        conversion.extend(collect(pairs));
    }
    let kept = spec.get("preserveUnknownFields").and_then(Value::as_bool);
    spec.insert("preserveUnknownFields".to_owned(), kept.unwrap_or(false).into());
    let Some(Value::Array(mut versions)) = spec.remove("versions") else {
        return;
    };
    rename_paths(&mut versions, "jsonPath", "JSONPath");
    for (name, above) in SHARED {
        let first = versions.first().and_then(|version| version.get(*name)).cloned();
        let Some(first) = first else { continue };
        if versions.iter().all(|version| version.get(*name) == Some(&first)) {
            for version in versions.iter_mut().filter_map(Value::as_object_mut) {
                version.remove(*name);
            }
            spec.insert((*above).to_owned(), first);
        }
    }
    if let Some(first) = versions.first() {
        spec.insert("version".to_owned(), first["name"].clone());
    }
    spec.insert("versions".to_owned(), versions.into());
}

fn collect(pairs: [(&str, Option<Value>); 2]) -> Map<String, Value> {
    let given = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.collect()
}

fn rename_paths(versions: &mut [Value], from: &str, to: &str) {
    let columns = versions
        .iter_mut()
        .filter_map(|version| version.get_mut("additionalPrinterColumns"))
        .filter_map(Value::as_array_mut)
        .flatten();
    for column in columns.filter_map(Value::as_object_mut) {
        if let Some(path) = column.remove(from) {
            column.insert(to.to_owned(), path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(name: &str, description: &str) -> Value {
        json!({"name": name, "served": true, "storage": name == "v1",
            "schema": {"openAPIV3Schema": {"type": "object", "description": description}},
            "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".a"}]})
    }

    fn definition(versions: Value) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {},
            "spec": {"group": "b.c", "versions": versions, "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"url": "https://a"}, "conversionReviewVersions": ["v1"]}}}})
    }

    #[test]
    fn what_all_versions_share_is_said_once() {
        let served = definition(json!([version("v1", "same"), version("v2", "same")]));
        let mut stored = served.clone();
        to_beta(&mut stored);
        let spec = &stored["spec"];
        assert_eq!(stored["apiVersion"], "apiextensions.k8s.io/v1beta1");
        assert_eq!(spec["version"], "v1");
        assert_eq!(spec["validation"]["openAPIV3Schema"]["description"], "same");
        assert_eq!(spec["additionalPrinterColumns"][0]["JSONPath"], ".a");
        assert_eq!(spec["conversion"]["webhookClientConfig"]["url"], "https://a");
        assert_eq!(spec["preserveUnknownFields"], false);
        assert_eq!(
            spec["versions"][1],
            json!({"name": "v2", "served": true, "storage": false})
        );
        from_beta(&mut stored);
        assert_eq!(stored, served);
    }

    #[test]
    fn what_differs_stays_with_its_version() {
        let served = definition(json!([version("v1", "one"), version("v2", "other")]));
        let mut stored = served.clone();
        to_beta(&mut stored);
        assert_eq!(stored["spec"].get("validation"), None);
        assert_eq!(
            stored["spec"]["versions"][0]["schema"],
            served["spec"]["versions"][0]["schema"]
        );
        assert_eq!(stored["spec"]["subresources"], json!({"status": {}}));
        from_beta(&mut stored);
        assert_eq!(stored, served);
    }

    #[test]
    fn the_oldest_form_has_one_version_and_keeps_unknown_fields() {
        let mut definition =
            json!({"spec": {"version": "v1", "validation": {"openAPIV3Schema": {"type": "object"}}}});
        from_beta(&mut definition);
        let spec = &definition["spec"];
        assert_eq!(spec["preserveUnknownFields"], true);
        assert_eq!(
            spec["versions"],
            json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}])
        );
    }
}
