//! Throw-away overlays: the guest writes into a deleted temporary file; what it did not write comes from the image.
//!
//! A bitmap says which blocks of 4 KiB are in the temporary file. It is kept in memory only, in pieces that exist where the
//! guest has written.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use rustix::fs::{FallocateFlags, OFlags};

use super::{Disk, check_range};

const BLOCK: u64 = 4096;
/// Words in a piece of the bitmap: 4096 blocks, 16 MiB of disk.
const PIECE_WORDS: usize = 64;
const PIECE_BLOCKS: u64 = PIECE_WORDS as u64 * 64;

/// An image whose changes vanish.
pub struct Overlay {
    base: Box<dyn Disk>,
    file: File,
    /// Writers exclude each other: two that share a block would lose one's bytes.
    present: RwLock<Present>,
}

/// The set of blocks that are in the temporary file.
#[derive(Default)]
struct Present(HashMap<u64, Box<[u64; PIECE_WORDS]>>);

impl Present {
    fn has(&self, block: u64) -> bool {
        let word =
            self.0.get(&(block / PIECE_BLOCKS)).and_then(|piece| piece.get((block % PIECE_BLOCKS / 64) as usize));
        word.is_some_and(|word| word >> (block % 64) & 1 != 0)
    }

    fn insert(&mut self, blocks: Range<u64>) {
        for block in blocks {
            let piece = self.0.entry(block / PIECE_BLOCKS).or_insert_with(|| Box::new([0; PIECE_WORDS]));
            if let Some(word) = piece.get_mut((block % PIECE_BLOCKS / 64) as usize) {
                *word |= 1 << (block % 64);
            }
        }
    }
}

impl Overlay {
    /// An overlay over `base` whose temporary file is in `directory`.
    pub fn new(base: Box<dyn Disk>, directory: &Path) -> io::Result<Overlay> {
        let file = nameless_file(directory)?;
        file.set_len(base.size())?;
        Ok(Overlay { base, file, present: RwLock::default() })
    }

    fn write_locked(&self, present: &mut Present, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        // The blocks at both ends may be written in part only: the rest of them comes from the image.
        for block in [offset / BLOCK, end.saturating_sub(1) / BLOCK] {
            let range = block * BLOCK..((block + 1) * BLOCK).min(self.size());
            if (range.start < offset || range.end > end) && !present.has(block) {
                let mut old = [0; BLOCK as usize];
                let old = old.get_mut(..(range.end - range.start) as usize).unwrap_or_default();
                self.base.read(range.start, old)?;
                self.file.write_all_at(old, range.start)?;
                present.insert(block..block + 1);
            }
        }
        self.file.write_all_at(data, offset)?;
        present.insert(offset / BLOCK..end.div_ceil(BLOCK));
        Ok(())
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, range.start, range.end - range.start) {
            Ok(()) => Ok(()),
            Err(_) => {
                let zeros = [0; BLOCK as usize];
                range.step_by(BLOCK as usize).try_for_each(|at| {
                    let len = (self.size() - at).min(BLOCK) as usize;
                    self.file.write_all_at(zeros.get(..len).unwrap_or_default(), at)
                })
            }
        }
    }
}

/// A file in `directory` that has no name, or none any more.
fn nameless_file(directory: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    let nameless = options.clone().custom_flags(OFlags::TMPFILE.bits().cast_signed()).open(directory);
    if let Ok(file) = nameless {
        return Ok(file);
    }
    let id = std::process::id();
    for attempt in 0..100 {
        let path = directory.join(format!(".vmm-overlay-{id}-{attempt}"));
        match options.clone().create_new(true).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

impl Disk for Overlay {
    fn size(&self) -> u64 {
        self.base.size()
    }

    fn block_size(&self) -> u32 {
        BLOCK as u32
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        check_range(self.size(), offset, out.len() as u64)?;
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = offset;
        let mut rest = out;
        while !rest.is_empty() {
            // As many blocks as are in the same place.
            let here = present.has(at / BLOCK);
            let mut end = (at / BLOCK + 1) * BLOCK;
            while end < at + rest.len() as u64 && present.has(end / BLOCK) == here {
                end += BLOCK;
            }
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(rest.len());
            let (piece, tail) = rest.split_at_mut(len);
            if here {
                self.file.read_exact_at(piece, at)?
            } else {
                self.base.read(at, piece)?
            }
            at += len as u64;
            rest = tail;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(self.size(), offset, data.len() as u64)?;
        if data.is_empty() {
            return Ok(());
        }
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        self.write_locked(&mut present, offset, data)
    }

    fn flush(&self) -> io::Result<()> {
        // Nothing here outlives this process.
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(self.size(), offset, len)?;
        let blocks = offset.div_ceil(BLOCK)..(offset + len) / BLOCK;
        let present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        // Space comes back only where it was taken; the rest still reads as the image.
        for block in blocks.filter(|&block| present.has(block)) {
            self.punch(block * BLOCK..(block + 1) * BLOCK)?;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, _unmap: bool) -> io::Result<()> {
        check_range(self.size(), offset, len)?;
        let end = offset + len;
        let whole = offset.div_ceil(BLOCK) * BLOCK..end / BLOCK * BLOCK;
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let zeros = [0; BLOCK as usize];
        let zeros = |len: u64| zeros.get(..len as usize).unwrap_or_default();
        if whole.start >= whole.end {
            // Inside of one block, or over the edge of two.
            let middle = whole.start.clamp(offset, end);
            for part in [offset..middle, middle..end].into_iter().filter(|part| !part.is_empty()) {
                self.write_locked(&mut present, part.start, zeros(part.end - part.start))?;
            }
            return Ok(());
        }
        if offset < whole.start {
            self.write_locked(&mut present, offset, zeros(whole.start - offset))?;
        }
        if whole.end < end {
            self.write_locked(&mut present, whole.end, zeros(end - whole.end))?;
        }
        self.punch(whole.clone())?;
        present.insert(whole.start / BLOCK..whole.end / BLOCK);
        Ok(())
    }
}
