//! VolumeZone: a volume with zone labels of its own is used in those zones.
//!
//! Only the old in-tree provisioners labelled volumes; volumes made today carry node affinity, which VolumeBinding
//! checks. The row is here because configurations name it, and refuses nothing.

use super::{Made, Row, Scope};

pub(super) const ROW: Row = Row {
    name: "VolumeZone",
    weight: 0,
    scope: Scope::Cluster,
    make: |_| Made {
        filter: None,
        score: None,
    },
    hint: |_, _| false,
};
