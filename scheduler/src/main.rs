//! kube-scheduler: the binary.

fn main() {}
