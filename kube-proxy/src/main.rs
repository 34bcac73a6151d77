//! kube-proxy: the binary.

fn main() {}
