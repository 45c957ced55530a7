//! The PCI transport (VIRTIO 1.2 section 4.1): a PCI function with the virtio structures behind one BAR and MSI-X behind
//! another; INTx where software does not enable MSI-X. No legacy interface.

#[cfg(test)]
mod shadow_tests;
mod signals;
mod spec;
#[cfg(test)]
pub(super) mod tests;

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::signals::{SavedSignals, Signals};
pub(super) use self::spec::NOTIFY_MULTIPLIER;
use self::spec::{cfg_type, common as reg};
use super::common::{Common, QueuePart};
use super::device::VirtioDevice;
use super::doorbells::Bells;
use super::{Interrupts, KernelDoorbells, SharedMemory};
use crate::irq::IrqLine;
use crate::lock;
use crate::pci::config::{ConfigSpace, Identity, SavedConfig};
use crate::pci::msix::Msix;
use crate::pci::spec as pci;
use crate::pci::{Decoded, MsiSink, PciFunction};
use crate::state::{self, StateError};

const VERSION: u64 = 1;

/// A device behind a PCI function.
pub struct VirtioPci {
    name: String,
    common: Common,
    signals: Arc<Signals>,
    config: Mutex<ConfigSpace>,
    places: Places,
    /// Once the kernel rings doorbells.
    bells: OnceLock<Bells>,
}

/// Offsets of capabilities in the configuration space.
#[derive(Clone, Copy)]
struct Places {
    msix_control: usize,
    /// Device Control of the PCI Express capability.
    device_control: usize,
    /// The PCI configuration access capability.
    access: usize,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    config: SavedConfig,
    signals: SavedSignals,
    common: Value,
}

/// Where a function is and how it reaches the processing elements.
pub struct Slot {
    /// Requester ID.
    pub requester_id: u32,
    /// Where its messages go.
    pub messages: Arc<dyn MsiSink>,
    /// Its INTA.
    pub intx: IrqLine,
}

/// A `virtio_pci_cap`, without its first two bytes.
fn virtio_capability(kind: u8, offset: u64, length: u64, more: &[u8]) -> Vec<u8> {
    let len = 16 + more.len() as u8;
    let bar = if kind == cfg_type::PCI { 0 } else { spec::BAR as u8 };
    let mut body = vec![len, kind, bar, 0, 0, 0];
    body.extend((offset as u32).to_le_bytes());
    body.extend((length as u32).to_le_bytes());
    body.extend(more);
    body
}

