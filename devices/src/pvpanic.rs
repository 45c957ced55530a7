//! pvpanic: one byte by which a guest says that it panicked.
//!
//! A read gives the events that the machine understands; a write reports events. (QEMU `docs/specs/pvpanic.rst`.)

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use crate::bus::{AccessError, MmioDevice};
use crate::state::{self, StateError};

const NAME: &str = "pvpanic";
const VERSION: u64 = 1;
/// Length of the register window in bytes.
pub const WINDOW_LEN: u64 = 2;
const PANICKED: u64 = 1 << 0;
const CRASH_LOADED: u64 = 1 << 1;

/// What the guest reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanicEvent {
    /// The guest's kernel panicked.
    Panicked,
    /// The guest's kernel panicked and runs its crash kernel now.
    CrashLoaded,
}

/// The device. It has no state.
pub struct Pvpanic {
    report: Arc<dyn Fn(PanicEvent) + Send + Sync>,
}

impl Pvpanic {
    /// A device that calls `report`, on the thread of the vCPU, for each event.
    pub fn new(report: Arc<dyn Fn(PanicEvent) + Send + Sync>) -> Arc<Pvpanic> {
        Arc::new(Pvpanic { report })
    }
}

impl MmioDevice for Pvpanic {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&self, offset: u64, _size: u8) -> Result<u64, AccessError> {
        Ok(if offset == 0 { PANICKED | CRASH_LOADED } else { 0 })
    }

    fn write(&self, offset: u64, _size: u8, value: u64) -> Result<(), AccessError> {
        if offset == 0 && value & PANICKED != 0 {
            (self.report)(PanicEvent::Panicked);
        }
        if offset == 0 && value & CRASH_LOADED != 0 {
            (self.report)(PanicEvent::CrashLoaded);
        }
        Ok(())
    }

    fn reset(&self) {}

    fn save(&self) -> Value {
        state::pack(VERSION, &Value::Null)
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        state::unpack::<Value>(NAME, VERSION, value).map(drop)
    }
}
