//! The kube-store binary.

fn main() {}
