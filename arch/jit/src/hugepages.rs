//! Memory for what generated code reads all the time: in huge pages, where the host has them.
//!
//! A guest touches code, translation tables and jump caches all over, and each 4 KiB page of those is one more entry in the host's TLB, whose misses are dear
//! (in a virtual machine doubly so). Tables therefore come out of an [`Arena`] of transparent huge pages; the code cache, which is shared memory, has its
//! blocks collapsed ([`collapse`]) by a thread of its own. Where the host declines nothing changes but speed.
#![expect(unsafe_code, reason = "maps memory, and hands out pieces of it as boxes")]

use std::alloc::Layout;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

/// Bytes of a huge page.
pub const HUGE: usize = 2 << 20;

/// Address space that an arena takes at a time; memory is used as it is touched.
const MAPPING: usize = 16 * HUGE;
/// Smallest piece of an arena that is given back before the arena.
const LARGE: usize = 256 << 10;

/// Address space for `size` bytes at a multiple of [`HUGE`], not accessible yet.
///
/// # Errors
/// mmap failed.
pub fn reserve(size: usize) -> io::Result<*mut u8> {
    let longer = size.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses; the result is checked.
    let mapping = unsafe { libc::mmap(std::ptr::null_mut(), longer, libc::PROT_NONE, flags, -1, 0) };
    if mapping == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let head = mapping.addr().next_multiple_of(HUGE) - mapping.addr();
    let start = mapping.wrapping_byte_add(head);
    // Only whole pages can be given back; failing to do so costs address space.
    let (end, tail) = (start.wrapping_byte_add(size.next_multiple_of(4096)), HUGE - head);
    for (at, len) in [(mapping, head), (end, tail - (size.next_multiple_of(4096) - size))] {
        if len != 0 {
            // SAFETY: a part of the mapping just made, which nobody uses.
            unsafe { libc::munmap(at, len) };
        }
    }
    Ok(start.cast())
}

/// Asks for one huge page behind the [`HUGE`] bytes of shared memory at `start`. Contents stay; a host that declines costs speed only.
///
/// # Safety
/// The bytes are a shared mapping at a multiple of [`HUGE`], writable.
pub unsafe fn collapse(start: *mut u8) {
    const MADV_COLLAPSE: i32 = 25;
    // An extent without any page cannot be collapsed.
    // SAFETY: a mapping of the caller's; neither advice changes contents.
    unsafe {
        if libc::madvise(start.cast(), 4096, libc::MADV_POPULATE_WRITE) == 0 {
            libc::madvise(start.cast(), HUGE, MADV_COLLAPSE);
        }
    }
}

/// Memory that grows by huge pages and is given back as a whole when nothing of it is used any more; large pieces by themselves.
#[derive(Debug)]
pub struct Arena {
    huge: bool,
    pieces: Mutex<Pieces>,
}

#[derive(Debug, Default)]
struct Pieces {
    /// Start and bytes of each mapping.
    mappings: Vec<(usize, usize)>,
    /// What is left of the last.
    free: (usize, usize),
    /// Large pieces that were given back: place and layout.
    returned: Vec<(NonNull<u8>, Layout)>,
}

// SAFETY: places in the arena's mappings that nobody uses.
unsafe impl Send for Pieces {}

impl Arena {
    /// Nothing yet. `huge`: ask for huge pages.
    #[must_use]
    pub fn new(huge: bool) -> Arc<Arena> {
        Arc::new(Arena { huge, pieces: Mutex::default() })
    }

