//! kubeadm: the binary.

fn main() {}
