//! kube-controller-manager: the binary.

fn main() {}
