//! kube-apiserver: the binary.

fn main() {}
