//! Objects on their way out: the cached bytes as JSON, YAML, protobuf, Table or PartialObjectMetadata.
//!
//! JSON of the cached version is passed on as it is; protobuf messages and table rows are made once per version of an
//! object and kept beside it; every other form is made per answer, piece by piece, and for watches once per event.

pub mod list;
pub mod message;
pub mod metadata;
pub mod object;
pub mod protobuf;
pub mod row;
pub mod table;
pub mod watch;

use jiff::Timestamp;

/// How much of the object a table's row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    Metadata,
    Object,
}

/// What a form needs to know beside the object.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub include: IncludeObject,
    /// Ages are counted to here.
    pub now: Timestamp,
}
