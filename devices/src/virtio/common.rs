//! The common configuration: what every transport lets a driver reach of every device. Status, feature negotiation,
//! queues (VIRTIO 1.2 sections 2 and 3), and the workers behind them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::device::VirtioDevice;
use super::queue::{Position, QueueError, QueueSetup, Slot};
use super::spec::{feature, status};
use super::worker::{Bell, ConfigurationBell};
use super::{Interrupts, SharedMemory, worker};
use crate::latency::Durations;
use crate::lock;
use crate::state::{self, StateError};

const VERSION: u64 = 1;
/// How many doorbells there are for one whose cost is measured.
const SAMPLE: u64 = 16;
/// The status bits that a driver sets.
const DRIVERS_BITS: u32 =
    status::ACKNOWLEDGE | status::DRIVER | status::DRIVER_OK | status::FEATURES_OK | status::FAILED;

/// What the transport's side and the workers share.
pub(super) struct Shared {
    pub(super) memory: SharedMemory,
    pub(super) interrupts: Arc<dyn Interrupts>,
    name: String,
    status: AtomicU32,
    /// Negotiated features.
    features: AtomicU64,
    generation: AtomicU32,
    paused: AtomicBool,
    /// A reset is under way.
    resetting: AtomicBool,
    ended: AtomicBool,
    /// Why the device needs a reset, the last time that it did.
    failure: Mutex<Option<QueueError>>,
}

impl Shared {
    /// Whether requests may be served.
    pub(super) fn may_run(&self) -> bool {
        let status = self.status.load(Ordering::SeqCst);
        status & (status::DRIVER_OK | status::DEVICE_NEEDS_RESET) == status::DRIVER_OK
            && !self.paused.load(Ordering::SeqCst)
            && !self.resetting.load(Ordering::SeqCst)
    }

    /// The device has changed its configuration space.
    pub(super) fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        if self.status.load(Ordering::SeqCst) & status::DRIVER_OK != 0 {
            self.interrupts.configuration();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The driver did something that cannot be served: the device stands still until it is reset (2.1.2).
    pub(super) fn fail(&self, error: &QueueError) {
        *lock(&self.failure) = Some(error.clone());
        let before = self.status.fetch_or(status::DEVICE_NEEDS_RESET, Ordering::SeqCst);
        if before & (status::DRIVER_OK | status::DEVICE_NEEDS_RESET) == status::DRIVER_OK {
            self.interrupts.configuration();
        }
    }
}

/// The common configuration of one device.
pub struct Common {
    device: Arc<dyn VirtioDevice>,
    shared: Arc<Shared>,
    slots: Vec<Arc<Slot>>,
    sizes: Vec<u16>,
    registers: Mutex<Registers>,
    workers: Vec<JoinHandle<()>>,
    /// What doorbells cost the vCPUs that ring them: one of [`SAMPLE`].
    doorbells: Durations,
}

/// What the driver has written so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Registers {
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    queues: Vec<QueueSetup>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    device_type: u32,
    status: u32,
    generation: u32,
    registers: Registers,
    positions: Vec<Option<Position>>,
    device: Value,
}

/// The addresses of a queue's three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuePart {
    /// Descriptor table.
    Descriptors,
    /// Available ring, which the driver writes.
    Driver,
    /// Used ring, which the device writes.
    Device,
}

impl Registers {
    fn new(sizes: &[u16]) -> Registers {
        let queues = sizes.iter().map(|&size| QueueSetup { size, ..QueueSetup::default() }).collect();
        Registers { device_features_sel: 0, driver_features_sel: 0, driver_features: 0, queue_sel: 0, queues }
    }

    fn selected(&self) -> Option<QueueSetup> {
        self.queues.get(self.queue_sel as usize).copied()
    }
}

