//! Register accesses to the small devices, and their saved state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use devices::{Bus, CharSink, InterruptSink, IrqLine, MmioDevice, Pl011, Pl031, Pl061, WallClock};

use crate::bytes::Bytes;

#[derive(Default)]
struct Wire(AtomicBool);

impl InterruptSink for Wire {
    fn set_spi(&self, _spi: u32, level: bool) {
        self.0.store(level, Ordering::Relaxed);
    }
}

struct Nowhere;

impl CharSink for Nowhere {
    fn write(&self, _bytes: &[u8]) {}
}

#[derive(Default)]
struct Clock(AtomicU64);

impl WallClock for Clock {
    fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    fn set_alarm(&self, _at: Option<u64>) {}
}

/// One access of `device`: kind and width, offset, value.
fn access(device: &dyn MmioDevice, kind: u8, bytes: &mut Bytes) -> Option<()> {
    let size = [1, 2, 4, 4, 4, 8, 8, kind][usize::from(kind >> 1 & 7)];
    let offset = bytes.u16()?;
    let offset = if kind & 0x20 != 0 { u64::from(offset) << 48 | u64::from(offset) } else { offset.into() };
    if kind & 1 != 0 {
        let _ = device.write(offset, size, bytes.u32()?.into());
    } else {
        let _ = device.read(offset, size);
    }
    Some(())
}

/// The line is what the masked interrupt status says, and the state survives a file.
fn check(device: &dyn MmioDevice, twin: &dyn MmioDevice, wire: &Wire, status: u64) {
    let raised = device.read(status, 4).expect("the masked interrupt status can be read") != 0;
    assert_eq!(wire.0.load(Ordering::Relaxed), raised);
    let saved = device.save();
    twin.load(&saved).expect("what was saved can be loaded");
    assert_eq!(twin.save(), saved);
}

/// Any accesses and input to a PL011.
pub fn pl011(data: &[u8]) {
    let wire = Arc::new(Wire::default());
    let device = Pl011::new(IrqLine::new(wire.clone(), 0), Arc::new(Nowhere));
    let mut bytes = Bytes(data);
    while let Some(kind) = bytes.u8() {
        match kind >> 6 {
            3 => {
                let typed = [kind; 40];
                assert!(device.receive(&typed[..usize::from(kind & 0x1f)]) <= 16);
            }
            2 => drop(device.send_break()),
            _ => drop(access(&*device, kind, &mut bytes)),
        }
    }
    check(&*device, &*Pl011::new(IrqLine::disconnected(), Arc::new(Nowhere)), &wire, 0x40);
}

/// Any accesses to a PL031 while time passes.
pub fn pl031(data: &[u8]) {
    let (wire, clock) = (Arc::new(Wire::default()), Arc::new(Clock::default()));
    let device = Pl031::new(IrqLine::new(wire.clone(), 0), clock.clone());
    let mut bytes = Bytes(data);
    while let Some(kind) = bytes.u8() {
        if kind >> 6 == 3 {
            clock.0.fetch_add(bytes.u32().unwrap_or(1).into(), Ordering::Relaxed);
            device.alarm();
        } else {
            access(&*device, kind, &mut bytes);
        }
    }
    check(&*device, &*Pl031::new(IrqLine::disconnected(), clock), &wire, 0x18);
}

/// Any accesses to a PL061 while its inputs change.
pub fn pl061(data: &[u8]) {
    let wire = Arc::new(Wire::default());
    let device = Pl061::new(IrqLine::new(wire.clone(), 0));
    let mut bytes = Bytes(data);
    while let Some(kind) = bytes.u8() {
        if kind >> 6 == 3 {
            device.set_input(kind & 0xf, kind & 0x10 != 0);
        } else {
            access(&*device, kind, &mut bytes);
        }
    }
    check(&*device, &*Pl061::new(IrqLine::disconnected()), &wire, 0x418);
}

/// Any text as saved state of a whole board: refused, or a board that works.
pub fn device_state(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data).map_err(drop).and_then(|t| t.parse().map_err(drop)) else { return };
    let mut bus = Bus::new();
    let clock = Arc::new(Clock::default());
    let gic = devices::Gic::new(2, 40, Arc::new(crate::interrupts::Offers::new(2))).expect("a GIC of this size");
    let parts: [(u64, Arc<dyn MmioDevice>); 5] = [
        (0, Pl011::new(gic.spi_line(0), Arc::new(Nowhere))),
        (0x1000, Pl031::new(gic.spi_line(1), clock)),
        (0x2000, Pl061::new(gic.spi_line(2))),
        (0x1_0000, gic.distributor()),
        (0x2_0000, gic.redistributors()),
    ];
    for (base, device) in &parts {
        // Each alone: a fuzzer seldom writes five good ones in one text.
        let _ = device.load(&value);
        bus.insert(*base, 0x1000, device.clone()).expect("a free place");
    }
    let _ = bus.load(&value);
    for (base, device) in &parts {
        (0..0x1000).step_by(4).for_each(|offset| drop(bus.read(base + offset, 4)));
        device.load(&device.save()).expect("what was saved can be loaded");
    }
}
