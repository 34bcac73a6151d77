//! The version every component reports: the Kubernetes API it serves and our own release.

/// The Kubernetes minor this build speaks.
pub const KUBERNETES: &str = "v1.36.0";

/// `v1.36.0+keelson.0.1.0`, as in `/version`, `nodeInfo` and `--version`.
pub const FULL: &str = concat!("v1.36.0+keelson.", env!("CARGO_PKG_VERSION"));