impl Common {
    /// Puts `device` behind a transport that interrupts by `interrupts`; `name` is unique on the board. Starts a worker
    /// for each queue.
    pub fn new(
        name: &str,
        device: Arc<dyn VirtioDevice>,
        memory: SharedMemory,
        interrupts: Arc<dyn Interrupts>,
    ) -> io::Result<Common> {
        let sizes = device.queue_sizes();
        let shared = Arc::new(Shared {
            memory,
            interrupts,
            name: name.to_owned(),
            status: AtomicU32::new(0),
            features: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            paused: AtomicBool::new(false),
            resetting: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let slots: Vec<Arc<Slot>> =
            (0..sizes.len() as u16).map(|index| Arc::new(Slot::new(index, device.handler(index)))).collect();
        device.connect_configuration(ConfigurationBell::new(&shared));
        device.connect(slots.iter().map(|slot| Bell::new(&slot.doorbell)).collect());
        let registers = Mutex::new(Registers::new(&sizes));
        let mut common =
            Common { device, shared, slots, sizes, registers, workers: Vec::new(), doorbells: Durations::default() };
        for slot in &common.slots {
            // Names of threads have 15 characters at most.
            let short = common.device.type_name().trim_start_matches("virtio-");
            let thread = worker::spawn(format!("vq-{short}-{}", slot.index), slot, &common.shared)?;
            common.workers.push(thread);
        }
        Ok(common)
    }

    /// The device.
    pub fn device(&self) -> &dyn VirtioDevice {
        &*self.device
    }

    /// The negotiated features, for reports.
    pub fn features(&self) -> u64 {
        self.shared.features.load(Ordering::SeqCst)
    }

    /// What broke, if the device needed a reset since the machine started.
    pub fn failure(&self) -> Option<String> {
        lock(&self.shared.failure).as_ref().map(|error| format!("{}: {error}", self.shared.name))
    }

    fn offered(&self) -> u64 {
        self.device.features() | feature::COMMON
    }

    /// The 32 offered feature bits that are selected.
    pub fn device_features(&self) -> u32 {
        let offered = self.offered();
        match lock(&self.registers).device_features_sel {
            0 => offered as u32,
            1 => (offered >> 32) as u32,
            _ => 0,
        }
    }

    /// Which 32 offered feature bits are selected.
    pub fn device_features_select(&self) -> u32 {
        lock(&self.registers).device_features_sel
    }

    /// Which 32 accepted feature bits are selected.
    pub fn driver_features_select(&self) -> u32 {
        lock(&self.registers).driver_features_sel
    }

    /// The 32 accepted feature bits that are selected.
    pub fn driver_features(&self) -> u32 {
        let registers = lock(&self.registers);
        match registers.driver_features_sel {
            0 => registers.driver_features as u32,
            1 => (registers.driver_features >> 32) as u32,
            _ => 0,
        }
    }

    /// Selects what [`device_features`](Self::device_features) shows.
    pub fn select_device_features(&self, select: u32) {
        lock(&self.registers).device_features_sel = select;
    }

    /// Selects what [`set_driver_features`](Self::set_driver_features) sets.
    pub fn select_driver_features(&self, select: u32) {
        lock(&self.registers).driver_features_sel = select;
    }

    /// The driver accepts feature bits. Ignored once negotiation is complete.
    pub fn set_driver_features(&self, bits: u32) {
        let mut registers = lock(&self.registers);
        if self.status() & status::FEATURES_OK != 0 {
            return;
        }
        let (low, high) = (registers.driver_features as u32, (registers.driver_features >> 32) as u32);
        registers.driver_features = match registers.driver_features_sel {
            0 => u64::from(high) << 32 | u64::from(bits),
            1 => u64::from(bits) << 32 | u64::from(low),
            _ => return,
        };
    }

    /// Device status.
    pub fn status(&self) -> u32 {
        self.shared.status.load(Ordering::SeqCst)
    }

    /// The driver writes the device status: zero resets, everything else may only add bits, in their order.
    pub fn set_status(&self, value: u32) {
        if value == 0 {
            return self.reset();
        }
        let registers = lock(&self.registers);
        let before = self.status();
        if !value & before & DRIVERS_BITS != 0 {
            return; // 2.1.1: the driver must not clear a bit
        }
        let mut new = value & DRIVERS_BITS & !before;
        let known = before | new;
        if known & status::DRIVER != 0 && known & status::ACKNOWLEDGE == 0 {
            new &= !status::DRIVER;
        }
        if new & status::FEATURES_OK != 0 && !self.accepts(before | new, registers.driver_features) {
            new &= !status::FEATURES_OK;
        }
        if new & status::DRIVER_OK != 0 && (before | new) & status::FEATURES_OK == 0 {
            new &= !status::DRIVER_OK;
        }
        if new & status::FEATURES_OK != 0 {
            self.shared.features.store(registers.driver_features, Ordering::SeqCst);
            self.device.activate(registers.driver_features);
        }
        self.shared.status.fetch_or(new, Ordering::SeqCst);
        drop(registers);
        if new & status::DRIVER_OK != 0 {
            self.ring_all();
        }
    }

    fn accepts(&self, status: u32, features: u64) -> bool {
        let ready = status::ACKNOWLEDGE | status::DRIVER;
        status & ready == ready && features & !self.offered() == 0 && features & feature::VERSION_1 != 0
    }

    /// Selects the queue that the queue registers are about.
    pub fn select_queue(&self, index: u32) {
        lock(&self.registers).queue_sel = index;
    }

    /// What was last selected by [`select_queue`](Self::select_queue).
    pub fn queue_select(&self) -> u32 {
        lock(&self.registers).queue_sel
    }

    /// The selected queue, if there is such a queue.
    pub fn selected_queue(&self) -> Option<u16> {
        u16::try_from(self.queue_select()).ok().filter(|&queue| queue < self.queue_count())
    }

    /// Number of queues.
    pub fn queue_count(&self) -> u16 {
        self.slots.len() as u16 // made by numbers of 16 bits
    }

    /// Greatest size of the selected queue; 0 if there is no such queue.
    pub fn queue_size_max(&self) -> u16 {
        let selected = lock(&self.registers).queue_sel;
        self.sizes.get(selected as usize).copied().unwrap_or(0)
    }

    /// Size of the selected queue.
    pub fn queue_size(&self) -> u16 {
        lock(&self.registers).selected().map_or(0, |queue| queue.size)
    }

    /// Whether the selected queue is in use.
    pub fn queue_ready(&self) -> bool {
        lock(&self.registers).selected().is_some_and(|queue| queue.ready)
    }

    /// An address of the selected queue.
    pub fn queue_address(&self, part: QueuePart) -> u64 {
        let queue = lock(&self.registers).selected().unwrap_or_default();
        match part {
            QueuePart::Descriptors => queue.descriptors,
            QueuePart::Driver => queue.driver,
            QueuePart::Device => queue.device,
        }
    }

    /// Changes the selected queue's setup, if there is such a queue, features are negotiated, and it is not in use.
    fn setup(&self, change: impl FnOnce(&mut QueueSetup)) {
        let mut registers = lock(&self.registers);
        let selected = registers.queue_sel as usize;
        if self.may_set_up()
            && let Some(queue) = registers.queues.get_mut(selected)
            && !queue.ready
        {
            change(queue);
        }
    }

    fn may_set_up(&self) -> bool {
        self.status() & (status::FEATURES_OK | status::FAILED) == status::FEATURES_OK
    }

    /// The driver sets the size of the selected queue. Checked when it becomes ready.
    pub fn set_queue_size(&self, size: u32) {
        // Sizes beyond 16 bits are as wrong as 0.
        self.setup(|queue| queue.size = u16::try_from(size).unwrap_or(0));
    }

    /// The driver sets half of an address of the selected queue.
    pub fn set_queue_address(&self, part: QueuePart, high: bool, half: u32) {
        self.setup(|queue| {
            let address = match part {
                QueuePart::Descriptors => &mut queue.descriptors,
                QueuePart::Driver => &mut queue.driver,
                QueuePart::Device => &mut queue.device,
            };
            let half = u64::from(half);
            *address = if high { half << 32 | *address & 0xffff_ffff } else { *address & !0xffff_ffff | half };
        });
    }

    /// The driver puts the selected queue into use or takes it out. A queue that cannot be is an error of the driver:
    /// the device needs a reset.
    pub fn set_queue_ready(&self, ready: bool) {
        let mut registers = lock(&self.registers);
        let selected = registers.queue_sel as usize;
        let event_idx = registers.driver_features & feature::RING_EVENT_IDX != 0;
        let may_set_up = self.may_set_up();
        let (Some(setup), Some(slot), Some(&max)) =
            (registers.queues.get_mut(selected), self.slots.get(selected), self.sizes.get(selected))
        else {
            return;
        };
        if setup.ready == ready || (ready && !may_set_up) {
            return;
        }
        if !ready {
            setup.ready = false;
            slot.set(None);
            return;
        }
        let start = Position { next_avail: 0, next_used: 0 };
        match setup.open(max, event_idx, start, &self.shared.memory) {
            Some(queue) => {
                setup.ready = true;
                slot.set(Some(queue));
                slot.doorbell.ring();
            }
            None => {
                let reason = format!("the driver's setup is impossible: {setup:x?}, at most {max} entries");
                drop(registers);
                self.shared.fail(&QueueError::Ring { index: slot.index, reason });
            }
        }
    }

    /// The driver rings the doorbell of queue `index`.
    pub fn notify(&self, index: u32) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        // Two readings of the clock cost more than the doorbell itself.
        if slot.doorbell.rings() % SAMPLE == 0 {
            let start = Instant::now();
            slot.doorbell.ring();
            self.doorbells.add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        } else {
            slot.doorbell.ring();
        }
    }

    /// The host kernel can ring the doorbells: gives the event of each queue, which it is to write to.
    pub(super) fn connect_doorbells(&self) -> io::Result<Vec<Arc<OwnedFd>>> {
        let connect = |slot: &Arc<Slot>| {
            let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            slot.doorbell.connect(Arc::clone(&event));
            Ok(event)
        };
        self.slots.iter().map(connect).collect()
    }

    fn ring_all(&self) {
        self.slots.iter().for_each(|slot| slot.doorbell.ring());
    }

    /// Changes whenever the device changes its configuration space.
    pub fn config_generation(&self) -> u32 {
        self.shared.generation.load(Ordering::SeqCst)
    }

    /// The device has changed its configuration space: tells the driver.
    pub fn config_changed(&self) {
        self.shared.config_changed();
    }

    /// The device as at power-on, with all queues out of use. Waits for the requests that are being served.
    pub fn reset(&self) {
        let mut registers = lock(&self.registers);
        self.shared.resetting.store(true, Ordering::SeqCst);
        self.slots.iter().for_each(|slot| slot.set(None));
        self.device.reset();
        *registers = Registers::new(&self.sizes);
        self.shared.features.store(0, Ordering::SeqCst);
        self.shared.status.store(0, Ordering::SeqCst);
        self.shared.resetting.store(false, Ordering::SeqCst);
    }

    /// Stops serving; returns when no request is being served.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::SeqCst);
        self.slots.iter().for_each(|slot| slot.settle());
    }

