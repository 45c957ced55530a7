//! One AArch64 processing element: registers, system registers, exceptions, stage-1 translation, generic timer and the interpreter.

pub mod debug;
pub mod gic;
