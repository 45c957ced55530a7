//! The interpreter.

mod idle;

use crate::config::CpuConfig;
use crate::stop::Stop;
use crate::vcpu::Vcpu;

/// Decoded code.
#[derive(Debug)]
pub(crate) struct CodeCache {}

impl CodeCache {
    pub(crate) fn new(_config: &CpuConfig) -> CodeCache {
        CodeCache {}
    }
    pub(crate) fn clear(&mut self) {}
}

impl Vcpu {
    /// The current code page must be looked up anew.
    #[inline]
    pub(crate) fn fetch_stale(&mut self) {}

    /// Code was invalidated by this PE.
    pub(crate) fn code_dropped(&mut self) {
        self.fetch_stale();
    }

    /// Runs until something real stops it.
    pub fn run(&mut self) -> Stop {
        Stop::Internal("the interpreter waits for the instruction set".into())
    }

    /// Exactly one instruction or exception entry.
    pub fn step(&mut self) -> Option<Stop> {
        Some(self.run())
    }
}
