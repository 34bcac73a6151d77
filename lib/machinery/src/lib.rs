//! API machinery without I/O: status errors, field errors, selectors, quantities, names, metadata.
//!
//! Objects are `serde_json::Value`: the server must keep every field a client sent, so no typed struct stands
//! between the wire and the store. Nothing here reads a clock, a file or a socket; callers pass the time.

pub mod field;
pub mod gvk;
pub mod reader;
pub mod status;

pub use field::{Cursor, FieldError, FieldErrors, Path};
pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use reader::ObjectReader;
pub use serde_json::Value;
pub use status::Status;
