//! virtio devices behind the MMIO transport: any registers, any rings, any requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::disk::Disk;
use devices::pci::{MsiSink, PciFunction as _, PciHost};
use devices::virtio::VirtioPci;
use devices::virtio::blk::{BlkOptions, VirtioBlk};
use devices::virtio::pci::Slot;
use devices::virtio::{GuestMemory, SharedMemory, VirtioDevice, VirtioMmio, VirtioRng};
use devices::{IrqLine, MmioDevice};
use vm_memory::{Bytes as _, GuestAddress};

use crate::bytes::Bytes;

pub(crate) const RAM: u64 = 0x4000_0000;
const RAM_LEN: usize = 1 << 20;
const SECTORS: usize = 64;

/// A disk of a few sectors in memory, which checks what it is asked for.
struct Small(std::sync::Mutex<Vec<u8>>);

impl Small {
    fn new() -> Small {
        Small(std::sync::Mutex::new(vec![0; SECTORS * 512]))
    }
    fn with(&self, offset: u64, len: usize, act: impl FnOnce(&mut [u8])) -> std::io::Result<()> {
        act(&mut self.0.lock().expect("no thread panicked")[offset as usize..][..len]);
        Ok(())
    }
}

impl Disk for Small {
    fn size(&self) -> u64 {
        SECTORS as u64 * 512
    }
    fn block_size(&self) -> u32 {
        512
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.with(offset, out.len(), |bytes| out.copy_from_slice(bytes))
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.with(offset, data.len(), |bytes| bytes.copy_from_slice(data))
    }
    fn flush(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> std::io::Result<()> {
        self.write_zeroes(offset, len, true)
    }
    fn write_zeroes(&self, offset: u64, len: u64, _unmap: bool) -> std::io::Result<()> {
        self.with(offset, len as usize, |bytes| bytes.fill(0))
    }
}

pub(crate) fn behind_mmio(device: Arc<dyn VirtioDevice>) -> (SharedMemory, Arc<VirtioMmio>) {
    let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(RAM), RAM_LEN)]).expect("memory"));
    let transport = VirtioMmio::new(0, device, Arc::clone(&memory), IrqLine::disconnected()).expect("threads");
    (memory, transport)
}

/// Brings the device up to `DRIVER_OK` with one queue of 16 entries, with all features.
fn start(device: &dyn MmioDevice) {
    start_queue(device, 1, 0);
}

/// Brings the device up to `DRIVER_OK` with `queues` queues of 16 entries, without some of the first 32 features. The
/// parts of queue n are at `RAM + n * 0x4000`, 0x1000 apart.
pub(crate) fn start_queue(device: &dyn MmioDevice, queues: u64, without: u32) {
    let write = |offset, value| device.write(offset, 4, value).expect("a register");
    write(0x70, 1);
    write(0x70, 3);
    for half in 0..2 {
        write(0x14, half);
        write(0x24, half);
        let offered = device.read(0x10, 4).expect("a register");
        write(0x20, if half == 0 { offered & !u64::from(without) } else { offered });
    }
    write(0x70, 11);
    for queue in 0..queues {
        write(0x30, queue);
        write(0x38, 16);
        for (register, offset) in [(0x80, 0), (0x90, 0x1000), (0xa0, 0x2000)] {
            write(register, RAM + queue * 0x4000 + offset);
        }
        write(0x44, 1);
    }
    write(0x70, 15);
}

/// Waits until the worker sleeps, or for a moment: requests of any length are done in far less.
pub(crate) fn settle(device: &VirtioMmio) {
    let start = Instant::now();
    device.pause();
    assert!(start.elapsed() < Duration::from_secs(20), "a request does not end");
}

/// Whatever it is, nothing follows from it.
fn ignore<T>(_: T) {}

/// Any accesses to the registers, any bytes in RAM, in any order.
pub fn virtio_mmio(data: &[u8]) {
    let (memory, device) = behind_mmio(Arc::new(VirtioRng::new()));
    let mut bytes = Bytes(data);
    if data.first().is_some_and(|b| b & 1 != 0) {
        start(&*device);
    }
    while let Some(kind) = bytes.u8() {
        let done = match kind & 7 {
            0 => bytes.u8().map(|r| ignore(device.read(u64::from(r) << 2, 4))),
            1..=3 => bytes.u8().zip(bytes.u32()).map(|(r, v)| {
                // Addresses are likelier near the RAM.
                let v = if kind & 0x40 != 0 { RAM as u32 | v & 0x3_ffff } else { v & 0xff };
                ignore(device.write(u64::from(r & 0x7f) << 2, 4, v.into()));
            }),
            4 => bytes.u16().zip(bytes.u64()).map(|(at, v)| {
                memory.write_obj(v, GuestAddress(RAM + u64::from(at & 0x3fff))).expect("in RAM");
            }),
            5 => bytes.u16().map(|at| ignore(device.write(u64::from(at), kind >> 4, u64::MAX))),
            6 => Some(ignore(device.write(0x50, 4, u64::from(kind >> 7)))),
            _ => Some(device.reset()),
        };
        if done.is_none() {
            break;
        }
    }
    settle(&device);
    let saved = device.save();
    device.load(&saved).expect("what was saved can be loaded");
    assert_eq!(device.save(), saved);
    device.resume();
    device.reset();
    assert_eq!(device.read(0x70, 4).expect("a register"), 0);
}

