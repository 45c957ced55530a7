//! Which pages of guest RAM were written since a moment: what a copy of RAM that is made while the guest runs lacks.
//!
//! There are two writers: the guest, whose writes the engine logs ([`DirtyLog`]), and this program, whose devices write by
//! [`GuestRam::memory`](super::ram::GuestRam::memory) ([`devices::memory::WriteLog`]). [`Tracking`] has both.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use devices::memory::LOG_PAGE;

use super::ram::GuestRam;
use crate::exit::Failure;

/// The guest's own writes to RAM, as the engine logs them.
pub trait DirtyLog: Send + Sync {
    /// From now on writes are logged; what was logged before is forgotten.
    ///
    /// # Errors
    /// The host does not log.
    fn start(&self) -> Result<(), Failure>;
    /// The pages written since the start or the last call. While vCPUs run, a page that is written meanwhile may be told
    /// now or by the next call.
    ///
    /// # Errors
    /// The host does not tell.
    fn take(&self) -> Result<Pages, Failure>;
    /// Nothing is logged any more.
    fn stop(&self);
}

/// A set of pages of guest RAM, a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Bytes of one.
    pub size: u64,
    /// Bit n of word w is page 64 w + n.
    pub words: Vec<u64>,
}

impl Pages {
    /// Offsets of the pages from the beginning of RAM, with the size of each.
    fn offsets(&self) -> impl Iterator<Item = Range<u64>> {
        let bits = self.words.iter().zip(0u64..).filter(|(word, _)| **word != 0);
        bits.flat_map(|(word, index)| (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| 64 * index + bit))
            .map(|page| page * self.size..(page + 1) * self.size)
    }
}

/// Both writers' logs, from its making to its drop.
pub struct Tracking {
    guest: Arc<dyn DirtyLog>,
    ram: GuestRam,
}

impl Tracking {
    /// Starts both logs.
    ///
    /// # Errors
    /// The host does not log.
    pub fn start(guest: Arc<dyn DirtyLog>, ram: &GuestRam) -> Result<Tracking, Failure> {
        ram.writes().start();
        // From here on the drop stops both.
        let tracking = Tracking { guest, ram: ram.clone() };
        tracking.guest.start()?;
        Ok(tracking)
    }

    /// Guest physical addresses of what was written since the start or the last call: ranges of whole pages, in order,
    /// neighbours joined.
    ///
    /// # Errors
    /// The host does not tell.
    pub fn take(&self) -> Result<Vec<Range<u64>>, Failure> {
        let own = Pages { size: LOG_PAGE as u64, words: self.ram.writes().take() };
        let theirs = self.guest.take()?;
        Ok(joined(self.ram.range(), &[own, theirs]))
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        self.guest.stop();
        self.ram.writes().stop();
    }
}

/// What any of the sets has, within `ram`.
fn joined(ram: Range<u64>, sets: &[Pages]) -> Vec<Range<u64>> {
    let small = LOG_PAGE as u64;
    let pages: BTreeSet<u64> = sets.iter().flat_map(Pages::offsets).flat_map(|range| range.step_by(LOG_PAGE)).collect();
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for page in pages {
        let address = ram.start + page;
        if address >= ram.end {
            break;
        }
        match ranges.last_mut() {
            Some(last) if last.end == address => last.end = address + small,
            _ => ranges.push(address..address + small),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_pages_of_different_sizes_are_joined() {
        let small = Pages { size: 4096, words: vec![0b1011, 0, 1 << 63] };
        let large = Pages { size: 16384, words: vec![0b10] };
        let ram = 0x4000_0000..0x4000_0000 + 192 * 4096;
        let found = joined(ram.clone(), &[small, large]);
        let page = |n: u64| 0x4000_0000 + n * 4096;
        assert_eq!(found, [page(0)..page(2), page(3)..page(8), page(191)..page(192)]);
        assert_eq!(joined(ram.start..ram.start + 4096, &[Pages { size: 4096, words: vec![0b110] }]), []);
    }
}
