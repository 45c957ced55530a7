//! The bus: guest physical addresses to devices.
//!
//! The map is built once, then only read: an access is a binary search and a call, with no lock of the bus's own.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use crate::state::StateError;

/// A device that answers in a window of guest physical addresses.
///
/// All methods may be called from any thread at any time. A device locks its own state and calls nothing but its
/// interrupt line and its host side while it holds that lock.
pub trait MmioDevice: Send + Sync {
    /// Unique name on this board, for saved state and reports: `pl011@9000000`.
    fn name(&self) -> &str;
    /// Reads `size` (1, 2, 4 or 8) bytes at `offset` into the window; the value is zero-extended.
    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError>;
    /// Writes the low `size` (1, 2, 4 or 8) bytes of `value` at `offset` into the window.
    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError>;
    /// Back to the state at power-on.
    fn reset(&self);
    /// Stops what the device does by itself on threads of its own; returns when it stands still. Register accesses go on.
    fn pause(&self) {}
    /// Goes on after [`pause`](Self::pause).
    fn resume(&self) {}
    /// What it counts beside register accesses, for statistics.
    fn counters(&self) -> Value {
        Value::Null
    }
    /// The state as self-describing data ([`crate::state::pack`]).
    fn save(&self) -> Value;
    /// Takes over saved state. On an error the device keeps the state that it had.
    fn load(&self, value: &Value) -> Result<(), StateError>;
}

/// A device refuses an access: the guest takes a synchronous external abort.
///
/// Most devices never do: registers that do not exist, and widths that a register does not have, read as zero and
/// ignore writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("No register at offset {offset:#x} takes an access of {size} bytes")]
pub struct AccessError {
    /// Offset into the device's window.
    pub offset: u64,
    /// Width of the access in bytes.
    pub size: u8,
}

/// An access that no device completes: the guest takes a synchronous external abort.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// No device answers there, or the access reaches beyond the end of one.
    #[error("No device answers {size} bytes at {address:#x}")]
    Unmapped {
        /// Guest physical address.
        address: u64,
        /// Width of the access in bytes.
        size: u8,
    },
    /// The device itself refused.
    #[error("Device {device} refused the access")]
    Refused {
        /// Name of the device.
        device: String,
        /// Its reason.
        source: AccessError,
    },
}

/// Why a device cannot be put where it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The window is empty or wraps around the end of the address space.
    #[error("Window of {device} at {base:#x} with length {len:#x} is empty or passes the end of the address space")]
    Window {
        /// Name of the device to be mapped.
        device: String,
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Another device is there.
    #[error("Window of {device} at {base:#x} with length {len:#x} overlaps {other} at {other_base:#x}")]
    Overlap {
        /// Name of the device to be mapped.
        device: String,
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// Name of the device that is there.
        other: String,
        /// Its first address.
        other_base: u64,
    },
    /// Saved state is keyed by name, so a name stands for one device only.
    #[error("There is a device {device} already: give this one a name of its own")]
    Name {
        /// The name.
        device: String,
    },
}

struct Entry {
    base: u64,
    len: u64,
    device: Arc<dyn MmioDevice>,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// How often a window was accessed since the machine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accesses {
    /// Reads, refused ones too.
    pub reads: u64,
    /// Writes, refused ones too.
    pub writes: u64,
}

/// One row of the memory map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Guest physical addresses.
    pub range: Range<u64>,
    /// Name of the device that answers there.
    pub device: String,
    /// Use so far.
    pub accesses: Accesses,
    /// What the device itself counts ([`MmioDevice::counters`]).
    pub counters: Value,
}

/// The memory map of the devices.
#[derive(Default)]
pub struct Bus {
    /// Sorted by `base`, without overlaps.
    entries: Vec<Entry>,
    /// Accesses that no device answered.
    unmapped: AtomicU64,
}

impl Bus {
    /// A bus without devices.
    pub fn new() -> Bus {
        Bus::default()
    }

    /// Lets `device` answer at `base..base + len`. The same device may be mapped at several places.
    pub fn insert(&mut self, base: u64, len: u64, device: Arc<dyn MmioDevice>) -> Result<(), MapError> {
        let name = device.name().to_owned();
        let Some(last) = len.checked_sub(1).and_then(|l| base.checked_add(l)) else {
            return Err(MapError::Window { device: name, base, len });
        };
        if let Some(other) = self.entries.iter().find(|e| e.base <= last && base <= e.last()) {
            let (other, other_base) = (other.device.name().to_owned(), other.base);
            return Err(MapError::Overlap { device: name, base, len, other, other_base });
        }
        if self.entries.iter().any(|e| e.device.name() == name && !Arc::ptr_eq(&e.device, &device)) {
            return Err(MapError::Name { device: name });
        }
        let at = self.entries.partition_point(|e| e.base < base);
        let entry = Entry { base, len, device, reads: AtomicU64::new(0), writes: AtomicU64::new(0) };
        self.entries.insert(at, entry);
        Ok(())
    }

