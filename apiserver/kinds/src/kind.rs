//! The contract of a kind. Built-in kinds are unit structs in a table; a CustomResourceDefinition implements
//! the same trait at run time, so nothing here is `static` or generic.

use std::borrow::Cow;

use jiff::Timestamp;
use keelson_machinery::{FieldErrors, Value};
use keelson_schema::resources::ResourceInfo;

use crate::{cells, strategy};

/// A name from a table, or one made at run time by a CustomResourceDefinition.
pub type Name = Cow<'static, str>;

/// One column of the kind's table (`meta.k8s.io/v1 Table`).
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: Name,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub type_: Name,
    /// OpenAPI format; `name` marks the column that identifies the row.
    pub format: Name,
    pub description: Name,
    /// 0 is always shown, more only in wide output.
    pub priority: i32,
}

impl Column {
    /// A table constant.
    pub const fn new(
        name: &'static str,
        type_: &'static str,
        description: &'static str,
        priority: i32,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            type_: Cow::Borrowed(type_),
            format: Cow::Borrowed(""),
            description: Cow::Borrowed(description),
            priority,
        }
    }
}

/// What a write to a subresource (`status`, `ephemeralcontainers`, `approval`, ...) may change.
pub trait Subresource: Send + Sync {
    /// Puts back from `old` everything this subresource may not change.
    fn prepare_update(&self, new: &mut Value, old: &Value);
    /// Fills times the client left open; after `prepare_update`.
    fn stamp(&self, _new: &mut Value, _old: &Value, _now: Timestamp) {}
    /// Every error of the update; metadata included.
    fn validate(&self, new: &Value, old: &Value) -> FieldErrors;
    /// Warning headers of the update.
    fn warnings(&self, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }
}

/// All the server must know about one kind. Every method is a pure function of its arguments.
pub trait Kind: Send + Sync + 'static {
    /// Names, scope, verbs and storage of the resource.
    fn info(&self) -> &ResourceInfo;

    /// Versioned defaulting: on create, on update, and on reading old stored objects.
    fn set_defaults(&self, _obj: &mut Value) {}

    /// Before validation of a create: drops what the client may not set, sets the generation. Name, namespace and
    /// uid are filled in by then.
    fn prepare_create(&self, _obj: &mut Value) {}

    /// Before validation of an update: keeps what a plain update may not change, counts the generation up.
    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    /// Every error at once, metadata included; `old` is the stored object of an update.
    fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors;

    /// Texts of `Warning` headers.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Last changes before the object is stored, after validation.
    fn canonicalize(&self, _obj: &mut Value) {}

    /// A subresource that reads and writes the same object; `scale`, `binding`, `eviction` have modules of
    /// their own.
    fn subresource(&self, _name: &str) -> Option<&dyn Subresource> {
        None
    }

    /// The `status` subresource.
    fn status(&self) -> Option<&dyn Subresource> {
        self.subresource("status")
    }

    /// Field labels a selector may name, beside `metadata.name` and `metadata.namespace`.
    fn selectable_field_names(&self) -> &[Name] {
        &[]
    }

    /// Values of every selectable field, `metadata.name` and `metadata.namespace` first.
    fn selectable_fields(&self, obj: &Value) -> Vec<(Name, String)> {
        strategy::metadata_fields(obj, self.info().namespaced)
    }

    /// The field a selector's label stands for, or upstream's refusal.
    fn convert_field_label(&self, label: &str) -> Result<Name, String> {
        strategy::convert_field_label(self.selectable_field_names(), label)
    }

    /// Columns of the table form.
    fn columns(&self) -> &[Column] {
        cells::NAME_AND_AGE
    }

    /// One row: as many cells as columns.
    fn cells(&self, obj: &Value, now: Timestamp) -> Vec<Value> {
        vec![cells::name(obj), cells::age(obj, now)]
    }

    /// What every answer about this kind warns of, e.g. `v1 Endpoints is deprecated in v1.33+; ...`.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }

    /// Whether PUT on a name that does not exist creates it.
    fn create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without resourceVersion is taken.
    fn unconditional_update(&self) -> bool {
        true
    }

    /// Seconds the object stays after a delete asked for `grace`; `None`: the kind is removed at once.
    fn graceful_delete(&self, _obj: &Value, _grace: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether a delete without propagation policy orphans the dependents (upstream's legacy default).
    fn orphans_by_default(&self) -> bool {
        false
    }
}

/// Implements [`Kind::info`] from the resource table, looked up once.
macro_rules! resource {
    ($group:literal, $version:literal, $resource:literal) => {
        fn info(&self) -> &::keelson_schema::resources::ResourceInfo {
            static INFO: ::std::sync::OnceLock<&'static ::keelson_schema::resources::ResourceInfo> =
                ::std::sync::OnceLock::new();
            INFO.get_or_init(|| {
                ::keelson_schema::resources::find($group, $version, $resource)
                    .expect("the resource table has every built-in kind")
            })
        }
    };
}
pub(crate) use resource;
