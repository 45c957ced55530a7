//! Guest RAM as the processing elements see it: physical ranges with host pointers. The only place that turns a guest address into a host address.
#![expect(
    unsafe_code,
    reason = "guest RAM is shared with the guest's other vCPUs and with devices: raw pointers and atomics, never references to data"
)]

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// One contiguous piece of guest RAM.
#[derive(Debug, Clone, Copy)]
pub struct RamRegion {
    /// Guest physical address of the first byte; 4 KiB aligned.
    pub base: u64,
    /// Bytes; a multiple of 4 KiB.
    pub len: u64,
    /// Host address of the first byte; 4 KiB aligned.
    pub host: *mut u8,
    /// Index of its first page among all RAM pages.
    first_page: usize,
}

/// All guest RAM.
#[derive(Debug)]
pub struct Ram {
    regions: Vec<RamRegion>,
    pages: usize,
    /// Allocations of [`Ram::allocated`], freed with the value.
    owned: Vec<(*mut u8, std::alloc::Layout)>,
}

impl Drop for Ram {
    fn drop(&mut self) {
        for (host, layout) in self.owned.drain(..) {
            // SAFETY: `allocated` got this pointer for this layout; nothing else frees it.
            unsafe { std::alloc::dealloc(host, layout) };
        }
    }
}

// SAFETY: the mappings live as long as the `Ram` (contract of `Ram::new`) and are only accessed by atomics or by the guest's own racing accesses.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

/// Why a list of ranges is no guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RamError {
    /// Base, length or host pointer is not page aligned, or the range wraps.
    #[error(
        "RAM at {base:#x} with {len:#x} bytes: base, length and host pointer must be multiples of 4 KiB and must not wrap"
    )]
    Misaligned {
        /// Guest physical base.
        base: u64,
        /// Bytes.
        len: u64,
    },
    /// Two ranges overlap.
    #[error("RAM at {base:#x} overlaps another range")]
    Overlap {
        /// Guest physical base.
        base: u64,
    },
}

impl Ram {
    /// RAM made of (guest physical base, bytes, host pointer).
    ///
    /// # Errors
    /// Unaligned or overlapping ranges.
    ///
    /// # Safety
    /// Each host range is mapped readable and writable, and stays so while this value or a copy of a pointer that it gave lives; nobody
    /// in the host holds Rust references to its bytes.
    pub unsafe fn new(ranges: &[(u64, u64, *mut u8)]) -> Result<Ram, RamError> {
        let mut regions: Vec<RamRegion> = Vec::new();
        let mut sorted = ranges.to_vec();
        sorted.sort_by_key(|r| r.0);
        let mut pages = 0usize;
        for (base, len, host) in sorted {
            if base % 4096 != 0
                || len % 4096 != 0
                || len == 0
                || base.checked_add(len).is_none()
                || host.addr() % 4096 != 0
            {
                return Err(RamError::Misaligned { base, len });
            }
            if let Some(last) = regions.last()
                && last.base + last.len > base
            {
                return Err(RamError::Overlap { base });
            }
            regions.push(RamRegion { base, len, host, first_page: pages });
            pages += (len / 4096) as usize;
        }
        Ok(Ram { regions, pages, owned: Vec::new() })
    }

    /// Zeroed RAM of its own for each (guest physical base, bytes): for tests and small tools; a machine maps its memory itself.
    ///
    /// # Errors
    /// As [`Ram::new`].
    pub fn allocated(ranges: &[(u64, u64)]) -> Result<Ram, RamError> {
        let mut owned = Vec::new();
        let mut parts = Vec::new();
        let mut bad = None;
        for &(base, len) in ranges {
            match std::alloc::Layout::from_size_align(len as usize, 4096) {
                Ok(layout) if len != 0 => {
                    // SAFETY: the size is not zero.
                    let host = unsafe { std::alloc::alloc_zeroed(layout) };
                    if host.is_null() {
                        std::alloc::handle_alloc_error(layout);
                    }
                    owned.push((host, layout));
                    parts.push((base, len, host));
                }
                _ => bad = Some(RamError::Misaligned { base, len }),
            }
        }
        // SAFETY: the allocations live in `owned`, which the value keeps (or, on an error, a value without ranges frees).
        let ram = unsafe { Ram::new(&parts) };
        match (ram, bad) {
            (Ok(mut ram), None) => {
                ram.owned = owned;
                Ok(ram)
            }
            (ram, bad) => {
                drop(Ram { regions: Vec::new(), pages: 0, owned });
                Err(bad.or(ram.err()).unwrap_or(RamError::Misaligned { base: 0, len: 0 }))
            }
        }
    }

    /// The pieces, in address order.
    pub fn regions(&self) -> &[RamRegion] {
        &self.regions
    }

    /// Number of 4 KiB pages.
    pub fn pages(&self) -> usize {
        self.pages
    }

    #[inline]
    fn find(&self, pa: u64, len: u64) -> Option<&RamRegion> {
        self.regions.iter().find(|r| {
            let offset = pa.wrapping_sub(r.base);
            offset < r.len && len <= r.len - offset
        })
    }

