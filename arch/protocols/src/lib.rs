//! The protocols between the threads of a machine: who asks a vCPU for something, how it sleeps, how TLB maintenance reaches it, when memory that it may
//! still use is free. Each is one small type with its invariants written at its fields, without unsafe code and without system calls.
//!
//! The tests are models: under `cfg(test)` the atomics are those of `loom`, which runs each test in every interleaving and with every value that the C11
//! memory model lets a load return. So `cargo test -p protocols` checks what other crates use, not a copy of it.

mod bell;
mod doze;
mod grace;
mod shootdown;
mod stamp;

pub use bell::{Bell, Ring};
pub use doze::Doze;
pub use grace::Grace;
pub use shootdown::{AsidFilter, Shootdown};
pub use stamp::Stamp;

#[cfg(test)]
pub(crate) use loom::sync;
#[cfg(not(test))]
pub(crate) use std::sync;
