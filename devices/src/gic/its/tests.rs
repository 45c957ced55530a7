//! Named cases; any history of commands and messages against a model of maps; any register and queue contents.

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::gic::{CpuInterfaceSink, REDISTRIBUTOR_LEN};
use crate::memory::GuestMemory;
use crate::testing::more_cases;

const RAM: u64 = 0x4000_0000;
const RAM_LEN: u64 = 4 << 20;
const QUEUE: u64 = RAM;
pub(super) const DEVICES: u64 = RAM + 0x1_0000;
const DEVICES_2: u64 = RAM + 0x2_0000;
pub(super) const COLLECTIONS: u64 = RAM + 0x3_0000;
const PROPERTIES: u64 = RAM + 0x4_0000;
/// Pending tables: 64 KiB for each vCPU.
const PENDING: u64 = RAM + 0x5_0000;
/// Interrupt translation tables: 4 KiB for each device.
pub(super) const ITTS: u64 = RAM + 0x10_0000;
const BASE: u64 = 0x808_0000;
pub(super) const VCPUS: usize = 3;
const VALID: u64 = 1 << 63;
/// 64 KiB pages.
const PAGE_64K: u64 = 2 << 8;

/// The best of group 1 for each vCPU.
#[derive(Default)]
struct Offers(Mutex<[Option<(u8, u32)>; VCPUS]>);

impl CpuInterfaceSink for Offers {
    fn publish(&self, vcpu: usize, group: usize, best: Option<(u8, u32)>) {
        assert_eq!(group, 1, "LPIs are in group 1");
        self.0.lock().unwrap()[vcpu] = best;
    }
}

pub(super) struct Rig {
    pub(super) memory: SharedMemory,
    offers: Arc<Offers>,
    gic: Arc<Gic>,
    pub(super) its: Arc<Its>,
    cwriter: u64,
}

impl Rig {
    fn bare(memory: SharedMemory) -> Rig {
        let offers = Arc::new(Offers::default());
        let gic = Gic::with_lpis(VCPUS, 32, offers.clone(), Arc::clone(&memory)).unwrap();
        let its = Its::new(&gic, BASE).unwrap();
        Rig { memory, offers, gic, its, cwriter: 0 }
    }

    /// As a driver sets it up, with a flat or a two-level device table.
    pub(super) fn new(indirect: bool) -> Rig {
        let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(RAM), RAM_LEN as usize)]).unwrap());
        let rig = Rig::bare(memory);
        rig.gic.distributor().write(0, 4, 0b10).unwrap();
        for vcpu in 0..VCPUS as u64 {
            rig.redistributor(vcpu, spec::GICR_PROPBASER, 8, PROPERTIES | 15);
            rig.redistributor(vcpu, spec::GICR_PENDBASER, 8, PENDING + vcpu * 0x1_0000);
            rig.redistributor(vcpu, spec::GICR_CTLR, 4, 1);
        }
        rig.write(reg::CBASER, VALID | QUEUE);
        if indirect {
            rig.put(DEVICES, VALID | DEVICES_2);
            rig.write(reg::BASER, VALID | 1 << 62 | DEVICES | PAGE_64K);
        } else {
            rig.write(reg::BASER, VALID | DEVICES | PAGE_64K);
        }
        rig.write(reg::BASER + 8, VALID | COLLECTIONS | PAGE_64K);
        rig.its.write(reg::CTLR, 4, 1).unwrap();
        rig
    }

    fn redistributor(&self, vcpu: u64, offset: u64, size: u8, value: u64) {
        self.gic.redistributors().write(vcpu * REDISTRIBUTOR_LEN + offset, size, value).unwrap();
    }
    fn write(&self, offset: u64, value: u64) {
        self.its.write(offset, 8, value).unwrap();
    }
    fn read(&self, offset: u64) -> u64 {
        self.its.read(offset, 8).unwrap()
    }
    pub(super) fn put(&self, address: u64, word: u64) {
        self.memory.write_obj(word, GuestAddress(address)).unwrap();
    }
    fn configure(&self, intid: u32, byte: u8) {
        self.memory.write_obj(byte, GuestAddress(PROPERTIES + u64::from(intid) - 8192)).unwrap();
    }

    fn command(&mut self, words: [u64; 4]) {
        for (i, word) in (0..).zip(words) {
            self.put(QUEUE + self.cwriter + i * 8, word);
        }
        self.cwriter = (self.cwriter + 32) % 0x1000;
        self.write(reg::CWRITER, self.cwriter);
        assert_eq!(self.read(reg::CREADR), self.cwriter, "commands are done at once");
    }

    pub(super) fn mapd(&mut self, device: u32, size: u64, valid: bool) {
        let itt = ITTS + u64::from(device) * 0x1000;
        self.command([8 | u64::from(device) << 32, size, itt | u64::from(valid) << 63, 0]);
    }
    pub(super) fn mapc(&mut self, collection: u16, vcpu: u64, valid: bool) {
        self.command([9, 0, u64::from(collection) | vcpu << 16 | u64::from(valid) << 63, 0]);
    }
    pub(super) fn event_command(&mut self, number: u64, device: u32, event: u32, intid: u32, collection: u16) {
        let second = u64::from(event) | u64::from(intid) << 32;
        self.command([number | u64::from(device) << 32, second, collection.into(), 0]);
    }

    fn offers(&self) -> [Option<(u8, u32)>; VCPUS] {
        *self.offers.0.lock().unwrap()
    }
}

