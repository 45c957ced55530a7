//! A driver for tests: small, and as wrong as it is told to be.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use super::common::Common;
use super::spec::{feature, mmio as reg, status};
use super::{GuestMemory, SharedMemory, VirtioDevice, VirtioMmio};
use crate::testing::{Wire, read, write};

pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const RAM_LEN: u64 = 4 << 20;
/// Rings of queue n are at `RAM + n * RINGS`.
const RINGS: u64 = 0x1_0000;
/// Buffers are from here on.
pub(crate) const BUFFERS: u64 = RAM + 0x10_0000;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// A transport as a driver uses it.
pub(crate) trait Port: Send + Sync {
    fn status(&self) -> u32;
    fn write_status(&self, value: u32);
    /// Offered features, low and high half.
    fn offered(&self) -> u64;
    fn accept(&self, features: u64);
    /// Writes the queue registers and makes the queue ready.
    fn set_up(&self, index: u16, queue: &DriverQueue);
    fn is_ready(&self, index: u16) -> bool;
    fn notify(&self, index: u16);
    fn common(&self) -> &Common;
}

impl Port for VirtioMmio {
    fn status(&self) -> u32 {
        read(self, reg::STATUS)
    }
    fn write_status(&self, value: u32) {
        write(self, reg::STATUS, value);
    }
    fn offered(&self) -> u64 {
        write(self, reg::DEVICE_FEATURES_SEL, 1);
        let high = u64::from(read(self, reg::DEVICE_FEATURES));
        write(self, reg::DEVICE_FEATURES_SEL, 0);
        high << 32 | u64::from(read(self, reg::DEVICE_FEATURES))
    }
    fn accept(&self, features: u64) {
        for half in [0, 1] {
            write(self, reg::DRIVER_FEATURES_SEL, half);
            write(self, reg::DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
    }
    fn set_up(&self, index: u16, queue: &DriverQueue) {
        write(self, reg::QUEUE_SEL, index.into());
        write(self, reg::QUEUE_SIZE, queue.size.into());
        for (low, address) in [
            (reg::QUEUE_DESC_LOW, queue.descriptors),
            (reg::QUEUE_DRIVER_LOW, queue.avail),
            (reg::QUEUE_DEVICE_LOW, queue.used),
        ] {
            write(self, low, address as u32);
            write(self, low + 4, (address >> 32) as u32);
        }
        write(self, reg::QUEUE_READY, 1);
    }
    fn is_ready(&self, index: u16) -> bool {
        write(self, reg::QUEUE_SEL, index.into());
        read(self, reg::QUEUE_READY) == 1
    }
    fn notify(&self, index: u16) {
        write(self, reg::QUEUE_NOTIFY, index.into());
    }
    fn common(&self) -> &Common {
        VirtioMmio::common(self)
    }
}

/// A device, its transport, and the driver's side of it.
pub(crate) struct Rig<P: Port = VirtioMmio> {
    pub(crate) memory: SharedMemory,
    pub(crate) device: Arc<P>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) queues: Vec<DriverQueue>,
    next_buffer: u64,
}

/// The driver's side of a queue.
#[derive(Clone)]
pub(crate) struct DriverQueue {
    pub(crate) size: u16,
    pub(crate) descriptors: u64,
    pub(crate) avail: u64,
    pub(crate) used: u64,
    next_descriptor: u16,
    avail_index: u16,
    used_index: u16,
}

pub(crate) fn ram() -> SharedMemory {
    Arc::new(GuestMemory::from_ranges(&[(GuestAddress(RAM), RAM_LEN as usize)]).unwrap())
}

impl Rig {
    pub(crate) fn new(device: impl VirtioDevice + 'static) -> Rig {
        Rig::with_memory(device, ram())
    }

    pub(crate) fn with_memory(device: impl VirtioDevice + 'static, memory: SharedMemory) -> Rig {
        Rig::behind(Arc::new(device), memory)
    }

    /// Any device.
    pub(crate) fn of(device: Arc<dyn VirtioDevice>) -> Rig {
        Rig::behind(device, ram())
    }

    fn behind(device: Arc<dyn VirtioDevice>, memory: SharedMemory) -> Rig {
        let wire = Wire::new();
        let device = VirtioMmio::new(0xa00_0000, device, Arc::clone(&memory), wire.line()).unwrap();
        Rig::around(device, memory, wire)
    }
}

impl<P: Port> Rig<P> {
    /// The driver's side of `device`.
    pub(crate) fn around(device: Arc<P>, memory: SharedMemory, wire: Arc<Wire>) -> Rig<P> {
        Rig { memory, device, wire, queues: Vec::new(), next_buffer: BUFFERS }
    }

    pub(crate) fn status(&self) -> u32 {
        self.device.status()
    }

    pub(crate) fn set_status(&self, bits: u32) -> u32 {
        self.device.write_status(self.status() | bits);
        self.status()
    }

    pub(crate) fn offered(&self) -> u64 {
        self.device.offered()
    }

    pub(crate) fn accept(&self, features: u64) {
        self.device.accept(features);
    }

    /// Everything up to `FEATURES_OK`, with all features but `without`.
    pub(crate) fn negotiate(&self, without: u64) -> bool {
        self.set_status(status::ACKNOWLEDGE);
        self.set_status(status::DRIVER);
        self.accept(self.offered() & !without | feature::VERSION_1);
        self.set_status(status::FEATURES_OK) & status::FEATURES_OK != 0
    }

