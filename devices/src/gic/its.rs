//! The interrupt translation service (Arm IHI 0069, chapter 5 "The ITS"): messages of devices become LPIs.
//!
//! A device writes an EventID to `GITS_TRANSLATER`; the bus adds its DeviceID. Tables in guest RAM, which the guest gives
//! and fills by commands, say which LPI that is and which processing element takes it. All state is in those tables and
//! in the registers: nothing that a guest does makes the ITS allocate.
//!
//! Locks: the ITS before the redistributors. Messages share the ITS among each other; commands exclude them, so that a
//! `MOVI` that is done is seen by all messages after it.

mod commands;
pub mod linked;
#[cfg(test)]
mod linked_tests;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vm_memory::{Bytes, GuestAddress};

use super::{Gic, spec};
use crate::bus::{AccessError, MmioDevice};
use crate::memory::SharedMemory;
use crate::pci::MsiSink;
use crate::state::{self, StateError};

const NAME: &str = "gicv3-its";
/// 2: entries of the tables are laid out as in Linux' KVM.
const VERSION: u64 = 2;
/// Length of the window: the control frame and the translation frame.
pub const ITS_LEN: u64 = 0x2_0000;

/// Register map: Arm IHI 0069, "ITS register descriptions".
mod reg {
    pub(super) const CTLR: u64 = 0x0000;
    pub(super) const IIDR: u64 = 0x0004;
    pub(super) const TYPER: u64 = 0x0008;
    pub(super) const CBASER: u64 = 0x0080;
    pub(super) const CWRITER: u64 = 0x0088;
    pub(super) const CREADR: u64 = 0x0090;
    pub(super) const BASER: u64 = 0x0100;
    pub(super) const BASER_END: u64 = 0x0140;
    pub(super) const TRANSLATER: u64 = 0x1_0040;

    pub(super) const CTLR_ENABLED: u32 = 1;
    /// Commands are done when the write that asks for them returns.
    pub(super) const CTLR_QUIESCENT: u32 = 1 << 31;
    pub(super) const CBASER_VALID: u64 = 1 << 63;
    /// Valid, InnerCache, OuterCache, Physical_Address, Shareability, Size.
    pub(super) const CBASER_FIELDS: u64 = CBASER_VALID | 7 << 59 | 7 << 53 | CBASER_ADDRESS | 3 << 10 | CBASER_SIZE;
    pub(super) const CBASER_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// Number of 4 KiB pages less one.
    pub(super) const CBASER_SIZE: u64 = 0xff;
    pub(super) const CWRITER_OFFSET: u64 = 0xf_ffe0;
}

/// Bits of a DeviceID: a PCI requester ID.
pub const DEVICE_BITS: u32 = 16;
/// Bits of an EventID.
const EVENT_BITS: u32 = 16;
/// `GITS_TYPER`: Physical; translation table entries, DeviceIDs and EventIDs of these sizes; collections are in RAM;
/// processing elements are named by number (PTA = 0).
const TYPER: u64 = 1 | (tables::ENTRY - 1) << 4 | (EVENT_BITS as u64 - 1) << 8 | (DEVICE_BITS as u64 - 1) << 13;

/// What software has written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    enabled: bool,
    cbaser: u64,
    cwriter: u64,
    creadr: u64,
    /// `GITS_BASER0` (devices) and `GITS_BASER1` (collections).
    baser: [u64; 2],
}

/// What happened since the machine started.
#[derive(Default)]
struct Counters {
    messages: AtomicU64,
    /// Messages that no table entry leads anywhere for.
    untranslated: AtomicU64,
    commands: AtomicU64,
    /// Commands that make no sense.
    refused: AtomicU64,
}

/// An ITS.
pub struct Its {
    gic: Arc<Gic>,
    memory: SharedMemory,
    base: u64,
    registers: RwLock<Registers>,
    counters: Counters,
}

impl Its {
    /// An ITS at guest physical address `base` whose LPIs `gic` delivers; none if `gic` has no LPIs.
    pub fn new(gic: &Arc<Gic>, base: u64) -> Option<Arc<Its>> {
        let memory = gic.memory.clone()?;
        let its =
            Its { gic: Arc::clone(gic), memory, base, registers: RwLock::default(), counters: Counters::default() };
        Some(Arc::new(its))
    }

    /// The address that devices write EventIDs to.
    pub fn doorbell(&self) -> u64 {
        self.base + reg::TRANSLATER
    }

