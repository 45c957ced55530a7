//! Which fragment stands for which guest code, and how fragments are linked.
//!
//! Fragments belong to code pages, keyed by physical page, [`Mode`] and, at EL1, the virtual page (at EL0 code is position independent in its page, so
//! that processes share libraries). Links between pages exist at EL1 only and are remembered by the target's virtual page: TLB maintenance of that page cuts them.

use std::collections::HashMap;

use cpu::{CodeEpochs, CodeStamp};

use crate::cache::CodeCache;
use crate::t1::builder::Mode;

/// What identifies a code page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageKey {
    /// Index of the physical page in RAM.
    pub page: usize,
    /// State its code is specialised for.
    pub mode: u8,
    /// Virtual page at EL1, 0 at EL0.
    pub va: u64,
}

impl PageKey {
    /// Key of the page at virtual page `va` in `mode`.
    #[must_use]
    pub fn new(page: usize, mode: Mode, va: u64) -> PageKey {
        PageKey { page, mode: mode.index(), va: if mode.el1 { va & !0xfff } else { 0 } }
    }
}

/// Multiplicative hashing: the keys are page numbers, which no attacker gains by colliding in a table of its own vCPU.
#[derive(Default, Clone, Copy, Debug)]
pub struct PageHasher(u64);

impl std::hash::Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }
    fn write_u8(&mut self, v: u8) {
        self.write_u64(u64::from(v));
    }
    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(5) ^ v).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }
}

/// Builds [`PageHasher`]s.
pub type ByPage = std::hash::BuildHasherDefault<PageHasher>;

/// A number in the fragment table; 0 is none.
pub type FragmentId = u32;

/// One translated unit.
#[derive(Debug)]
pub struct Fragment {
    /// Host address.
    pub host: u64,
    /// It does not read NZCV at its entry.
    pub flags_dead: bool,
    /// Exits of others that are linked to it.
    incoming: Vec<u32>,
    live: bool,
}

/// The fragments of one code page.
#[derive(Debug)]
pub struct CodePage {
    /// By instruction index.
    entries: Box<[FragmentId; 1024]>,
    /// Version of the guest code.
    pub stamp: CodeStamp,
}

/// A direct exit with the host addresses that linking patches.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// Target relative to the page of the fragment.
    pub target: i64,
    /// Field of the hot branch.
    pub hot_field: u64,
    /// Stub as the hot branch reaches it when unlinked.
    pub stub: u64,
    /// Stub without the store of the flags.
    pub clean_stub: u64,
    /// Field of the stub's jump.
    pub stub_field: u64,
    /// Where that jump goes when unlinked.
    pub unlinked: u64,
    /// The stub must run.
    pub needs_stub: bool,
    /// Linked to this fragment, 0 = not.
    pub linked: FragmentId,
}

/// All fragments of one vCPU.
#[derive(Debug, Default)]
pub struct Fragments {
    pages: HashMap<PageKey, CodePage, ByPage>,
    table: Vec<Fragment>,
    exits: Vec<Exit>,
    /// EL1 exits to other pages, by target virtual page.
    far_links: HashMap<u64, Vec<u32>, ByPage>,
}

impl Fragments {
    /// None.
    #[must_use]
    pub fn new() -> Fragments {
        let mut f = Fragments::default();
        f.clear();
        f
    }

    /// Forget everything (the code cache is rewound).
    pub fn clear(&mut self) {
        self.pages.clear();
        self.table.clear();
        self.table.push(Fragment { host: 0, flags_dead: false, incoming: Vec::new(), live: false });
        self.exits.clear();
        self.far_links.clear();
    }

    /// Number of exits made so far.
    #[must_use]
    pub fn exit_count(&self) -> u32 {
        u32::try_from(self.exits.len()).unwrap_or(u32::MAX)
    }

    /// The fragment at `offset` of a page, if its code is current; a page whose code changed is dropped.
    pub fn find(&mut self, key: PageKey, offset: u64, code: &CodeEpochs, cache: &CodeCache) -> Option<FragmentId> {
        let page = self.pages.get(&key)?;
        if !code.is_current(key.page, page.stamp) {
            self.drop_page(key, cache);
            return None;
        }
        let id = page.entries[(offset as usize >> 2) & 1023];
        (id != 0).then_some(id)
    }

