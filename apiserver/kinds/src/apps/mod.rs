//! Kinds of the `apps` group.

mod deployment;
mod template;

pub use deployment::Deployment;
