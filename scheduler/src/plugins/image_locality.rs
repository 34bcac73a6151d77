//! ImageLocality: prefers nodes that have the pod's images, the larger the better, less so when few nodes have them
//! (so that one node with an image does not draw every pod).

use super::{Cycle, MAX_NODE_SCORE, Made, NodeView, Row, Scope, Score};
use crate::model::class::Requirements;

pub(super) const ROW: Row = Row {
    name: "ImageLocality",
    weight: 1,
    scope: Scope::Node,
    make: |_| Made {
        filter: None,
        score: Some(Box::new(ImageLocality)),
    },
    hint: |_, _| false,
};

/// Sums below this score 0, in bytes.
const MIN_BYTES: i64 = 23 * 1024 * 1024;
/// Sums per container above this score 100, in bytes.
const MAX_BYTES_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

struct ImageLocality;

impl Score for ImageLocality {
    /// Depends on how many nodes have an image; `Cluster::epoch` changes when that does.
    fn score(&self, cycle: &Cycle, pod: &Requirements, at: NodeView) -> i64 {
        let total = cycle.cluster.live_count().max(1) as f64;
        let spread = |image: &str| f64::from(cycle.cluster.nodes_with_image(image)) / total;
        let scaled = |image: &str| {
            let size = at.node.images.get(image)?;
            Some((*size as f64 * spread(image)) as i64)
        };
        let sum: i64 = pod.images.iter().filter_map(|image| scaled(image)).sum();
        let max = MAX_BYTES_PER_CONTAINER * pod.images.len().max(1) as i64;
        MAX_NODE_SCORE * (sum.clamp(MIN_BYTES, max) - MIN_BYTES) / (max - MIN_BYTES)
    }
}