    /// The page, made if there is none.
    pub fn page(&mut self, key: PageKey, stamp: impl FnOnce() -> CodeStamp) -> CodeStamp {
        self.pages.entry(key).or_insert_with(|| CodePage { entries: Box::new([0; 1024]), stamp: stamp() }).stamp
    }

    /// Enter a fragment.
    pub fn insert(
        &mut self,
        key: PageKey,
        offset: u64,
        host: u64,
        flags_dead: bool,
        exits: impl Iterator<Item = Exit>,
    ) -> FragmentId {
        let id = u32::try_from(self.table.len()).unwrap_or(0);
        self.table.push(Fragment { host, flags_dead, incoming: Vec::new(), live: true });
        if let Some(page) = self.pages.get_mut(&key) {
            page.entries[(offset as usize >> 2) & 1023] = id;
        }
        self.exits.extend(exits);
        id
    }

    /// A fragment.
    #[must_use]
    pub fn get(&self, id: FragmentId) -> Option<&Fragment> {
        self.table.get(id as usize).filter(|f| f.live)
    }

    /// An exit.
    #[must_use]
    pub fn exit(&self, exit: u32) -> Option<&Exit> {
        self.exits.get(exit as usize)
    }

    /// Make `exit` branch to fragment `to`. `far`: the target's virtual page, if it is another one.
    pub fn link(&mut self, exit: u32, to: FragmentId, far: Option<u64>, cache: &CodeCache) -> bool {
        let (Some(e), Some(f)) = (self.exits.get_mut(exit as usize), self.table.get_mut(to as usize)) else {
            return false;
        };
        if e.linked != 0 || !f.live {
            return false;
        }
        let mut ok = cache.patch_rel32(e.stub_field, f.host);
        if f.flags_dead {
            ok &= cache.patch_rel32(e.hot_field, if e.needs_stub { e.clean_stub } else { f.host });
        }
        e.linked = to;
        f.incoming.push(exit);
        if let Some(va) = far {
            self.far_links.entry(va & !0xfff).or_default().push(exit);
        }
        ok
    }

    fn unlink(&mut self, exit: u32, cache: &CodeCache) {
        if let Some(e) = self.exits.get_mut(exit as usize)
            && e.linked != 0
        {
            e.linked = 0;
            cache.patch_rel32(e.hot_field, e.stub);
            cache.patch_rel32(e.stub_field, e.unlinked);
        }
    }

    /// Drop all fragments of a page: nothing leads to them any more but jump caches, which the caller clears.
    pub fn drop_page(&mut self, key: PageKey, cache: &CodeCache) {
        let Some(page) = self.pages.remove(&key) else { return };
        for id in page.entries.iter().filter(|id| **id != 0) {
            let Some(f) = self.table.get_mut(*id as usize) else { continue };
            f.live = false;
            let incoming = std::mem::take(&mut f.incoming);
            for exit in incoming {
                if self.exits.get(exit as usize).is_some_and(|e| e.linked == *id) {
                    self.unlink(exit, cache);
                }
            }
        }
    }

    /// Drop every page whose code changed; how many.
    pub fn drop_stale(&mut self, code: &CodeEpochs, cache: &CodeCache) -> usize {
        let stale: Vec<PageKey> =
            self.pages.iter().filter(|(k, p)| !code.is_current(k.page, p.stamp)).map(|(k, _)| *k).collect();
        for key in &stale {
            self.drop_page(*key, cache);
        }
        stale.len()
    }

    /// TLB maintenance of the virtual pages `first..=last`: links into them are cut.
    pub fn cut_far_links(&mut self, first: u64, last: u64, cache: &CodeCache) {
        if self.far_links.is_empty() {
            return;
        }
        let single = first & !0xfff == last & !0xfff;
        let pages: Vec<u64> = if single {
            self.far_links.contains_key(&(first & !0xfff)).then_some(first & !0xfff).into_iter().collect()
        } else {
            self.far_links.keys().copied().filter(|va| (first..=last).contains(va)).collect()
        };
        for va in pages {
            for exit in self.far_links.remove(&va).unwrap_or_default() {
                self.unlink(exit, cache);
            }
        }
    }
}
