//! keelson-network: the binary.

fn main() {}
