//! The cryptographic extension: AES, SHA-1 and SHA-256 steps on 128-bit values. (Polynomial multiplication stands with the lanes.)

mod aes;
mod sha1;
mod sha256;

#[cfg(test)]
mod tests;

pub use aes::{AesOp, aes};
pub use sha1::{Sha1HashOp, sha1_hash, sha1h, sha1su0, sha1su1};
pub use sha256::{sha256h, sha256h2, sha256su0, sha256su1};