#[test]
fn a_message_becomes_an_lpi_and_is_taken_once() {
    for indirect in [false, true] {
        let mut rig = Rig::new(indirect);
        rig.mapd(8, 3, true);
        rig.mapc(5, 2, true);
        rig.event_command(0x0a, 8, 1, 8200, 5);
        rig.configure(8200, 0xa3);
        rig.its.send(8, BASE + 0x1_0040, 1);
        assert_eq!(rig.offers(), [None, None, Some((0xa0, 8200))]);
        assert!(!rig.gic.acknowledge(1, 8200), "not of this vCPU");
        assert!(rig.gic.acknowledge(2, 8200));
        assert!(!rig.gic.acknowledge(2, 8200));
        rig.gic.deactivate(2, 8200);
        assert_eq!(rig.offers(), [None; 3]);
        // What leads nowhere.
        for (device, event) in [(8, 2), (8, 16), (9, 1), (1 << 16, 1), (u32::MAX, u32::MAX)] {
            rig.its.signal(device, event);
        }
        assert_eq!(rig.offers(), [None; 3]);
        assert_eq!(rig.its.counters()["untranslated"], 5);
        assert_eq!(rig.its.counters()["refused"], 0);
    }
}

#[test]
fn registers_are_what_drivers_look_for() {
    let rig = Rig::new(false);
    assert_eq!(rig.its.read(0xffe8, 4).unwrap() & 0xf0, 0x30, "GICv3");
    let typer = rig.read(reg::TYPER);
    assert_eq!((typer & 1, typer >> 4 & 0xf, typer >> 8 & 0x1f, typer >> 13 & 0x1f), (1, 7, 15, 15));
    assert_eq!(rig.read(reg::BASER) >> 48, 0x8107, "valid, devices, entries of 8 bytes");
    assert_eq!(rig.read(reg::BASER + 8) >> 48, 0x8407);
    assert_eq!(rig.read(reg::BASER + 16), 0, "no third table");
    rig.write(reg::BASER, 0);
    rig.write(reg::CBASER, 0);
    assert_eq!(rig.read(reg::CBASER), VALID | QUEUE, "fixed while enabled");
    assert_eq!(rig.its.read(reg::CTLR, 4).unwrap(), 1 | 1 << 31);
    assert_eq!(rig.gic.distributor().read(4, 4).unwrap() >> 17 & 0x7f, 1 | 15 << 2, "LPIS, IDbits");
    let gicr = rig.gic.redistributors();
    assert_eq!(gicr.read(8, 8).unwrap() & 1, 1);
    assert_eq!(gicr.read(0, 4).unwrap(), 3);
    rig.redistributor(0, spec::GICR_PENDBASER, 8, 0);
    assert_eq!(gicr.read(spec::GICR_PENDBASER, 8).unwrap(), PENDING, "fixed while enabled");
    rig.its.reset();
    assert_eq!((rig.read(reg::CBASER), rig.its.read(reg::CTLR, 4).unwrap()), (0, 1 << 31));
}

#[test]
fn pending_tables_are_written_back_and_read_again() {
    let mut rig = Rig::new(false);
    rig.mapd(0, 3, true);
    rig.mapc(0, 0, true);
    rig.event_command(0x0b, 0, 9000, 0, 0);
    assert_eq!(rig.its.counters()["refused"], 1, "beyond the device's events");
    for (event, intid) in [(0, 8192), (7, 65535)] {
        rig.event_command(0x0a, 0, event, intid, 0);
        rig.configure(intid, 0x81);
        rig.its.signal(0, event);
    }
    assert_eq!(rig.offers()[0], Some((0x80, 8192)));
    rig.redistributor(0, spec::GICR_CTLR, 4, 0);
    assert_eq!(rig.offers()[0], None);
    let word = |n: u64| rig.memory.read_obj::<u8>(GuestAddress(PENDING + n)).unwrap();
    assert_eq!((word(1024), word(8191)), (1, 0x80));
    rig.its.signal(0, 0);
    rig.redistributor(0, spec::GICR_CTLR, 4, 1);
    assert_eq!(rig.offers()[0], Some((0x80, 8192)));
    assert!(rig.gic.acknowledge(0, 8192));
    assert_eq!(rig.offers()[0], Some((0x80, 65535)));
    rig.redistributor(0, spec::GICR_CTLR, 4, 0);
    rig.redistributor(0, spec::GICR_PENDBASER, 8, PENDING | spec::PENDBASER_PTZ);
    rig.redistributor(0, spec::GICR_CTLR, 4, 1);
    assert_eq!(rig.offers()[0], None, "PTZ: the table is all zeros");
}

