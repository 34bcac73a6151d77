//! An OpenAPI v3 document out of the type tables: paths with their parameters, and every schema they reach.

use std::collections::BTreeMap;

use keelson_machinery::Value;
use keelson_schema::resources::ResourceInfo;
use keelson_schema::types::{self, FieldDef, ListType, MapType, Shape, TypeDef};
use serde_json::{Map, json};

use super::kind_group;

/// The document of one group and version.
pub fn document(group: &str, version: &str, resources: &[ResourceInfo]) -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    for info in resources {
        resource_paths(&mut paths, &mut schemas, group, version, info);
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": keelson_base::version::FULL},
        "paths": paths,
        "components": {"schemas": schemas.made, "securitySchemes": {"BearerToken": {
            "type": "apiKey", "in": "header", "name": "authorization",
            "description": "Bearer Token authentication",
        }}},
    })
}

/// Schemas by name, each made once.
#[derive(Default)]
struct Schemas {
    made: BTreeMap<String, Value>,
}

impl Schemas {
    fn reference(&mut self, def: &TypeDef) -> Value {
        let name = def.name.to_string();
        if !self.made.contains_key(&name) {
            // Entered first: definitions may contain themselves.
            self.made.insert(name.clone(), Value::Null);
            let schema = self.object(def);
            self.made.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn object(&mut self, def: &TypeDef) -> Value {
        let mut properties = Map::new();
        for field in &def.fields {
            properties.insert(field.name.to_string(), self.field(field));
        }
        let required: Vec<&str> = def
            .fields
            .iter()
            .filter(|field| field.required)
            .map(|field| &*field.name)
            .collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if def.preserve_unknown {
            schema["x-kubernetes-preserve-unknown-fields"] = true.into();
        }
        let kinds = kinds_of(def);
        if !kinds.is_empty() {
            schema["x-kubernetes-group-version-kind"] = kinds.into();
        }
        schema
    }

    fn field(&mut self, field: &FieldDef) -> Value {
        let mut schema = self.shape(&field.shape);
        if schema.get("$ref").is_some() {
            schema = json!({"allOf": [schema]});
        }
        if let Some(default) = &field.default {
            schema["default"] = default.clone();
        } else if schema.get("allOf").is_some() {
            schema["default"] = json!({});
        }
        if let Some(kind) = field.list_type {
            schema["x-kubernetes-list-type"] = match kind {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            }
            .into();
        }
        if !field.map_keys.is_empty() {
            schema["x-kubernetes-list-map-keys"] = json!(field.map_keys);
        }
        if let Some(kind) = field.map_type {
            schema["x-kubernetes-map-type"] = match kind {
                MapType::Atomic => "atomic",
                MapType::Granular => "granular",
            }
            .into();
        }
        let strategies: Vec<&str> = [
            (field.patch_merge, "merge"),
            (field.patch_retain_keys, "retainKeys"),
            (field.patch_replace, "replace"),
        ]
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| name)
        .collect();
        if !strategies.is_empty() {
            schema["x-kubernetes-patch-strategy"] = strategies.join(",").into();
        }
        if let Some(key) = &field.merge_key {
            schema["x-kubernetes-patch-merge-key"] = key.as_ref().into();
        }
        schema
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Time | Shape::MicroTime => json!({"type": "string", "format": "date-time"}),
            Shape::Duration => json!({"type": "string"}),
            Shape::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Shape::IntOrString => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            Shape::Strings => json!({"type": "array", "items": {"type": "string"}}),
            Shape::Any => json!({"type": "object"}),
            Shape::SchemaOrArray(_) | Shape::SchemaOrBool(_) | Shape::SchemaOrStrings(_) => json!({}),
            Shape::Object(def) => self.reference(def),
            Shape::List(item) => {
                let item = self.inner(item);
                json!({"type": "array", "items": item})
            }
            Shape::Map(item) => {
                let item = self.inner(item);
                json!({"type": "object", "additionalProperties": item})
            }
        }
    }

    /// The shape of an item: a reference carries its default beside it.
    fn inner(&mut self, shape: &Shape) -> Value {
        let schema = self.shape(shape);
        match schema.get("$ref") {
            Some(_) => json!({"allOf": [schema], "default": {}}),
            None => schema,
        }
    }
}

/// The kinds a definition is: where it travels by itself.
fn kinds_of(def: &TypeDef) -> Vec<Value> {
    if !def.has_kind {
        return Vec::new();
    }
    let kind = def.go_name();
    keelson_schema::resources::all()
        .iter()
        .filter(|info| {
            types::of_kind(&info.group_version_kind()).is_some_and(|own| std::ptr::eq(own, def))
                || (kind.strip_suffix("List") == Some(&*info.kind)
                    && types::of(&info.group, &info.version, kind).is_some_and(|own| std::ptr::eq(own, def)))
        })
        .map(|info| json!({"group": info.group, "version": info.version, "kind": kind}))
        .take(1)
        .collect()
}

