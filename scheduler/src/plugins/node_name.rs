//! NodeName: a pod that names its node runs there only.
//!
//! Such pods never reach the scheduler's queue (naming a node is being bound), so the filter has nothing to refuse;
//! the row is here because configurations name it.

use super::{Made, Row, Scope};

pub(super) const ROW: Row = Row {
    name: "NodeName",
    weight: 0,
    scope: Scope::Node,
    make: |_| Made {
        filter: None,
        score: None,
    },
    hint: |_, _| false,
};
