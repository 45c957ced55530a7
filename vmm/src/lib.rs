//! The virtual machine monitor: command line, machine assembly, engines, vCPU threads, console, reports.
//!
//! `cli` turns options into a machine description, `machine` assembles it from the other crates, `engine` runs its vCPUs,
//! `console` connects its serial port to the user, `supervisor` deals with what happens to it until it ends.

pub mod bench;
pub mod cli;
pub mod console;
pub mod counted;
pub mod debugger;
pub mod engine;
pub mod exit;
pub mod machine;
pub mod panic_watch;
pub mod sandbox;
pub mod signals;
pub mod supervisor;
pub mod tap;
pub mod trace;
