//! Doorbells that the host kernel rings by itself: a write of the guest becomes a write to an event, on which the queue's
//! worker sleeps, and the vCPU goes on without leaving the kernel. Writes that arrive as accesses ring as ever.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::common::Common;
use super::pci::NOTIFY_MULTIPLIER;
use crate::lock;

/// A doorbell's place in guest physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BellPlace {
    /// The address that is written to.
    pub address: u64,
    /// The 32 bits that ring this bell; none: whatever is written, however wide.
    pub value: Option<u32>,
}

/// A kernel that can ring doorbells (KVM's ioeventfd).
pub trait KernelDoorbells: Send + Sync {
    /// Writes of the guest to `place` are from now on writes to `event`. False if the kernel does not do that: they
    /// arrive as accesses.
    fn connect(&self, place: BellPlace, event: &Arc<OwnedFd>) -> bool;
    /// They arrive as accesses again.
    fn disconnect(&self, place: BellPlace, event: &Arc<OwnedFd>);
}

/// The doorbells of one device.
pub(super) struct Bells {
    kernel: Arc<dyn KernelDoorbells>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of each queue.
    events: Vec<Arc<OwnedFd>>,
    /// Where the first doorbell is.
    base: Option<u64>,
    connected: Vec<(BellPlace, Arc<OwnedFd>)>,
}

impl Bells {
    pub(super) fn new(kernel: Arc<dyn KernelDoorbells>) -> Bells {
        Bells { kernel, state: Mutex::default() }
    }

    /// The device's workers listen to the kernel.
    pub(super) fn listen(&self, common: &Common) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.events.is_empty() {
            state.events = common.connect_doorbells()?;
        }
        Ok(())
    }

    /// Connects each queue's doorbell at its place.
    pub(super) fn connect(&self, place: impl Fn(u64) -> BellPlace) {
        self.connect_all(&mut lock(&self.state), place);
    }

    fn connect_all(&self, state: &mut State, place: impl Fn(u64) -> BellPlace) {
        let State { events, connected, .. } = state;
        let bells = (0..).map(place).zip(events.iter().cloned());
        connected.extend(bells.filter(|(place, event)| self.kernel.connect(*place, event)));
    }

    /// Doorbells of a PCI function follow its BAR. `base` is looked at under the lock: of two that come here at once the
    /// later one sees what both have written.
    pub(super) fn follow(&self, base: impl FnOnce() -> Option<u64>) {
        let mut state = lock(&self.state);
        let base = base();
        if base == state.base {
            return;
        }
        state.base = base;
        for (place, event) in state.connected.drain(..) {
            self.kernel.disconnect(place, &event);
        }
        if let Some(base) = base {
            self.connect_all(&mut state, |queue| BellPlace { address: base + queue * NOTIFY_MULTIPLIER, value: None });
        }
    }
}

#[cfg(test)]
mod tests;
