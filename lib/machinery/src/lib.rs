//! API machinery without I/O: status errors, field errors, selectors, quantities, names, metadata.
//!
//! Objects are `serde_json::Value`: the server must keep every field a client sent, so no typed struct stands
//! between the wire and the store. Nothing here reads a clock, a file or a socket; callers pass the time.

pub mod field;
pub mod fields;
pub mod gvk;
pub mod int_or_string;
pub mod labels;
pub mod meta;
pub mod names;
pub mod quantity;
pub mod reader;
pub mod status;
pub mod time;

pub use field::{Cursor, FieldError, FieldErrors, Path};
pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use int_or_string::IntOrString;
pub use quantity::Quantity;
pub use reader::ObjectReader;
pub use serde_json::Value;
pub use status::Status;
