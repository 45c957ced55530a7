//! A model of how Linux reads and writes the tables, against what the emulated ITS makes of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::linked::LinkedTables;
use super::tests::{COLLECTIONS, DEVICES, ITTS, Rig, VCPUS};
use crate::memory::GuestMemory;
use crate::testing::more_cases;

const VALID: u64 = 1 << 63;
/// Events by device and number: LPI and processing element.
type Mapped = BTreeMap<(u32, u32), (u32, usize)>;

fn tables(rig: &Rig) -> LinkedTables<'_> {
    let registers = rig.its.registers.read().unwrap();
    LinkedTables { memory: &rig.memory, baser: registers.baser }
}

fn translated(rig: &Rig) -> Mapped {
    let registers = rig.its.registers.read().unwrap();
    let all = (0..64).flat_map(|device| (0..32).map(move |event| (device, event)));
    all.filter_map(|at| rig.its.translate(&registers, at.0, at.1).map(|(vcpu, intid)| (at, (intid, vcpu)))).collect()
}

fn word(memory: &GuestMemory, address: u64) -> u64 {
    memory.read_obj(GuestAddress(address)).unwrap()
}

/// Entries from `base` on as the kernel finds them: the next one is where an entry says, or beside one that is none.
fn follow(memory: &GuestMemory, base: u64, len: u64, valid: fn(u64) -> bool, next: fn(u64) -> u64) -> Vec<(u64, u64)> {
    let (mut id, mut found) = (0, Vec::new());
    while id < len {
        let entry = word(memory, base + id * 8);
        id += match valid(entry) {
            false => 1,
            true => {
                found.push((id, entry));
                next(entry)
            }
        };
        if found.last().is_some_and(|last| last.0 == id) {
            break; // the last one leads to itself
        }
    }
    found
}

/// What the kernel takes over, by the documented layout. `devices` is the table of the second level, if there are two.
fn kernel_reads(memory: &GuestMemory, devices: u64) -> Mapped {
    let list = (0..).map(|id| word(memory, COLLECTIONS + id * 8)).take_while(|entry| entry & VALID != 0);
    let collections: BTreeMap<u64, usize> = list.map(|entry| (entry & 0xffff, (entry >> 16) as u32 as usize)).collect();
    let mut mapped = Mapped::new();
    for (device, entry) in follow(memory, devices, 8192, |e| e & VALID != 0, |e| e >> 49 & 0x3fff) {
        let events = 1 << ((entry & 0x1f) + 1);
        let itt = (entry >> 5 & 0xfff_ffff_ffff) << 8;
        for (event, entry) in follow(memory, itt, events, |e| e >> 16 & 0xffff_ffff != 0, |e| e >> 48) {
            assert!(event + (entry >> 48) < events, "the kernel refuses it");
            let target = collections[&(entry & 0xffff)];
            mapped.insert((device as u32, event as u32), ((entry >> 16) as u32, target));
        }
    }
    mapped
}

/// What the kernel writes: entries that lead to the next one; nothing else changes.
fn kernel_saves(memory: &GuestMemory, devices: u64, mapped: &BTreeMap<(u32, u32), (u32, u16)>, targets: &[usize]) {
    let put = |address: u64, word: u64| memory.write_obj(word, GuestAddress(address)).unwrap();
    for (place, (collection, target)) in (0u64..).zip(targets.iter().enumerate().rev()) {
        put(COLLECTIONS + place * 8, VALID | (*target as u64) << 16 | collection as u64);
    }
    put(COLLECTIONS + targets.len() as u64 * 8, 0);
    let mut numbers: Vec<u32> = mapped.keys().map(|(device, _)| *device).collect();
    numbers.dedup();
    for (i, device) in numbers.iter().enumerate() {
        let itt = ITTS + u64::from(*device) * 0x1000;
        let next = numbers.get(i + 1).map_or(0, |next| u64::from(next - device));
        put(devices + u64::from(*device) * 8, VALID | next << 49 | itt >> 8 << 5 | 4);
        let events: Vec<_> = mapped.range((*device, 0)..(*device + 1, 0)).collect();
        for (i, ((_, event), (intid, collection))) in events.iter().enumerate() {
            let next = events.get(i + 1).map_or(0, |((_, next), _)| u64::from(next - event));
            put(itt + u64::from(*event) * 8, next << 48 | u64::from(*intid) << 16 | u64::from(*collection));
        }
    }
}

