//! One operation: parameters, bodies, answers.

use keelson_schema::resources::{ResourceInfo, SubresourceInfo};
use keelson_schema::types::{self, Shape};
use serde_json::{Map, Value, json};

use crate::schema::{Form, META, PATCH};

const PATCH_TYPES: [&str; 5] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+cbor",
];
const TYPES: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const WATCH_TYPES: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];

/// What each parameter is: type and meaning.
fn known(name: &str) -> (&'static str, &'static str) {
    match name {
        "name" => ("string", "name of the object"),
        "namespace" => (
            "string",
            "object name and auth scope, such as for teams and projects",
        ),
        "path" => ("string", "path to the resource"),
        "pretty" => ("string", "If 'true', then the output is pretty printed."),
        "allowWatchBookmarks" => ("boolean", "requests watch events with type \"BOOKMARK\""),
        "continue" => ("string", "continues a paged list where its token says"),
        "fieldSelector" => ("string", "restricts the objects by their fields; all by default"),
        "labelSelector" => ("string", "restricts the objects by their labels; all by default"),
        "limit" => ("integer", "most objects of one page of a list"),
        "resourceVersion" => ("string", "what resource versions a request may be served from"),
        "resourceVersionMatch" => ("string", "how resourceVersion is applied to lists"),
        "sendInitialEvents" => (
            "boolean",
            "begins a watch with synthetic events of the present state",
        ),
        "timeoutSeconds" => ("integer", "how long a list or watch may last"),
        "watch" => ("boolean", "streams changes instead of listing"),
        "dryRun" => (
            "string",
            "\"All\" runs every stage of the request without persisting it",
        ),
        "fieldManager" => ("string", "the actor who makes these changes"),
        "fieldValidation" => (
            "string",
            "what to do about unknown or duplicate fields: Ignore, Warn or Strict",
        ),
        "force" => ("boolean", "takes fields owned by others; apply patches only"),
        "gracePeriodSeconds" => (
            "integer",
            "seconds before the object is deleted; zero deletes at once",
        ),
        "ignoreStoreReadErrorWithClusterBreakingPotential" => (
            "boolean",
            "deletes an object that cannot be read from the store; dangerous",
        ),
        "orphanDependents" => ("boolean", "Deprecated: use propagationPolicy"),
        "propagationPolicy" => (
            "string",
            "whether and how dependents are deleted: Orphan, Background or Foreground",
        ),
        _ => ("string", ""),
    }
}

/// A parameter of a path or query.
pub(crate) fn parameter(name: &str, place: &str, form: Form) -> Value {
    let (kind, text) = known(name);
    described(name, place, kind, text, form)
}

