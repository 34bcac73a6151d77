//! kube-store: the binary.

fn main() {}
