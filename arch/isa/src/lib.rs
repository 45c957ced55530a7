//! The AArch64 instruction set: one table, its decoder, encoder, disassembler and generator, and the meaning of each instruction.

pub mod decode;
pub mod disasm;
pub mod features;
pub mod fp;
mod generated;
pub mod insn;
pub mod operand;
pub mod random;
pub mod sem;
pub mod simd;
pub mod value;

pub use decode::{Encoding, decode, encode, encoding};
pub use disasm::disasm;
pub use features::{Feature, Features};
pub use insn::{Insn, Reg};