    /// Host address of `len` bytes at `pa`, when all of them are RAM of one piece.
    #[inline]
    pub fn host(&self, pa: u64, len: u64) -> Option<*mut u8> {
        // wrapping_add: the offset is inside the mapping, `find` checked it.
        self.find(pa, len).map(|r| r.host.wrapping_add((pa - r.base) as usize))
    }

    /// Index of the page that holds `pa`, `0..pages()`.
    #[inline]
    pub fn page_index(&self, pa: u64) -> Option<usize> {
        self.find(pa, 1).map(|r| r.first_page + ((pa - r.base) >> 12) as usize)
    }

    /// Copies out of RAM (bytewise relaxed: racing guest stores give mixed data, never undefined behaviour). False when not all is RAM.
    pub fn read_bytes(&self, pa: u64, out: &mut [u8]) -> bool {
        let Some(host) = self.host(pa, out.len() as u64) else { return false };
        for (i, b) in out.iter_mut().enumerate() {
            // SAFETY: `host` gave a pointer with out.len() mapped bytes; AtomicU8 has no alignment need.
            *b = unsafe { AtomicU8::from_ptr(host.add(i)) }.load(Ordering::Relaxed);
        }
        true
    }

    /// Copies into RAM. False when not all is RAM. The caller tells [`crate::CodeEpochs`] when the bytes may be code.
    pub fn write_bytes(&self, pa: u64, data: &[u8]) -> bool {
        let Some(host) = self.host(pa, data.len() as u64) else { return false };
        for (i, b) in data.iter().enumerate() {
            // SAFETY: as in `read_bytes`.
            unsafe { AtomicU8::from_ptr(host.add(i)) }.store(*b, Ordering::Relaxed);
        }
        true
    }

    /// An aligned 64-bit word, single-copy atomic.
    #[inline]
    pub fn load_u64(&self, pa: u64) -> Option<u64> {
        if !pa.is_multiple_of(8) {
            return None;
        }
        let host = self.host(pa, 8)?;
        // SAFETY: 8 mapped bytes, aligned: region bases are page aligned on both sides and pa % 8 == 0.
        Some(u64::from_le(unsafe { AtomicU64::from_ptr(host.cast()) }.load(Ordering::Acquire)))
    }

    /// Compare and exchange of an aligned 64-bit word: `Some(Ok)` when it held `old`, `Some(Err(found))` when not, `None` when it is no RAM.
    pub fn compare_exchange_u64(&self, pa: u64, old: u64, new: u64) -> Option<Result<u64, u64>> {
        if !pa.is_multiple_of(8) {
            return None;
        }
        let host = self.host(pa, 8)?;
        // SAFETY: as in `load_u64`.
        let cell = unsafe { AtomicU64::from_ptr(host.cast()) };
        Some(
            cell.compare_exchange(old.to_le(), new.to_le(), Ordering::AcqRel, Ordering::Acquire)
                .map(u64::from_le)
                .map_err(u64::from_le),
        )
    }

    /// The 1024 instruction words of the page that holds `pa`.
    pub fn read_code_page(&self, pa: u64, out: &mut [u32; 1024]) -> bool {
        let Some(host) = self.host(pa & !0xfff, 4096) else { return false };
        for (i, w) in out.iter_mut().enumerate() {
            // SAFETY: 4096 mapped bytes at a page aligned pointer.
            *w = u32::from_le(unsafe { AtomicU32::from_ptr(host.cast::<u32>().add(i)) }.load(Ordering::Relaxed));
        }
        true
    }

    /// Up to `out.len()` instruction words from `pa` (4-byte aligned) to the end of its page; how many.
    pub fn read_code_words(&self, pa: u64, out: &mut [u32]) -> usize {
        let count = out.len().min((4096 - (pa & 0xfff) as usize) / 4);
        if !pa.is_multiple_of(4) {
            return 0;
        }
        let Some(host) = self.host(pa, 4 * count as u64) else { return 0 };
        for (i, w) in out.iter_mut().take(count).enumerate() {
            // SAFETY: 4 * count mapped bytes, aligned.
            *w = u32::from_le(unsafe { AtomicU32::from_ptr(host.cast::<u32>().add(i)) }.load(Ordering::Relaxed));
        }
        count
    }

    /// The instruction word at `pa` (4-byte aligned).
    pub fn read_code_word(&self, pa: u64) -> Option<u32> {
        if !pa.is_multiple_of(4) {
            return None;
        }
        let host = self.host(pa, 4)?;
        // SAFETY: 4 mapped bytes, aligned.
        Some(u32::from_le(unsafe { AtomicU32::from_ptr(host.cast()) }.load(Ordering::Relaxed)))
    }
}

/// A zeroed array of atomic words that costs host memory only where it is touched.
pub fn zeroed_atomics(len: usize) -> Box<[AtomicU32]> {
    let plain: Box<[u32]> = vec![0u32; len].into_boxed_slice();
    // SAFETY: AtomicU32 has the size, alignment and bit validity of u32.
    unsafe { Box::from_raw(Box::into_raw(plain) as *mut [AtomicU32]) }
}
