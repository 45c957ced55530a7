//! The code cache: one memfd mapped twice, once writable and once executable, never both at one address.
//!
//! Code is addressed by its executable address; the writable alias stays inside this module. Who writes has a [`Region`]: hot code grows from its start,
//! cold code (exits, misses) from its end, until they meet. After code is published only aligned branch displacements are changed, by atomic stores.
#![expect(unsafe_code, reason = "maps memory and writes machine code through the writable alias")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use crate::hugepages::{self, HUGE};

/// Executable memory.
#[derive(Debug)]
pub struct CodeCache {
    rw: *mut u8,
    rx: *mut u8,
    size: usize,
    collapser: Option<Collapser>,
    #[cfg_attr(not(test), expect(dead_code, reason = "keeps the memory"))]
    fd: OwnedFd,
}

/// Gives blocks of [`HUGE`] bytes huge pages, on a thread of its own: the host, which first lets all its processors do something, takes between a fifth of a
/// millisecond and twenty for one.
#[derive(Debug)]
struct Collapser {
    /// Which blocks may still be asked for.
    small: Box<[AtomicBool]>,
    wanted: Sender<usize>,
    thread: JoinHandle<()>,
}

impl Collapser {
    /// For the writable mapping at `rw`. `None`: there are no whole blocks, or no thread; then pages stay small.
    ///
    /// # Safety
    /// `rw` is a multiple of [`HUGE`], and the mapping stays until [`Collapser::end`] has returned.
    unsafe fn new(rw: *mut u8, size: usize) -> Option<Collapser> {
        let small: Box<[AtomicBool]> = (0..size / HUGE).map(|_| AtomicBool::new(true)).collect();
        if small.is_empty() {
            return None;
        }
        let (wanted, queue) = channel();
        let start = rw.expose_provenance();
        let body = move || {
            for block in queue {
                // SAFETY: a whole block inside the writable mapping, which stays while this thread runs, as the caller of `new` promises.
                unsafe { hugepages::collapse(std::ptr::with_exposed_provenance_mut(start + block * HUGE)) };
            }
        };
        let thread = thread::Builder::new().name("code-pages".into()).stack_size(64 << 10).spawn(body).ok()?;
        Some(Collapser { small, wanted, thread })
    }

    fn want(&self, block: usize) {
        if self.small.get(block).is_some_and(|s| s.swap(false, Ordering::Relaxed)) {
            // Without the thread pages stay small.
            let _ = self.wanted.send(block);
        }
    }

    /// Ends the thread.
    fn end(self) {
        drop(self.wanted);
        // It has nothing to say.
        let _ = self.thread.join();
    }
}

// SAFETY: the pointers are plain addresses of mappings that this value owns; what is written goes through an exclusive `Region` or an atomic.
unsafe impl Send for CodeCache {}
// SAFETY: as above.
unsafe impl Sync for CodeCache {}

/// The right to fill a part of the cache. Offsets in the cache.
#[derive(Debug)]
pub struct Region {
    start: usize,
    end: usize,
    hot: usize,
    cold: usize,
}

impl Region {
    /// Offset of the next hot byte.
    #[must_use]
    pub fn hot(&self) -> usize {
        self.hot
    }

    /// Where `len` bytes of cold code would be put.
    fn cold_at(&self, len: usize) -> Option<usize> {
        Some(self.cold.checked_sub(len)? & !15)
    }

    /// True if `hot` and `cold` bytes fit.
    #[must_use]
    pub fn fits(&self, hot: usize, cold: usize) -> bool {
        self.cold_at(cold).is_some_and(|at| at >= self.hot + hot)
    }

    /// True if nothing was written yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.hot == self.start && self.cold == self.end
    }

    /// Bytes written.
    #[must_use]
    pub fn used(&self) -> usize {
        self.hot - self.start + self.end - self.cold
    }

    /// How far it is filled, for [`Region::rewind`].
    #[must_use]
    pub fn mark(&self) -> (usize, usize) {
        (self.hot, self.cold)
    }

    /// Forget what was appended since `mark`: it was not published.
    pub fn rewind(&mut self, mark: (usize, usize)) {
        (self.hot, self.cold) = mark;
    }
}

/// A region has no room for a piece of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the region of the code cache is full")]
pub struct Full;

