//! The parts of a decoded instruction: small enums for the choices inside a class, and the functions that turn raw fields of an
//! encoding into them. The constructors and guards of `a64.isa` are expressions over these.

mod base;

pub use base::*;
