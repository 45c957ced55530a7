//! The meaning of the base instructions, through the outward interface: decode a word, execute it on a small machine.

mod agreement;
mod effects;
mod generate;
mod known;
mod machine;
mod oracle;
#[path = "../common/runner.rs"]
mod runner;