fn resource_paths(
    paths: &mut Map<String, Value>,
    schemas: &mut Schemas,
    group: &str,
    version: &str,
    info: &ResourceInfo,
) {
    let root = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let scope = if info.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{root}{scope}/{}", info.resource);
    let one = format!("{collection}/{{name}}");
    let kind = json!({"group": info.group, "version": info.version, "kind": info.kind});
    let schema = types::of_kind(&info.group_version_kind()).map(|def| schemas.reference(def));
    if let Some(list) = types::of(&info.group, &info.version, &format!("{}List", info.kind)) {
        schemas.reference(list);
    }
    let verbs = |wanted: &[&str]| -> Map<String, Value> {
        wanted
            .iter()
            .filter(|verb| info.has_verb(verb))
            .map(|verb| (method(verb).to_owned(), operation(verb, &kind, schema.as_ref())))
            .collect()
    };
    paths.insert(
        collection,
        path_item(
            verbs(&["list", "create", "deletecollection"]),
            info.namespaced,
            false,
        ),
    );
    if info.has_verb("get") || info.has_verb("update") {
        let item = path_item(
            verbs(&["get", "update", "patch", "delete"]),
            info.namespaced,
            true,
        );
        paths.insert(one.clone(), item);
    }
    if info.namespaced && info.has_verb("list") {
        paths.insert(
            format!("{root}/{}", info.resource),
            path_item(verbs(&["list"]), false, false),
        );
    }
    for subresource in &info.subresources {
        let group = kind_group(info, subresource);
        let kind = json!({"group": group, "version": subresource.version, "kind": subresource.kind});
        let def = types::of(group, &subresource.version, &subresource.kind);
        let schema = def.map(|def| schemas.reference(def));
        let operations = subresource
            .verbs
            .iter()
            .map(|verb| (method(verb).to_owned(), operation(verb, &kind, schema.as_ref())))
            .collect();
        paths.insert(
            format!("{one}/{}", subresource.name),
            path_item(operations, info.namespaced, true),
        );
    }
}

fn method(verb: &str) -> &'static str {
    match verb {
        "create" => "post",
        "update" => "put",
        "patch" => "patch",
        "delete" | "deletecollection" => "delete",
        _ => "get",
    }
}

fn path_item(mut operations: Map<String, Value>, namespaced: bool, named: bool) -> Value {
    let mut parameters = Vec::new();
    let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}});
    if named {
        parameters.push(parameter("name"));
    }
    if namespaced {
        parameters.push(parameter("namespace"));
    }
    parameters.push(query("pretty", "string"));
    operations.insert("parameters".to_owned(), parameters.into());
    Value::Object(operations)
}

fn query(name: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn operation(verb: &str, kind: &Value, schema: Option<&Value>) -> Value {
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let content = json!({"application/json": {"schema": schema}});
    let mut operation = json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
        "responses": {"200": {"description": "OK", "content": content}},
    });
    let strings: &[&str] = match verb {
        "create" | "update" | "patch" => &["dryRun", "fieldManager", "fieldValidation"],
        "delete" => &["dryRun", "propagationPolicy"],
        "list" | "deletecollection" => &[
            "continue",
            "fieldSelector",
            "labelSelector",
            "resourceVersion",
            "resourceVersionMatch",
        ],
        _ => &[],
    };
    let mut parameters: Vec<Value> = strings.iter().map(|name| query(name, "string")).collect();
    match verb {
        "patch" => parameters.push(query("force", "boolean")),
        "list" => parameters.extend([
            query("watch", "boolean"),
            query("limit", "integer"),
            query("timeoutSeconds", "integer"),
        ]),
        _ => {}
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if matches!(verb, "create" | "update") {
        operation["requestBody"] = json!({"content": {"*/*": {"schema": schema}}, "required": true});
    }
    if verb == "patch" {
        let types = [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ];
        let content: Map<String, Value> = types
            .iter()
            .map(|name| ((*name).to_owned(), json!({"schema": {"type": "object"}})))
            .collect();
        operation["requestBody"] = json!({"content": content, "required": true});
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_schema::resources;

    #[test]
    fn a_patch_takes_field_validation_and_schemas_are_complete() {
        let info = resources::find("apps", "v1", "deployments").unwrap();
        let document = document("apps", "v1", std::slice::from_ref(info));
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|one| one["name"] == "fieldValidation"));
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.values().all(|schema| !schema.is_null()));
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["group"], "apps");
    }
}