    /// Serves again.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::SeqCst);
        self.ring_all();
    }

    /// What the device itself counts, and its queues.
    pub fn counters(&self) -> Value {
        serde_json::json!({
            "queues": self.queue_counters(),
            "device": self.device.counters(),
            "doorbell_cost": self.doorbells.report(),
        })
    }

    fn queue_counters(&self) -> Value {
        let each = |slot: &Arc<Slot>| {
            let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
            serde_json::json!({
                "doorbells": slot.doorbell.rings(),
                "put_off": slot.doorbell.put_off(),
                "requests": count(&slot.counters.requests),
                "interrupts": count(&slot.counters.interrupts),
            })
        };
        Value::Array(self.slots.iter().map(each).collect())
    }

    /// The state; the device must be paused if guest RAM is saved with it.
    pub fn save(&self) -> Value {
        let registers = lock(&self.registers);
        self.slots.iter().for_each(|slot| slot.give_up(&self.shared));
        let positions = self.slots.iter().map(|slot| slot.position()).collect();
        let saved = Saved {
            device_type: self.device.device_type(),
            status: self.status(),
            generation: self.config_generation(),
            registers: registers.clone(),
            positions,
            device: self.device.save(),
        };
        state::pack(VERSION, &saved)
    }

    /// Takes over saved state. Nothing is changed when it is refused.
    pub fn load(&self, value: &Value) -> Result<(), StateError> {
        let name = &self.shared.name;
        let saved: Saved = state::unpack(name, VERSION, value)?;
        if saved.device_type != self.device.device_type() {
            return Err(StateError::machine(name, format!("was a device of type {}", saved.device_type)));
        }
        let features = saved.registers.driver_features;
        let negotiated = saved.status & status::FEATURES_OK != 0;
        if negotiated && !self.accepts(saved.status, features) {
            let offered = self.offered();
            return Err(StateError::machine(
                name,
                format!("was used with features {features:#x}, this machine offers {offered:#x}"),
            ));
        }
        if saved.registers.queues.len() != self.sizes.len() || saved.positions.len() != self.sizes.len() {
            return Err(StateError::machine(name, format!("had {} queues", saved.registers.queues.len())));
        }
        let event_idx = features & feature::RING_EVENT_IDX != 0;
        let mut queues = Vec::with_capacity(self.sizes.len());
        for ((setup, position), &max) in saved.registers.queues.iter().zip(&saved.positions).zip(&self.sizes) {
            queues.push(match (setup.ready && negotiated, position) {
                (false, None) => None,
                (true, Some(position)) => Some(
                    setup
                        .open(max, event_idx, *position, &self.shared.memory)
                        .ok_or_else(|| StateError::malformed(name, "a queue is not in RAM or not aligned"))?,
                ),
                _ => return Err(StateError::malformed(name, "a queue is ready without being in use")),
            });
        }
        let mut registers = lock(&self.registers);
        self.shared.resetting.store(true, Ordering::SeqCst);
        self.slots.iter().for_each(|slot| slot.set(None));
        let loaded = self.device.load(&saved.device);
        if loaded.is_ok() {
            self.slots.iter().zip(queues).for_each(|(slot, queue)| slot.set(queue));
            *registers = saved.registers;
            let bits = DRIVERS_BITS | status::DEVICE_NEEDS_RESET;
            self.shared.features.store(if negotiated { features } else { 0 }, Ordering::SeqCst);
            self.shared.generation.store(saved.generation, Ordering::SeqCst);
            self.shared.status.store(saved.status & bits, Ordering::SeqCst);
            if negotiated {
                self.device.activate(features);
            }
        }
        self.shared.resetting.store(false, Ordering::SeqCst);
        drop(registers);
        self.ring_all();
        loaded
    }
}

impl Drop for Common {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.resetting.store(true, Ordering::SeqCst);
        self.ring_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so already.
            let _ = worker.join();
        }
    }
}