impl CodeCache {
    /// A cache of `size` bytes (rounded up to 64 KiB, at most 1 GiB so that every branch reaches). Host memory is used as code is
    /// written, by huge pages if `huge` says so and the host has them.
    ///
    /// # Errors
    /// memfd_create, ftruncate or mmap failed.
    pub fn new(size: usize, huge: bool) -> io::Result<CodeCache> {
        let size = size.clamp(1 << 16, 1 << 30).next_multiple_of(1 << 16);
        // SAFETY: a NUL-terminated name and valid flags; the result is checked.
        let raw = unsafe { libc::memfd_create(c"vmm-code".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a file descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let len = libc::off_t::try_from(size).map_err(io::Error::other)?;
        // SAFETY: a plain system call on an owned descriptor.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), len) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let map = |prot: i32| {
            let at = hugepages::reserve(size)?;
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            // SAFETY: takes the place of a reservation that was just made for it; the result is checked.
            let p = unsafe { libc::mmap(at.cast(), size, prot, flags, fd.as_raw_fd(), 0) };
            if p == libc::MAP_FAILED {
                let e = io::Error::last_os_error();
                // SAFETY: the reservation.
                unsafe { libc::munmap(at.cast(), size) };
                return Err(e);
            }
            Ok(p.cast::<u8>())
        };
        let rw = map(libc::PROT_READ | libc::PROT_WRITE)?;
        let rx = match map(libc::PROT_READ | libc::PROT_EXEC) {
            Ok(rx) => rx,
            Err(e) => {
                // SAFETY: `rw` is the mapping made above, unused since.
                unsafe { libc::munmap(rw.cast(), size) };
                return Err(e);
            }
        };
        // SAFETY: `reserve` aligns to HUGE; `drop` ends the thread before it unmaps.
        let collapser = huge.then(|| unsafe { Collapser::new(rw, size) }).flatten();
        Ok(CodeCache { rw, rx, size, collapser, fd })
    }

    /// `len` bytes at `start` are about to be filled: they get huge pages soon, if they may, and so does what comes behind them.
    pub fn prepare(&self, start: usize, len: usize) {
        let Some(collapser) = &self.collapser else { return };
        for block in start / HUGE..=(start + len.max(1) - 1) / HUGE + 1 {
            collapser.want(block);
        }
    }

    /// The host gets back the memory of a whole block of [`HUGE`] bytes. What is in it is lost.
    ///
    /// # Safety
    /// No [`Region`] that is still used lies in the block, not even in part, and nobody executes code there or will until it is published anew.
    pub unsafe fn release(&self, block: usize) {
        let Some(start) = block.checked_mul(HUGE).filter(|at| at.saturating_add(HUGE) <= self.size) else { return };
        // SAFETY: a whole block inside the writable mapping, of which the caller promises that nobody uses it. It reads as zeros then.
        unsafe { libc::madvise(self.rw.add(start).cast(), HUGE, libc::MADV_REMOVE) };
        if let Some(small) = self.collapser.as_ref().and_then(|c| c.small.get(block)) {
            small.store(true, Ordering::Relaxed);
        }
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes of the host's memory that it takes.
    #[cfg(test)]
    pub fn resident(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::File::from(self.fd.try_clone().expect("a descriptor"));
        file.metadata().expect("a file").blocks() * 512
    }

    /// Executable address of an offset.
    #[must_use]
    pub fn address(&self, offset: usize) -> u64 {
        self.rx.addr() as u64 + offset as u64
    }

    /// Offset of an executable address in this cache.
    #[must_use]
    pub fn offset(&self, address: u64) -> Option<usize> {
        self.contains(address).then(|| (address - self.rx.addr() as u64) as usize)
    }

    /// The right to fill `len` bytes at `start`; `None` if they are not inside.
    ///
    /// # Safety
    /// No other region of this cache that is still used overlaps, and nobody executes code there or will until it is published anew.
    #[must_use]
    pub unsafe fn region(&self, start: usize, len: usize) -> Option<Region> {
        let end = start.checked_add(len)?;
        (end <= self.size && start.is_multiple_of(16)).then_some(Region { start, end, hot: start, cold: end })
    }

    /// Executable addresses where hot code and `cold` bytes of cold code will be put by [`CodeCache::append`].
    #[must_use]
    pub fn places(&self, region: &Region, cold: usize) -> Option<[u64; 2]> {
        Some([self.address(region.hot), self.address(region.cold_at(cold)?)])
    }

    /// Append code that was resolved for the addresses of [`CodeCache::places`].
    ///
    /// # Errors
    /// [`Full`] if it does not fit; nothing is written then.
    pub fn append(&self, region: &mut Region, hot: &[u8], cold: &[u8]) -> Result<(), Full> {
        let cold_at = region.cold_at(cold.len()).filter(|at| *at >= region.hot + hot.len()).ok_or(Full)?;
        for (at, bytes) in [(region.hot, hot), (cold_at, cold)] {
            // SAFETY: inside the region (just checked), which is inside the mapping and ours alone; nobody executes bytes that were not yet published.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.rw.add(at), bytes.len()) };
        }
        region.hot = (region.hot + hot.len()).next_multiple_of(16).min(cold_at);
        region.cold = cold_at;
        Ok(())
    }

    /// Rewrite the aligned rel32 field at executable address `field` so that its branch goes to `target`. Other threads may execute the branch meanwhile:
    /// they see the old or the new target. Answers false (and writes nothing) if `field` is not a 4-byte aligned place in this cache or out of reach.
    pub fn patch_rel32(&self, field: u64, target: u64) -> bool {
        let offset = field.wrapping_sub(self.rx.addr() as u64);
        let distance = target.wrapping_sub(field.wrapping_add(4)).cast_signed();
        let Ok(rel) = i32::try_from(distance) else { return false };
        if !offset.is_multiple_of(4) || offset > (self.size - 4) as u64 {
            return false;
        }
        // SAFETY: inside the writable mapping and aligned, both checked above.
        let cell = unsafe { AtomicU32::from_ptr(self.rw.add(offset as usize).cast()) };
        cell.store(rel.cast_unsigned(), Ordering::Release);
        true
    }

    /// True if `address` is in the executable mapping.
    #[must_use]
    pub fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.rx.addr() as u64) < self.size as u64
    }
}

