//! Locality-specific peripheral interrupts of one processing element: which are pending, and the best of them.
//!
//! An LPI has no wire and no active state: a message makes it pending, acknowledging takes that away. Its priority and
//! enable are a byte in guest RAM (`GICR_PROPBASER`), which may be cached until an `INV`. Here it is read when the LPI
//! becomes pending and at `INV` and `INVALL`, so that an LPI costs one byte and one bit however many there are.

use serde::{Deserialize, Serialize};
use vm_memory::{Bytes, GuestAddress};

use super::bank::{NO_OFFER, Offer};
use super::spec;
use crate::memory::GuestMemory;

/// INTID of the first LPI.
pub const FIRST_LPI: u32 = 8192;
/// Bits of an INTID: LPIs go up to `2^LPI_BITS - 1`. As many as KVM has: a guest that moves may use them all.
pub const LPI_BITS: u32 = 16;
/// How many LPIs there are.
pub const LPI_COUNT: usize = (1 << LPI_BITS) - FIRST_LPI as usize;
const WORDS: usize = LPI_COUNT / 64;
/// Offset of the bit of the first LPI in a pending table, in bytes.
const PENDING_OFFSET: u64 = FIRST_LPI as u64 / 8;

/// Bit of a configuration byte: the LPI is enabled.
const CONFIG_ENABLE: u8 = 1;
const PRIORITY_MASK: u8 = 0xff << (8 - super::PRIORITY_BITS);

/// The LPIs of one processing element. `GICR_PROPBASER` and `GICR_PENDBASER` stand here too.
pub(super) struct Lpis {
    /// `GICR_CTLR.EnableLPIs`.
    enabled: bool,
    pub(super) propbaser: u64,
    pub(super) pendbaser: u64,
    pending: [u64; WORDS],
    /// Bit n: word n of `pending` is not zero.
    summary: [u64; WORDS / 64],
    /// The configuration of each LPI, as of when it was last looked at. Means something for the pending ones only.
    config: Vec<u8>,
    best: Offer,
}

/// What is saved of the LPIs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedLpis {
    enabled: bool,
    /// INTID and configuration byte of each that is pending.
    pending: Vec<(u32, u8)>,
}

/// Index of an LPI; none for other INTIDs.
fn index_of(intid: u32) -> Option<usize> {
    intid.checked_sub(FIRST_LPI).map(|i| i as usize).filter(|&i| i < LPI_COUNT)
}

