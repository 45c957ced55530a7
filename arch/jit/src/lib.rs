//! The translator: AArch64 guest code to x86-64 host code.

pub mod asm;
