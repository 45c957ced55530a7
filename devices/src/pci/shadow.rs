//! A configuration space that software reads as memory, without an exit: a kernel (KVM) maps it read-only.
//!
//! Reading a configuration space has no effect, with two exceptions in virtio functions: the data register of the PCI
//! configuration access capability is a window to other registers, and Status.Interrupt follows INTx. While a function uses
//! either ([`PciFunction::is_plain`](super::PciFunction::is_plain)) the memory is taken away, and reads arrive as accesses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::lock;

/// Memory at the place of a host bridge's ECAM window.
pub trait ConfigMemory: Send + Sync {
    /// Device `device` of bus 0 reads as `bytes` from now on. Devices that were never shown read all ones.
    fn show(&self, device: usize, bytes: &[u8]);
    /// Reads find the memory, or arrive as accesses. Writes always arrive. False if the kernel refuses: nothing has changed.
    fn expose(&self, on: bool) -> bool;
}

/// What a bridge keeps about its memory.
pub(super) struct Shadow {
    memory: Arc<dyn ConfigMemory>,
    /// Reads find the memory, or are about to.
    exposed: AtomicBool,
    /// Held while bytes are shown, and while the memory comes or goes.
    order: Mutex<()>,
}

impl Shadow {
    /// Memory that nobody reads yet.
    pub(super) fn new(memory: Arc<dyn ConfigMemory>) -> Shadow {
        Shadow { memory, exposed: AtomicBool::new(false), order: Mutex::new(()) }
    }

    /// The space of device `changed` may have changed; all of those up to `last` if none is named. Reads find the memory from
    /// now on if all functions are `plain`.
    pub(super) fn update(
        &self,
        changed: Option<usize>,
        last: usize,
        bytes: impl Fn(usize) -> Vec<u8>,
        plain: impl Fn() -> bool,
    ) {
        let _order = lock(&self.order);
        // Announced first: a function that stops being plain now either sees this, or is seen by `plain`.
        let before = self.exposed.swap(true, Ordering::SeqCst);
        let now = plain();
        if now {
            // What was not exposed has not been kept up to date.
            let devices = changed.filter(|_| before).map_or(0..=last, |device| device..=device);
            devices.for_each(|device| self.memory.show(device, &bytes(device)));
        }
        let done = now == before || self.memory.expose(now);
        self.exposed.store(if done { now } else { before }, Ordering::SeqCst);
    }

    /// A function is not plain any more.
    pub(super) fn withdraw(&self) {
        if self.exposed.load(Ordering::SeqCst) {
            let _order = lock(&self.order);
            if self.exposed.load(Ordering::SeqCst) && self.memory.expose(false) {
                self.exposed.store(false, Ordering::SeqCst);
            }
        }
    }
}