impl Lpis {
    pub(super) fn new() -> Lpis {
        Lpis {
            enabled: false,
            propbaser: 0,
            pendbaser: 0,
            pending: [0; WORDS],
            summary: [0; WORDS / 64],
            config: vec![0; LPI_COUNT],
            best: NO_OFFER,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Lpis::new();
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    /// The best LPI that may be taken.
    pub(super) fn best(&self) -> Offer {
        self.best
    }

    /// `GICR_CTLR.EnableLPIs` is written. The pending table in RAM is taken over, or brought up to date.
    pub(super) fn enable(&mut self, enable: bool, memory: &GuestMemory) {
        if self.enabled == enable {
            return;
        }
        self.enabled = enable;
        let table = (self.pendbaser & spec::PENDBASER_ADDRESS).checked_add(PENDING_OFFSET).map(GuestAddress);
        let mut bytes = [0; WORDS * 8];
        // The table is as long as software says that INTIDs are: what is behind it is not ours.
        let len = self.configured() / 8;
        if enable {
            // A table that is not in RAM holds nothing; PTZ says that it is all zeros.
            let there = self.pendbaser & spec::PENDBASER_PTZ == 0
                && table.is_some_and(|table| memory.read_slice(&mut bytes[..len], table).is_ok());
            if !there {
                bytes.fill(0);
            }
            for (word, bytes) in self.pending.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            self.reload_all(memory);
        } else {
            for (bytes, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&self.pending) {
                *bytes = word.to_le_bytes();
            }
            if let Some(table) = table {
                // A table that is not in RAM keeps nothing.
                let _ = memory.write_slice(&bytes[..len], table);
            }
            self.pending.fill(0);
            self.count();
        }
    }

    /// A message makes `intid` pending.
    pub(super) fn set(&mut self, intid: u32, memory: &GuestMemory) {
        let Some(index) = index_of(intid).filter(|_| self.enabled) else { return };
        self.mark(index, true);
        self.load_config(index, memory);
        self.improve(index);
    }

    /// `intid` is no longer pending. True if it was.
    pub(super) fn clear(&mut self, intid: u32) -> bool {
        let Some(index) = index_of(intid).filter(|&i| self.is_pending(i)) else { return false };
        self.mark(index, false);
        self.find_best();
        true
    }

    /// Takes `intid` if it may be taken.
    pub(super) fn acknowledge(&mut self, intid: u32) -> bool {
        index_of(intid).is_some_and(|i| self.is_pending(i) && self.offer(i) != NO_OFFER) && self.clear(intid)
    }

    /// The configuration of `intid` has changed.
    pub(super) fn reload(&mut self, intid: u32, memory: &GuestMemory) {
        if let Some(index) = index_of(intid).filter(|&i| self.is_pending(i)) {
            self.load_config(index, memory);
            self.find_best();
        }
    }

    /// The configuration of any LPI may have changed.
    pub(super) fn reload_all(&mut self, memory: &GuestMemory) {
        let len = self.configured();
        let table = GuestAddress(self.propbaser & spec::PROPBASER_ADDRESS);
        let (there, beyond) = self.config.split_at_mut(len);
        beyond.fill(0);
        if memory.read_slice(there, table).is_err() {
            there.fill(0);
        }
        self.count();
    }

    /// Takes away all that is pending, as bits.
    pub(super) fn drain(&mut self, out: &mut [u64; WORDS]) {
        *out = std::mem::replace(&mut self.pending, [0; WORDS]);
        self.count();
    }

    /// Makes pending what [`drain`](Self::drain) took from another.
    pub(super) fn merge(&mut self, bits: &[u64; WORDS], memory: &GuestMemory) {
        if self.enabled && bits.iter().any(|&word| word != 0) {
            self.pending.iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
            self.reload_all(memory);
        }
    }

    pub(super) fn pending_count(&self) -> u32 {
        self.pending.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn save(&self) -> SavedLpis {
        let mut pending = Vec::new();
        self.each_pending(|i| pending.push((FIRST_LPI + i as u32, self.config.get(i).copied().unwrap_or(0))));
        SavedLpis { enabled: self.enabled, pending }
    }

    /// Takes over what was saved, bound to what can be.
    pub(super) fn restore(&mut self, saved: &SavedLpis) {
        self.enabled = saved.enabled;
        self.pending.fill(0);
        for &(intid, config) in saved.pending.iter().filter(|_| saved.enabled) {
            if let Some(index) = index_of(intid) {
                self.mark(index, true);
                if let Some(byte) = self.config.get_mut(index) {
                    *byte = config;
                }
            }
        }
        self.count();
    }

    /// How many LPIs the configuration table has entries for.
    fn configured(&self) -> usize {
        let bits = (self.propbaser & spec::PROPBASER_ID_BITS) as u32 + 1;
        (1usize << bits.min(LPI_BITS)).saturating_sub(FIRST_LPI as usize)
    }

    fn load_config(&mut self, index: usize, memory: &GuestMemory) {
        let address = (self.propbaser & spec::PROPBASER_ADDRESS).checked_add(index as u64);
        let byte = match address {
            Some(address) if index < self.configured() => memory.read_obj::<u8>(GuestAddress(address)).unwrap_or(0),
            _ => 0,
        };
        if let Some(config) = self.config.get_mut(index) {
            *config = byte;
        }
    }

    fn is_pending(&self, index: usize) -> bool {
        self.pending.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    fn mark(&mut self, index: usize, pending: bool) {
        let place = index / 64;
        let (Some(word), Some(summary)) = (self.pending.get_mut(place), self.summary.get_mut(place / 64)) else {
            return;
        };
        *word = if pending { *word | 1 << (index % 64) } else { *word & !(1 << (index % 64)) };
        let bit = 1 << (place % 64);
        *summary = if *word != 0 { *summary | bit } else { *summary & !bit };
    }

    /// Works out everything that follows from `pending` and `config`.
    fn count(&mut self) {
        self.summary.fill(0);
        for (place, word) in self.pending.iter().enumerate() {
            if let Some(summary) = self.summary.get_mut(place / 64) {
                *summary |= u64::from(*word != 0) << (place % 64);
            }
        }
        self.find_best();
    }

    fn offer(&self, index: usize) -> Offer {
        match self.config.get(index) {
            Some(&config) if config & CONFIG_ENABLE != 0 => {
                Offer::new(config & PRIORITY_MASK, FIRST_LPI + index as u32)
            }
            _ => NO_OFFER,
        }
    }

    /// LPI `index` is pending now.
    fn improve(&mut self, index: usize) {
        self.best = self.best.min(self.offer(index));
    }

    fn find_best(&mut self) {
        let mut best = NO_OFFER;
        self.each_pending(|index| best = best.min(self.offer(index)));
        self.best = best;
    }

    fn each_pending(&self, mut each: impl FnMut(usize)) {
        for (i, &summary) in self.summary.iter().enumerate() {
            for place in bits(summary).map(|bit| i * 64 + bit) {
                let word = self.pending.get(place).copied().unwrap_or(0);
                bits(word).for_each(|bit| each(place * 64 + bit));
            }
        }
    }
}

/// The numbers of the bits that are set.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}
