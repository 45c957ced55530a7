//! Pure value functions: what an instruction computes, without any processor state. Every engine may call them.

pub mod fp_lanes;
pub mod softfloat;
