//! The MMIO transport, version 2 (VIRTIO 1.2 section 4.2): registers, and a level-sensitive interrupt.
//!
//! Registers are 32 bits wide and aligned; other accesses read zero and are ignored. The device configuration takes any
//! width.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::common::{Common, QueuePart};
use super::device::VirtioDevice;
use super::doorbells::Bells;
use super::spec::mmio as reg;
use super::{BellPlace, Interrupts, KernelDoorbells, SharedMemory};
use crate::bus::{AccessError, MmioDevice};
use crate::irq::IrqLine;
use crate::lock;
use crate::state::{self, StateError};

const VERSION: u64 = 1;

/// A device behind MMIO registers.
pub struct VirtioMmio {
    name: String,
    common: Common,
    line: Arc<Line>,
    base: u64,
    /// Once the kernel rings doorbells.
    bells: OnceLock<Bells>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    interrupt_status: u32,
    common: Value,
}

/// `InterruptStatus` and the wire, which is high while any bit is set.
struct Line {
    irq: IrqLine,
    /// Changed under `change` only, so that the wire follows.
    status: AtomicU32,
    change: Mutex<()>,
}

impl Line {
    fn update(&self, new: impl FnOnce(u32) -> u32) {
        let guard = lock(&self.change);
        let before = self.status.load(Ordering::SeqCst);
        let after = new(before);
        self.status.store(after, Ordering::SeqCst);
        if (before != 0) != (after != 0) {
            self.irq.set(after != 0);
        }
        drop(guard);
    }
}

impl Interrupts for Line {
    fn used(&self, _index: u16) {
        self.update(|status| status | reg::INTERRUPT_USED);
    }
    fn configuration(&self) {
        self.update(|status| status | reg::INTERRUPT_CONFIGURATION);
    }
}

impl VirtioMmio {
    /// Puts `device` behind registers at `base`, which makes its name unique, with its interrupt on `irq`. Fails when
    /// the host gives no threads.
    pub fn new(
        base: u64,
        device: Arc<dyn VirtioDevice>,
        memory: SharedMemory,
        irq: IrqLine,
    ) -> io::Result<Arc<VirtioMmio>> {
        let name = format!("{}@{base:x}", device.type_name());
        let line = Arc::new(Line { irq, status: AtomicU32::new(0), change: Mutex::new(()) });
        let common = Common::new(&name, device, memory, Arc::clone(&line) as Arc<dyn Interrupts>)?;
        Ok(Arc::new(VirtioMmio { name, common, line, base, bells: OnceLock::new() }))
    }

    /// Has the host kernel ring the doorbells from now on.
    ///
    /// # Errors
    /// The host gives no descriptors.
    pub fn connect_doorbells(&self, kernel: Arc<dyn KernelDoorbells>) -> io::Result<()> {
        let bells = self.bells.get_or_init(|| Bells::new(kernel));
        let address = self.base + reg::QUEUE_NOTIFY;
        bells.listen(&self.common)?;
        bells.connect(|queue| BellPlace { address, value: Some(queue as u32) }); // at most 2^16
        Ok(())
    }

    /// The device's common configuration: counters, pause, change of configuration.
    pub fn common(&self) -> &Common {
        &self.common
    }

    fn read_register(&self, offset: u64) -> u32 {
        let common = &self.common;
        match offset {
            reg::MAGIC_VALUE => reg::MAGIC,
            reg::VERSION => 2,
            reg::DEVICE_ID => common.device().device_type(),
            reg::VENDOR_ID => reg::VENDOR,
            reg::DEVICE_FEATURES => common.device_features(),
            reg::QUEUE_SIZE_MAX => common.queue_size_max().into(),
            reg::QUEUE_READY => common.queue_ready().into(),
            reg::INTERRUPT_STATUS => self.line.status.load(Ordering::SeqCst),
            reg::STATUS => common.status(),
            // No shared memory regions: length and base are all ones (4.2.2.1).
            reg::SHM_LEN_LOW..=reg::SHM_BASE_HIGH => u32::MAX,
            reg::CONFIG_GENERATION => common.config_generation(),
            _ => 0,
        }
    }

    fn write_register(&self, offset: u64, value: u32) {
        let common = &self.common;
        match offset {
            // The one that matters for speed first.
            reg::QUEUE_NOTIFY => common.notify(value),
            reg::INTERRUPT_ACK => self.line.update(|status| status & !value),
            reg::DEVICE_FEATURES_SEL => common.select_device_features(value),
            reg::DRIVER_FEATURES => common.set_driver_features(value),
            reg::DRIVER_FEATURES_SEL => common.select_driver_features(value),
            reg::QUEUE_SEL => common.select_queue(value),
            reg::QUEUE_SIZE => common.set_queue_size(value),
            reg::QUEUE_READY => common.set_queue_ready(value & 1 != 0),
            reg::STATUS if value == 0 => self.reset(),
            reg::STATUS => common.set_status(value),
            _ => {
                let part = match offset & !4 {
                    reg::QUEUE_DESC_LOW => QueuePart::Descriptors,
                    reg::QUEUE_DRIVER_LOW => QueuePart::Driver,
                    reg::QUEUE_DEVICE_LOW => QueuePart::Device,
                    _ => return,
                };
                common.set_queue_address(part, offset & 4 != 0, value);
            }
        }
    }
}

impl MmioDevice for VirtioMmio {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        if offset < reg::CONFIG {
            let whole = size == 4 && offset.is_multiple_of(4);
            return Ok(if whole { self.read_register(offset).into() } else { 0 });
        }
        let mut bytes = [0; 8];
        if let Some(bytes) = bytes.get_mut(..usize::from(size)) {
            self.common.device().read_config(offset - reg::CONFIG, bytes);
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        if offset < reg::CONFIG {
            if size == 4 && offset.is_multiple_of(4) {
                self.write_register(offset, value as u32);
            }
        } else if let Some(bytes) = value.to_le_bytes().get(..usize::from(size)) {
            self.common.device().write_config(offset - reg::CONFIG, bytes);
        }
        Ok(())
    }

    fn reset(&self) {
        // The device first: while it settles it may still interrupt.
        self.common.reset();
        self.line.update(|_| 0);
    }

    fn pause(&self) {
        self.common.pause();
    }

    fn resume(&self) {
        self.common.resume();
    }

    fn counters(&self) -> Value {
        self.common.counters()
    }

    fn save(&self) -> Value {
        let common = self.common.save();
        state::pack(VERSION, &Saved { interrupt_status: self.line.status.load(Ordering::SeqCst), common })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(&self.name, VERSION, value)?;
        // Before the device, which may interrupt as soon as it goes on.
        let before = self.line.status.load(Ordering::SeqCst);
        let reasons = reg::INTERRUPT_USED | reg::INTERRUPT_CONFIGURATION;
        self.line.update(|_| saved.interrupt_status & reasons);
        self.common.load(&saved.common).inspect_err(|_| self.line.update(|_| before))
    }
}

#[cfg(test)]
mod tests;
