//! Paths and operations, from the verbs of the resources table.

mod operation;

use std::collections::{BTreeMap, BTreeSet};

use keelson_schema::resources::{ResourceInfo, SubresourceInfo};
use keelson_schema::types;
use serde_json::{Value, json};

use crate::schema::{Form, META, PATCH};
use operation::{Operation, parameter};

/// Definitions that the operations of these resources name.
pub(crate) fn roots(resources: &[&ResourceInfo]) -> BTreeSet<String> {
    let mut roots: BTreeSet<String> = ["APIResourceList", "DeleteOptions", "Status", "WatchEvent"]
        .map(|kind| format!("{META}.{kind}"))
        .into();
    roots.insert(PATCH.to_owned());
    let mut add = |group: &str, version: &str, kind: &str| {
        roots.extend(types::of(group, version, kind).map(|def| def.name.to_string()));
    };
    for one in resources {
        add(&one.group, &one.version, &one.kind);
        add(&one.group, &one.version, &format!("{}List", one.kind));
        for sub in one.subresources.iter().filter(|sub| !is_connect(sub)) {
            add(&sub.group, &sub.version, &sub.kind);
        }
    }
    roots
}

/// Every path with its operations.
pub(crate) fn items(resources: &[&ResourceInfo], form: Form) -> Vec<(String, Value)> {
    let mut items: BTreeMap<String, Value> = BTreeMap::new();
    for one in resources {
        let root = root(one);
        items
            .entry(format!("{root}/"))
            .or_insert_with(|| operation::resource_list(one, form));
        let kind = Names::of(one);
        if one.namespaced {
            let base = format!("{root}/namespaces/{{namespace}}/{}", one.resource);
            add_resource(&mut items, one, &base, &kind, form);
            if one.has_verb("list") {
                let everywhere = Operation::new(
                    one,
                    form,
                    "list",
                    format!("list{}{}ForAllNamespaces", kind.api, kind.kind),
                );
                let path = format!("{root}/{}", one.resource);
                items.insert(
                    path,
                    json!({"get": everywhere.list(), "parameters": [parameter("pretty", "query", form)]}),
                );
            }
        } else {
            add_resource(&mut items, one, &format!("{root}/{}", one.resource), &kind, form);
        }
    }
    items.into_iter().collect()
}

/// A document that only tells what is below it: `api`, `apis`, `apis/apps`, `version`.
pub(crate) fn root_item(path: &str) -> Option<(String, Value)> {
    if !crate::documents().contains(path) {
        return None;
    }
    let get = json!({"get": {
        "description": "get what is served here",
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"type": "object"}}}}},
    }});
    Some((format!("/{path}/"), get))
}

fn root(resource: &ResourceInfo) -> String {
    match &*resource.group {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    }
}

/// The parts of operation ids.
struct Names {
    /// `CoreV1`, `RbacAuthorizationV1`.
    api: String,
    /// `NamespacedPod`, `Node`.
    scoped: String,
    kind: String,
}

impl Names {
    fn of(resource: &ResourceInfo) -> Self {
        let scope = if resource.namespaced { "Namespaced" } else { "" };
        Self {
            api: operation::api_name(&resource.group, &resource.version),
            scoped: format!("{scope}{}", resource.kind),
            kind: resource.kind.to_string(),
        }
    }
}

fn add_resource(
    items: &mut BTreeMap<String, Value>,
    one: &ResourceInfo,
    base: &str,
    names: &Names,
    form: Form,
) {
    let Names { api, scoped, .. } = names;
    let operation = |verb: &'static str, id: String| Operation::new(one, form, verb, id);
    let shared = |with_name: bool| {
        let mut shared = Vec::new();
        if with_name {
            shared.push(parameter("name", "path", form));
        }
        if one.namespaced {
            shared.push(parameter("namespace", "path", form));
        }
        shared.push(parameter("pretty", "query", form));
        shared
    };
    let mut many = json!({"parameters": shared(false)});
    let mut single = json!({"parameters": shared(true)});
    for verb in &one.verbs {
        match &**verb {
            "list" => many["get"] = operation("list", format!("list{api}{scoped}")).list(),
            "create" => many["post"] = operation("create", format!("create{api}{scoped}")).create(),
            "deletecollection" => {
                let id = format!("delete{api}Collection{scoped}");
                many["delete"] = operation("deletecollection", id).delete_collection();
            }
            "get" => single["get"] = operation("get", format!("read{api}{scoped}")).get(),
            "update" => single["put"] = operation("put", format!("replace{api}{scoped}")).replace(),
            "patch" => single["patch"] = operation("patch", format!("patch{api}{scoped}")).patch(),
            "delete" => single["delete"] = operation("delete", format!("delete{api}{scoped}")).delete(),
            _ => {}
        }
    }
    for (path, item) in [(base.to_owned(), many), (format!("{base}/{{name}}"), single)] {
        if item.as_object().is_some_and(|item| item.len() > 1) {
            items.insert(path, item);
        }
    }
    for sub in &one.subresources {
        add_subresource(items, one, sub, base, names, form, &shared(true));
    }
}

/// The kubelet or a pod answers, not the API server.
fn is_connect(sub: &SubresourceInfo) -> bool {
    sub.kind.ends_with("Options")
}

fn add_subresource(
    items: &mut BTreeMap<String, Value>,
    one: &ResourceInfo,
    sub: &SubresourceInfo,
    base: &str,
    names: &Names,
    form: Form,
    shared: &[Value],
) {
    let Names { api, scoped, .. } = names;
    let suffix = operation::capitalized(&sub.name);
    let mut item = json!({"parameters": shared});
    for verb in &sub.verbs {
        let operation =
            |id: &str| Operation::of_subresource(one, sub, form, verb, format!("{id}{api}{scoped}{suffix}"));
        let (method, made) = match (&**verb, is_connect(sub)) {
            (verb, true) => {
                let method = match verb {
                    "create" => "post",
                    "update" => "put",
                    other => other,
                };
                let id = format!("connect{api}{}{scoped}{suffix}", operation::capitalized(method));
                (
                    method,
                    Operation::of_subresource(one, sub, form, "connect", id).connect(),
                )
            }
            ("get", _) => ("get", operation("read").get()),
            ("create", _) => ("post", operation("create").create()),
            ("update", _) => ("put", operation("replace").replace()),
            ("patch", _) => ("patch", operation("patch").patch()),
            ("delete", _) => ("delete", operation("delete").delete()),
            _ => continue,
        };
        item[method] = made;
    }
    let path = format!("{base}/{{name}}/{}", sub.name);
    if &*sub.name == "proxy" {
        let mut below = item.clone();
        if let Some(parameters) = below["parameters"].as_array_mut() {
            parameters.push(parameter("path", "path", form));
        }
        for method in ["get", "put", "post", "delete", "patch"] {
            if let Some(id) = below.pointer_mut(&format!("/{method}/operationId")) {
                *id = format!("{}WithPath", id.as_str().unwrap_or("")).into();
            }
        }
        items.insert(format!("{path}/{{path}}"), below);
    }
    items.insert(path, item);
}
