//! cluster-dns: the binary.

fn main() {}
