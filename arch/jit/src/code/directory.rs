//! Which code stands for which guest code: read without a lock by every vCPU, changed under the lock of the code space.
//!
//! By physical page there is a list of [`Page`]s, one for each [`PageKey`]; a page leads to blocks of [`BLOCK`] entries, one entry per instruction: the offset
//! of a fragment in the code cache, in units of 16 bytes, or 0. A page or block that was taken out is used again only after a grace period, so a reader
//! that found it at a safepoint may go on reading. Numbers count from 1; 0 is none.
#![expect(unsafe_code, reason = "says which of its items may be zeros")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cpu::CodeStamp;

use super::slab::Slab;
use crate::hugepages::{Arena, HugeBox, Zero};
use crate::t1::builder::Mode;

/// Instructions of one block.
const BLOCK: usize = 32;
/// Blocks of a page.
const BLOCKS: usize = 1024 / BLOCK;

/// What identifies a code page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageKey {
    /// Index of the physical page in RAM.
    pub page: usize,
    /// State its code is specialised for.
    pub mode: u8,
    /// Virtual page, if code of this mode is linked to other pages, else 0.
    pub va: u64,
    /// Who may share links to other pages (see `CodeSpace::space`), else 0.
    pub space: u32,
}

impl PageKey {
    /// Key of the page at virtual page `va` in `mode`.
    #[must_use]
    pub fn new(page: usize, mode: Mode, va: u64, space: u32) -> PageKey {
        let (va, space) = if mode.far { (va & !0xfff, space) } else { (0, 0) };
        PageKey { page, mode: mode.index(), va, space }
    }
}

/// The entries of one code page. All fields but `next` and the entries are constant from its publication to its removal.
#[derive(Debug)]
pub struct Page {
    physical: AtomicU32,
    mode: AtomicU32,
    space: AtomicU32,
    /// The next page of the same physical page.
    next: AtomicU32,
    va: AtomicU64,
    version: AtomicU32,
    generation: AtomicU64,
    blocks: [AtomicU32; BLOCKS],
}

impl Page {
    fn is(&self, key: &PageKey) -> bool {
        self.mode.load(Ordering::Relaxed) == u32::from(key.mode)
            && self.va.load(Ordering::Relaxed) == key.va
            && self.space.load(Ordering::Relaxed) == key.space
    }

    /// What identifies it.
    #[must_use]
    pub fn key(&self) -> PageKey {
        PageKey {
            page: self.physical.load(Ordering::Relaxed) as usize,
            mode: u8::try_from(self.mode.load(Ordering::Relaxed)).unwrap_or(0),
            va: self.va.load(Ordering::Relaxed),
            space: self.space.load(Ordering::Relaxed),
        }
    }

    /// Version of the guest code that its fragments stand for.
    #[must_use]
    pub fn stamp(&self) -> CodeStamp {
        CodeStamp { version: self.version.load(Ordering::Relaxed), generation: self.generation.load(Ordering::Relaxed) }
    }
}

#[derive(Debug)]
struct Block([AtomicU32; BLOCK]);

// SAFETY: atomic integers.
unsafe impl Zero for Page {}
// SAFETY: as above.
unsafe impl Zero for Block {}

/// The directory.
#[derive(Debug)]
pub struct Directory {
    heads: HugeBox<[AtomicU32]>,
    pages: Slab<Page>,
    blocks: Slab<Block>,
}

/// Numbers of one slab: which are used, which are free. Under the lock.
#[derive(Debug)]
pub struct Numbers {
    next: u32,
    free: Vec<u32>,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { next: 1, free: Vec::new() }
    }
}

impl Numbers {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// One past the largest number ever given.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.next
    }
}

/// Pages and blocks of a directory that are used. Under the lock.
#[derive(Debug, Default)]
pub struct Used {
    /// Numbers of pages.
    pub pages: Numbers,
    blocks: Numbers,
}

/// What was taken out of the directory and waits for the end of a grace period.
#[derive(Debug, Default)]
pub struct Removed {
    pages: Vec<u32>,
    blocks: Vec<u32>,
}

impl Removed {
    /// True if there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.blocks.is_empty()
    }
}

/// Block and item of a byte offset in a page.
fn place(offset: u64) -> (usize, usize) {
    let index = (offset >> 2) as usize & 1023;
    (index / BLOCK, index % BLOCK)
}

impl Directory {
    /// For a machine with so many pages of RAM.
    #[must_use]
    pub fn new(pages: usize, arena: &Arc<Arena>) -> Directory {
        Directory { heads: HugeBox::of_zeros(arena, pages), pages: Slab::new(arena), blocks: Slab::new(arena) }
    }

    /// The number of a page.
    #[must_use]
    pub fn find(&self, key: &PageKey) -> Option<(u32, &Page)> {
        let mut number = self.heads.get(key.page)?.load(Ordering::Acquire);
        while number != 0 {
            let page = self.pages.get(number)?;
            if page.is(key) {
                return Some((number, page));
            }
            number = page.next.load(Ordering::Acquire);
        }
        None
    }

    /// A page by number.
    #[must_use]
    pub fn page(&self, number: u32) -> Option<&Page> {
        self.pages.get(number)
    }

    /// The entry at a byte offset of a page: offset of the fragment in the code cache / 16, 0 = none.
    #[must_use]
    pub fn entry(&self, page: &Page, offset: u64) -> u32 {
        let (block, item) = place(offset);
        let Some(block) = page.blocks.get(block) else { return 0 };
        let number = block.load(Ordering::Acquire);
        if number == 0 {
            return 0;
        }
        self.blocks.get(number).and_then(|b| b.0.get(item)).map_or(0, |e| e.load(Ordering::Acquire))
    }

