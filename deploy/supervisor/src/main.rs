//! keelson-supervisor: the binary.

fn main() {}
