//! The tables of the ITS in guest RAM. Software cannot know how entries look; here each is one 64-bit word, laid out as
//! Linux' KVM lays out its own (Documentation/virt/kvm/devices/arm-vgic-its.rst, revision 0), so that a machine can move
//! there and back (`linked`):
//!
//! | entry | fields |
//! |---|---|
//! | device | valid, (next), address of the interrupt translation table, size (EventID bits less one) |
//! | interrupt translation | (next), INTID, ICID; valid if there is an INTID |
//! | collection | valid, number of the processing element, ICID |
//!
//! A guest may write whatever it likes there: what is read is checked as if it came from the guest, which it does.

use vm_memory::{Bytes, GuestAddress};

use super::super::lpi::{FIRST_LPI, LPI_BITS};
use super::{DEVICE_BITS, EVENT_BITS, Its, Registers, reg};
use crate::memory::GuestMemory;

/// Bytes in each entry.
pub(super) const ENTRY: u64 = 8;

const BASER_VALID: u64 = 1 << 63;
const BASER_INDIRECT: u64 = 1 << 62;
/// Valid, Indirect, InnerCache, OuterCache, Physical_Address, Shareability, Page_Size, Size. Type and Entry_Size are fixed.
pub(super) const BASER_FIELDS: u64 =
    BASER_VALID | BASER_INDIRECT | 7 << 59 | 7 << 53 | 0x0000_ffff_ffff_f000 | 3 << 10 | 3 << 8 | 0xff;
/// `GITS_BASER.Type`: devices, collections.
const TYPES: [u64; 2] = [1, 4];

pub(super) const VALID: u64 = 1 << 63;
/// Address of an interrupt translation table: aligned to 256 bytes.
const ITT_ADDRESS: u64 = 0x000f_ffff_ffff_ff00;
/// Bits 51:8 of that address are bits 48:5 of a device's entry.
const ITT_SHIFT: u32 = 3;
const ITT_SIZE: u64 = 0x1f;
/// Where the numbers of LPIs and processing elements are.
const TARGET_SHIFT: u32 = 16;

/// A device that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Address of its interrupt translation table.
    pub(super) itt: u64,
    /// Its EventIDs are below this.
    pub(super) events: u64,
}

impl Device {
    /// From its entry.
    pub(super) fn of(word: u64) -> Option<Device> {
        let bits = ((word & ITT_SIZE) + 1).min(EVENT_BITS.into());
        (word & VALID != 0).then_some(Device { itt: word << ITT_SHIFT & ITT_ADDRESS, events: 1 << bits })
    }
}

/// The LPI and the collection in an interrupt translation entry.
pub(super) fn event_of(word: u64) -> Option<(u32, u16)> {
    let intid = (word >> TARGET_SHIFT) as u32;
    is_lpi(intid).then_some((intid, word as u16))
}

/// `GITS_BASER<n>` with the fields that are fixed.
pub(super) fn read_baser(registers: &Registers, register: u64) -> u64 {
    let index = ((register - reg::BASER) / 8) as usize;
    match (registers.baser.get(index), TYPES.get(index)) {
        (Some(baser), Some(kind)) => baser | kind << 56 | (ENTRY - 1) << 48,
        _ => 0,
    }
}

fn page_size(baser: u64) -> u64 {
    match baser >> 8 & 3 {
        0 => 4 << 10,
        1 => 16 << 10,
        _ => 64 << 10,
    }
}

/// Address of a table in a `GITS_BASER`: with 64 KiB pages, bits 15:12 are bits 51:48.
fn table_address(baser: u64) -> u64 {
    match page_size(baser) {
        0x1_0000 => baser & 0x0000_ffff_ffff_0000 | (baser >> 12 & 0xf) << 48,
        _ => baser & 0x0000_ffff_ffff_f000,
    }
}

pub(super) fn load_word(memory: &GuestMemory, address: u64) -> Option<u64> {
    memory.read_obj(GuestAddress(address)).ok().map(u64::from_le)
}

/// False if the place is not in RAM.
pub(super) fn store_word(memory: &GuestMemory, address: u64, word: u64) -> bool {
    memory.write_obj(word.to_le(), GuestAddress(address)).is_ok()
}

/// How many entries a table has room for; of a table of two levels, in the first one.
pub(super) fn room(baser: u64) -> u64 {
    if baser & BASER_VALID == 0 { 0 } else { page_size(baser) * ((baser & 0xff) + 1) / ENTRY }
}

