//! What the tests share: the cross compiler, bare-metal guests, monitors as child processes, and the differential harness.
//!
//! The tests need Debian's `gcc-aarch64-linux-gnu` and `qemu-user` (`.ci/run` installs them); a test that misses one
//! fails and says which.

pub mod archive;
pub mod differential;
pub mod guests;
pub mod linux;
pub mod monitor;
pub mod nested;
pub mod power_loss;
pub mod process;
pub mod tools;
pub mod workshop;

/// `len` bytes that tell where they are, other ones for each `seed`.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ seed) as u8).collect()
}