#[derive(Clone, Debug)]
enum Step {
    Mapd(u32, u64, bool),
    Mapc(u16, u64, bool),
    Event(u64, u32, u32, u32, u16),
    Invall(u16),
    Movall(u64, u64),
    Signal(u32, u32),
    Configure(u32, u8),
    Acknowledge(usize),
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    let event = || 0u32..10;
    let intid = prop_oneof![8 => 8192u32..8200, 1 => Just(8191), 1 => Just(65536), 1 => Just(65535)];
    let number = prop::sample::select(vec![1u64, 3, 4, 0x0a, 0x0a, 0x0a, 0x0b, 0x0c, 0x0f]);
    prop_oneof![
        1 => (0u32..5, 0u64..18, any::<bool>()).prop_map(|(d, s, v)| Step::Mapd(d, s, v)),
        2 => (0u16..4, 0u64..4, any::<bool>()).prop_map(|(c, p, v)| Step::Mapc(c, p, v)),
        8 => (number, 0u32..5, event(), intid, 0u16..4).prop_map(|(n, d, e, i, c)| Step::Event(n, d, e, i, c)),
        1 => (0u16..4).prop_map(Step::Invall),
        1 => (0u64..4, 0u64..4).prop_map(|(a, b)| Step::Movall(a, b)),
        8 => (0u32..5, event()).prop_map(|(d, e)| Step::Signal(d, e)),
        3 => (8192u32..8200, any::<u8>()).prop_map(|(i, b)| Step::Configure(i, b)),
        3 => (0..VCPUS).prop_map(Step::Acknowledge),
        1 => Just(Step::Move),
    ]
}

/// What the commands mean, as maps.
#[derive(Default)]
struct Model {
    devices: BTreeMap<u32, u64>,
    collections: BTreeMap<u16, usize>,
    /// Kept while a device is not mapped: tables are the guest's memory.
    events: BTreeMap<(u32, u32), (u32, u16)>,
    configured: BTreeMap<u32, u8>,
    /// Configuration as of when it was last looked at.
    pending: [BTreeMap<u32, u8>; VCPUS],
}

impl Model {
    fn events_of(&self, device: u32) -> u64 {
        self.devices.get(&device).map_or(0, |size| 1 << (size + 1))
    }
    fn translate(&self, device: u32, event: u32) -> Option<(usize, u32)> {
        let &(intid, collection) =
            self.events.get(&(device, event)).filter(|_| u64::from(event) < self.events_of(device))?;
        Some((*self.collections.get(&collection)?, intid))
    }
    fn config(&self, intid: u32) -> u8 {
        self.configured.get(&intid).copied().unwrap_or(0)
    }
    fn set(&mut self, vcpu: usize, intid: u32) {
        self.pending[vcpu].insert(intid, self.config(intid));
    }
    fn reload(&mut self, vcpu: usize) {
        let configured = &self.configured;
        self.pending[vcpu].iter_mut().for_each(|(i, c)| *c = configured.get(i).copied().unwrap_or(0));
    }
    fn best(&self, vcpu: usize) -> Option<(u8, u32)> {
        self.pending[vcpu].iter().filter(|(_, c)| **c & 1 != 0).map(|(i, c)| (c & 0xf8, *i)).min()
    }

    fn event(&mut self, number: u64, device: u32, event: u32, intid: u32, collection: u16) {
        let target = self.translate(device, event);
        let exists = u64::from(event) < self.events_of(device);
        match (number, target) {
            (0x0a, _) if exists && (8192..65536).contains(&intid) => {
                self.events.insert((device, event), (intid, collection));
            }
            (0x01, Some((from, intid))) => {
                let Some(&to) = self.collections.get(&collection) else { return };
                self.events.insert((device, event), (intid, collection));
                if from != to && self.pending[from].remove(&intid).is_some() {
                    self.set(to, intid);
                }
            }
            (0x03, Some((vcpu, intid))) => self.set(vcpu, intid),
            (0x04, Some((vcpu, intid))) => drop(self.pending[vcpu].remove(&intid)),
            (0x0c, Some((vcpu, intid))) if self.pending[vcpu].contains_key(&intid) => self.set(vcpu, intid),
            (0x0f, target) => {
                if let Some((vcpu, intid)) = target {
                    self.pending[vcpu].remove(&intid);
                }
                if exists {
                    self.events.remove(&(device, event));
                }
            }
            // MAPI: the event's number is no LPI here.
            _ => {}
        }
    }
}