/// Where entry `index` of a table is, if the table reaches that far.
pub(super) fn entry_address(memory: &GuestMemory, baser: u64, index: u64) -> Option<u64> {
    let page = page_size(baser);
    if baser & BASER_INDIRECT == 0 {
        return table_address(baser).checked_add(index.checked_mul(ENTRY)?).filter(|_| index < room(baser));
    }
    let at = index.checked_mul(ENTRY)?;
    let first = at / page;
    let word = load_word(memory, table_address(baser).checked_add(first * ENTRY).filter(|_| first < room(baser))?)?;
    (word & VALID != 0).then_some((word & 0x000f_ffff_ffff_f000 & !(page - 1)) + at % page)
}

impl Its {
    fn load_word(&self, address: u64) -> Option<u64> {
        load_word(&self.memory, address)
    }

    fn store_word(&self, address: u64, word: u64) -> bool {
        store_word(&self.memory, address, word)
    }

    fn entry_address(&self, baser: u64, index: u64) -> Option<u64> {
        entry_address(&self.memory, baser, index)
    }

    fn device_address(&self, r: &Registers, device: u32) -> Option<u64> {
        let [devices, _] = r.baser;
        self.entry_address(devices, u64::from(device)).filter(|_| device >> DEVICE_BITS == 0)
    }

    pub(super) fn device(&self, r: &Registers, device: u32) -> Option<Device> {
        Device::of(self.load_word(self.device_address(r, device)?)?)
    }

    /// `MAPD`. False if that is impossible.
    pub(super) fn map_device(&self, r: &Registers, device: u32, itt: Option<(u64, u64)>) -> bool {
        let word = match itt {
            None => 0,
            Some((_, size)) if size >= EVENT_BITS.into() => return false,
            Some((address, size)) => VALID | (address & ITT_ADDRESS) >> ITT_SHIFT | size,
        };
        self.device_address(r, device).is_some_and(|address| self.store_word(address, word))
    }

    fn event_address(&self, r: &Registers, device: u32, event: u32) -> Option<u64> {
        let device = self.device(r, device)?;
        let event = u64::from(event);
        device.itt.checked_add(event * ENTRY).filter(|_| event < device.events)
    }

    /// The LPI and the collection of an event.
    pub(super) fn event(&self, r: &Registers, device: u32, event: u32) -> Option<(u32, u16)> {
        event_of(self.load_word(self.event_address(r, device, event)?)?)
    }

    /// `MAPTI`, `MAPI`, `MOVI`, `DISCARD`. False if that is impossible.
    pub(super) fn map_event(&self, r: &Registers, device: u32, event: u32, to: Option<(u32, u16)>) -> bool {
        let word = match to {
            None => 0,
            Some((intid, _)) if !is_lpi(intid) => return false,
            Some((intid, collection)) => u64::from(intid) << TARGET_SHIFT | u64::from(collection),
        };
        self.event_address(r, device, event).is_some_and(|address| self.store_word(address, word))
    }

    fn collection_address(&self, r: &Registers, collection: u16) -> Option<u64> {
        let [_, collections] = r.baser;
        self.entry_address(collections, collection.into())
    }

    /// The processing element of a collection.
    pub(super) fn collection(&self, r: &Registers, collection: u16) -> Option<usize> {
        let word = self.load_word(self.collection_address(r, collection)?)?;
        let vcpu = (word >> TARGET_SHIFT) as u32 as usize;
        (word & VALID != 0 && vcpu < self.gic.vcpus()).then_some(vcpu)
    }

    /// `MAPC`. False if that is impossible.
    pub(super) fn map_collection(&self, r: &Registers, collection: u16, to: Option<usize>) -> bool {
        let word = match to {
            None => 0,
            Some(vcpu) if vcpu >= self.gic.vcpus() => return false,
            Some(vcpu) => VALID | (vcpu as u64) << TARGET_SHIFT | u64::from(collection),
        };
        self.collection_address(r, collection).is_some_and(|address| self.store_word(address, word))
    }

    /// The processing element and the LPI of an event.
    pub(super) fn translate(&self, r: &Registers, device: u32, event: u32) -> Option<(usize, u32)> {
        let (intid, collection) = self.event(r, device, event)?;
        Some((self.collection(r, collection)?, intid))
    }
}

fn is_lpi(intid: u32) -> bool {
    (FIRST_LPI..1 << LPI_BITS).contains(&intid)
}
