//! Loads, stores and atomics on guest RAM through host pointers: the innermost part of every memory instruction.
//!
//! Guest vCPUs race with each other by design. Plain accesses are volatile (exactly one host access, never invented or merged), ordered and atomic ones
//! are host atomics, so the compiler never assumes that memory stands still. A [`HostAddress`] can only be made by [`crate::mmu::Tlb`] and [`crate::Ram`] for bytes that are mapped RAM.
#![expect(unsafe_code, reason = "guest RAM is raw memory shared with other vCPUs and devices")]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Host address of guest RAM. Invariant: made from [`crate::Ram::host`] of the page, so the whole 4 KiB page around it is mapped, readable and writable.
#[derive(Debug, Clone, Copy)]
pub struct HostAddress(usize);

/// Read-modify-write operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rmw {
    /// Addition.
    Add,
    /// And with the complement.
    Clear,
    /// Exclusive or.
    Eor,
    /// Or.
    Set,
    /// Signed maximum.
    SignedMax,
    /// Signed minimum.
    SignedMin,
    /// Unsigned maximum.
    UnsignedMax,
    /// Unsigned minimum.
    UnsignedMin,
    /// Exchange.
    Swap,
}

/// Any alignment; volatile accesses of it are one host access.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned<T: Copy>(T);

macro_rules! rmw {
    ($atomic:ty, $unsigned:ty, $signed:ty, $ptr:expr, $op:expr, $value:expr) => {{
        // SAFETY: aligned by the caller's check, mapped RAM by HostAddress's invariant.
        let cell = unsafe { <$atomic>::from_ptr($ptr) };
        let v = $value as $unsigned;
        const O: Ordering = Ordering::SeqCst;
        u64::from(match $op {
            Rmw::Add => cell.fetch_add(v, O),
            Rmw::Clear => cell.fetch_and(!v, O),
            Rmw::Eor => cell.fetch_xor(v, O),
            Rmw::Set => cell.fetch_or(v, O),
            Rmw::Swap => cell.swap(v, O),
            Rmw::UnsignedMax => cell.fetch_max(v, O),
            Rmw::UnsignedMin => cell.fetch_min(v, O),
            Rmw::SignedMax => {
                cell.fetch_update(O, O, |old| Some((old as $signed).max(v as $signed) as $unsigned)).unwrap_or(0)
            }
            Rmw::SignedMin => {
                cell.fetch_update(O, O, |old| Some((old as $signed).min(v as $signed) as $unsigned)).unwrap_or(0)
            }
        })
    }};
}

impl HostAddress {
    /// From an address that the TLB or `Ram::host` gave for mapped RAM.
    #[inline(always)]
    pub(crate) fn from_ram(address: usize) -> HostAddress {
        HostAddress(address)
    }

    /// The number, for the fast table.
    #[inline(always)]
    pub(crate) fn number(self) -> usize {
        self.0
    }

    #[inline(always)]
    fn ptr<T>(self) -> *mut T {
        std::ptr::with_exposed_provenance_mut(self.0)
    }

    /// Plain load of 1, 2, 4 or 8 bytes, zero-extended; they must not leave the page.
    #[inline(always)]
    pub(crate) fn load(self, size: u64) -> u64 {
        debug_assert!(self.0 & 0xfff <= 4096 - size as usize);
        // SAFETY: the bytes are on the mapped page (invariant, and callers check the page end); the packed type has no alignment need.
        unsafe {
            match size {
                1 => u64::from(self.ptr::<u8>().read_volatile()),
                2 => u64::from(u16::from_le(self.ptr::<Unaligned<u16>>().read_volatile().0)),
                4 => u64::from(u32::from_le(self.ptr::<Unaligned<u32>>().read_volatile().0)),
                _ => u64::from_le(self.ptr::<Unaligned<u64>>().read_volatile().0),
            }
        }
    }

    /// Plain store of 1, 2, 4 or 8 bytes; they must not leave the page.
    #[inline(always)]
    pub(crate) fn store(self, size: u64, value: u64) {
        debug_assert!(self.0 & 0xfff <= 4096 - size as usize);
        // SAFETY: as in `load`.
        unsafe {
            match size {
                1 => self.ptr::<u8>().write_volatile(value as u8),
                2 => self.ptr::<Unaligned<u16>>().write_volatile(Unaligned((value as u16).to_le())),
                4 => self.ptr::<Unaligned<u32>>().write_volatile(Unaligned((value as u32).to_le())),
                _ => self.ptr::<Unaligned<u64>>().write_volatile(Unaligned(value.to_le())),
            }
        }
    }

    /// Plain load of 16 bytes: two halves.
    #[inline(always)]
    pub(crate) fn load128(self) -> u128 {
        u128::from(self.load(8)) | u128::from(HostAddress(self.0 + 8).load(8)) << 64
    }

    /// Plain store of 16 bytes: two halves.
    #[inline(always)]
    pub(crate) fn store128(self, value: u128) {
        self.store(8, value as u64);
        HostAddress(self.0 + 8).store(8, (value >> 64) as u64);
    }