    /// Makes queue `index` ready with `size` entries.
    pub(crate) fn set_up_queue(&mut self, index: u16, size: u16) {
        let base = RAM + u64::from(index) * RINGS;
        let queue = DriverQueue {
            size,
            descriptors: base,
            avail: base + 0x4000,
            used: base + 0x8000,
            next_descriptor: 0,
            avail_index: 0,
            used_index: 0,
        };
        self.memory.write_slice(&vec![0; RINGS as usize], GuestAddress(base)).unwrap();
        self.write_setup(index, &queue);
        self.queues.resize(self.queues.len().max(usize::from(index) + 1), queue.clone());
        self.queues[usize::from(index)] = queue;
    }

    /// Writes the queue registers.
    pub(crate) fn write_setup(&self, index: u16, queue: &DriverQueue) {
        self.device.set_up(index, queue);
    }

    /// A device that works, with `queues` queues of 16 entries.
    pub(crate) fn start(&mut self, queues: u16, without: u64) {
        assert!(self.negotiate(without));
        (0..queues).for_each(|index| self.set_up_queue(index, 16));
        assert_eq!(self.set_status(status::DRIVER_OK) & status::DRIVER_OK, status::DRIVER_OK);
    }

    pub(crate) fn put(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(crate) fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// `len` bytes of RAM that nobody else has, until they go round.
    pub(crate) fn buffer(&mut self, len: usize) -> u64 {
        let len = len as u64;
        if self.next_buffer + len > RAM + RAM_LEN {
            self.next_buffer = BUFFERS;
        }
        let at = self.next_buffer;
        self.next_buffer += len.max(1);
        at
    }

    pub(crate) fn write_descriptor(&self, table: u64, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.put(table + u64::from(index) * 16, &bytes);
    }

    /// Puts `head` into the available ring and rings.
    pub(crate) fn offer(&mut self, index: u16, head: u16) {
        self.offer_quietly(index, head);
        self.device.notify(index);
    }

    fn offer_quietly(&mut self, index: u16, head: u16) {
        let queue = &mut self.queues[usize::from(index)];
        let (slot, avail) = (queue.avail_index % queue.size, queue.avail);
        queue.avail_index = queue.avail_index.wrapping_add(1);
        let new = queue.avail_index;
        self.put(avail + 4 + u64::from(slot) * 2, &head.to_le_bytes());
        fence(Ordering::SeqCst);
        self.memory.store(new, GuestAddress(avail + 2), Ordering::Release).unwrap();
    }

    /// Offers a request with buffers at the given places; the answer is its head.
    pub(crate) fn submit(&mut self, index: u16, readable: &[(u64, u32)], writable: &[(u64, u32)]) -> u16 {
        let head = self.submit_quietly(index, readable, writable);
        self.device.notify(index);
        head
    }

    /// The same without a ring.
    pub(crate) fn submit_quietly(&mut self, index: u16, readable: &[(u64, u32)], writable: &[(u64, u32)]) -> u16 {
        let queue = &mut self.queues[usize::from(index)];
        let (table, size) = (queue.descriptors, queue.size);
        let count = readable.len() + writable.len();
        let first = queue.next_descriptor;
        queue.next_descriptor = (first + count as u16) % size;
        let all = readable.iter().map(|b| (b, 0)).chain(writable.iter().map(|b| (b, WRITE)));
        for (i, (&(address, len), flags)) in all.enumerate() {
            let here = (first + i as u16) % size;
            let next = if i + 1 < count { NEXT } else { 0 };
            self.write_descriptor(table, here, address, len, flags | next, (here + 1) % size);
        }
        self.offer_quietly(index, first);
        first
    }

    /// The next used element: head and length.
    pub(crate) fn used(&mut self, index: u16) -> (u32, u32) {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(element) = self.try_used(index) {
                return element;
            }
            assert!(Instant::now() < limit, "the device does not answer; status {:#x}", self.status());
            std::thread::yield_now();
        }
    }

    pub(crate) fn try_used(&mut self, index: u16) -> Option<(u32, u32)> {
        let queue = &mut self.queues[usize::from(index)];
        let there: u16 = self.memory.load(GuestAddress(queue.used + 2), Ordering::Acquire).unwrap();
        if there == queue.used_index {
            return None;
        }
        let at = queue.used + 4 + u64::from(queue.used_index % queue.size) * 8;
        queue.used_index = queue.used_index.wrapping_add(1);
        let number = |at| self.memory.read_obj::<u32>(GuestAddress(at)).unwrap();
        Some((number(at), number(at + 4)))
    }

    /// What the device itself counts under `name`.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.device.common().counters()["device"][name].as_u64().unwrap()
    }

    /// Waits for `done`.
    pub(crate) fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < limit, "{what}; status {:#x}", self.status());
            std::thread::yield_now();
        }
    }

    pub(crate) fn until_needs_reset(&self) {
        self.until("the device does not notice", |rig| rig.status() & status::DEVICE_NEEDS_RESET != 0);
    }

    /// The driver's side of another rig, for a device that takes over.
    pub(crate) fn take_driver(&mut self, from: &Self) {
        self.queues.clone_from(&from.queues);
        self.next_buffer = from.next_buffer;
    }
}
