//! The fields of every built-in definition: shape, wire number, list and map semantics, patch strategy, default.
//!
//! Read once from `tables/types.tsv`, which is the specification's `fields.tsv` and `protobuf.tsv` joined
//! (`tests/tables.rs` makes it anew and compares). Definitions of custom resources are made at run time with
//! [`TypeDef::new`] and used alike.
//!
//! Invariant: `fields` is JSON order as Go writes it, with inlined messages spread in place; `wire` is number order
//! with inlined messages as one entry.

mod table;

use std::ops::Deref;
use std::sync::Arc;

use keelson_machinery::gvk::{GroupVersionKind, Name};
use serde_json::Value;

/// One definition (`io.k8s.api.core.v1.Pod`).
#[derive(Debug)]
pub struct TypeDef {
    /// The OpenAPI definition's name.
    pub name: Name,
    /// Travels with `kind` and `apiVersion` of its own.
    pub has_kind: bool,
    /// In the order Go writes them; `kind` and `apiVersion` first where `has_kind`.
    pub fields: Vec<FieldDef>,
    /// In the order of numbers; empty where the type has no protobuf form.
    pub wire: Vec<WireField>,
    /// Keeps fields it does not know (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// Indexes of `fields`, ordered by name.
    by_name: Vec<u16>,
}

/// One field as JSON shows it.
#[derive(Clone, Debug)]
pub struct FieldDef {
    pub name: Name,
    pub shape: Shape,
    /// A Go pointer: absent and zero differ.
    pub pointer: bool,
    /// Go leaves it out of JSON when empty.
    pub omitempty: bool,
    pub required: bool,
    /// How server-side apply merges a list; atomic where the definition says nothing.
    pub list_type: Option<ListType>,
    /// Keys that identify an item of a list of type map.
    pub map_keys: Vec<Name>,
    /// How server-side apply merges a map or struct; granular where the definition says nothing.
    pub map_type: Option<MapType>,
    /// The items of this list or map are replaced as a whole by server-side apply.
    pub item_atomic: bool,
    /// Strategic merge: lists and maps are merged, not replaced.
    pub patch_merge: bool,
    /// Strategic merge: keys absent from `$retainKeys` are dropped.
    pub patch_retain_keys: bool,
    /// The specification names the replace strategy.
    pub patch_replace: bool,
    pub merge_key: Option<Name>,
    /// The default OpenAPI declares.
    pub default: Option<Value>,
}

/// A field as protobuf numbers it.
#[derive(Clone, Debug)]
pub struct WireField {
    pub number: u32,
    pub target: WireTarget,
}

/// Where a wire field's value stands in JSON.
#[derive(Clone, Debug)]
pub enum WireTarget {
    /// An index into `fields`.
    Field(u16),
    /// A message whose fields stand in this object.
    Inline(TypeRef),
}

/// How server-side apply merges a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

/// How server-side apply merges a map or struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    Atomic,
    Granular,
}

/// What a value looks like, in JSON and on the wire.
#[derive(Clone, Debug)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 in JSON.
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    /// `[]string` that is a message of its own on the wire (ExtraValue, Verbs).
    Strings,
    /// Any JSON; raw bytes on the wire (RawExtension, FieldsV1, apiextensions JSON).
    Any,
    /// apiextensions: a schema, or a list of them.
    SchemaOrArray(TypeRef),
    /// apiextensions: a schema, or a boolean.
    SchemaOrBool(TypeRef),
    /// apiextensions: a schema, or a list of strings.
    SchemaOrStrings(TypeRef),
    Object(TypeRef),
    List(Box<Shape>),
    Map(Box<Shape>),
}

/// A definition of the table, or one made at run time.
#[derive(Clone)]
pub enum TypeRef {
    /// An index into the table.
    Table(u16),
    Made(Arc<TypeDef>),
}

impl Deref for TypeRef {
    type Target = TypeDef;

    fn deref(&self) -> &TypeDef {
        match self {
            Self::Table(index) => table::at(*index),
            Self::Made(made) => made,
        }
    }
}

/// By name only: definitions may contain themselves.
impl std::fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl TypeDef {
    /// A definition made at run time, as for a custom resource; it has no protobuf form.
    pub fn new(name: Name, has_kind: bool, fields: Vec<FieldDef>, preserve_unknown: bool) -> Self {
        Self::assembled(name, has_kind, fields, Vec::new(), preserve_unknown)
    }

    fn assembled(
        name: Name,
        has_kind: bool,
        fields: Vec<FieldDef>,
        wire: Vec<WireField>,
        preserve_unknown: bool,
    ) -> Self {
        let mut by_name: Vec<u16> = (0..fields.len()).map(|index| index as u16).collect();
        by_name.sort_by(|a, b| fields[*a as usize].name.cmp(&fields[*b as usize].name));
        Self {
            name,
            has_kind,
            fields,
            wire,
            preserve_unknown,
            by_name,
        }
    }

    /// A field by its JSON name.
    pub fn field(&self, name: &str) -> Option<&FieldDef> {
        let found = self
            .by_name
            .binary_search_by(|index| (*self.fields[*index as usize].name).cmp(name));
        found.ok().map(|at| &self.fields[self.by_name[at] as usize])
    }

    /// Go's name of the struct: `PodSpec`.
    pub fn go_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or("")
    }

    /// Go's name with its package, as in type errors: `v1.PodSpec`.
    pub fn go_type(&self) -> String {
        let mut parts = self.name.rsplit('.');
        let (name, package) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        format!("{package}.{name}")
    }
}

