//! Which pages hold translated or decoded code, and when that became stale. By the architecture's own rule (CTR_EL0.DIC = 0): code changes are announced by
//! IC IVAU, IC IALLU(IS), and by every write that the VMM itself makes.
//!
//! Protocol: an engine calls [`CodeEpochs::begin`] *before* it reads guest words of a page; it keeps the stamp with what it made of them, and compares it at each
//! context synchronisation event (ISB, exception entry, ERET) and when it enters the page. A stale stamp means: throw it away.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use protocols::Stamp;

use crate::ram::{Ram, zeroed_atomics};

/// What an engine keeps with the code that it made of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeStamp {
    /// Version of the page, bit 0 = 1.
    pub version: u32,
    /// Generation of all code.
    pub generation: u64,
}

/// What one counted change was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeChange {
    /// Code of this page.
    Page(usize),
    /// All code, or it is not known any more which.
    Any,
}

/// Changes that [`CodeEpochs::change`] still knows.
const LOG: usize = 256;
/// In the log: all pages.
const ALL_PAGES: u32 = u32::MAX;

/// Per page: bit 0 = "somebody made code of it", bits 31..1 = version. And one generation for all.
#[derive(Debug)]
pub struct CodeEpochs {
    pages: Box<[AtomicU32]>,
    generation: AtomicU64,
    changes: AtomicU64,
    /// The last changes: number (low half) << 32 | page.
    log: [AtomicU64; LOG],
}

impl CodeEpochs {
    /// For all pages of `ram`.
    pub fn new(ram: &Ram) -> CodeEpochs {
        CodeEpochs {
            pages: zeroed_atomics(ram.pages()),
            generation: AtomicU64::new(1),
            changes: AtomicU64::new(0),
            log: [const { AtomicU64::new(u64::MAX) }; LOG],
        }
    }

    /// Marks the page (index by [`Ram::page_index`]) as code. Call before reading its words.
    pub fn begin(&self, page: usize) -> CodeStamp {
        let generation = self.generation.load(Ordering::SeqCst);
        let version = self.pages.get(page).map_or(1, |p| Stamp(p).begin());
        CodeStamp { version, generation }
    }

    /// True while what was made under this stamp is what the architecture asks to be executed.
    #[inline]
    pub fn is_current(&self, page: usize, stamp: CodeStamp) -> bool {
        self.generation.load(Ordering::Acquire) == stamp.generation
            && self.pages.get(page).is_some_and(|p| Stamp(p).is_current(stamp.version))
    }

    /// True when somebody made code of the page since its last invalidation.
    #[inline]
    pub fn has_code(&self, page: usize) -> bool {
        self.pages.get(page).is_some_and(|p| Stamp(p).has_code())
    }

    /// IC IVAU of a byte of the page. True when there was code.
    pub fn invalidate_page(&self, page: usize) -> bool {
        let hit = self.pages.get(page).is_some_and(|p| Stamp(p).invalidate());
        if hit {
            self.count(u32::try_from(page).unwrap_or(ALL_PAGES));
        }
        hit
    }

    /// IC IALLU, IC IALLUIS, reset, restore: all code of the VM.
    pub fn invalidate_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.count(ALL_PAGES);
    }

    /// The versions have changed already: count it, and note what it was.
    fn count(&self, page: u32) {
        let n = self.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(slot) = self.log.get(n as usize % LOG) {
            slot.store((n & 0xffff_ffff) << 32 | u64::from(page), Ordering::Release);
        }
    }

    /// What the change was that raised [`CodeEpochs::changes`] from `n`. Whoever is late, or early, is told [`CodeChange::Any`].
    pub fn change(&self, n: u64) -> CodeChange {
        let slot = self.log.get(n as usize % LOG).map_or(u64::MAX, |slot| slot.load(Ordering::Acquire));
        let page = slot as u32;
        if slot >> 32 == n & 0xffff_ffff && page != ALL_PAGES {
            CodeChange::Page(page as usize)
        } else {
            CodeChange::Any
        }
    }

    /// A write by the VMM itself to `len` bytes at `pa`.
    pub fn invalidate_range(&self, ram: &Ram, pa: u64, len: u64) {
        let mut page = pa & !0xfff;
        let end = pa.saturating_add(len);
        while page < end {
            if let Some(index) = ram.page_index(page) {
                self.invalidate_page(index);
            }
            let Some(next) = page.checked_add(4096) else { return };
            page = next;
        }
    }

    /// Number of invalidations that hit code so far: an engine that has seen this number need not look at its pages again.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The word behind [`CodeEpochs::changes`], for an engine whose generated code compares it.
    pub fn changes_word(&self) -> *const AtomicU64 {
        &raw const self.changes
    }

    /// The generation of all code (bumped by [`CodeEpochs::invalidate_all`]).
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