fn apply(rig: &mut Rig, model: &mut Model, step: Step) {
    match step {
        Step::Mapd(device, size, valid) => {
            rig.mapd(device, size, valid);
            match (valid, size < 16) {
                (false, _) => drop(model.devices.remove(&device)),
                (true, true) => drop(model.devices.insert(device, size)),
                _ => {}
            }
        }
        Step::Mapc(collection, vcpu, valid) => {
            rig.mapc(collection, vcpu, valid);
            match (valid, (vcpu as usize) < VCPUS) {
                (false, _) => drop(model.collections.remove(&collection)),
                (true, true) => drop(model.collections.insert(collection, vcpu as usize)),
                _ => {}
            }
        }
        Step::Event(number, device, event, intid, collection) => {
            rig.event_command(number, device, event, intid, collection);
            model.event(number, device, event, intid, collection);
        }
        Step::Invall(collection) => {
            rig.command([0x0d, 0, collection.into(), 0]);
            if let Some(&vcpu) = model.collections.get(&collection) {
                model.reload(vcpu);
            }
        }
        Step::Movall(from, to) => {
            rig.command([0x0e, 0, from << 16, to << 16]);
            let (from, to) = (from as usize, to as usize);
            if from != to && from < VCPUS && to < VCPUS && !model.pending[from].is_empty() {
                let mut moved = std::mem::take(&mut model.pending[from]);
                model.pending[to].append(&mut moved);
                model.reload(to);
            }
        }
        Step::Signal(device, event) => {
            rig.its.signal(device, event);
            if let Some((vcpu, intid)) = model.translate(device, event) {
                model.set(vcpu, intid);
            }
        }
        Step::Configure(intid, byte) => {
            rig.configure(intid, byte);
            model.configured.insert(intid, byte);
        }
        Step::Acknowledge(vcpu) => {
            if let Some((_, intid)) = model.best(vcpu) {
                assert!(rig.gic.acknowledge(vcpu, intid));
                model.pending[vcpu].remove(&intid);
            }
        }
        Step::Move => {
            let saved = (rig.gic.distributor().save(), rig.gic.redistributors().save(), rig.its.save());
            let other = Rig::bare(Arc::clone(&rig.memory));
            other.gic.distributor().load(&saved.0).unwrap();
            other.gic.redistributors().load(&saved.1).unwrap();
            other.its.load(&saved.2).unwrap();
            assert_eq!((other.gic.redistributors().save(), other.its.save()), (saved.1, saved.2));
            *rig = Rig { cwriter: rig.cwriter, ..other };
        }
    }
}

proptest! {
    #![proptest_config(more_cases(300))]

    #[test]
    fn any_history_against_maps(indirect in any::<bool>(), steps in prop::collection::vec(step(), 1..150)) {
        let mut rig = Rig::new(indirect);
        let mut model = Model::default();
        for step in steps {
            let text = format!("{step:?}");
            apply(&mut rig, &mut model, step);
            let expected: Vec<_> = (0..VCPUS).map(|vcpu| model.best(vcpu)).collect();
            prop_assert_eq!(rig.offers().to_vec(), expected, "after {}", text);
        }
    }

    /// Tables and queues anywhere, with any contents: nothing panics, and it ends.
    #[test]
    fn any_registers_and_tables(
        writes in prop::collection::vec((prop_oneof![Just(0u64), Just(0x80), Just(0x88), Just(0x100), Just(0x108), any::<u64>()],
            any::<u64>(), any::<bool>()), 1..40),
        words in prop::collection::vec((0u64..0x8_0000, any::<u64>()), 0..40),
        messages in prop::collection::vec((0u32..0x2_0000, any::<u32>()), 0..10),
    ) {
        let rig = Rig::new(true);
        for (at, word) in words {
            rig.put(RAM + (at & !7), word);
        }
        for (offset, value, near) in writes {
            // Addresses near RAM are likelier to do something.
            let value = if near { (value & 0xf1ff_0000_0000_0fff) | RAM | (value & 0x3f_f000) } else { value };
            rig.its.write(offset & 0x1_ffff, if value & 1 == 0 { 8 } else { 4 }, value).unwrap();
        }
        for (device, event) in messages {
            rig.its.signal(device, event);
        }
        let saved = rig.its.save();
        rig.its.load(&saved).unwrap();
        prop_assert_eq!(rig.its.save(), saved);
    }
}
