//! The same random instructions on `vmm`'s engines and on a reference, and the smallest block on which they differ.

pub mod block;
pub mod generate;
pub mod reference;
