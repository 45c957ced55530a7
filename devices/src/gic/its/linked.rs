//! Tables of an ITS on their way to and from a Linux kernel's (KVM): the entries are the same, but there each leads to
//! the next one, and collections are a list.
//!
//! The kernel writes only what is mapped, and leaves what is beside it: before it saves, the tables are cleared, so that
//! whatever stands in them afterwards is mapped.

use super::tables::{Device, VALID, entry_address, event_of, load_word, store_word};
use super::{DEVICE_BITS, EVENT_BITS, tables};
use crate::memory::GuestMemory;

/// Where a device's entry has the distance to the next one, and the greatest distance.
const NEXT_DEVICE: (u32, u64) = (49, 0x3fff);
/// The same in an interrupt translation entry.
const NEXT_EVENT: (u32, u64) = (48, 0xffff);
/// EventIDs that are looked at in all: a guest may claim 2^32 of them.
const MOST_EVENTS: u64 = 1 << 20;

/// The tables that `GITS_BASER0` (devices) and `GITS_BASER1` (collections) lead to. No vCPU runs.
pub struct LinkedTables<'a> {
    /// Guest RAM.
    pub memory: &'a GuestMemory,
    /// The registers.
    pub baser: [u64; 2],
}

/// An entry: its number, where it is, what it is.
struct Entry {
    id: u64,
    address: u64,
    word: u64,
}

/// `word` with the distance to the next entry, which is 0 in the last one.
fn with_next((shift, most): (u32, u64), entry: &Entry, next: Option<&Entry>) -> u64 {
    let distance = next.map_or(0, |next| next.id.saturating_sub(entry.id).min(most));
    entry.word & !(most << shift) | distance << shift
}

impl LinkedTables<'_> {
    /// What of the kernel's rules the registers break.
    ///
    /// # Errors
    /// The kernel has tables of 64 KiB pages only.
    pub fn check(&self) -> Result<(), String> {
        let small = |baser: &&u64| **baser & VALID != 0 && **baser >> 8 & 3 < 2;
        match self.baser.iter().find(small) {
            None => Ok(()),
            Some(baser) => Err(format!("GITS_BASER = {baser:#x}: KVM has tables of 64 KiB pages only")),
        }
    }

    fn at(&self, table: usize, id: u64) -> Option<Entry> {
        let address = entry_address(self.memory, self.baser.get(table).copied().unwrap_or(0), id)?;
        Some(Entry { id, address, word: load_word(self.memory, address)? })
    }

    fn store(&self, address: u64, word: u64) {
        // It was read from there.
        let _ = store_word(self.memory, address, word);
    }

    fn devices(&self) -> Vec<(Entry, Device)> {
        let all = (0..1 << DEVICE_BITS).filter_map(|id| self.at(0, id));
        all.filter_map(|entry| Device::of(entry.word).map(|device| (entry, device))).collect()
    }

    fn events(&self, device: Device) -> Vec<Entry> {
        let all = (0..device.events.min(1 << EVENT_BITS)).filter_map(|id| {
            let address = device.itt.checked_add(id * tables::ENTRY)?;
            Some(Entry { id, address, word: load_word(self.memory, address)? })
        });
        all.filter(|entry| entry.word != 0).collect()
    }

    /// Entries of the collection table, and those of them that are valid.
    fn collections(&self) -> (u64, Vec<Entry>) {
        let [_, baser] = self.baser;
        let room = tables::room(baser).min(1 << u16::BITS);
        (room, (0..room).filter_map(|id| self.at(1, id)).filter(|entry| entry.word & VALID != 0).collect())
    }

    /// Before the kernel saves for the first time: no device is there.
    pub fn clear_devices(&self) {
        self.devices().iter().for_each(|(entry, _)| self.store(entry.address, 0));
    }

    /// Before it saves for the second time: no device has an event.
    ///
    /// # Errors
    /// There are more than can be looked at.
    pub fn clear_events(&self) -> Result<(), String> {
        for (_, device) in self.checked_devices()? {
            self.events(device).iter().for_each(|entry| self.store(entry.address, 0));
        }
        Ok(())
    }

    fn checked_devices(&self) -> Result<Vec<(Entry, Device)>, String> {
        let devices = self.devices();
        let events: u64 = devices.iter().map(|(_, device)| device.events).sum();
        if events > MOST_EVENTS {
            return Err(format!("the guest maps {events} EventIDs, at most {MOST_EVENTS} can be moved"));
        }
        Ok(devices)
    }

    /// To the kernel's form.
    ///
    /// # Errors
    /// What the kernel would not take.
    pub fn link(&self) -> Result<(), String> {
        self.check()?;
        let (room, collections) = self.collections();
        let mapped: Vec<u16> = collections.iter().map(|entry| entry.word as u16).collect();
        let devices = self.checked_devices()?;
        for (position, (entry, device)) in devices.iter().enumerate() {
            let mut events = self.events(*device);
            events.retain(|event| event_of(event.word).is_some());
            if let Some(event) = events.iter().find(|event| !mapped.contains(&(event.word as u16))) {
                let (device, collection) = (entry.id, event.word as u16);
                return Err(format!(
                    "EventID {} of device {device:#x} has collection {collection}, which has no target",
                    event.id
                ));
            }
            for (position, event) in events.iter().enumerate() {
                self.store(event.address, with_next(NEXT_EVENT, event, events.get(position + 1)));
            }
            self.store(entry.address, with_next(NEXT_DEVICE, entry, devices.get(position + 1).map(|(next, _)| next)));
        }
        self.put_collections(room, (0..).zip(collections.iter().map(|entry| entry.word)));
        Ok(())
    }

    /// From the kernel's form, after it saved into cleared tables.
    pub fn unlink(&self) {
        let [_, baser] = self.baser;
        let room = tables::room(baser).min(1 << u16::BITS);
        // The list ends at the first entry that is not valid; what is behind it is old.
        let list: Vec<u64> = (0..room)
            .map_while(|id| self.at(1, id))
            .map(|entry| entry.word)
            .take_while(|word| word & VALID != 0)
            .collect();
        self.put_collections(room, list.into_iter().map(|word| (word & 0xffff, word)));
    }

    /// The collection table with these entries at these places.
    fn put_collections(&self, room: u64, entries: impl Iterator<Item = (u64, u64)>) {
        let entries: Vec<_> = entries.collect();
        (0..room).filter_map(|id| self.at(1, id)).filter(|e| e.word != 0).for_each(|e| self.store(e.address, 0));
        for (place, word) in entries {
            if let Some(entry) = self.at(1, place).filter(|_| place < room) {
                self.store(entry.address, word);
            }
        }
    }
}