type Mappings = BTreeMap<(u32, u32), (u32, u16)>;

fn mappings() -> impl Strategy<Value = Mappings> {
    let device = prop_oneof![0u32..4, Just(40u32), Just(63)];
    prop::collection::btree_map((device, 0u32..32), (8192u32..65536, 0u16..6), 0..24)
}

fn rig_with(indirect: bool, mapped: &Mappings) -> Rig {
    let mut rig = Rig::new(indirect);
    (0..6).for_each(|collection| rig.mapc(collection * 3 % 7, u64::from(collection) % VCPUS as u64, true));
    // Collections 0, 3, 6, 2, 5, 1; number 4 has no target.
    for (&(device, event), &(intid, collection)) in mapped {
        rig.mapd(device, 4, true);
        rig.event_command(0x0a, device, event, intid, if collection == 4 { 6 } else { collection });
    }
    rig
}

const SECOND_LEVEL: u64 = DEVICES + 0x1_0000;

proptest! {
    #![proptest_config(more_cases(64))]

    #[test]
    fn the_kernel_finds_what_the_emulated_one_has(mapped in mappings(), indirect: bool) {
        let rig = rig_with(indirect, &mapped);
        let before = translated(&rig);
        prop_assert_eq!(before.len(), mapped.len());
        tables(&rig).link().unwrap();
        let devices = if indirect { SECOND_LEVEL } else { DEVICES };
        prop_assert_eq!(kernel_reads(&rig.memory, devices), before.clone());
        tables(&rig).unlink();
        prop_assert_eq!(translated(&rig), before);
    }

    #[test]
    fn what_the_kernel_saves_is_found(old in mappings(), new in mappings(), indirect: bool) {
        let rig = rig_with(indirect, &old);
        let devices = if indirect { SECOND_LEVEL } else { DEVICES };
        let targets = [2, 0, 1, 1, 0, 2];
        // What was mapped long ago, and what the first of two passes leaves.
        kernel_saves(&rig.memory, devices, &old, &targets);
        tables(&rig).clear_devices();
        kernel_saves(&rig.memory, devices, &new, &targets);
        tables(&rig).clear_events().unwrap();
        kernel_saves(&rig.memory, devices, &new, &targets);
        tables(&rig).unlink();
        let expected: Mapped =
            new.iter().map(|(at, (intid, collection))| (*at, (*intid, targets[usize::from(*collection)]))).collect();
        prop_assert_eq!(translated(&rig), expected);
    }
}

#[test]
fn what_the_kernel_has_no_form_for_is_refused() {
    let mut rig = rig_with(false, &Mappings::new());
    rig.mapd(1, 4, true);
    rig.event_command(0x0a, 1, 7, 8200, 4);
    let error = tables(&rig).link().unwrap_err();
    assert!(error.contains("EventID 7 of device 0x1 has collection 4"), "{error}");
    let small = LinkedTables { memory: &rig.memory, baser: [VALID | DEVICES, 0] };
    assert!(small.link().unwrap_err().contains("64 KiB"));
    // A table of 2^16 devices with 2^16 EventIDs each, all at one place.
    (0..64).for_each(|device| rig.put(DEVICES + device * 8, VALID | ITTS >> 8 << 5 | 15));
    assert!(tables(&rig).link().unwrap_err().contains("4194304 EventIDs"));
    assert!(tables(&rig).clear_events().is_err());
}

#[test]
fn tables_beyond_ram_or_over_each_other_are_harmless() {
    let rig = Rig::new(false);
    for baser in [[u64::MAX; 2], [VALID | 2 << 8 | DEVICES | 0xff, VALID | 2 << 8 | DEVICES | 0xff]] {
        rig.put(DEVICES, u64::MAX);
        let tables = LinkedTables { memory: &rig.memory, baser };
        let _ = tables.link();
        tables.unlink();
        tables.clear_devices();
        let _ = tables.clear_events();
    }
}
