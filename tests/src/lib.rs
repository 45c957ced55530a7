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

/// `len` bytes that differ from sector to sector, other ones for each `seed`.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    let mut state = seed as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}
