//! Generators and checks that developers and CI run: `cargo xtask help`.
fn main() {}
