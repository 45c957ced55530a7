//! The ITS: any registers, tables, commands and messages.

use std::sync::Arc;

use devices::gic::its::linked::LinkedTables;
use devices::memory::GuestMemory;
use devices::{Gic, Its, MmioDevice};
use vm_memory::{Bytes as _, GuestAddress};

use crate::bytes::Bytes;
use crate::interrupts::Offers;

const RAM: u64 = 0x4000_0000;
const RAM_LEN: usize = 1 << 20;
const VCPUS: usize = 2;
const VALID: u64 = 1 << 63;

/// As a driver sets it up: queue, devices, collections, configuration and pending tables from `RAM` on.
fn start(gic: &Arc<Gic>, its: &Its) {
    let write = |offset, value| its.write(offset, 8, value).expect("a register");
    gic.distributor().write(0, 4, 2).expect("a register");
    for vcpu in 0..VCPUS as u64 {
        let redistributor = |offset: u64, size, value| {
            gic.redistributors().write(vcpu * 0x2_0000 + offset, size, value).expect("a register");
        };
        redistributor(0x70, 8, RAM + 0x4_0000 | 13);
        redistributor(0x78, 8, RAM + 0x5_0000 + vcpu * 0x1_0000);
        redistributor(0, 4, 1);
    }
    write(0x80, VALID | RAM);
    write(0x100, VALID | (RAM + 0x1_0000) | 2 << 8);
    write(0x108, VALID | (RAM + 0x2_0000) | 2 << 8);
    its.write(0, 4, 1).expect("a register");
}

/// One command: a number that is likely one, and small identifiers.
fn command(bytes: &mut Bytes) -> Option<[u64; 4]> {
    let (number, device, event, collection) = (bytes.u8()?, bytes.u8()?, bytes.u8()?, bytes.u8()?);
    let rest = bytes.u64()?;
    let itt = RAM + 0x8_0000 + u64::from(device & 7) * 0x1000;
    Some(match number & 0xf {
        8 => [8 | u64::from(device) << 32, rest & 0x1f, itt | rest & VALID, 0],
        9 => [9, 0, u64::from(collection) | (rest & 3) << 16 | rest & VALID, 0],
        14 => [14, 0, (rest & 3) << 16, (rest >> 2 & 3) << 16],
        n => {
            let words = u64::from(event) | (8192 + (rest & 0x3f)) << 32;
            let words = if number & 0x80 != 0 { rest } else { words };
            [u64::from(n) | u64::from(device) << 32, words, collection.into(), rest]
        }
    })
}

/// Any history of an ITS.
pub fn its(data: &[u8]) {
    let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(RAM), RAM_LEN)]).expect("memory"));
    let offers = Arc::new(Offers::new(VCPUS));
    let gic = Gic::with_lpis(VCPUS, 32, offers.clone(), Arc::clone(&memory)).expect("a GIC of this size");
    let its = Its::new(&gic, 0x808_0000).expect("a GIC with LPIs");
    start(&gic, &its);
    let mut bytes = Bytes(data);
    let mut cwriter = 0;
    while let Some(kind) = bytes.u8() {
        let done = match kind & 7 {
            0..=2 => command(&mut bytes).map(|words| {
                for (i, word) in (0..).zip(words) {
                    memory.write_obj(word, GuestAddress(RAM + cwriter + i * 8)).expect("in RAM");
                }
                cwriter = (cwriter + 32) % 0x1000;
                its.write(0x88, 8, cwriter).expect("a register");
            }),
            3 => bytes.u8().zip(bytes.u8()).map(|(device, event)| its.signal(device.into(), event.into())),
            4 => bytes.u32().zip(bytes.u64()).map(|(at, word)| {
                memory.write_obj(word, GuestAddress(RAM + u64::from(at & 0xf_fff8))).expect("in RAM");
            }),
            5 => bytes.u16().zip(bytes.u64()).map(|(at, value)| {
                let at = if kind & 8 != 0 { u64::from(at & 0x1f8) } else { u64::from(at) };
                its.write(at, if kind & 16 != 0 { 4 } else { 8 }, value).expect("a register");
            }),
            6 => bytes.u8().map(|n| {
                let vcpu = usize::from(n & 1);
                if let Some((priority, intid)) = offers.get(vcpu, 1) {
                    assert!(priority & 7 == 0 && (8192..65536).contains(&intid));
                    assert!(gic.acknowledge(vcpu, intid), "what is offered can be taken");
                    assert_ne!(offers.get(vcpu, 1).map(|o| o.1), Some(intid), "once");
                }
            }),
            // Seldom: every device and event is looked at.
            _ if kind & 0x78 == 0x78 => {
                let registers = its.save();
                let baser = |n: usize| registers["state"]["baser"][n].as_u64().expect("a number");
                let tables = LinkedTables { memory: &memory, baser: [baser(0), baser(1)] };
                if tables.link().is_ok() {
                    tables.unlink();
                }
                bytes.u8().map(|n| match n & 1 {
                    0 => tables.clear_devices(),
                    _ => drop(tables.clear_events()),
                })
            }
            _ => {
                let saved = (its.save(), gic.redistributors().save());
                its.load(&saved.0).expect("what was saved can be loaded");
                gic.redistributors().load(&saved.1).expect("what was saved can be loaded");
                Some(assert_eq!((its.save(), gic.redistributors().save()), saved))
            }
        };
        if done.is_none() {
            break;
        }
    }
    its.reset();
    gic.redistributors().reset();
    (0..VCPUS).for_each(|vcpu| assert_eq!(offers.get(vcpu, 1), None));
}