    /// Device `device` signals `event`.
    pub fn signal(&self, device: u32, event: u32) {
        self.counters.messages.fetch_add(1, Ordering::Relaxed);
        let registers = self.registers.read().unwrap_or_else(PoisonError::into_inner);
        let target = self.translate(&registers, device, event).filter(|_| registers.enabled);
        match target {
            Some((vcpu, intid)) => {
                self.gic.probe.raised(intid);
                self.gic.change_lpis(vcpu, |lpis, memory| lpis.set(intid, memory));
            }
            None => drop(self.counters.untranslated.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn read_register(&self, offset: u64, size: u8) -> u64 {
        let r = self.registers.read().unwrap_or_else(PoisonError::into_inner);
        if !offset.is_multiple_of(size.into()) {
            return 0;
        }
        let wide = |register: u64| spec::read_part(register, offset, size);
        match (offset & !7, offset, size) {
            (_, reg::CTLR, 4) => u64::from(reg::CTLR_QUIESCENT) | u64::from(r.enabled),
            (_, reg::IIDR, 4) => spec::IIDR.into(),
            (reg::TYPER, _, 4 | 8) => wide(TYPER),
            (reg::CBASER, _, 4 | 8) => wide(r.cbaser),
            (reg::CWRITER, _, 4 | 8) => wide(r.cwriter),
            (reg::CREADR, _, 4 | 8) => wide(r.creadr),
            (register @ reg::BASER..reg::BASER_END, _, 4 | 8) => r
                .baser
                .get(((register - reg::BASER) / 8) as usize)
                .map_or(0, |_| wide(tables::read_baser(&r, register))),
            (_, spec::ID_BASE..0x1_0000, 4) => spec::id_register(offset).unwrap_or(0).into(),
            _ => 0,
        }
    }

    fn write_register(&self, offset: u64, size: u8, value: u64) {
        let mut guard = self.registers.write().unwrap_or_else(PoisonError::into_inner);
        let r = &mut *guard;
        if !offset.is_multiple_of(size.into()) {
            return;
        }
        let part = |register: u64| spec::write_part(register, offset, size, value);
        match (offset & !7, offset, size) {
            (_, reg::CTLR, 4) => {
                r.enabled = value as u32 & reg::CTLR_ENABLED != 0;
                self.run_commands(r);
            }
            // Where tables and queue are is fixed while the ITS is enabled.
            (reg::CBASER, _, 4 | 8) if !r.enabled => {
                r.cbaser = part(r.cbaser) & reg::CBASER_FIELDS;
                (r.cwriter, r.creadr) = (0, 0);
            }
            (reg::CWRITER, _, 4 | 8) => {
                let cwriter = part(r.cwriter) & reg::CWRITER_OFFSET;
                if cwriter < commands::queue_length(r) {
                    r.cwriter = cwriter;
                    self.run_commands(r);
                }
            }
            (register @ reg::BASER..reg::BASER_END, _, 4 | 8) if !r.enabled => {
                if let Some(baser) = r.baser.get_mut(((register - reg::BASER) / 8) as usize) {
                    *baser = part(*baser) & tables::BASER_FIELDS;
                }
            }
            _ => {}
        }
    }
}

impl MsiSink for Its {
    fn send(&self, device: u32, address: u64, data: u32) {
        if address == self.doorbell() {
            self.signal(device, data);
        } else if address.is_multiple_of(4) {
            // A message is a write like any other: software that points it at RAM gets it there, elsewhere it is lost.
            let _ = self.memory.write_obj(data.to_le(), GuestAddress(address));
        }
    }
}

impl MmioDevice for Its {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        Ok(self.read_register(offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        // Processing elements have no DeviceID: what they write to the translation register goes nowhere.
        if offset < reg::TRANSLATER {
            self.write_register(offset, size, value);
        }
        Ok(())
    }

    fn reset(&self) {
        *self.registers.write().unwrap_or_else(PoisonError::into_inner) = Registers::default();
    }

    fn counters(&self) -> Value {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let c = &self.counters;
        serde_json::json!({
            "messages": count(&c.messages),
            "untranslated": count(&c.untranslated),
            "commands": count(&c.commands),
            "refused": count(&c.refused),
        })
    }

    fn save(&self) -> Value {
        // The tables are in guest RAM.
        state::pack(VERSION, &*self.registers.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Registers = state::unpack(NAME, VERSION, value)?;
        let mut loaded = Registers {
            enabled: saved.enabled,
            cbaser: saved.cbaser & reg::CBASER_FIELDS,
            cwriter: 0,
            creadr: 0,
            baser: saved.baser.map(|baser| baser & tables::BASER_FIELDS),
        };
        let length = commands::queue_length(&loaded);
        let offset = |offset: u64| Some(offset & reg::CWRITER_OFFSET).filter(|&o| o < length).unwrap_or(0);
        (loaded.cwriter, loaded.creadr) = (offset(saved.cwriter), offset(saved.creadr));
        *self.registers.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }
}