    /// Zeroed memory; the process ends if there is none, as with `Box`.
    fn take(&self, layout: Layout) -> NonNull<u8> {
        let mut p = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = p.returned.iter().position(|(_, l)| *l == layout) {
            let (at, _) = p.returned.swap_remove(n);
            // SAFETY: a piece of the arena of this size, which nobody uses.
            unsafe { at.write_bytes(0, layout.size()) };
            return at;
        }
        let size = layout.size().next_multiple_of(64);
        let align = layout.align().max(64);
        let fits = |free: (usize, usize)| {
            let at = free.0.next_multiple_of(align);
            (at.saturating_add(size) <= free.1 && free.0 != 0).then_some(at)
        };
        let at = fits(p.free).unwrap_or_else(|| {
            let bytes = size.next_multiple_of(HUGE).max(MAPPING);
            let Ok(start) = self.map(bytes) else { std::alloc::handle_alloc_error(layout) };
            p.mappings.push((start, bytes));
            // What is left over is used if it is more than what was.
            if bytes - size >= p.free.1 - p.free.0 {
                p.free = (start, start + bytes);
            }
            start
        });
        if fits(p.free) == Some(at) {
            p.free.0 = at + size;
        }
        NonNull::new(std::ptr::with_exposed_provenance_mut(at))
            .unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
    }

    /// A piece that `take` gave for `layout` and nobody uses any more. Small ones stay as they are.
    fn give_back(&self, at: NonNull<u8>, layout: Layout) {
        if layout.size() < LARGE {
            return;
        }
        let (start, end) = (at.addr().get().next_multiple_of(4096), (at.addr().get() + layout.size()) & !4095);
        // SAFETY: whole pages inside a piece of a mapping of the arena, which nobody uses; they read as zeros afterwards.
        unsafe { libc::madvise(at.as_ptr().with_addr(start).cast(), end - start, libc::MADV_DONTNEED) };
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).returned.push((at, layout));
    }

    fn map(&self, bytes: usize) -> io::Result<usize> {
        let start = reserve(bytes)?;
        // SAFETY: exactly the mapping just reserved.
        if unsafe { libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let advice = if self.huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: as above; advice changes no contents. Without transparent huge pages it fails, which costs speed only.
        unsafe { libc::madvise(start.cast(), bytes, advice) };
        Ok(start.expose_provenance())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let p = self.pieces.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (start, bytes) in &p.mappings {
            // SAFETY: a mapping of `map`; no `HugeBox` is left, as each keeps the arena.
            unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(*start), *bytes) };
        }
    }
}

/// A value in an [`Arena`]: as a `Box`, but its memory is given back with the arena.
pub struct HugeBox<T: ?Sized> {
    value: NonNull<T>,
    arena: Arc<Arena>,
}

// SAFETY: owns its value, as a `Box`.
unsafe impl<T: Send + ?Sized> Send for HugeBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync + ?Sized> Sync for HugeBox<T> {}

/// Plain data: all bytes zero are a value.
///
/// # Safety
/// They are.
pub unsafe trait Zero {}

// SAFETY: an atomic integer has the bit validity of the integer.
unsafe impl Zero for std::sync::atomic::AtomicU32 {}

impl<T: Zero> HugeBox<T> {
    /// A value whose bytes are zero. It never is on the stack.
    #[must_use]
    pub fn zero(arena: &Arc<Arena>) -> HugeBox<T> {
        // The arena's memory is zero, which is a value.
        HugeBox { value: arena.take(Layout::new::<T>()).cast(), arena: Arc::clone(arena) }
    }
}

impl<T> HugeBox<T> {
    /// Puts `value` into `arena`.
    #[must_use]
    pub fn new(arena: &Arc<Arena>, value: T) -> HugeBox<T> {
        let at = arena.take(Layout::new::<T>()).cast::<T>();
        // SAFETY: memory of the arena for this layout, which nobody else has.
        unsafe { at.write(value) };
        HugeBox { value: at, arena: Arc::clone(arena) }
    }
}

