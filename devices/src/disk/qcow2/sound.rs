//! Whether the tables of a qcow2 lead where they may. The crate that reads images believes them: offsets far beyond the end
//! of the file would have it build reference counts for all that lies between.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::{be32, be64, invalid};

/// Longest tables, as QEMU has it: 32 MiB of L1, 8 MiB of reference count table.
const LONGEST_L1: u64 = 32 << 20;
const LONGEST_REFCOUNT_TABLE: u64 = 8 << 20;
/// Host offset in an L1 or L2 entry.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// Incompatible feature: L2 entries of two words.
const FEATURE_EXTENDED_L2: u64 = 1 << 4;

/// The numbers of a header, and the length of the file.
struct Layout {
    cluster_bits: u32,
    l2_entry: usize,
    /// First byte beyond the last cluster of the file.
    end: u64,
    /// Greatest host offset that is in use.
    last: u64,
}

fn damaged(what: &str) -> io::Error {
    invalid(format!("its {what} does not lie within the file; look at it with qemu-img check"))
}

impl Layout {
    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Reads a table of `len` bytes, at most as long as the file.
    fn table(&mut self, file: &File, at: u64, len: u64, what: &str) -> io::Result<Vec<u8>> {
        if at == 0 || !at.is_multiple_of(self.cluster()) || at.checked_add(len).is_none_or(|end| end > self.end) {
            return Err(damaged(what));
        }
        self.last = self.last.max(at + len.saturating_sub(1));
        let mut table = vec![0; len as usize]; // within the file and bounded by the caller
        // The last cluster of a file may be cut short: the rest is zeros.
        let mut filled = 0;
        while let Some(rest) = table.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, at + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(table)
    }

    fn l2(&mut self, table: &[u8]) -> io::Result<()> {
        for entry in table.chunks(self.l2_entry).filter_map(|entry| be64(entry, 0)) {
            let offset = if entry & COMPRESSED != 0 {
                entry & ((1 << (62 - (self.cluster_bits - 8))) - 1)
            } else {
                entry & OFFSET
            };
            if offset >= self.end {
                return Err(damaged("data"));
            }
            self.last = self.last.max(offset);
        }
        Ok(())
    }
}

/// An error if a table of the image in `file`, whose first bytes are `head`, leads out of the file, or if clusters in use
/// have no reference counts.
pub(super) fn check(file: &File, head: &[u8]) -> io::Result<()> {
    let short = || invalid("its header is cut short");
    let number = |at: usize| be32(head, at).ok_or_else(short);
    let offset = |at: usize| be64(head, at).ok_or_else(short);
    let cluster_bits = number(20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(invalid(format!("its clusters have 2^{cluster_bits} bytes")));
    }
    let (features, refcount_order) = match number(4)? {
        2 => (0, 4),
        _ => (offset(72)?, number(96)?),
    };
    if refcount_order > 6 {
        return Err(invalid(format!("its reference counts have 2^{refcount_order} bits")));
    }
    let mut file_end = file;
    let end = file_end.seek(SeekFrom::End(0))?.next_multiple_of(1 << cluster_bits);
    let l2_entry = if features & FEATURE_EXTENDED_L2 != 0 { 16 } else { 8 };
    let mut layout = Layout { cluster_bits, l2_entry, end, last: 0 };
    let cluster = layout.cluster();
    let l1_len = u64::from(number(36)?) * 8;
    let refcounts_len = u64::from(number(56)?) << cluster_bits;
    if l1_len > LONGEST_L1 || refcounts_len > LONGEST_REFCOUNT_TABLE {
        return Err(invalid("its tables are larger than any image needs"));
    }
    let refcounts = layout.table(file, offset(48)?, refcounts_len, "reference count table")?;
    if l1_len > 0 {
        let l1 = layout.table(file, offset(40)?, l1_len, "L1 table")?;
        for entry in l1.as_chunks::<8>().0 {
            let at = u64::from_be_bytes(*entry) & OFFSET;
            if at != 0 {
                let table = layout.table(file, at, cluster, "L2 table")?;
                layout.l2(&table)?;
            }
        }
    }
    // Each block of reference counts is for so many clusters.
    let covers = (cluster * 8) >> refcount_order << cluster_bits;
    let needed = layout.last / covers + 1;
    let blocks = refcounts.as_chunks::<8>().0;
    let mut there = blocks.iter().map(|entry| u64::from_be_bytes(*entry) & OFFSET);
    let first: Vec<u64> = there.by_ref().take(usize::try_from(needed).unwrap_or(usize::MAX)).collect();
    if (first.len() as u64) < needed || first.contains(&0) || first.into_iter().chain(there).any(|at| at >= end) {
        return Err(damaged("reference counts"));
    }
    Ok(())
}