/// The configuration space of a device of type `device` with `vectors` vectors.
fn config_space(device: u32, vectors: u16) -> (ConfigSpace, Places) {
    let identity = Identity {
        vendor: spec::VENDOR,
        device: spec::DEVICE_BASE + device as u16, // types have 6 bits
        revision: spec::REVISION,
        class: spec::class(device),
        subsystem_vendor: spec::VENDOR,
        subsystem: spec::SUBSYSTEM,
    };
    let mut config = ConfigSpace::new(identity)
        .with_intx()
        .with_bar(spec::MSIX_BAR, spec::MSIX_BAR_LEN, false)
        .with_bar(spec::BAR, spec::BAR_LEN, true);
    let mut body = Msix::control(vectors).to_le_bytes().to_vec();
    body.extend((spec::MSIX_BAR as u32).to_le_bytes());
    body.extend((spec::MSIX_PENDING as u32 | spec::MSIX_BAR as u32).to_le_bytes());
    let writable = (pci::MSIX_ENABLE | pci::MSIX_FUNCTION_MASK).to_le_bytes();
    let msix = config.add_capability(pci::CAP_MSIX, &body, &writable);
    for (kind, offset, length, more) in [
        (cfg_type::COMMON, spec::COMMON, reg::END, None),
        (cfg_type::ISR, spec::ISR, 1, None),
        (cfg_type::DEVICE, spec::DEVICE, spec::PLACE, None),
        (cfg_type::NOTIFY, spec::NOTIFY, spec::PLACE, Some((spec::NOTIFY_MULTIPLIER as u32).to_le_bytes())),
    ] {
        let more = more.as_ref().map_or(&[][..], |bytes| bytes);
        config.add_capability(pci::CAP_VENDOR, &virtio_capability(kind, offset, length, more), &[]);
    }
    // BAR, offset, length and data are the driver's (4.1.4.9).
    let access = [0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let body = virtio_capability(cfg_type::PCI, 0, 0, &[0; 4]);
    let access = config.add_capability(pci::CAP_VENDOR, &body, &access);
    let mut body = vec![0; pci::EXPRESS_LEN - 2];
    body.splice(0..2, pci::EXPRESS_FLAGS.to_le_bytes());
    body.splice(2..6, pci::EXPRESS_DEVICE_CAPABILITIES.to_le_bytes());
    let express = config.add_capability(pci::CAP_EXPRESS, &body, &[]);
    let places = Places {
        msix_control: msix + pci::MSIX_CONTROL,
        device_control: express + pci::EXPRESS_DEVICE_CONTROL,
        access,
    };
    (config, places)
}

impl VirtioPci {
    /// Puts `device` behind a PCI function at `slot`. Fails when the host gives no threads.
    pub fn new(device: Arc<dyn VirtioDevice>, memory: SharedMemory, slot: Slot) -> io::Result<Arc<VirtioPci>> {
        let name = format!("{}@{:02x}.{}", device.type_name(), slot.requester_id >> 3, slot.requester_id & 7);
        let queues = device.queue_sizes().len();
        // A vector for each queue and one for the configuration, as far as the table reaches.
        let vectors = (queues + 1).min((spec::MSIX_PENDING / pci::MSIX_ENTRY) as usize) as u16;
        let (config, places) = config_space(device.device_type(), vectors);
        let signals = Arc::new(Signals::new(Msix::new(vectors, slot.requester_id, slot.messages), slot.intx, queues));
        let common = Common::new(&name, device, memory, Arc::clone(&signals) as Arc<dyn Interrupts>)?;
        Ok(Arc::new(VirtioPci { name, common, signals, config: Mutex::new(config), places, bells: OnceLock::new() }))
    }

    /// Has the host kernel ring the doorbells from now on, wherever software puts them.
    ///
    /// # Errors
    /// The host gives no descriptors.
    pub fn connect_doorbells(&self, kernel: Arc<dyn KernelDoorbells>) -> io::Result<()> {
        self.bells.get_or_init(|| Bells::new(kernel)).listen(&self.common)?;
        self.place_bells();
        Ok(())
    }

    /// The BAR with the doorbells may have moved.
    fn place_bells(&self) {
        let Some(bells) = self.bells.get() else { return };
        // A BAR is aligned to its length.
        bells.follow(|| self.decoded().get(spec::BAR).cloned().flatten().map(|bar| bar.start + spec::NOTIFY));
    }

    /// The device's common configuration: counters, pause, change of configuration.
    pub fn common(&self) -> &Common {
        &self.common
    }

    fn read_common(&self, offset: u64, size: u8) -> u64 {
        let (common, signals) = (&self.common, &self.signals);
        let queue = common.selected_queue();
        let half = |address: u64| if size == 8 { address } else { address >> (8 * (offset & 4)) & 0xffff_ffff };
        match (offset, size) {
            (reg::DEVICE_FEATURE_SELECT, 4) => common.device_features_select().into(),
            (reg::DEVICE_FEATURE, 4) => common.device_features().into(),
            (reg::DRIVER_FEATURE_SELECT, 4) => common.driver_features_select().into(),
            (reg::DRIVER_FEATURE, 4) => common.driver_features().into(),
            (reg::CONFIG_MSIX_VECTOR, 2) => signals.configuration_vector().into(),
            (reg::NUM_QUEUES, 2) => common.queue_count().into(),
            (reg::DEVICE_STATUS, 1) => common.status().into(),
            (reg::CONFIG_GENERATION, 1) => u64::from(common.config_generation() as u8),
            (reg::QUEUE_SELECT, 2) => u64::from(common.queue_select() as u16),
            (reg::QUEUE_SIZE, 2) => common.queue_size().into(),
            (reg::QUEUE_MSIX_VECTOR, 2) => queue.map_or(spec::NO_VECTOR, |queue| signals.queue_vector(queue)).into(),
            (reg::QUEUE_ENABLE, 2) => common.queue_ready().into(),
            (reg::QUEUE_NOTIFY_OFF, 2) => queue.unwrap_or(0).into(),
            (reg::QUEUE_DESC..reg::END, 4 | 8) if offset.is_multiple_of(size.into()) => {
                half(common.queue_address(part(offset)))
            }
            _ => 0,
        }
    }

    fn write_common(&self, offset: u64, size: u8, value: u64) {
        let common = &self.common;
        let word = value as u32;
        match (offset, size) {
            (reg::DEVICE_FEATURE_SELECT, 4) => common.select_device_features(word),
            (reg::DRIVER_FEATURE_SELECT, 4) => common.select_driver_features(word),
            (reg::DRIVER_FEATURE, 4) => common.set_driver_features(word),
            (reg::CONFIG_MSIX_VECTOR, 2) => self.signals.set_configuration_vector(value as u16),
            (reg::DEVICE_STATUS, 1) => {
                common.set_status(word & 0xff);
                if word & 0xff == 0 {
                    self.signals.reset_device();
                }
            }
            (reg::QUEUE_SELECT, 2) => common.select_queue(word & 0xffff),
            (reg::QUEUE_SIZE, 2) => common.set_queue_size(word & 0xffff),
            (reg::QUEUE_MSIX_VECTOR, 2) => {
                if let Some(queue) = common.selected_queue() {
                    self.signals.set_queue_vector(queue, value as u16);
                }
            }
            // Zero is not for the driver to write: queues end with the device's reset.
            (reg::QUEUE_ENABLE, 2) if word & 0xffff == 1 => common.set_queue_ready(true),
            (reg::QUEUE_DESC..reg::END, 4) if offset.is_multiple_of(4) => {
                common.set_queue_address(part(offset), offset & 4 != 0, word);
            }
            (reg::QUEUE_DESC..reg::END, 8) if offset.is_multiple_of(8) => {
                common.set_queue_address(part(offset), false, word);
                common.set_queue_address(part(offset), true, (value >> 32) as u32);
            }
            _ => {}
        }
    }

    /// Writes a capability that does something, beside storing: whole accesses only, so that no half of one is lost.
    fn after_config_write(&self, offset: usize, size: u8) {
        let written = offset..offset + usize::from(size);
        let (places, mut config) = (self.places, lock(&self.config));
        let master = config.command() & pci::COMMAND_MASTER != 0;
        let control = config.read(places.msix_control, 2) as u16;
        let intx_off = config.command() & pci::COMMAND_INTX_DISABLE != 0;
        let touches = |at: usize, len: usize| written.start < at + len && at < written.end;
        if touches(pci::offset::COMMAND, 2) || touches(places.msix_control, 2) {
            self.signals.set_control(control, master, intx_off);
        }
        let data = places.access + 16;
        if touches(data, 4) {
            let (bar, at, len) = access_window(&config, places.access);
            let value = config.read(data, 4).into();
            drop(config);
            if let Some(len) = len {
                self.write_bar(bar, at, len, value);
            }
        } else if touches(places.access, 16) {
            // The data register is a window: what it showed is gone.
            config.write(data, 4, 0);
        }
    }
}

/// BAR, offset and length (1, 2 or 4) that the PCI configuration access capability names.
fn access_window(config: &ConfigSpace, access: usize) -> (usize, u64, Option<u8>) {
    let (bar, offset) = (config.read(access + 4, 1) as usize, u64::from(config.read(access + 8, 4)));
    let len = config.read(access + 12, 4);
    let whole = matches!(len, 1 | 2 | 4) && offset.is_multiple_of(len.into());
    (bar, offset, whole.then_some(len as u8))
}

fn part(offset: u64) -> QueuePart {
    match offset & !7 {
        reg::QUEUE_DRIVER => QueuePart::Driver,
        reg::QUEUE_DEVICE => QueuePart::Device,
        _ => QueuePart::Descriptors,
    }
}

impl PciFunction for VirtioPci {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_config(&self, offset: u16, size: u8) -> u32 {
        let mut config = lock(&self.config);
        config.set_status(pci::STATUS_INTERRUPT, self.signals.intx_level());
        let offset = usize::from(offset);
        let data = self.places.access + 16;
        if !(data..data + 4).contains(&offset) {
            return config.read(offset, size);
        }
        let (bar, at, len) = access_window(&config, self.places.access);
        drop(config);
        let value = len.map_or(0, |len| self.read_bar(bar, at, len)) as u32;
        value >> (8 * (offset - data))
    }

    fn write_config(&self, offset: u16, size: u8, value: u32) {
        let offset = usize::from(offset);
        let flr = self.places.device_control;
        if offset == flr && size >= 2 && value as u16 & pci::EXPRESS_FLR != 0 {
            return self.reset();
        }
        lock(&self.config).write(offset, size, value);
        self.after_config_write(offset, size);
        self.place_bells();
    }

    fn config_bytes(&self) -> Vec<u8> {
        let mut config = lock(&self.config);
        config.set_status(pci::STATUS_INTERRUPT, self.signals.intx_level());
        config.bytes().to_vec()
    }

    fn is_plain(&self) -> bool {
        let config = lock(&self.config);
        // A window that shows nothing reads as zeros.
        let (_, _, window) = access_window(&config, self.places.access);
        window.is_none() && config.read(self.places.access + 16, 4) == 0 && !self.signals.intx_level()
    }

    fn when_not_plain(&self, lost: Arc<dyn Fn() + Send + Sync>) {
        self.signals.when_intx_changes(lost);
    }

    fn decoded(&self) -> Decoded {
        lock(&self.config).decoded()
    }

    fn read_bar(&self, bar: usize, offset: u64, size: u8) -> u64 {
        match (bar, offset & !(spec::PLACE - 1)) {
            (spec::BAR, spec::COMMON) => self.read_common(offset, size),
            (spec::BAR, spec::ISR) if offset == spec::ISR => self.signals.take_isr().into(),
            (spec::BAR, spec::DEVICE) => {
                let mut bytes = [0; 8];
                if let Some(bytes) = bytes.get_mut(..usize::from(size)) {
                    self.common.device().read_config(offset - spec::DEVICE, bytes);
                }
                u64::from_le_bytes(bytes)
            }
            (spec::MSIX_BAR, spec::MSIX_PENDING) => self.signals.msix.read_pending(offset - spec::MSIX_PENDING, size),
            (spec::MSIX_BAR, _) => self.signals.msix.read_table(offset, size),
            _ => 0,
        }
    }

    fn write_bar(&self, bar: usize, offset: u64, size: u8, value: u64) {
        match (bar, offset & !(spec::PLACE - 1)) {
            // The one that matters for speed first. Without VIRTIO_F_NOTIFICATION_DATA the place says which queue.
            (spec::BAR, spec::NOTIFY) => self.common.notify(((offset - spec::NOTIFY) / spec::NOTIFY_MULTIPLIER) as u32),
            (spec::BAR, spec::COMMON) => self.write_common(offset, size, value),
            (spec::BAR, spec::DEVICE) => {
                if let Some(bytes) = value.to_le_bytes().get(..usize::from(size)) {
                    self.common.device().write_config(offset - spec::DEVICE, bytes);
                }
            }
            (spec::MSIX_BAR, 0) => self.signals.msix.write_table(offset, size, value),
            _ => {}
        }
    }

    fn reset(&self) {
        // The device first: while it settles it may still interrupt.
        self.common.reset();
        self.signals.reset();
        lock(&self.config).reset();
        self.place_bells();
    }

    fn pause(&self) {
        self.common.pause();
    }

    fn resume(&self) {
        self.common.resume();
    }

    fn counters(&self) -> Value {
        let mut counters = self.common.counters();
        counters["messages"] = json!(self.signals.msix.sent());
        counters
    }

    fn save(&self) -> Value {
        let config = lock(&self.config).save();
        state::pack(VERSION, &Saved { config, signals: self.signals.save(), common: self.common.save() })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(&self.name, VERSION, value)?;
        // Before the device, which may interrupt as soon as it goes on.
        let before = self.signals.save();
        if !self.signals.load(&saved.signals) {
            return Err(StateError::machine(&self.name, "had another number of queues or vectors"));
        }
        if let Err(error) = self.common.load(&saved.common) {
            self.signals.load(&before);
            return Err(error);
        }
        lock(&self.config).load(&saved.config);
        self.place_bells();
        Ok(())
    }
}
