//! Kinds of `autoscaling`: HorizontalPodAutoscaler in v2, and v1 as another form of it.

mod convert;
mod hpa;
mod metrics;

pub use convert::{to_v1, to_v2};
pub use hpa::{HorizontalPodAutoscaler, HorizontalPodAutoscalerV1};