impl FieldDef {
    /// A plain optional field.
    pub fn new(name: impl Into<Name>, shape: Shape) -> Self {
        Self {
            name: name.into(),
            shape,
            pointer: false,
            omitempty: true,
            required: false,
            list_type: None,
            map_keys: Vec::new(),
            map_type: None,
            item_atomic: false,
            patch_merge: false,
            patch_retain_keys: false,
            patch_replace: false,
            merge_key: None,
            default: None,
        }
    }
}

impl Shape {
    /// The definition of an object, or of the items of a list or map of objects.
    pub fn object(&self) -> Option<&TypeDef> {
        match self {
            Self::Object(def) => Some(def),
            Self::List(item) | Self::Map(item) => item.object(),
            _ => None,
        }
    }

    /// Go's name of the type, as in type errors.
    pub fn go_type(&self) -> String {
        match self {
            Self::String => "string".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Int32 => "int32".to_owned(),
            Self::Int64 => "int64".to_owned(),
            Self::Double => "float64".to_owned(),
            Self::Bytes => "[]uint8".to_owned(),
            Self::Time => "string".to_owned(),
            Self::MicroTime => "string".to_owned(),
            Self::Duration => "string".to_owned(),
            Self::Quantity => "resource.Quantity".to_owned(),
            Self::IntOrString => "intstr.IntOrString".to_owned(),
            Self::Strings => "[]string".to_owned(),
            Self::Any => "runtime.RawExtension".to_owned(),
            Self::SchemaOrArray(_) => "v1.JSONSchemaPropsOrArray".to_owned(),
            Self::SchemaOrBool(_) => "v1.JSONSchemaPropsOrBool".to_owned(),
            Self::SchemaOrStrings(_) => "v1.JSONSchemaPropsOrStringArray".to_owned(),
            Self::Object(def) => def.go_type(),
            Self::List(item) => format!("[]{}", item.go_type()),
            Self::Map(item) => format!("map[string]{}", item.go_type()),
        }
    }
}

/// The definition of a built-in kind.
///
/// The kinds of `meta.v1` (Status, DeleteOptions, WatchEvent, ...) are found in every group, as upstream registers them.
pub fn of_kind(kind: &GroupVersionKind) -> Option<&'static TypeDef> {
    of(&kind.group, &kind.version, &kind.kind)
}

/// The definition of a built-in kind, by the parts of its name.
pub fn of(group: &str, version: &str, kind: &str) -> Option<&'static TypeDef> {
    let package = match group {
        "" => "io.k8s.api.core".to_owned(),
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        "internal.apiserver.k8s.io" => "io.k8s.api.apiserverinternal".to_owned(),
        "meta.k8s.io" => META.to_owned(),
        other => format!("io.k8s.api.{}", other.split('.').next().unwrap_or("")),
    };
    let own = by_name(&format!("{package}.{version}.{kind}"));
    own.filter(|def| def.has_kind)
        .or_else(|| by_name(&format!("{META}.v1.{kind}")).filter(|def| def.has_kind))
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta";

/// A definition by its OpenAPI name.
pub fn by_name(name: &str) -> Option<&'static TypeDef> {
    table::by_name(name)
}

/// A definition by its place in the table, as a [`TypeRef`] holds it.
pub fn at(index: u16) -> &'static TypeDef {
    table::at(index)
}

/// Every definition of the table, ordered by name.
pub fn all() -> impl Iterator<Item = &'static TypeDef> {
    table::all()
}

/// `meta.v1.ObjectMeta`.
pub fn object_meta() -> &'static TypeDef {
    by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("the table has ObjectMeta")
}

/// A field list's lookup of one more level: the shape below a dotted path of JSON names, through lists and maps.
pub fn shape_at<'a>(def: &'a TypeDef, path: &[&str]) -> Option<&'a Shape> {
    let (first, rest) = path.split_first()?;
    let shape = &def.field(first)?.shape;
    if rest.is_empty() {
        Some(shape)
    } else {
        shape_at(shape.object()?, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_by_kind() {
        let pod = of("", "v1", "Pod").unwrap();
        assert_eq!(pod.fields[0].name, "kind");
        assert_eq!(pod.go_type(), "v1.Pod");
        assert!(of("rbac.authorization.k8s.io", "v1", "ClusterRole").is_some());
        assert!(of("apps", "v1", "DeleteOptions").is_some());
        assert!(of("", "v1", "PodSpec").is_none());
        for resource in crate::resources::all() {
            let kind = resource.group_version_kind();
            assert!(of_kind(&kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn inlined_fields_stand_in_place_with_their_facts() {
        let volume = by_name("io.k8s.api.core.v1.Volume").unwrap();
        assert_eq!(volume.fields[0].name, "name");
        assert!(volume.field("emptyDir").unwrap().pointer);
        let ephemeral = by_name("io.k8s.api.core.v1.EphemeralContainer").unwrap();
        let ports = ephemeral.field("ports").unwrap();
        assert_eq!((ports.list_type, ports.map_keys.len()), (Some(ListType::Map), 2));
        assert_eq!(ephemeral.fields.last().unwrap().name, "targetContainerName");
        let spec = by_name("io.k8s.api.storage.v1.VolumeAttachmentSource").unwrap();
        assert!(spec.field("inlineVolumeSpec").is_some());
    }

    #[test]
    fn facts_are_carried() {
        let spec = by_name("io.k8s.api.core.v1.PodSpec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert!(containers.patch_merge && containers.required && !containers.omitempty);
        assert_eq!(containers.merge_key.as_deref(), Some("name"));
        assert!(spec.field("volumes").unwrap().patch_retain_keys);
        let port = by_name("io.k8s.api.core.v1.ContainerPort").unwrap();
        assert_eq!(port.field("protocol").unwrap().default, Some("TCP".into()));
    }
}
