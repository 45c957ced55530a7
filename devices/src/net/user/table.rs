//! A bounded table of flows, found by their two ends or by a key that the host's events carry.

use std::collections::HashMap;
use std::net::SocketAddr;

/// The two ends of a flow, as the guest sees them; for ICMP the ports are the identifier and zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) guest: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) protocol: u8,
}

/// Names an entry, or nothing once the entry is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) kind: Kind,
    generation: u32,
    index: u32,
}

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Tcp,
    Datagram,
    Forward,
}

const GENERATIONS: u32 = 0x00ff_ffff;

impl Key {
    pub(super) fn forward(index: usize) -> Key {
        Key { kind: Kind::Forward, generation: 0, index: index as u32 }
    }

    pub(super) fn index(self) -> usize {
        self.index as usize
    }

    pub(super) fn to_bits(self) -> u64 {
        let kind = match self.kind {
            Kind::Tcp => 1u64,
            Kind::Datagram => 2,
            Kind::Forward => 3,
        };
        kind << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_bits(bits: u64) -> Option<Key> {
        let kind = match bits >> 56 {
            1 => Kind::Tcp,
            2 => Kind::Datagram,
            3 => Kind::Forward,
            _ => return None,
        };
        Some(Key { kind, generation: (bits >> 32) as u32 & GENERATIONS, index: bits as u32 })
    }
}

struct Slot<T> {
    generation: u32,
    entry: Option<(Ends, T)>,
}

/// The table.
pub(super) struct Table<T> {
    kind: Kind,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    by_ends: HashMap<Ends, u32>,
    most: usize,
}

impl<T> Table<T> {
    /// Of at most `most` entries.
    pub(super) fn new(kind: Kind, most: usize) -> Table<T> {
        Table { kind, slots: Vec::new(), free: Vec::new(), by_ends: HashMap::new(), most }
    }

    pub(super) fn len(&self) -> usize {
        self.by_ends.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.by_ends.len() >= self.most
    }

    pub(super) fn find(&self, ends: &Ends) -> Option<Key> {
        let index = *self.by_ends.get(ends)?;
        let generation = self.slots.get(index as usize)?.generation;
        Some(Key { kind: self.kind, generation, index })
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<(&Ends, &mut T)> {
        let slot = self.slots.get_mut(key.index())?;
        let (ends, entry) = slot.entry.as_mut().filter(|_| slot.generation == key.generation)?;
        Some((ends, entry))
    }

    /// Adds an entry that `make` makes with its key; `None` if the table is full, has it already, or `make` fails.
    pub(super) fn insert(&mut self, ends: Ends, make: impl FnOnce(Key) -> Option<T>) -> Option<Key> {
        if self.is_full() || self.by_ends.contains_key(&ends) {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, entry: None });
                self.slots.len() as u32 - 1
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        let key = Key { kind: self.kind, generation: slot.generation, index };
        match make(key) {
            Some(entry) => {
                slot.entry = Some((ends, entry));
                self.by_ends.insert(ends, index);
                Some(key)
            }
            None => {
                self.free.push(index);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index()).filter(|slot| slot.generation == key.generation)?;
        let (ends, entry) = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1) & GENERATIONS;
        self.by_ends.remove(&ends);
        self.free.push(key.index);
        Some(entry)
    }

    /// All entries with their keys.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        let kind = self.kind;
        self.slots.iter_mut().enumerate().filter_map(move |(index, slot)| {
            let key = Key { kind, generation: slot.generation, index: index as u32 };
            slot.entry.as_mut().map(|(_, entry)| (key, entry))
        })
    }

    pub(super) fn clear(&mut self) {
        *self = Table::new(self.kind, self.most);
    }
}
