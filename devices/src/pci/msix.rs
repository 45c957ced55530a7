//! MSI-X: a table of messages, one for each vector, which software masks one by one or all together. What a mask holds
//! back is pending until it is lifted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::MsiSink;
use super::spec::{self, MSIX_ENTRY};
use crate::lock;

/// `Vector Control`: masked.
const MASKED: u32 = 1;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    address: u64,
    data: u32,
    control: u32,
}

/// Table, pending bits and what masks all vectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    entries: Vec<Entry>,
    pending: Vec<u64>,
    enabled: bool,
    masked: bool,
    /// The function may write by itself (`Command.Bus Master`).
    master: bool,
}

/// The MSI-X of one function.
pub struct Msix {
    table: Mutex<Table>,
    /// Copy of `Table::enabled`.
    enabled: AtomicBool,
    sink: Arc<dyn MsiSink>,
    /// Requester ID of the function.
    device: u32,
    sent: AtomicU64,
}

impl Msix {
    /// `vectors` (1 to 2048) vectors of the function with requester ID `device`.
    pub fn new(vectors: u16, device: u32, sink: Arc<dyn MsiSink>) -> Msix {
        Msix {
            table: Mutex::new(Table::new(vectors)),
            enabled: AtomicBool::new(false),
            sink,
            device,
            sent: AtomicU64::new(0),
        }
    }

    /// Message Control as the capability begins with.
    pub fn control(vectors: u16) -> u16 {
        vectors.saturating_sub(1) & 0x7ff
    }

    /// How many vectors there are.
    pub fn vectors(&self) -> u16 {
        lock(&self.table).entries.len() as u16 // 2048 at most
    }

    /// Whether MSI-X is used instead of INTx.
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::SeqCst)
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The function signals `vector`; ignored if there is no such vector or MSI-X is not enabled.
    pub fn signal(&self, vector: u16) {
        let mut table = lock(&self.table);
        if !table.enabled {
            return;
        }
        let Some(entry) = table.entries.get(usize::from(vector)).copied() else { return };
        if table.held() || entry.control & MASKED != 0 {
            table.set_pending(vector.into(), true);
        } else {
            self.send(entry);
        }
    }

    fn send(&self, entry: Entry) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.sink.send(self.device, entry.address, entry.data);
    }

    /// Message Control or Command was written.
    pub fn set_control(&self, control: u16, master: bool) {
        let mut table = lock(&self.table);
        table.enabled = control & spec::MSIX_ENABLE != 0;
        table.masked = control & spec::MSIX_FUNCTION_MASK != 0;
        table.master = master;
        self.enabled.store(table.enabled, Ordering::SeqCst);
        self.flush(&mut table);
    }

    /// Sends what is pending and no longer held back.
    fn flush(&self, table: &mut Table) {
        if !table.enabled || table.held() {
            return;
        }
        for vector in 0..table.entries.len() {
            self.flush_one(table, vector);
        }
    }

    fn flush_one(&self, table: &mut Table, vector: usize) {
        if let Some(entry) = table.entries.get(vector).copied()
            && entry.control & MASKED == 0
            && table.is_pending(vector)
        {
            table.set_pending(vector, false);
            self.send(entry);
        }
    }

    /// Reads the table. Only whole and aligned words and pairs of words can be accessed.
    pub fn read_table(&self, offset: u64, size: u8) -> u64 {
        let table = lock(&self.table);
        let word = |at: u64| u64::from(table.word(at));
        match size {
            4 if offset.is_multiple_of(4) => word(offset),
            8 if offset.is_multiple_of(8) => word(offset) | word(offset + 4) << 32,
            _ => 0,
        }
    }

    /// Writes the table.
    pub fn write_table(&self, offset: u64, size: u8, value: u64) {
        if !matches!(size, 4 | 8) || !offset.is_multiple_of(size.into()) {
            return;
        }
        let mut table = lock(&self.table);
        table.set_word(offset, value as u32);
        if size == 8 {
            table.set_word(offset + 4, (value >> 32) as u32);
        }
        if table.enabled && !table.held() {
            self.flush_one(&mut table, (offset / MSIX_ENTRY) as usize);
        }
    }

    /// Reads the pending bits.
    pub fn read_pending(&self, offset: u64, size: u8) -> u64 {
        let table = lock(&self.table);
        let word = table.pending.get((offset / 8) as usize).copied().unwrap_or(0);
        match size {
            4 if offset.is_multiple_of(4) => word >> (8 * (offset & 4)) & 0xffff_ffff,
            8 if offset.is_multiple_of(8) => word,
            _ => 0,
        }
    }

    /// Back to power-on.
    pub fn reset(&self) {
        let mut table = lock(&self.table);
        *table = Table::new(table.entries.len() as u16); // 2048 at most
        self.enabled.store(false, Ordering::SeqCst);
    }

    /// The state.
    pub fn save(&self) -> Table {
        lock(&self.table).clone()
    }

    /// Takes over what was saved. False, and nothing changed, if it has another number of vectors.
    pub fn load(&self, saved: &Table) -> bool {
        let mut table = lock(&self.table);
        let same = saved.entries.len() == table.entries.len() && saved.pending.len() == table.pending.len();
        if same {
            table.clone_from(saved);
            self.enabled.store(table.enabled, Ordering::SeqCst);
        }
        same
    }
}

impl Table {
    fn new(vectors: u16) -> Table {
        let vectors = usize::from(vectors);
        Table {
            entries: vec![Entry { address: 0, data: 0, control: MASKED }; vectors],
            pending: vec![0; vectors.div_ceil(64)],
            enabled: false,
            masked: false,
            master: false,
        }
    }

    /// Whether every vector is held back.
    fn held(&self) -> bool {
        self.masked || !self.master
    }

    fn word(&self, offset: u64) -> u32 {
        let entry = self.entries.get((offset / MSIX_ENTRY) as usize);
        entry.map_or(0, |entry| match offset % MSIX_ENTRY {
            0 => entry.address as u32,
            4 => (entry.address >> 32) as u32,
            8 => entry.data,
            _ => entry.control,
        })
    }

    fn set_word(&mut self, offset: u64, value: u32) {
        if let Some(entry) = self.entries.get_mut((offset / MSIX_ENTRY) as usize) {
            match offset % MSIX_ENTRY {
                0 => entry.address = entry.address & !0xffff_ffff | u64::from(value),
                4 => entry.address = entry.address & 0xffff_ffff | u64::from(value) << 32,
                8 => entry.data = value,
                _ => entry.control = value & MASKED,
            }
        }
    }

    fn is_pending(&self, vector: usize) -> bool {
        self.pending.get(vector / 64).is_some_and(|word| word >> (vector % 64) & 1 != 0)
    }

    fn set_pending(&mut self, vector: usize, pending: bool) {
        if let Some(word) = self.pending.get_mut(vector / 64) {
            *word = if pending { *word | 1 << (vector % 64) } else { *word & !(1 << (vector % 64)) };
        }
    }
}

#[cfg(test)]
mod tests;
