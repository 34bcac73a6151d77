//! HTTP without Kubernetes' kinds: what was asked for, in which form the answer goes out, and the answer's bytes.

pub mod body;
pub mod negotiate;
pub mod pretty;
pub mod query;
pub mod request_info;

pub use body::{Body, Response};
pub use query::Query;
pub use request_info::RequestInfo;
