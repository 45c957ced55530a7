//! The AArch64 instruction set: one table, its decoder, encoder, disassembler and generator, and the meaning of each instruction.

pub mod fp;
pub mod value;