    /// Make a page and lead to it. `None`: the slab is full.
    pub fn add(&self, key: &PageKey, stamp: CodeStamp, used: &mut Used) -> Option<u32> {
        let head = self.heads.get(key.page)?;
        let number = used.pages.take();
        let page = self.pages.grow(number)?;
        page.physical.store(u32::try_from(key.page).ok()?, Ordering::Relaxed);
        page.mode.store(u32::from(key.mode), Ordering::Relaxed);
        page.space.store(key.space, Ordering::Relaxed);
        page.va.store(key.va, Ordering::Relaxed);
        page.version.store(stamp.version, Ordering::Relaxed);
        page.generation.store(stamp.generation, Ordering::Relaxed);
        for b in &page.blocks {
            b.store(0, Ordering::Relaxed);
        }
        page.next.store(head.load(Ordering::Relaxed), Ordering::Relaxed);
        head.store(number, Ordering::Release);
        Some(number)
    }

    /// Set an entry of a page. Its code must be complete. False: no room.
    pub fn set_entry(&self, page: &Page, offset: u64, value: u32, used: &mut Used) -> bool {
        let (block, item) = place(offset);
        let Some(cell) = page.blocks.get(block) else { return false };
        let mut number = cell.load(Ordering::Relaxed);
        if number == 0 {
            if value == 0 {
                return true;
            }
            number = used.blocks.take();
            let Some(fresh) = self.blocks.grow(number) else { return false };
            for e in &fresh.0 {
                e.store(0, Ordering::Relaxed);
            }
            cell.store(number, Ordering::Release);
        }
        if let Some(e) = self.blocks.get(number).and_then(|b| b.0.get(item)) {
            e.store(value, Ordering::Release);
        }
        true
    }

    /// All entries of a page: byte offset and value.
    pub fn entries<'a>(&'a self, page: &'a Page) -> impl Iterator<Item = (u64, u32)> + 'a {
        page.blocks.iter().enumerate().flat_map(move |(b, cell)| {
            let block = match cell.load(Ordering::Relaxed) {
                0 => None,
                number => self.blocks.get(number),
            };
            block.into_iter().flat_map(move |block| {
                block.0.iter().enumerate().map(move |(i, e)| ((b * BLOCK + i) as u64 * 4, e.load(Ordering::Relaxed)))
            })
        })
    }

    /// The pages of a physical page.
    pub fn of_physical(&self, physical: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let mut number = self.heads.get(physical).map_or(0, |h| h.load(Ordering::Relaxed));
        while number != 0 {
            found.push(number);
            number = self.pages.get(number).map_or(0, |p| p.next.load(Ordering::Relaxed));
        }
        found
    }

    /// Lead to a page no more; readers may still be in it.
    pub fn remove(&self, number: u32, removed: &mut Removed) {
        let Some(page) = self.pages.get(number) else { return };
        let next = page.next.load(Ordering::Relaxed);
        let physical = page.physical.load(Ordering::Relaxed) as usize;
        let Some(head) = self.heads.get(physical) else { return };
        if head.load(Ordering::Relaxed) == number {
            head.store(next, Ordering::Release);
        } else {
            let mut at = head.load(Ordering::Relaxed);
            while at != 0 {
                let Some(p) = self.pages.get(at) else { return };
                at = p.next.load(Ordering::Relaxed);
                if at == number {
                    p.next.store(next, Ordering::Release);
                    break;
                }
            }
        }
        removed.pages.push(number);
        removed.blocks.extend(page.blocks.iter().map(|b| b.load(Ordering::Relaxed)).filter(|n| *n != 0));
    }

    /// Nobody reads these any more.
    pub fn free(&self, removed: Removed, used: &mut Used) {
        used.pages.free.extend(removed.pages);
        used.blocks.free.extend(removed.blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: CodeStamp = CodeStamp { version: 1, generation: 1 };

    fn key(page: usize, va: u64) -> PageKey {
        PageKey { page, mode: 3, va, space: 1 }
    }

    #[test]
    fn pages_of_one_physical_page_are_told_apart() {
        let d = Directory::new(8, &Arena::new(true));
        let mut used = Used::default();
        let numbers: Vec<u32> = (0..3).map(|n| d.add(&key(5, n << 12), STAMP, &mut used).expect("room")).collect();
        for (n, number) in numbers.iter().enumerate() {
            let (found, page) = d.find(&key(5, (n as u64) << 12)).expect("added");
            assert_eq!((found, page.key()), (*number, key(5, (n as u64) << 12)));
            assert!(d.set_entry(page, 0x7c + n as u64 * 4, 9 + n as u32, &mut used));
            assert_eq!(d.entry(page, 0x7c + n as u64 * 4), 9 + n as u32);
            assert_eq!(d.entry(page, 0xffc), 0);
        }
        assert!(d.find(&key(4, 0)).is_none() && d.find(&key(8, 0)).is_none());
        let mut removed = Removed::default();
        d.remove(numbers[1], &mut removed);
        assert!(d.find(&key(5, 1 << 12)).is_none() && d.find(&key(5, 0)).is_some());
        assert_eq!(d.of_physical(5), [numbers[2], numbers[0]]);
        d.free(removed, &mut used);
        assert_eq!(d.add(&key(2, 0), STAMP, &mut used), Some(numbers[1]));
        let page = d.page(numbers[1]).expect("there");
        assert_eq!(d.entries(page).filter(|(_, e)| *e != 0).count(), 0);
    }
}
