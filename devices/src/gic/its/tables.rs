//! The tables of the ITS in guest RAM. Software cannot know how entries look; here each is one 64-bit word:
//!
//! | entry | fields |
//! |---|---|
//! | device | valid, address of the interrupt translation table, size (EventID bits less one) |
//! | interrupt translation | valid, ICID, INTID |
//! | collection | valid, number of the processing element |
//!
//! A guest may write whatever it likes there: what is read is checked as if it came from the guest, which it does.

use vm_memory::{Bytes, GuestAddress};

use super::super::lpi::{FIRST_LPI, LPI_BITS};
use super::{DEVICE_BITS, EVENT_BITS, Its, Registers, reg};

/// Bytes in each entry.
pub(super) const ENTRY: u64 = 8;

const BASER_VALID: u64 = 1 << 63;
const BASER_INDIRECT: u64 = 1 << 62;
/// Valid, Indirect, InnerCache, OuterCache, Physical_Address, Shareability, Page_Size, Size. Type and Entry_Size are fixed.
pub(super) const BASER_FIELDS: u64 =
    BASER_VALID | BASER_INDIRECT | 7 << 59 | 7 << 53 | 0x0000_ffff_ffff_f000 | 3 << 10 | 3 << 8 | 0xff;
/// `GITS_BASER.Type`: devices, collections.
const TYPES: [u64; 2] = [1, 4];

const VALID: u64 = 1 << 63;
/// Address of an interrupt translation table: aligned to 256 bytes.
const ITT_ADDRESS: u64 = 0x000f_ffff_ffff_ff00;
const ITT_SIZE: u64 = 0x1f;

/// A device that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Address of its interrupt translation table.
    itt: u64,
    /// Its EventIDs are below this.
    events: u64,
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

impl Its {
    fn load_word(&self, address: u64) -> Option<u64> {
        self.memory.read_obj(GuestAddress(address)).ok().map(u64::from_le)
    }

    /// False if the place is not in RAM.
    fn store_word(&self, address: u64, word: u64) -> bool {
        self.memory.write_obj(word.to_le(), GuestAddress(address)).is_ok()
    }

    /// Where entry `index` of a table is, if the table reaches that far.
    fn entry_address(&self, baser: u64, index: u64) -> Option<u64> {
        if baser & BASER_VALID == 0 {
            return None;
        }
        let page = page_size(baser);
        let bytes = page * ((baser & 0xff) + 1);
        let at = index.checked_mul(ENTRY)?;
        if baser & BASER_INDIRECT == 0 {
            return table_address(baser).checked_add(at).filter(|_| at < bytes);
        }
        let first = (at / page) * ENTRY;
        let word = self.load_word(table_address(baser).checked_add(first).filter(|_| first < bytes)?)?;
        (word & VALID != 0).then_some((word & 0x000f_ffff_ffff_f000 & !(page - 1)) + at % page)
    }

    fn device_address(&self, r: &Registers, device: u32) -> Option<u64> {
        let [devices, _] = r.baser;
        self.entry_address(devices, u64::from(device)).filter(|_| device >> DEVICE_BITS == 0)
    }

    pub(super) fn device(&self, r: &Registers, device: u32) -> Option<Device> {
        let word = self.load_word(self.device_address(r, device)?)?;
        let bits = (word & ITT_SIZE) + 1;
        (word & VALID != 0).then_some(Device { itt: word & ITT_ADDRESS, events: 1 << bits.min(EVENT_BITS.into()) })
    }

    /// `MAPD`. False if that is impossible.
    pub(super) fn map_device(&self, r: &Registers, device: u32, itt: Option<(u64, u64)>) -> bool {
        let word = match itt {
            None => 0,
            Some((_, size)) if size >= EVENT_BITS.into() => return false,
            Some((address, size)) => VALID | address & ITT_ADDRESS | size,
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
        let word = self.load_word(self.event_address(r, device, event)?)?;
        let intid = word as u32;
        (word & VALID != 0 && is_lpi(intid)).then_some((intid, (word >> 32) as u16))
    }

    /// `MAPTI`, `MAPI`, `MOVI`, `DISCARD`. False if that is impossible.
    pub(super) fn map_event(&self, r: &Registers, device: u32, event: u32, to: Option<(u32, u16)>) -> bool {
        let word = match to {
            None => 0,
            Some((intid, _)) if !is_lpi(intid) => return false,
            Some((intid, collection)) => VALID | u64::from(collection) << 32 | u64::from(intid),
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
        let vcpu = word as u32 as usize;
        (word & VALID != 0 && vcpu < self.gic.vcpus()).then_some(vcpu)
    }

    /// `MAPC`. False if that is impossible.
    pub(super) fn map_collection(&self, r: &Registers, collection: u16, to: Option<usize>) -> bool {
        let word = match to {
            None => 0,
            Some(vcpu) if vcpu >= self.gic.vcpus() => return false,
            Some(vcpu) => VALID | vcpu as u64,
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