impl Drop for CodeCache {
    fn drop(&mut self) {
        if let Some(collapser) = self.collapser.take() {
            collapser.end();
        }
        // SAFETY: both mappings were made by `new` with this size; code in them does not run: the owner is gone.
        unsafe {
            libc::munmap(self.rw.cast(), self.size);
            libc::munmap(self.rx.cast(), self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(cache: &CodeCache) -> Region {
        // SAFETY: the only region, and nothing is executed.
        unsafe { cache.region(0, 1 << 16) }.expect("inside")
    }

    #[test]
    fn no_mapping_is_writable_and_executable() {
        let c = CodeCache::new(1 << 20, true).expect("maps");
        let mut r = whole(&c);
        let places = c.places(&r, 3).expect("fits");
        c.append(&mut r, &[0xc3; 100], &[0xcc; 3]).expect("fits");
        assert!(c.contains(places[0]) && c.contains(places[1]));
        let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        let ours: Vec<&str> = maps.lines().filter(|l| l.contains("vmm-code")).collect();
        assert!(ours.iter().any(|l| l.contains("r-xs")) && ours.iter().any(|l| l.contains("rw-s")), "{ours:?}");
        assert!(!maps.lines().any(|l| l.split_whitespace().nth(1).is_some_and(|p| p.starts_with("rwx"))), "{maps}");
    }

    #[test]
    fn hot_and_cold_meet_and_a_mark_is_returned_to() {
        let c = CodeCache::new(1 << 16, true).expect("maps");
        let mut r = whole(&c);
        c.append(&mut r, &[1; 64], &[2; 32]).expect("fits");
        let mark = r.mark();
        let mut n = 0;
        while r.fits(1000, 10) {
            c.append(&mut r, &[3; 1000], &[4; 10]).expect("fits");
            n += 1;
        }
        assert!(c.append(&mut r, &[3; 1000], &[4; 10]).is_err());
        assert!((60..65).contains(&n), "{n}");
        r.rewind(mark);
        assert_eq!((r.mark(), r.used()), (mark, 96));
    }

    #[test]
    fn patches_only_aligned_fields_inside() {
        let c = CodeCache::new(1 << 16, true).expect("maps");
        let mut r = whole(&c);
        let hot = c.address(0);
        c.append(&mut r, &[0x90, 0x90, 0x90, 0xe9, 0, 0, 0, 0], &[]).expect("fits");
        assert!(c.patch_rel32(hot + 4, hot));
        assert!(!c.patch_rel32(hot + 5, hot));
        assert!(!c.patch_rel32(hot + (1 << 16), hot));
        assert!(!c.patch_rel32(hot.wrapping_sub(4), hot));
        assert!(!c.patch_rel32(hot + 4, hot + (1 << 40)));
        // SAFETY: the bytes were just written; the mapping is readable.
        let seen = unsafe { std::ptr::read_unaligned((hot + 4) as *const i32) };
        assert_eq!(seen, -8);
    }
}
