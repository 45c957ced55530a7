//! The code cache: one memfd mapped twice, once writable and once executable, never both at one address.
//!
//! Code is addressed by its executable address; the writable alias stays inside this module. Hot code grows from the
//! start of the mapping, cold code (exits, misses) from [`HOT_PART`] of it; both keep below their limit, and when either is full the
//! owner drops all fragments and starts again behind the thunks ([`CodeCache::rewind`]).
#![expect(unsafe_code, reason = "maps memory and writes machine code through the writable alias")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// The part of the cache that holds hot code, in eighths.
const HOT_PART: usize = 5;

/// Bytes of executable memory with one owner.
#[derive(Debug)]
pub struct CodeCache {
    rw: *mut u8,
    rx: *mut u8,
    size: usize,
    next: [usize; 2],
    /// Where [`CodeCache::rewind`] returns to: behind the thunks.
    mark: [usize; 2],
    _fd: OwnedFd,
}

// SAFETY: the pointers are plain addresses of mappings that this value owns; every write goes through `&mut self` or an atomic.
unsafe impl Send for CodeCache {}

/// The cache has no room for a piece of code: the owner evicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the code cache is full")]
pub struct Full;

impl CodeCache {
    /// A cache of `size` bytes (rounded up to 64 KiB, at most 1 GiB so that every branch reaches). Host memory is used as code is written.
    ///
    /// # Errors
    /// memfd_create, ftruncate or mmap failed.
    pub fn new(size: usize) -> io::Result<CodeCache> {
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
            // SAFETY: a new shared mapping at an address that the kernel chooses; the result is checked.
            let p = unsafe { libc::mmap(std::ptr::null_mut(), size, prot, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
            if p == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(p.cast::<u8>()) }
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
        let cold = size / 8 * HOT_PART;
        Ok(CodeCache { rw, rx, size, next: [0, cold], mark: [0, cold], _fd: fd })
    }

    fn limit(&self, section: usize) -> usize {
        if section == 0 { self.size / 8 * HOT_PART } else { self.size }
    }

    /// Executable address of the next byte of the hot (0) and cold (1) part.
    #[must_use]
    pub fn next(&self) -> [u64; 2] {
        [self.rx.addr() as u64 + self.next[0] as u64, self.rx.addr() as u64 + self.next[1] as u64]
    }

    /// True if `hot` and `cold` bytes fit.
    #[must_use]
    pub fn fits(&self, hot: usize, cold: usize) -> bool {
        self.limit(0) - self.next[0] >= hot + 16 && self.limit(1) - self.next[1] >= cold + 16
    }

    /// Append code that was resolved for the addresses of [`CodeCache::next`].
    ///
    /// # Errors
    /// [`Full`] if it does not fit; nothing is written then.
    pub fn append(&mut self, hot: &[u8], cold: &[u8]) -> Result<(), Full> {
        if !self.fits(hot.len(), cold.len()) {
            return Err(Full);
        }
        for (section, bytes) in [hot, cold].into_iter().enumerate() {
            let at = self.next[section];
            // SAFETY: `fits` says that at + len lies inside the mapping; nobody executes bytes that were not yet published.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.rw.add(at), bytes.len()) };
            self.next[section] = (at + bytes.len()).next_multiple_of(16);
        }
        Ok(())
    }

    /// Keep everything written so far across [`CodeCache::rewind`].
    pub fn set_mark(&mut self) {
        self.mark = self.next;
    }

    /// Forget all code behind the mark.
    pub fn rewind(&mut self) {
        self.next = self.mark;
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.next[0] + self.next[1] - self.size / 8 * HOT_PART
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

    #[test]
    fn no_mapping_is_writable_and_executable() {
        let mut c = CodeCache::new(1 << 20).expect("maps");
        let next = c.next();
        c.append(&[0xc3; 100], &[0xcc; 3]).expect("fits");
        assert!(c.contains(next[0]) && c.contains(next[1]));
        let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        let ours: Vec<&str> = maps.lines().filter(|l| l.contains("vmm-code")).collect();
        assert!(ours.iter().any(|l| l.contains("r-xs")) && ours.iter().any(|l| l.contains("rw-s")), "{ours:?}");
        assert!(!maps.lines().any(|l| l.split_whitespace().nth(1).is_some_and(|p| p.starts_with("rwx"))), "{maps}");
    }

    #[test]
    fn appends_until_full_then_rewinds_to_the_mark() {
        let mut c = CodeCache::new(1 << 16).expect("maps");
        c.append(&[1; 64], &[2; 32]).expect("fits");
        c.set_mark();
        let start = c.next();
        let mut n = 0;
        while c.append(&[3; 1000], &[4; 10]).is_ok() {
            n += 1;
        }
        assert!((30..45).contains(&n), "{n}");
        c.rewind();
        assert_eq!(c.next(), start);
    }

    #[test]
    fn patches_only_aligned_fields_inside() {
        let mut c = CodeCache::new(1 << 16).expect("maps");
        let [hot, _] = c.next();
        c.append(&[0x90, 0x90, 0x90, 0xe9, 0, 0, 0, 0], &[]).expect("fits");
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
