//! A power loss at any moment of a disk's life, out of the log that `--inject blkN:log@FILE` keeps.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use devices::disk::write_log::{Event, read};

/// Bytes that a disk says it writes in one go (its physical block): a write may end between two of them.
const BLOCK: usize = 4096;

/// A disk's life.
#[derive(Debug)]
pub struct Life {
    size: usize,
    events: Vec<Event>,
}

/// What survives of the writes after the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losing {
    /// Any of them, whole or in part: what a disk may do.
    Unflushed,
    /// Any of all writes, as if flushes were nothing: what it must not do.
    Anything,
}

impl Life {
    /// Reads the log of a disk of `size` bytes that were zeros.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn read(log: &Path, size: usize) -> Life {
        let mut log = BufReader::new(File::open(log).unwrap_or_else(|error| panic!("{}: {error}", log.display())));
        let events = std::iter::from_fn(|| read(&mut log).unwrap_or_else(|error| panic!("the log: {error}"))).collect();
        Life { size, events }
    }

    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many flushes there are.
    #[must_use]
    pub fn flushes(&self) -> usize {
        self.events.iter().filter(|event| **event == Event::Flush).count()
    }

    /// The disk's contents when power is lost after `moment` events, of which those up to `safe` are on the disk in any
    /// case; `seed` decides what else survives.
    #[must_use]
    pub fn lost_at(&self, moment: usize, safe: usize, losing: Losing, seed: u64) -> Vec<u8> {
        let past = &self.events[..moment];
        let flushed = past.iter().rposition(|event| *event == Event::Flush).unwrap_or(0);
        let safe = if losing == Losing::Unflushed { flushed.max(safe) } else { safe };
        let mut disk = vec![0; self.size];
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for (number, event) in past.iter().enumerate() {
            let mut part = 4;
            if number >= safe {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                part = (state >> 40) % 5;
            }
            // Of five, two survive as a whole, two not at all, one in part.
            apply(&mut disk, event, if part >= 3 { None } else { Some(part as usize) });
        }
        disk
    }
}

/// Does it again: as a whole, or with so many halves of it.
fn apply(disk: &mut [u8], event: &Event, halves: Option<usize>) {
    let kept = |len: usize| match halves {
        None => len,
        Some(2) => len / 2 / BLOCK * BLOCK,
        Some(_) => 0,
    };
    match event {
        Event::Write(offset, data) => {
            let (at, len) = (*offset as usize, kept(data.len()));
            disk[at..at + len].copy_from_slice(&data[..len]);
        }
        Event::Zeroes(offset, len) | Event::Discard(offset, len) => {
            let (at, len) = (*offset as usize, kept(*len as usize));
            disk[at..at + len].fill(0);
        }
        Event::Flush => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_is_there_and_the_rest_may_be() {
        let write = |at: u64, byte: u8| Event::Write(at, vec![byte; 2 * BLOCK]);
        let second = 2 * BLOCK;
        let events = vec![write(0, 1), Event::Flush, write(second as u64, 2), write(0, 3)];
        let life = Life { size: 2 * second, events };
        assert!(life.lost_at(0, 0, Losing::Unflushed, 1).iter().all(|&byte| byte == 0));
        assert!(life.lost_at(2, 0, Losing::Unflushed, 1)[..second].iter().all(|&byte| byte == 1));
        assert!((0..50).any(|seed| life.lost_at(2, 0, Losing::Anything, seed)[0] == 0));
        let ends: Vec<Vec<u8>> = (0..200).map(|seed| life.lost_at(4, 0, Losing::Unflushed, seed)).collect();
        assert!(ends.iter().all(|disk| [1, 3].contains(&disk[0]) && [0, 2].contains(&disk[second])));
        for (first, then) in [(1, 0), (1, 2), (3, 0), (3, 2)] {
            assert!(ends.iter().any(|disk| (disk[0], disk[second]) == (first, then)), "{first} {then}");
        }
        assert!(ends.iter().any(|disk| disk[0] == 3 && disk[BLOCK] == 1), "a write in part");
    }
}
