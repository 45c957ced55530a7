//! The translator: AArch64 guest code to x86-64 host code.
//!
//! `asm` encodes x86-64, `cache` owns executable memory, `t1` translates superblocks, `thunks` is the code that all fragments share, `code` says which
//! fragment stands for which guest code and links them, `tlb` holds the translation caches that generated code reads, and
//! `machine` is a virtual CPU that runs by all of these, with the interpreter of crate `cpu` for what has no lowering.
//!
//! All vCPUs of a machine share the translated code (`code`), found without a lock; each has its own translation caches and jump caches. A vCPU learns of
//! changed code by the epochs in `cpu::CodeEpochs`, and code that was taken out is only overwritten when no vCPU can be in it (`protocols::Grace`).
#![cfg(target_arch = "x86_64")] // it makes x86-64 code: on other hosts the crate is empty

pub mod asm;
mod cache;
mod code;
mod constants;
mod contexts;
mod counters;
mod enter;
mod env;
mod exceptions;
mod fpstate;
mod host;
mod hugepages;
mod machine;
mod optimisations;
mod perf_map;
mod second;
pub mod t1;
mod thunks;
mod tlb;

pub use cache::CodeCache;
pub use counters::JitCounters;
pub use host::{HostFeatures, Unsupported, detect};
pub use hugepages::HugeBox;
pub use machine::{JitCpu, JitShared, Options};
pub use optimisations::{Optimisation, Optimisations, UnknownOptimisation};