impl<T> HugeBox<[T]> {
    /// A slice of `len` values that `make` makes.
    #[must_use]
    pub fn of_slice(arena: &Arc<Arena>, len: usize, mut make: impl FnMut() -> T) -> HugeBox<[T]> {
        let Ok(layout) = Layout::array::<T>(len) else { std::alloc::handle_alloc_error(Layout::new::<T>()) };
        let at = arena.take(layout).cast::<T>();
        for i in 0..len {
            // SAFETY: inside the memory that the arena gave for `len` values. If `make` panics those before are not dropped.
            unsafe { at.add(i).write(make()) };
        }
        HugeBox { value: NonNull::slice_from_raw_parts(at, len), arena: Arc::clone(arena) }
    }
}

impl<T: Zero> HugeBox<[T]> {
    /// Zeros, which cost memory only where they are touched.
    #[must_use]
    pub fn of_zeros(arena: &Arc<Arena>, len: usize) -> HugeBox<[T]> {
        let Ok(layout) = Layout::array::<T>(len) else { std::alloc::handle_alloc_error(Layout::new::<T>()) };
        let at = arena.take(layout).cast();
        // As in `zero`.
        HugeBox { value: NonNull::slice_from_raw_parts(at, len), arena: Arc::clone(arena) }
    }
}

impl<T: ?Sized> Deref for HugeBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a value that this owns.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for HugeBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { self.value.as_mut() }
    }
}

impl<T: ?Sized> Drop for HugeBox<T> {
    fn drop(&mut self) {
        let layout = Layout::for_value(&**self);
        // SAFETY: a value that this owns, not used afterwards; its memory is the arena's.
        unsafe { self.value.drop_in_place() };
        self.arena.give_back(self.value.cast(), layout);
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for HugeBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn pieces_are_aligned_zeroed_apart_and_dropped() {
        #[repr(align(4096))]
        struct Page([u8; 4096]);
        for huge in [true, false] {
            let arena = Arena::new(huge);
            let counted = Arc::new(());
            let zeros: HugeBox<[AtomicU32]> = HugeBox::of_zeros(&arena, 3 << 20);
            let small: Vec<_> = (0..100u64).map(|n| HugeBox::new(&arena, (n, Arc::clone(&counted)))).collect();
            let mut page = HugeBox::new(&arena, Page([7; 4096]));
            let slice = HugeBox::of_slice(&arena, 300_000, || AtomicU32::new(5));
            page.0[4095] = 8;
            assert!(page.0.as_ptr().addr().is_multiple_of(4096) && page.0[..4095].iter().all(|b| *b == 7));
            assert!(zeros.iter().all(|z| z.load(Ordering::Relaxed) == 0));
            assert!(slice.iter().all(|z| z.load(Ordering::Relaxed) == 5));
            assert!(small.iter().enumerate().all(|(n, s)| s.0 == n as u64));
            assert_eq!(Arc::strong_count(&counted), 101);
            drop(small);
            assert_eq!(Arc::strong_count(&counted), 1);
            assert_eq!(arena.pieces.lock().expect("whole").mappings.len(), 1);
        }
    }

    #[test]
    fn a_large_piece_is_used_again_and_zero() {
        struct Large([u64; LARGE / 8]);
        // SAFETY: integers.
        unsafe impl Zero for Large {}
        let arena = Arena::new(true);
        let mut one: HugeBox<Large> = HugeBox::zero(&arena);
        one.0.fill(7);
        let (at, other) = (one.value, HugeBox::<Large>::zero(&arena));
        drop(one);
        let again: HugeBox<Large> = HugeBox::zero(&arena);
        assert!(again.value == at && again.value != other.value && again.0.iter().all(|n| *n == 0));
        let small = HugeBox::new(&arena, 5u64);
        let at = small.value;
        drop(small);
        assert_ne!(HugeBox::new(&arena, 5u64).value, at, "not worth it");
    }

    #[test]
    fn reserved_addresses_are_aligned() {
        for size in [4096, HUGE, 5 * HUGE + 12345] {
            let start = reserve(size).expect("address space");
            assert!(start.addr().is_multiple_of(HUGE));
            // SAFETY: the reservation just made.
            assert_eq!(unsafe { libc::munmap(start.cast(), size) }, 0);
        }
    }
}