/// Messages go nowhere.
struct Nowhere;

impl MsiSink for Nowhere {
    fn send(&self, device: u32, _address: u64, _data: u32) {
        assert_eq!(device, 8);
    }
}

/// Any accesses to an entropy source behind a PCI function: configuration space by ECAM, BARs wherever they are put.
pub fn virtio_pci(data: &[u8]) {
    let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(RAM), RAM_LEN)]).expect("memory"));
    let slot =
        Slot { requester_id: PciHost::requester_id(0), messages: Arc::new(Nowhere), intx: IrqLine::disconnected() };
    let function = VirtioPci::new(Arc::new(VirtioRng::new()), Arc::clone(&memory), slot).expect("threads");
    let host = PciHost::new(vec![Arc::clone(&function) as _]);
    let (ecam, window) = (host.ecam(), host.window(0x1000_0000));
    let write = |device: &dyn MmioDevice, at, size, value| device.write(at, size, value).expect("a window");
    // Device 1: BARs 1 and 4 in the window, memory decoded.
    for (register, value) in [(0x14, 0x1000_0000), (0x20, 0x1000_4000), (0x24, 0), (4, 6)] {
        write(&*ecam, 0x8000 + register, 4, value);
    }
    let mut bytes = Bytes(data);
    while let Some(kind) = bytes.u8() {
        let size = [1, 2, 4, 8][usize::from(kind >> 6)];
        let done = match kind & 7 {
            0 => bytes.u16().map(|at| ignore(ecam.read(u64::from(at), size))),
            1 => bytes.u8().zip(bytes.u32()).map(|(at, v)| write(&*ecam, 0x8000 | u64::from(at), size, v.into())),
            2 => bytes.u16().map(|at| ignore(window.read(u64::from(at), size))),
            3 => bytes.u8().zip(bytes.u64()).map(|(at, v)| {
                let v = if kind & 8 != 0 { RAM | v & 0x3_ffff } else { v & 0xff };
                write(&*window, 0x4000 + u64::from(at & 0x3f), size, v);
            }),
            4 => bytes.u16().zip(bytes.u64()).map(|(at, v)| write(&*window, u64::from(at & 0x7fff), size, v)),
            5 => bytes.u16().zip(bytes.u64()).map(|(at, v)| {
                memory.write_obj(v, GuestAddress(RAM + u64::from(at & 0x3fff))).expect("in RAM");
            }),
            6 => Some(write(&*window, 0x7000, 2, 0)),
            _ => {
                ecam.pause();
                let saved = ecam.save();
                ecam.load(&saved).expect("what was saved can be loaded");
                Some(ecam.resume())
            }
        };
        if done.is_none() {
            break;
        }
    }
    ecam.pause();
    let saved = ecam.save();
    ecam.load(&saved).expect("what was saved can be loaded");
    assert_eq!(ecam.save(), saved);
    ecam.resume();
    ecam.reset();
    assert!(function.decoded().iter().all(Option::is_none));
}

/// Any descriptors and requests to a disk.
pub fn virtio_blk(data: &[u8]) {
    let options = BlkOptions { serial: "fuzz".into(), ..BlkOptions::default() };
    let (memory, device) = behind_mmio(Arc::new(VirtioBlk::new(Arc::new(Small::new()), options)));
    start(&*device);
    let mut bytes = Bytes(data);
    // The first 16 descriptors, mostly of a plausible kind.
    for index in 0..16u64 {
        let (Some(kind), Some(at), Some(len)) = (bytes.u8(), bytes.u16(), bytes.u16()) else { break };
        let address = if kind & 0xe0 == 0xe0 { u64::from(at) << 48 } else { RAM + 0x8000 + u64::from(at) };
        let len = match kind >> 3 & 3 {
            0 => 16,
            1 => u32::from(len & 7) * 512,
            2 => u32::from(len),
            _ => u32::from(len & 0x1ff) * if len & 0x8000 != 0 { 0x1_0000 } else { 1 },
        };
        let flags = u64::from(kind & 7);
        let next = (index + u64::from(kind >> 5 & 1) + 1) % 16;
        let at = GuestAddress(RAM + index * 16);
        memory.write_obj(address, at).expect("in RAM");
        let low = u64::from(len) | flags << 32 | next << 48;
        memory.write_obj(low, GuestAddress(RAM + index * 16 + 8)).expect("in RAM");
    }
    let mut offered = 0u16;
    while let Some(head) = bytes.u8() {
        // Headers and ranges where the descriptors may point.
        for (step, word) in [bytes.u64(), bytes.u64()].into_iter().enumerate() {
            let place = RAM + 0x8000 + u64::from(head) * 32 + step as u64 * 8;
            memory.write_obj(word.unwrap_or(0) & 0xffff_00ff, GuestAddress(place)).expect("in RAM");
        }
        memory
            .write_obj(u16::from(head % 18), GuestAddress(RAM + 0x1004 + u64::from(offered % 16) * 2))
            .expect("in RAM");
        offered = offered.wrapping_add(1);
        memory.write_obj(offered, GuestAddress(RAM + 0x1002)).expect("in RAM");
        device.write(0x50, 4, 0).expect("a register");
    }
    settle(&device);
    let saved = device.save();
    device.load(&saved).expect("what was saved can be loaded");
    device.resume();
    device.reset();
}
