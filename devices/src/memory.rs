//! Guest RAM as devices see it: every access is a checked copy, and what is written can be logged.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};
use vm_memory::mmap::NewBitmap;

/// Guest RAM as devices see it.
pub type GuestMemory = vm_memory::GuestMemoryMmap<WriteLog>;

/// Shared guest RAM.
pub type SharedMemory = Arc<GuestMemory>;

/// Pages of this size are logged.
pub const LOG_PAGE: usize = 4096;

/// Which pages of a region were written by this program (devices, loaders): the other half of what a hypervisor logs of
/// the guest's own writes. Costs a look at a flag for each access while it is off.
#[derive(Clone, Debug, Default)]
pub struct WriteLog(Arc<Log>);

#[derive(Debug, Default)]
struct Log {
    len: usize,
    on: AtomicBool,
    /// A bit for each page. Made when the log is turned on for the first time.
    pages: OnceLock<Vec<AtomicU64>>,
}

impl WriteLog {
    /// From now on writes are logged; what was logged before is forgotten.
    pub fn start(&self) {
        let words = self.0.len.div_ceil(LOG_PAGE * 64);
        let pages = self.0.pages.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect());
        pages.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.0.on.store(true, Ordering::SeqCst);
    }

    /// No more writes are logged.
    pub fn stop(&self) {
        self.0.on.store(false, Ordering::SeqCst);
    }

    /// The pages written since the start or the last call, a bit for each. Who writes at the same time is seen now or by
    /// the next call.
    #[must_use]
    pub fn take(&self) -> Vec<u64> {
        let words = self.0.pages.get().map_or(&[][..], Vec::as_slice);
        words.iter().map(|word| word.swap(0, Ordering::AcqRel)).collect()
    }

    fn mark(&self, offset: usize, len: usize) {
        // vm-memory marks after it has written: a page that is taken before the mark is taken again.
        if len == 0 || !self.0.on.load(Ordering::Relaxed) {
            return;
        }
        let Some(pages) = self.0.pages.get() else { return };
        for page in offset / LOG_PAGE..=offset.saturating_add(len - 1) / LOG_PAGE {
            if let Some(word) = pages.get(page / 64) {
                word.fetch_or(1 << (page % 64), Ordering::Release);
            }
        }
    }
}

impl<'a> WithBitmapSlice<'a> for WriteLog {
    type S = WriteLogSlice<'a>;
}

impl Bitmap for WriteLog {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.mark(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let word = self.0.pages.get().and_then(|pages| pages.get(offset / LOG_PAGE / 64));
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (offset / LOG_PAGE % 64) & 1 != 0)
    }

    fn slice_at(&self, offset: usize) -> WriteLogSlice<'_> {
        WriteLogSlice { log: self, offset }
    }
}

impl NewBitmap for WriteLog {
    fn with_len(len: usize) -> WriteLog {
        WriteLog(Arc::new(Log { len, ..Log::default() }))
    }
}

/// The log of a part of a region.
#[derive(Clone, Copy, Debug)]
pub struct WriteLogSlice<'a> {
    log: &'a WriteLog,
    offset: usize,
}

impl<'b> WithBitmapSlice<'b> for WriteLogSlice<'_> {
    type S = Self;
}

impl BitmapSlice for WriteLogSlice<'_> {}

impl Bitmap for WriteLogSlice<'_> {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.log.mark(self.offset.saturating_add(offset), len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.log.dirty_at(self.offset.saturating_add(offset))
    }

    fn slice_at(&self, offset: usize) -> Self {
        WriteLogSlice { log: self.log, offset: self.offset.saturating_add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

    use super::*;

    #[test]
    fn every_way_to_write_is_logged_and_only_while_it_is_on() {
        let base = 0x4000_0000;
        let memory = GuestMemory::from_ranges(&[(GuestAddress(base), 1 << 20)]).unwrap();
        let log = memory.find_region(GuestAddress(base)).unwrap().get_mmap().bitmap().clone();
        memory.write_obj(1u32, GuestAddress(base)).unwrap();
        assert!(log.take().is_empty(), "never started");
        log.start();
        let page = |n: u64| GuestAddress(base + n * LOG_PAGE as u64);
        memory.write_obj(1u32, page(1)).unwrap();
        memory.write_slice(&[1; 10], GuestAddress(page(3).0 - 5)).unwrap();
        memory.store(1u16, page(70), Ordering::Release).unwrap();
        memory.read_exact_volatile_from(page(80), &mut &[7u8; 5000][..], 5000).unwrap();
        memory.get_slice(page(90), 4096).unwrap().subslice(100, 8).unwrap().copy_from(&[1u8; 8]);
        let _ = memory.read_obj::<u32>(page(5)).unwrap();
        let words = log.take();
        let written: Vec<usize> = (0..256).filter(|n| words[n / 64] >> (n % 64) & 1 != 0).collect();
        assert_eq!(written, [1, 2, 3, 70, 80, 81, 90]);
        assert!(log.take().iter().all(|word| *word == 0), "taken");
        log.stop();
        memory.write_obj(1u32, page(1)).unwrap();
        assert!(log.take().iter().all(|word| *word == 0), "off");
    }
}