    /// Load-acquire (sequentially consistent with store-releases, as LDAR and STLR are); aligned.
    #[inline]
    pub(crate) fn load_acquire(self, size: u64) -> u64 {
        debug_assert!(self.0.is_multiple_of(size as usize));
        const O: Ordering = Ordering::SeqCst;
        // SAFETY: aligned (callers raise alignment faults before), mapped by the invariant.
        unsafe {
            match size {
                1 => u64::from(AtomicU8::from_ptr(self.ptr()).load(O)),
                2 => u64::from(u16::from_le(AtomicU16::from_ptr(self.ptr()).load(O))),
                4 => u64::from(u32::from_le(AtomicU32::from_ptr(self.ptr()).load(O))),
                _ => u64::from_le(AtomicU64::from_ptr(self.ptr()).load(O)),
            }
        }
    }

    /// Store-release, sequentially consistent; aligned.
    #[inline]
    pub(crate) fn store_release(self, size: u64, value: u64) {
        debug_assert!(self.0.is_multiple_of(size as usize));
        const O: Ordering = Ordering::SeqCst;
        // SAFETY: as in `load_acquire`.
        unsafe {
            match size {
                1 => AtomicU8::from_ptr(self.ptr()).store(value as u8, O),
                2 => AtomicU16::from_ptr(self.ptr()).store((value as u16).to_le(), O),
                4 => AtomicU32::from_ptr(self.ptr()).store((value as u32).to_le(), O),
                _ => AtomicU64::from_ptr(self.ptr()).store(value.to_le(), O),
            }
        }
    }

    /// Atomic read-modify-write; aligned. Gives the old value. (Little-endian hosts only: arithmetic is done in place.)
    #[inline]
    pub(crate) fn rmw(self, size: u64, op: Rmw, value: u64) -> u64 {
        debug_assert!(self.0.is_multiple_of(size as usize));
        match size {
            1 => rmw!(AtomicU8, u8, i8, self.ptr(), op, value),
            2 => rmw!(AtomicU16, u16, i16, self.ptr(), op, value),
            4 => rmw!(AtomicU32, u32, i32, self.ptr(), op, value),
            _ => rmw!(AtomicU64, u64, i64, self.ptr(), op, value),
        }
    }

    /// Atomic compare and exchange of 1, 2, 4 or 8 aligned bytes: gives the old value.
    #[inline]
    pub(crate) fn compare_exchange(self, size: u64, expected: u64, new: u64) -> u64 {
        debug_assert!(self.0.is_multiple_of(size as usize));
        const O: Ordering = Ordering::SeqCst;
        // SAFETY: as in `load_acquire`.
        unsafe {
            match size {
                1 => {
                    let c = AtomicU8::from_ptr(self.ptr());
                    u64::from(c.compare_exchange(expected as u8, new as u8, O, O).unwrap_or_else(|old| old))
                }
                2 => {
                    let c = AtomicU16::from_ptr(self.ptr());
                    u64::from(c.compare_exchange(expected as u16, new as u16, O, O).unwrap_or_else(|old| old))
                }
                4 => {
                    let c = AtomicU32::from_ptr(self.ptr());
                    u64::from(c.compare_exchange(expected as u32, new as u32, O, O).unwrap_or_else(|old| old))
                }
                _ => {
                    let c = AtomicU64::from_ptr(self.ptr());
                    c.compare_exchange(expected, new, O, O).unwrap_or_else(|old| old)
                }
            }
        }
    }

    /// Atomic compare and exchange of 16 aligned bytes: gives the old value.
    #[inline]
    pub(crate) fn compare_exchange128(self, expected: u128, new: u128) -> u128 {
        debug_assert!(self.0.is_multiple_of(16));
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("cmpxchg16b") {
            let (mut low, mut high) = (expected as u64, (expected >> 64) as u64);
            // SAFETY: the host has the instruction; 16 mapped bytes, 16-byte aligned; RBX, which the compiler keeps for itself, is exchanged in and
            // restored. (The library's cmpxchg16b needs the feature enabled for the whole crate, else it calls a libatomic that is not there.)
            unsafe {
                core::arch::asm!(
                    "xchg rsi, rbx",
                    "lock cmpxchg16b [rdi]",
                    "mov rbx, rsi",
                    in("rdi") self.ptr::<u128>(),
                    inout("rsi") new as u64 => _,
                    in("rcx") (new >> 64) as u64,
                    inout("rax") low,
                    inout("rdx") high,
                    options(nostack),
                );
            }
            return u128::from(low) | u128::from(high) << 64;
        }
        self.compare_exchange128_locked(expected, new)
    }

    /// On hosts without a 16-byte compare and exchange: atomic among vCPUs that use 16-byte atomics, which is what guests pair with each other.
    #[cold]
    fn compare_exchange128_locked(self, expected: u128, new: u128) -> u128 {
        static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let old = self.load128();
        if old == expected {
            self.store128(new);
        }
        old
    }

    /// Zeroes 64 aligned bytes (DC ZVA).
    #[inline]
    pub(crate) fn zero64(self) {
        for i in 0..8 {
            HostAddress(self.0 + 8 * i).store(8, 0);
        }
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "guest RAM is accessed in place: the host must be little-endian");