    /// Reads `size` (1, 2, 4 or 8) bytes at the guest physical address `address`.
    pub fn read(&self, address: u64, size: u8) -> Result<u64, BusError> {
        let (entry, offset) = self.find(address, size)?;
        entry.reads.fetch_add(1, Ordering::Relaxed);
        entry.device.read(offset, size).map_err(|e| entry.refused(e))
    }

    /// Writes the low `size` (1, 2, 4 or 8) bytes of `value` at the guest physical address `address`.
    pub fn write(&self, address: u64, size: u8, value: u64) -> Result<(), BusError> {
        let (entry, offset) = self.find(address, size)?;
        entry.writes.fetch_add(1, Ordering::Relaxed);
        entry.device.write(offset, size, value).map_err(|e| entry.refused(e))
    }

    fn find(&self, address: u64, size: u8) -> Result<(&Entry, u64), BusError> {
        let after = self.entries.partition_point(|e| e.base <= address);
        let hit = after.checked_sub(1).and_then(|i| self.entries.get(i)).and_then(|e| {
            let offset = address - e.base;
            let fits = matches!(size, 1 | 2 | 4 | 8) && offset < e.len && u64::from(size) <= e.len - offset;
            fits.then_some((e, offset))
        });
        hit.ok_or_else(|| {
            self.unmapped.fetch_add(1, Ordering::Relaxed);
            BusError::Unmapped { address, size }
        })
    }

    /// The memory map, in order of addresses.
    pub fn ranges(&self) -> Vec<Window> {
        let row = |e: &Entry| Window {
            range: e.base..e.base.saturating_add(e.len),
            device: e.device.name().to_owned(),
            accesses: Accesses { reads: e.reads.load(Ordering::Relaxed), writes: e.writes.load(Ordering::Relaxed) },
            counters: e.device.counters(),
        };
        self.entries.iter().map(row).collect()
    }

    /// How many accesses no device answered.
    pub fn unmapped_accesses(&self) -> u64 {
        self.unmapped.load(Ordering::Relaxed)
    }

    /// Each device once, in order of its first address.
    pub fn devices(&self) -> Vec<&Arc<dyn MmioDevice>> {
        let mut seen: Vec<&Arc<dyn MmioDevice>> = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            if !seen.iter().any(|d| Arc::ptr_eq(d, &entry.device)) {
                seen.push(&entry.device);
            }
        }
        seen
    }

    /// All devices back to the state at power-on. The vCPUs must be stopped.
    pub fn reset(&self) {
        self.devices().iter().for_each(|d| d.reset());
    }

    /// No device touches guest RAM any more when this returns. The vCPUs must be stopped.
    pub fn pause(&self) {
        self.devices().iter().for_each(|d| d.pause());
    }

    /// The devices go on.
    pub fn resume(&self) {
        self.devices().iter().for_each(|d| d.resume());
    }

    /// The state of all devices, keyed by name. The vCPUs must be stopped.
    pub fn save(&self) -> Value {
        Value::Object(self.devices().iter().map(|d| (d.name().to_owned(), d.save())).collect::<Map<_, _>>())
    }

    /// Takes over the state of all devices. The vCPUs must be stopped. Nothing is changed when the sets of devices
    /// differ; when a device refuses its state, those before it in the map have taken over theirs already: the caller
    /// then gives up this machine or resets it.
    pub fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved = value.as_object().ok_or_else(|| StateError::malformed("bus", "not an object"))?;
        let devices = self.devices();
        if let Some(name) = saved.keys().find(|n| !devices.iter().any(|d| d.name() == n.as_str())) {
            return Err(StateError::machine(name, "was saved, but this machine has no such device"));
        }
        let mut plan = Vec::with_capacity(devices.len());
        for device in devices {
            let state = saved
                .get(device.name())
                .ok_or_else(|| StateError::machine(device.name(), "was not part of the saved machine"))?;
            plan.push((device, state));
        }
        plan.into_iter().try_for_each(|(device, state)| device.load(state))
    }
}

impl Entry {
    fn last(&self) -> u64 {
        self.base.saturating_add(self.len - 1)
    }

    #[cold]
    fn refused(&self, source: AccessError) -> BusError {
        BusError::Refused { device: self.device.name().to_owned(), source }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

#[cfg(test)]
mod tests;
