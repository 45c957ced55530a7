//! The devices of the board and the bus that they sit on. Knows nothing of the engine that runs the guest.
//!
//! A device is an [`MmioDevice`]: a named register window that can be read, written, reset, saved and loaded from any
//! vCPU thread. The [`Bus`] maps guest physical addresses to devices. A device raises an [`IrqLine`], which the
//! [`gic::Gic`] turns into the best pending interrupt of each processing element.
//!
//! The guest is hostile: no access of any offset, width and value panics, blocks for ever or allocates without bound.

pub mod bus;
pub mod contained;
pub mod disk;
pub mod gic;
pub mod irq;
pub mod latency;
pub mod memory;
pub mod net;
pub mod pci;
pub mod pl011;
pub mod pl031;
pub mod pl061;
pub mod primecell;
pub mod pvpanic;
pub mod state;
#[cfg(test)]
mod testing;
mod unix;
pub mod virtio;

pub use bus::{AccessError, Bus, BusError, MapError, MmioDevice};
pub use gic::{CpuInterfaceSink, Gic, Its, SgiGroup};
pub use irq::{InterruptSink, IrqLine, WiredOr};
pub use pl011::{CharSink, Pl011};
pub use pl031::{Pl031, WallClock};
pub use pl061::Pl061;
pub use pvpanic::{PanicEvent, Pvpanic};
pub use state::StateError;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex` even if another thread panicked while it held it: device state is plain data that each register
/// access leaves consistent, and one dead thread must not take the others with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
