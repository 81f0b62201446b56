//! The porism binary.
fn main() {}
