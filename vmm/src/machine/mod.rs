//! The machine: RAM, board, firmware calls, saved state.

pub mod container;
pub mod psci;
