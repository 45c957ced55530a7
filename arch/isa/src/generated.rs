//! Written by `cargo xtask gen`.

pub(crate) mod decode;
