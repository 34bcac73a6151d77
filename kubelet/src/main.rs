//! kubelet: the binary.

fn main() {}