fn described(name: &str, place: &str, kind: &str, text: &str, form: Form) -> Value {
    let mut parameter = json!({"name": name, "in": place, "description": text});
    match form {
        Form::V2 => {
            parameter["type"] = kind.into();
            parameter["uniqueItems"] = true.into();
        }
        Form::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

/// `CoreV1`, `RbacAuthorizationV1`: the part of operation ids that names the API.
pub(super) fn api_name(group: &str, version: &str) -> String {
    let group = if group.is_empty() {
        "core"
    } else {
        group.strip_suffix(".k8s.io").unwrap_or(group)
    };
    group.split('.').chain([version]).map(capitalized).collect()
}

pub(super) fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// What can be done below a group and version.
pub(super) fn resource_list(resource: &ResourceInfo, form: Form) -> Value {
    let id = format!("get{}APIResources", api_name(&resource.group, &resource.version));
    let mut operation = json!({
        "description": "get available resources",
        "operationId": id,
        "tags": [tag(resource)],
        "responses": answers(&[("200", "OK")], Some(&format!("{META}.APIResourceList")), &TYPES, form),
    });
    if form == Form::V2 {
        operation["schemes"] = json!(["https"]);
        operation["produces"] = json!(TYPES);
        operation["consumes"] = json!(TYPES);
    }
    json!({"get": operation})
}

fn tag(resource: &ResourceInfo) -> String {
    let group = if resource.group.is_empty() {
        "core"
    } else {
        &resource.group
    };
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let words: String = group
        .split('.')
        .enumerate()
        .map(|(index, word)| {
            if index == 0 {
                word.to_owned()
            } else {
                capitalized(word)
            }
        })
        .collect();
    format!("{words}_{}", resource.version)
}

/// The answers of these codes, and 401.
fn answers(codes: &[(&str, &str)], definition: Option<&str>, types: &[&str], form: Form) -> Value {
    let mut answers = Map::new();
    for (code, text) in codes {
        let schema = definition.map_or_else(|| json!({"type": "string"}), |name| form.reference(name));
        let answer = match form {
            Form::V2 => json!({"description": text, "schema": schema}),
            Form::V3 => json!({"description": text, "content": content(types, &schema)}),
        };
        answers.insert((*code).to_owned(), answer);
    }
    answers.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    answers.into()
}

fn content(types: &[&str], schema: &Value) -> Value {
    let entries = types
        .iter()
        .map(|one| ((*one).to_owned(), json!({"schema": schema})));
    Value::Object(entries.collect())
}

/// An operation in the making.
pub(super) struct Operation<'a> {
    resource: &'a ResourceInfo,
    form: Form,
    action: &'a str,
    id: String,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    subresource: &'a str,
}

impl<'a> Operation<'a> {
    pub(super) fn new(resource: &'a ResourceInfo, form: Form, action: &'a str, id: String) -> Self {
        let ResourceInfo {
            group, version, kind, ..
        } = resource;
        Self {
            resource,
            form,
            action,
            id,
            group,
            version,
            kind,
            subresource: "",
        }
    }

    pub(super) fn of_subresource(
        resource: &'a ResourceInfo,
        sub: &'a SubresourceInfo,
        form: Form,
        verb: &'a str,
        id: String,
    ) -> Self {
        let action = match verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let SubresourceInfo {
            group,
            version,
            kind,
            name,
            ..
        } = sub;
        Self {
            resource,
            form,
            action,
            id,
            group,
            version,
            kind,
            subresource: name,
        }
    }

    fn definition(&self, suffix: &str) -> Option<String> {
        let kind = format!("{}{suffix}", self.kind);
        types::of(self.group, self.version, &kind).map(|def| def.name.to_string())
    }

    fn made(
        &self,
        verb: &str,
        query: &[&str],
        body: Option<(&str, bool, &[&str])>,
        codes: &[(&str, &str)],
        answer: Option<&str>,
    ) -> Value {
        let mut parameters: Vec<Value> = query
            .iter()
            .map(|name| parameter(name, "query", self.form))
            .collect();
        let list = self.action == "list";
        let types: Vec<&str> = TYPES
            .iter()
            .chain(WATCH_TYPES.iter().filter(|_| list))
            .copied()
            .collect();
        let action = match self.action {
            "create" => "post",
            other => other,
        };
        let of = if self.subresource.is_empty() {
            String::new()
        } else {
            format!("{} of ", self.subresource)
        };
        let mut made = json!({
            "description": format!("{verb} {of}the specified {}", self.resource.kind),
            "operationId": self.id,
            "tags": [tag(self.resource)],
            "responses": answers(codes, answer, &types, self.form),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": self.group, "kind": self.kind, "version": self.version},
        });
        if let Some((definition, required, types)) = body {
            let schema = self.form.reference(definition);
            match self.form {
                Form::V2 => parameters
                    .push(json!({"name": "body", "in": "body", "required": required, "schema": schema})),
                Form::V3 => {
                    made["requestBody"] = json!({"content": content(types, &schema), "required": required});
                }
            }
        }
        if self.form == Form::V2 {
            made["schemes"] = json!(["https"]);
            made["produces"] = json!(types);
            made["consumes"] = match body {
                Some((PATCH, _, types)) => json!(types),
                _ => json!(["*/*"]),
            };
        }
        if !parameters.is_empty() {
            made["parameters"] = parameters.into();
        }
        made
    }

    pub(super) fn list(&self) -> Value {
        self.made(
            "list or watch objects of",
            LIST,
            None,
            &[("200", "OK")],
            self.definition("List").as_deref(),
        )
    }

    pub(super) fn get(&self) -> Value {
        let log = self.subresource == "log";
        let answer = if log { None } else { self.definition("") };
        let mut made = self.made("read", &[], None, &[("200", "OK")], answer.as_deref());
        if log {
            made["parameters"] = self.options("PodLogOptions").into();
        }
        made
    }

    pub(super) fn create(&self) -> Value {
        let name = self.definition("").unwrap_or_default();
        let codes = [("200", "OK"), ("201", "Created"), ("202", "Accepted")];
        self.made(
            "create",
            WRITE,
            Some((&name, true, &["*/*"])),
            &codes,
            Some(&name),
        )
    }

    pub(super) fn replace(&self) -> Value {
        let name = self.definition("").unwrap_or_default();
        let codes = [("200", "OK"), ("201", "Created")];
        self.made(
            "replace",
            WRITE,
            Some((&name, true, &["*/*"])),
            &codes,
            Some(&name),
        )
    }

    pub(super) fn patch(&self) -> Value {
        let query = [WRITE, &["force"]].concat();
        let codes = [("200", "OK"), ("201", "Created")];
        let name = self.definition("");
        self.made(
            "partially update",
            &query,
            Some((PATCH, true, &PATCH_TYPES)),
            &codes,
            name.as_deref(),
        )
    }

    pub(super) fn delete(&self) -> Value {
        self.deletion("delete", DELETE, &[("200", "OK"), ("202", "Accepted")])
    }

    pub(super) fn delete_collection(&self) -> Value {
        self.deletion("delete collection of", DELETE_COLLECTION, &[("200", "OK")])
    }

    fn deletion(&self, verb: &str, query: &[&str], codes: &[(&str, &str)]) -> Value {
        let (options, status) = (format!("{META}.DeleteOptions"), format!("{META}.Status"));
        self.made(
            verb,
            query,
            Some((&options, false, &["*/*"])),
            codes,
            Some(&status),
        )
    }

    pub(super) fn connect(&self) -> Value {
        let mut made = self.made("connect to", &[], None, &[("200", "OK")], None);
        made["parameters"] = self.options(self.kind).into();
        made
    }

    /// The fields of an options kind as query parameters.
    fn options(&self, kind: &str) -> Vec<Value> {
        let fields = types::of("", "v1", kind).map_or(&[][..], |def| def.fields.as_slice());
        let plain = fields
            .iter()
            .filter(|field| field.name != "kind" && field.name != "apiVersion");
        plain
            .map(|field| {
                let kind = match field.shape {
                    Shape::Bool => "boolean",
                    Shape::Int32 | Shape::Int64 => "integer",
                    _ => "string",
                };
                described(&field.name, "query", kind, "", self.form)
            })
            .collect()
    }
}
