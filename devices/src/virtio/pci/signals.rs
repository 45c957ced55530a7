//! How a PCI function interrupts: by a message for each queue, or by the ISR status and the INTA wire.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use super::spec;
use crate::irq::IrqLine;
use crate::lock;
use crate::pci::msix::{Msix, Table};
use crate::virtio::Interrupts;

/// The interrupts of one function.
pub(super) struct Signals {
    pub(super) msix: Msix,
    /// Vector of each queue.
    queues: Vec<AtomicU16>,
    configuration: AtomicU16,
    vectors: u16,
    intx: IrqLine,
    isr: Mutex<Isr>,
    /// Called around what asserts INTA.
    intx_changes: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

/// The ISR status, and the wire that follows from it.
#[derive(Default)]
struct Isr {
    bits: u8,
    level: bool,
    /// `Command.Interrupt Disable`.
    disabled: bool,
}

/// What is saved.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SavedSignals {
    msix: Table,
    queues: Vec<u16>,
    configuration: u16,
    isr: u8,
    disabled: bool,
}

impl Signals {
    pub(super) fn new(msix: Msix, intx: IrqLine, queues: usize) -> Signals {
        let none = || AtomicU16::new(spec::NO_VECTOR);
        let vectors = msix.vectors();
        let queues = (0..queues).map(|_| none()).collect();
        let (isr, intx_changes) = (Mutex::default(), OnceLock::new());
        Signals { msix, queues, configuration: none(), vectors, intx, isr, intx_changes }
    }

    /// A vector that exists, or none.
    fn checked(&self, vector: u16) -> u16 {
        if vector < self.vectors { vector } else { spec::NO_VECTOR }
    }

    pub(super) fn configuration_vector(&self) -> u16 {
        self.configuration.load(Ordering::SeqCst)
    }

    pub(super) fn set_configuration_vector(&self, vector: u16) {
        self.configuration.store(self.checked(vector), Ordering::SeqCst);
    }

    pub(super) fn queue_vector(&self, queue: u16) -> u16 {
        self.queues.get(usize::from(queue)).map_or(spec::NO_VECTOR, |vector| vector.load(Ordering::SeqCst))
    }

    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(cell) = self.queues.get(usize::from(queue)) {
            cell.store(self.checked(vector), Ordering::SeqCst);
        }
    }

    /// Message Control or Command was written.
    pub(super) fn set_control(&self, msix_control: u16, master: bool, intx_disabled: bool) {
        self.msix.set_control(msix_control, master);
        self.update(|isr| isr.disabled = intx_disabled);
    }

    /// Reads the ISR status, which clears it.
    pub(super) fn take_isr(&self) -> u8 {
        self.update(|isr| std::mem::take(&mut isr.bits))
    }

    /// Whether INTA is to be asserted, were it not disabled.
    pub(super) fn intx_level(&self) -> bool {
        lock(&self.isr).bits != 0 && !self.msix.enabled()
    }

    /// Has `hook` called before and after the device asserts INTA.
    pub(super) fn when_intx_changes(&self, hook: Arc<dyn Fn() + Send + Sync>) {
        // A function is connected once.
        let _ = self.intx_changes.set(hook);
    }

    /// The device asserts INTA, unless messages are enabled. Nobody holds the lock of the ISR status.
    fn assert(&self, bits: u8) {
        if let Some(hook) = self.intx_changes.get().filter(|_| !self.msix.enabled()) {
            hook();
        }
        self.update(|isr| isr.bits |= bits);
        // Messages may have been disabled meanwhile.
        if let Some(hook) = self.intx_changes.get().filter(|_| self.intx_level()) {
            hook();
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut Isr) -> T) -> T {
        let mut isr = lock(&self.isr);
        let answer = change(&mut isr);
        let level = isr.bits != 0 && !isr.disabled && !self.msix.enabled();
        if level != isr.level {
            isr.level = level;
            self.intx.set(level);
        }
        answer
    }

    /// The device is reset by its driver: MSI-X stays as it is.
    pub(super) fn reset_device(&self) {
        self.queues.iter().chain([&self.configuration]).for_each(|v| v.store(spec::NO_VECTOR, Ordering::SeqCst));
        self.update(|isr| isr.bits = 0);
    }

    /// The function is reset.
    pub(super) fn reset(&self) {
        self.reset_device();
        self.msix.reset();
        self.update(|isr| isr.disabled = false);
    }

    pub(super) fn save(&self) -> SavedSignals {
        let isr = lock(&self.isr);
        SavedSignals {
            msix: self.msix.save(),
            queues: self.queues.iter().map(|vector| vector.load(Ordering::SeqCst)).collect(),
            configuration: self.configuration_vector(),
            isr: isr.bits,
            disabled: isr.disabled,
        }
    }

    /// False, and nothing changed, if the numbers of queues or vectors differ.
    pub(super) fn load(&self, saved: &SavedSignals) -> bool {
        if saved.queues.len() != self.queues.len() || !self.msix.load(&saved.msix) {
            return false;
        }
        for (queue, &vector) in (0..).zip(&saved.queues) {
            self.set_queue_vector(queue, vector);
        }
        self.set_configuration_vector(saved.configuration);
        self.update(|isr| {
            isr.bits = saved.isr & (spec::ISR_QUEUE | spec::ISR_CONFIGURATION);
            isr.disabled = saved.disabled;
        });
        true
    }
}

impl Interrupts for Signals {
    fn used(&self, index: u16) {
        if self.msix.enabled() {
            self.msix.signal(self.queue_vector(index));
        } else {
            self.assert(spec::ISR_QUEUE);
        }
    }

    fn configuration(&self) {
        // The driver may look at the ISR status whatever it uses (4.1.5.3).
        self.assert(spec::ISR_CONFIGURATION);
        self.msix.signal(self.configuration_vector());
    }
}
