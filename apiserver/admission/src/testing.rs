//! One request through one plugin, as a value: mutate, then validate.

use std::sync::Arc;

use keelson_auth::{Attributes, Authorizer, Decision, UserInfo};
use keelson_machinery::{GroupResource, GroupVersionKind, GroupVersionResource, Status};
use keelson_testkit::Objects;
use serde_json::Value;

use crate::{Admission, AdmissionAttributes, Effect, Operation};

/// Allows users named `admin`.
struct Admins;

impl Authorizer for Admins {
    fn authorize(&self, request: &Attributes) -> (Decision, String) {
        match request.user.name == "admin" {
            true => (Decision::Allow, String::new()),
            false => (Decision::NoOpinion, String::new()),
        }
    }
}

pub struct Case {
    pub user: UserInfo,
    pub operation: Operation,
    pub resource: (&'static str, &'static str, &'static str),
    pub subresource: &'static str,
    pub namespace: &'static str,
    pub name: &'static str,
    pub object: Value,
    pub old: Option<Value>,
    pub options: Value,
}

pub struct Done(Result<Value, Status>);

impl Done {
    /// The refusal's message, or "".
    pub fn message(&self) -> &str {
        self.0.as_ref().err().map_or("", |status| status.message.as_str())
    }

    pub fn object(self) -> Option<Value> {
        self.0.ok()
    }
}

impl Case {
    /// `resource`: group, kind, resource.
    pub fn new(
        operation: Operation,
        resource: (&'static str, &'static str, &'static str),
        object: Value,
    ) -> Self {
        Self {
            user: UserInfo::new("bob", &[]),
            operation,
            resource,
            subresource: "",
            namespace: "dev",
            name: "",
            object,
            old: None,
            options: Value::Null,
        }
    }

    pub fn pod(operation: Operation, object: Value) -> Self {
        Self::new(operation, ("", "Pod", "pods"), object)
    }

    /// Runs with these objects in the cache; each says under `kind` which resource (`resource.group`) it is.
    pub fn run(mut self, plugin: &dyn Admission, objects: &[Value]) -> Done {
        let mut object = std::mem::take(&mut self.object);
        let (attributes, reader) = (self.attributes(), reader(objects));
        if !plugin.handles(&attributes) {
            return Done(Ok(object));
        }
        let result = plugin
            .mutate(&attributes, &mut object, &reader)
            .and_then(|()| plugin.validate(&attributes, &object, &reader));
        Done(result.map(|()| object))
    }

    /// The effects, and the refusal's message or "".
    pub fn effects(self, plugin: &dyn Admission, objects: &[Value]) -> (Vec<Effect>, String) {
        let attributes = self.attributes();
        if !plugin.handles(&attributes) {
            return (Vec::new(), String::new());
        }
        match plugin.effects(&attributes, &self.object, &reader(objects)) {
            Ok(effects) => (effects, String::new()),
            Err(status) => (Vec::new(), status.message),
        }
    }

    fn attributes(&self) -> AdmissionAttributes<'_> {
        let (group, kind, resource) = self.resource;
        AdmissionAttributes {
            user: Arc::new(self.user.clone()),
            operation: self.operation,
            kind: GroupVersionKind::new(group, "v1", kind),
            resource: GroupVersionResource::new(group, "v1", resource),
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            old: self.old.as_ref(),
            options: &self.options,
            dry_run: false,
            authorizer: &Admins,
            now: "2030-01-01T00:00:00Z".parse().unwrap(),
            name_suffix: "x7x2z",
        }
    }
}

fn reader(objects: &[Value]) -> Objects {
    let reader = Objects::default();
    for object in objects {
        let (resource, group) = match object["kind"].as_str().unwrap().split_once('.') {
            Some((resource, group)) => (resource.to_owned(), group.to_owned()),
            None => (object["kind"].as_str().unwrap().to_owned(), String::new()),
        };
        let resource = GroupResource {
            group: group.into(),
            resource: resource.into(),
        };
        reader.put(&resource, object.clone());
    }
    reader
}
