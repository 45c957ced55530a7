//! Pure value functions: what an instruction computes, without any processor state. Every engine may call them.

pub mod crc;
pub mod crypto;
pub mod fp_lanes;
pub mod int;
pub mod lanes;
pub mod softfloat;
