//! Makes a disk larger: the file, its partition table and the last partition. The file system in it grows when its system
//! says so (`x-systemd.growfs`, resize2fs). Also mends the table of a small image that was copied onto a larger disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{ALIGNMENT, ENTRIES, ENTRY, SECTOR, crc32, write_entries};

/// What was done.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Resized {
    /// The file is larger; it has no partitions.
    Plain,
    /// The last partition, counted from 1, has so many bytes now.
    Partition(usize, u64),
}

/// Makes the disk in `file` `size` bytes large; never smaller.
///
/// # Errors
/// What the operating system refuses, a table that is damaged, and a size that is less than there is.
pub fn resize(file: &File, size: u64) -> io::Result<Resized> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let size = size / SECTOR * SECTOR;
    let before = file.metadata()?.len();
    if size < before {
        return Err(invalid(format!("the image has {before} bytes, {size} are fewer: it can only grow")));
    }
    let mut magic = [0; 4];
    if before >= 4 {
        file.read_exact_at(&mut magic, 0)?;
    }
    if magic == *b"QFI\xfb" {
        return Err(invalid(
            "it is a qcow2 image: qemu-img resize makes it larger, or --size when it is built".to_owned(),
        ));
    }
    let Some(mut table) = Table::read(file, before)? else {
        file.set_len(size)?;
        return Ok(Resized::Plain);
    };
    let sectors = (table.entries.len() as u64).div_ceil(SECTOR);
    // The partition ends where one that is aligned would.
    let end = (size.saturating_sub((sectors + 1) * SECTOR)) / ALIGNMENT * ALIGNMENT / SECTOR;
    let (number, first, last) =
        table.last().ok_or_else(|| invalid("its partition table has no partition".to_owned()))?;
    if last >= size / SECTOR - sectors - 1 {
        return Err(invalid(format!("its last partition ends in sector {last}, beyond {size} bytes")));
    }
    let last = last.max(end.saturating_sub(1));
    if let Some(place) = table.entries.get_mut(number * ENTRY + 40..number * ENTRY + 48) {
        place.copy_from_slice(&last.to_le_bytes());
    }
    file.set_len(size)?;
    write_entries(file, size, table.id, &table.entries)?;
    Ok(Resized::Partition(number + 1, (last - first + 1) * SECTOR))
}

/// A partition table that was read.
struct Table {
    id: [u8; 16],
    entries: Vec<u8>,
}

impl Table {
    /// The table at the beginning of the disk, if there is one.
    fn read(file: &File, size: u64) -> io::Result<Option<Table>> {
        let damaged =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("its partition table has {what}"));
        let mut header = [0; 92];
        if size < 2 * SECTOR + (ENTRIES * ENTRY) as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut header, SECTOR)?;
        if !header.starts_with(b"EFI PART") {
            return Ok(None);
        }
        let word = |at: usize| {
            header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_le_bytes(*four))
        };
        let sum = word(16);
        let mut zeroed = header;
        zeroed[16..20].fill(0);
        if word(12) != 92 || crc32(&zeroed) != sum {
            return Err(damaged("a header whose checksum is wrong"));
        }
        if (word(80), word(84)) != (ENTRIES as u32, ENTRY as u32) || (word(72), word(76)) != (2, 0) {
            return Err(damaged("an unusual form: expected 128 entries of 128 bytes from sector 2 on"));
        }
        let mut entries = vec![0; ENTRIES * ENTRY];
        file.read_exact_at(&mut entries, 2 * SECTOR)?;
        if crc32(&entries) != word(88) {
            return Err(damaged("entries whose checksum is wrong"));
        }
        let mut id = [0; 16];
        id.copy_from_slice(header.get(56..72).unwrap_or(&[0; 16]));
        Ok(Some(Table { id, entries }))
    }

    /// Index, first and last sector of the partition that ends last.
    fn last(&self) -> Option<(usize, u64, u64)> {
        let number = |entry: &[u8], at: usize| {
            entry.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |eight| u64::from_le_bytes(*eight))
        };
        let used = |entry: &[u8]| entry.iter().take(16).any(|&byte| byte != 0);
        let all = self.entries.chunks_exact(ENTRY).enumerate().filter(|(_, entry)| used(entry));
        let all = all.map(|(index, entry)| (index, number(entry, 32), number(entry, 40)));
        all.filter(|(_, first, last)| first <= last && *last < u64::MAX / SECTOR).max_by_key(|(.., last)| *last)
    }
}
