//! PCI Express: a host bridge with ECAM, and what its functions are made of.
//!
//! The [`PciHost`] has one bus with up to 31 functions beside itself. A [`PciFunction`] is a [`config::ConfigSpace`] with
//! registers behind its BARs and, mostly, an [`msix::Msix`]. Software moves BARs as it likes within the bridge's windows.

pub mod config;
pub mod host;
pub mod msix;
mod shadow;
pub mod spec;

pub use config::{ConfigSpace, Identity};
pub use host::{PciHost, PciWindow};
pub use msix::Msix;
pub use shadow::ConfigMemory;

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::state::StateError;

/// Where message-signalled interrupts go.
pub trait MsiSink: Send + Sync {
    /// Function `device` (its requester ID) writes `data` to `address`.
    fn send(&self, device: u32, address: u64, data: u32);
}

/// Guest physical addresses behind each BAR that is decoded now. The upper half of a 64-bit BAR has none.
pub type Decoded = [Option<Range<u64>>; 6];

/// A PCI function. Like an [`crate::MmioDevice`] it is called from any thread and locks its own state.
pub trait PciFunction: Send + Sync {
    /// Unique name on this board.
    fn name(&self) -> &str;
    /// Reads `size` (1, 2 or 4) bytes of the configuration space at `offset`, which is aligned and below 4096.
    fn read_config(&self, offset: u16, size: u8) -> u32;
    /// Writes `size` (1, 2 or 4) bytes of the configuration space at `offset`, which is aligned and below 4096.
    fn write_config(&self, offset: u16, size: u8, value: u32);
    /// All of the configuration space; of one that is not plain, without the effects that reading has.
    fn config_bytes(&self) -> Vec<u8>;
    /// Reading the configuration space has no effect now, and only writes to it change it.
    fn is_plain(&self) -> bool;
    /// `lost` is called around each event, other than writes to the configuration space, that ends that.
    fn when_not_plain(&self, lost: Arc<dyn Fn() + Send + Sync>);
    /// Where its BARs answer.
    fn decoded(&self) -> Decoded;
    /// Reads `size` (1, 2, 4 or 8) bytes at `offset` behind BAR `bar`.
    fn read_bar(&self, bar: usize, offset: u64, size: u8) -> u64;
    /// Writes `size` (1, 2, 4 or 8) bytes at `offset` behind BAR `bar`.
    fn write_bar(&self, bar: usize, offset: u64, size: u8, value: u64);
    /// Back to the state at power-on.
    fn reset(&self);
    /// Stops what it does by itself; returns when it stands still.
    fn pause(&self) {}
    /// Goes on.
    fn resume(&self) {}
    /// What it counts.
    fn counters(&self) -> Value {
        Value::Null
    }
    /// Its state.
    fn save(&self) -> Value;
    /// Takes over saved state. On an error nothing has changed.
    fn load(&self, value: &Value) -> Result<(), StateError>;
}
