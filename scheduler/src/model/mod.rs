//! What the scheduler keeps of the cluster: compact values made once from API objects when an event arrives.
//!
//! Nothing here refers to a client or a clock. A pod's requirements are interned (`class`), so that the thousands of
//! pods of one template share one copy and one line of work.

pub mod class;
pub mod labels;
pub mod node;
pub mod pod;
pub mod resources;
pub mod terms;
pub mod volume;
