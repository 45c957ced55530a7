//! The translated code of a machine, shared by all its vCPUs.
//!
//! - `cache` (outside) is the memory, divided into *chunks*. A vCPU fills a chunk of its own, without a lock.
//! - `directory` says which code stands for which guest code; every vCPU reads it without a lock.
//! - `links` knows the fragments, their exits, and which exit is patched to lead where.
//! - [`Grace`] says when what was taken out can be used again.
//!
//! Publishing a fragment, linking, and taking out need the one lock of [`CodeSpace`], for well below a microsecond each. Nobody waits for another vCPU:
//! when no chunk is free yet, the interpreter executes meanwhile.
//!
//! Invariants (lock = `table`):
//! - An entry of the directory, a patched exit or a jump cache leads to live fragments only, or to dead ones whose grace period is not over.
//! - A fragment is published only if its page's stamp is current at that moment, under the lock. Who invalidates code makes the stamp stale first and counts
//!   the change afterwards; [`CodeSpace::follow`] takes out what is stale under the lock. So stale code is never published behind the back of `follow`.
//! - `drops` grows whenever live fragments were taken out; a vCPU that sees it grow forgets its jump caches before it passes its next safepoint.
#![expect(unsafe_code, reason = "hands out the right to write a part of the code cache")]

mod directory;
mod dormant;
mod filter;
mod hash;
mod idle;
mod links;
mod slab;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cpu::{CodeChange, CodeEpochs, CodeStamp};

use crate::cache::{CodeCache, Region};
use crate::hugepages::Arena;
use crate::thunks::Thunks;
use directory::{Directory, Removed, Used};
use dormant::Dormant;
use filter::PageFilter;
use idle::Bell;
use links::{Links, NewFragment};
use protocols::Grace;

pub use directory::PageKey;
pub use hash::ByPage;
pub use idle::watch;
pub use links::{ExitId, ExitSite};

/// Limits of the size of a chunk; the first holds the thunks.
const CHUNK: std::ops::RangeInclusive<usize> = (24 << 10)..=(128 << 10);
/// More than this that is retired is looked through when code changes, not only when a chunk is needed.
const RETIRED: usize = 64;
/// Drops that are remembered by the page they were of.
const DROPS: usize = 64;
/// Identities of address spaces that are remembered.
const SPACES: usize = 16;

/// A chunk that a vCPU fills.
#[derive(Debug)]
pub struct Filling {
    /// Its number.
    pub chunk: usize,
    /// The memory.
    pub region: Region,
    /// Exits of its fragments so far.
    pub exits: u32,
}

impl Filling {
    /// Number that the next exit will have.
    #[must_use]
    pub fn first_exit(&self) -> ExitId {
        (self.chunk << 16) as u32 | self.exits
    }
}

/// A fragment to be published.
#[derive(Debug)]
pub struct Publication<'a> {
    /// Its page.
    pub key: PageKey,
    /// Taken before the guest words were read.
    pub stamp: CodeStamp,
    /// Byte offset in the page.
    pub offset: u64,
    /// Offset of its code in the cache.
    pub hot: usize,
    /// It does not read NZCV at its entry.
    pub flags_dead: bool,
    /// Its exits.
    pub exits: &'a [ExitSite],
    /// The guest words that it stands for, if it may be revived when its page has changed and they have not.
    pub words: &'a [u32],
}

/// What came of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The fragment is known to all.
    Ours,
    /// Another vCPU was faster: execute this address instead; the new code is not used.
    Theirs(u64),
    /// The guest code changed meanwhile: the new code is not used.
    Stale,
}

#[derive(Debug)]
enum Retired {
    Chunk(usize),
    Directory(Removed),
}

/// In cache lines of its own: vCPUs that translate nothing read what is beside it in [`CodeSpace`].
#[derive(Debug)]
#[repr(align(128))]
struct Apart(Mutex<Table>);

#[derive(Debug)]
struct Table {
    links: Links,
    used: Used,
    /// Live fragments of each page, by number.
    live: Vec<u16>,
    free: Vec<usize>,
    /// Chunks whose memory may have been written since the host was given it back.
    touched: Vec<bool>,
    /// Chunks that are full, oldest first.
    full: VecDeque<usize>,
    /// What waits for the end of its grace period, oldest first.
    retired: VecDeque<(u64, Retired)>,
    retiring_chunks: usize,
    /// Pages with links between pages under translation, by virtual page.
    high: HashMap<u64, Vec<u32>, ByPage>,
    /// Exits that were linked to other pages since all such links were cut; some may have been cut, or be others' by now.
    far: Vec<ExitId>,
    /// Fragments whose page was changed, but perhaps not what they stand for.
    dormant: Dormant,
    spaces: VecDeque<([u64; 4], u32)>,
    next_space: u32,
    /// Code changes that were followed.
    followed: u64,
}

/// The shared code of a machine.
#[derive(Debug)]
pub struct CodeSpace {
    cache: CodeCache,
    /// Code that all fragments share.
    pub thunks: Thunks,
    /// Safepoints.
    pub grace: Grace,
    directory: Directory,
    arena: Arc<Arena>,
    drops: AtomicU64,
    /// The last drops: the virtual page whose code was taken out, or 0 for other code; and the low 12 bits of its number. Written under the lock.
    dropped: [AtomicU64; DROPS],
    trims: AtomicU64,
    trimmed: AtomicU64,
    bell: Arc<Bell>,
    /// Virtual pages that links between pages may lead into.
    linked: PageFilter,
    /// log2 of the bytes of the largest mapping through which a link between pages was made.
    widest: AtomicU8,
    chunk_size: usize,
    /// Free or retiring chunks to keep.
    reserve: usize,
    table: Apart,
}

impl CodeSpace {
    /// For `vcpus` vCPUs, RAM of `pages` pages and about `bytes` of code; `huge`: in huge pages. `thunks` makes the shared code for the address it is given.
    ///
    /// # Errors
    /// No executable memory, or `thunks`' own.
    pub fn new(
        vcpus: usize,
        pages: usize,
        bytes: usize,
        huge: bool,
        thunks: impl FnOnce(u64) -> Result<(Vec<u8>, Thunks), String>,
    ) -> Result<CodeSpace, String> {
        let least = 3 * vcpus + 4;
        let chunk_size = (bytes / (8 * vcpus + 8)).clamp(*CHUNK.start(), *CHUNK.end()) & !0xfff;
        let chunks = (bytes / chunk_size).clamp(least, 0x7fff);
        let cache = CodeCache::new((chunks + 1) * chunk_size, huge).map_err(|e| e.to_string())?;
        // SAFETY: the first region of a new cache.
        let mut head = unsafe { cache.region(0, chunk_size) }.ok_or("no room for the first chunk")?;
        let (code, thunks) = thunks(cache.address(0))?;
        cache.append(&mut head, &code, &[]).map_err(|e| e.to_string())?;
        let arena = Arena::new(huge);
        let table = Table {
            links: Links::new(chunks + 1),
            used: Used::default(),
            live: Vec::new(),
            free: (1..=chunks).rev().collect(),
            touched: vec![false; chunks + 1],
            full: VecDeque::new(),
            retired: VecDeque::new(),
            retiring_chunks: 0,
            high: HashMap::default(),
            far: Vec::new(),
            dormant: Dormant::new(pages),
            spaces: VecDeque::new(),
            next_space: 1,
            followed: 0,
        };
        Ok(CodeSpace {
            cache,
            thunks,
            grace: Grace::new(vcpus),
            directory: Directory::new(pages, &arena),
            arena,
            drops: AtomicU64::new(0),
            dropped: [const { AtomicU64::new(0) }; DROPS],
            trims: AtomicU64::new(0),
            trimmed: AtomicU64::new(0),
            bell: Arc::default(),
            linked: PageFilter::default(),
            widest: AtomicU8::new(12),
            chunk_size,
            reserve: (vcpus + 1).min(chunks / 3),
            table: Apart(Mutex::new(table)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory.
    #[must_use]
    pub fn cache(&self) -> &CodeCache {
        &self.cache
    }

    /// Where tables that belong to this code are.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Grows whenever jump caches may lead to something that was taken out.
    #[inline]
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops.load(Ordering::SeqCst)
    }

    /// The virtual pages that the drops `seen..now` were of, if all were of such pages and are still remembered; else jump caches may lead to anything dropped.
    #[must_use]
    pub fn dropped(&self, seen: u64, now: u64) -> Option<Vec<u64>> {
        if now.wrapping_sub(seen) > DROPS as u64 {
            return None;
        }
        (seen..now)
            .map(|n| {
                let word = self.dropped[n as usize % DROPS].load(Ordering::Acquire);
                (word & 0xfff == n & 0xfff && word > 0xfff).then_some(word & !0xfff)
            })
            .collect::<Option<_>>()
            // The low bits of a number come again.
            .filter(|_| self.drops().wrapping_sub(seen) < 0x1000)
    }

    /// The code for the instruction at a byte offset of a page, if it is current. Without a lock; call between safepoints.
    #[must_use]
    pub fn lookup(&self, key: &PageKey, offset: u64, code: &CodeEpochs) -> Option<u64> {
        let (_, page) = self.directory.find(key)?;
        let entry = self.directory.entry(page, offset);
        (entry != 0 && code.is_current(key.page, page.stamp())).then(|| self.host(entry))
    }

    fn host(&self, entry: u32) -> u64 {
        self.cache.address(entry as usize * 16)
    }

    /// An identity for what links between pages depend on: the table of the upper half, and the controls.
    pub fn space(&self, what: [u64; 4]) -> u32 {
        let mut t = self.lock();
        if let Some((_, id)) = t.spaces.iter().find(|(w, _)| *w == what) {
            return *id;
        }
        let id = t.next_space;
        t.next_space = id.wrapping_add(1).max(1);
        if t.spaces.len() >= SPACES {
            t.spaces.pop_front();
        }
        t.spaces.push_back((what, id));
        id
    }

    /// A chunk to fill, after `full` (if any) has become full. Takes out the oldest code if little is free; `evicted` counts the chunks.
    /// `None`: nothing is free until other vCPUs (see [`CodeSpace::laggards`]) have passed a safepoint.
    pub fn next_chunk(&self, full: Option<Filling>, evicted: &mut u64) -> Option<Filling> {
        let mut t = self.lock();
        if let Some(f) = full {
            t.full.push_back(f.chunk);
        }
        t.reclaim(&self.grace, &self.directory);
        while t.free.len() + t.retiring_chunks < self.reserve.max(1) {
            let Some(oldest) = t.full.pop_front() else { break };
            self.evict(&mut t, oldest);
            *evicted += 1;
        }
        t.reclaim(&self.grace, &self.directory);
        let chunk = t.free.pop()?;
        if let Some(touched) = t.touched.get_mut(chunk) {
            *touched = true;
        }
        let taken = t.full.len();
        drop(t);
        self.note_taken(taken);
        self.cache.prepare(chunk * self.chunk_size, self.chunk_size);
        // SAFETY: a chunk is free if nobody fills it and nobody has pointers into it: new, or after its grace period.
        let region = unsafe { self.cache.region(chunk * self.chunk_size, self.chunk_size) }?;
        Some(Filling { chunk, region, exits: 0 })
    }

    /// The vCPUs that keep chunks from being free.
    #[must_use]
    pub fn laggards(&self) -> Vec<usize> {
        let t = self.lock();
        t.retired.back().map(|(epoch, _)| self.grace.waits_for(*epoch).collect()).unwrap_or_default()
    }

    fn evict(&self, t: &mut Table, chunk: usize) {
        let mut removed = Removed::default();
        t.dormant.forget_chunk(chunk);
        for id in t.links.of_chunk(chunk) {
            self.kill(t, id, &mut removed);
        }
        let epoch = self.retire(t, removed, &[0]);
        t.retired.push_back((epoch, Retired::Chunk(chunk)));
        t.retiring_chunks += 1;
    }

    /// Fragments were taken out of these virtual pages (0: other code): says so, and keeps what they had for a grace period.
    fn retire(&self, t: &mut Table, removed: Removed, pages: &[u64]) -> u64 {
        let pages = if pages.len() < DROPS { pages } else { &[0] };
        for page in pages {
            // Under the lock nobody else writes it.
            let n = self.drops.load(Ordering::Relaxed);
            self.dropped[n as usize % DROPS].store(page & !0xfff | n & 0xfff, Ordering::Release);
            self.drops.store(n.wrapping_add(1), Ordering::SeqCst);
        }
        let epoch = self.grace.begin();
        if !removed.is_empty() {
            t.retired.push_back((epoch, Retired::Directory(removed)));
        }
        epoch
    }

    /// Take a fragment out of everything but jump caches; its page too, if it was the last there.
    fn kill(&self, t: &mut Table, id: u32, removed: &mut Removed) {
        let Some(f) = t.links.fragment(id) else { return };
        let (number, offset, entry) = (f.page, u64::from(f.offset), f.hot / 16);
        if !t.links.kill(id, &self.cache) {
            return;
        }
        let Some(page) = self.directory.page(number) else { return };
        if self.directory.entry(page, offset) == entry {
            self.directory.set_entry(page, offset, 0, &mut t.used);
        }
        let live = &mut t.live[number as usize];
        *live = live.saturating_sub(1);
        if *live == 0 {
            t.remove_page(&self.directory, number, removed);
        }
    }

    fn drop_page(&self, t: &mut Table, number: u32, removed: &mut Removed) {
        let Some(page) = self.directory.page(number) else { return };
        let entries: Vec<u32> = self.directory.entries(page).map(|(_, e)| e).filter(|e| *e != 0).collect();
        let key = page.key();
        for entry in entries {
            if let Some(id) = self.fragment_at(t, entry) {
                if let Some(f) = t.links.fragment(id).filter(|_| t.links.words(id).is_some()) {
                    t.dormant.insert(key, f.offset, id);
                }
                self.kill(t, id, removed);
            }
        }
    }

    fn fragment_at(&self, t: &Table, entry: u32) -> Option<u32> {
        t.links.at(entry as usize * 16 / self.chunk_size, entry * 16)
    }

    /// Make a fragment known. Its code is complete.
    pub fn publish(&self, filling: &Filling, p: &Publication<'_>, code: &CodeEpochs) -> Published {
        let mut t = self.lock();
        let t = &mut *t;
        if !code.is_current(p.key.page, p.stamp) {
            return Published::Stale;
        }
        let number = match self.place(t, &p.key, p.stamp, p.offset) {
            Ok(number) => number,
            Err(published) => return published,
        };
        let Some(page) = self.directory.page(number) else { return Published::Stale };
        #[expect(clippy::cast_possible_truncation, reason = "offsets in a page and in a cache of at most 1 GiB")]
        let (offset, hot) = (p.offset as u16 & 0xffc, p.hot as u32);
        let new = NewFragment { hot, page: number, offset, flags_dead: p.flags_dead, exits: p.exits, words: p.words };
        t.links.add(filling.chunk, &new);
        t.live[number as usize] += 1;
        self.directory.set_entry(page, p.offset, hot / 16, &mut t.used);
        Published::Ours
    }

    /// The number of the page that a fragment for the instruction at `offset` belongs to, made if need be; or why it is not published.
    fn place(&self, t: &mut Table, key: &PageKey, stamp: CodeStamp, offset: u64) -> Result<u32, Published> {
        match self.directory.find(key) {
            Some((number, page)) if page.stamp() == stamp => match self.directory.entry(page, offset) {
                0 => return Ok(number),
                entry => return Err(Published::Theirs(self.host(entry))),
            },
            Some((number, page)) => {
                let va = page.key().va;
                // Its code is stale and nobody followed the change yet.
                let mut removed = Removed::default();
                self.drop_page(t, number, &mut removed);
                self.retire(t, removed, &[va]);
            }
            None => {}
        }
        if key.space != 0 {
            self.linked.insert(key.va);
        }
        t.add_page(&self.directory, key, stamp).ok_or(Published::Stale)
    }

    /// A fragment that was taken out because its page was changed, but stands for the same guest words as before: it is published again under a stamp that was
    /// taken before `words` were read. Its address.
    pub fn revive(
        &self,
        key: &PageKey,
        offset: u64,
        stamp: CodeStamp,
        words: &[u32],
        code: &CodeEpochs,
    ) -> Option<u64> {
        let mut t = self.lock();
        let t = &mut *t;
        let id = t.dormant.take(key, offset)?;
        if !t.links.words(id).is_some_and(|w| words.starts_with(w)) || !code.is_current(key.page, stamp) {
            return None;
        }
        let number = match self.place(t, key, stamp, offset) {
            Ok(number) => number,
            Err(Published::Theirs(host)) => return Some(host),
            Err(_) => return None,
        };
        let page = self.directory.page(number)?;
        if !t.links.revive(id, number) {
            return None;
        }
        let entry = t.links.fragment(id)?.hot / 16;
        t.live[number as usize] += 1;
        self.directory.set_entry(page, offset, entry, &mut t.used);
        Some(self.host(entry))
    }

    /// Patch exit `id` to branch to the code at `host`. `far`: links to other pages are allowed, by a mapping of so many bytes (log2). True if it was done. That the code is what the exit leads to
    /// is checked here: since the exit was taken its chunk may have got other code.
    pub fn link(&self, id: ExitId, host: u64, far: Option<u8>) -> bool {
        let mut t = self.lock();
        let t = &mut *t;
        let Some(to) = self.cache.offset(host).and_then(|o| self.fragment_at(t, (o / 16) as u32)) else { return false };
        let (Some((site, source)), Some(target)) = (t.links.source(id), t.links.fragment(to)) else { return false };
        let allowed = if site.is_far() {
            let key = |number| self.directory.page(number).map(directory::Page::key);
            let (Some(from), Some(to)) = (key(source.page), key(target.page)) else { return false };
            let va = from.va.wrapping_add_signed(i64::from(site.target) & !0xfff);
            far.is_some() && from.mode == to.mode && from.space == to.space && to.va == va
        } else {
            source.page == target.page
        };
        let offset = site.target & 0xfff == i32::from(target.offset);
        let is_far = site.is_far();
        let linked = allowed && offset && t.links.link(id, to, &self.cache);
        if linked && is_far {
            t.note_far(id);
            self.widest.fetch_max(far.unwrap_or_default(), Ordering::Relaxed);
        }
        linked
    }

    /// Take out all code that changes up to number `changes` have made stale. True if there was any.
    pub fn follow(&self, changes: u64, code: &CodeEpochs) -> bool {
        let mut t = self.lock();
        let t = &mut *t;
        if t.followed >= changes {
            return false;
        }
        let mut removed = Removed::default();
        let mut dropped = Vec::new();
        let mut stale = Vec::new();
        for n in t.followed..changes {
            match code.change(n) {
                CodeChange::Page(page) => stale.extend(self.directory.of_physical(page)),
                CodeChange::Any => {
                    stale =
                        (1..t.used.pages.end()).filter(|n| t.live.get(*n as usize).is_some_and(|l| *l > 0)).collect();
                    break;
                }
            }
        }
        for number in stale {
            let Some(page) = self.directory.page(number) else { continue };
            if !code.is_current(page.key().page, page.stamp()) {
                dropped.push(page.key().va);
                self.drop_page(t, number, &mut removed);
            }
        }
        if !dropped.is_empty() {
            self.retire(t, removed, &dropped);
        }
        t.followed = changes;
        if t.retired.len() > RETIRED {
            t.reclaim(&self.grace, &self.directory);
        }
        !dropped.is_empty()
    }

    /// TLB maintenance of the bytes `first..=last`, which is complete on all vCPUs: as [`CodeSpace::cut`], of the whole mappings that these may have been part
    /// of. A link that a vCPU made of an old translation before it acknowledged is not there any more after this.
    pub fn cut_widely(&self, first: u64, last: u64) -> usize {
        // Whoever made such a link has let go of the lock since.
        let widest = (1u64 << self.widest.load(Ordering::Relaxed).clamp(12, 63)) - 1;
        self.cut(first & !widest, if last == u64::MAX { last } else { (last | widest) & !0xfff })
    }

    /// TLB maintenance of the virtual pages `first..=last`: links into them from other pages are cut; how many.
    pub fn cut(&self, first: u64, last: u64) -> usize {
        // Only the upper half has such links under translation.
        if last >> 55 & 1 == 0 || !self.linked.may_hold(first & !0xfff, last) {
            return 0;
        }
        let mut t = self.lock();
        let t = &mut *t;
        if first == 0 && last == u64::MAX {
            return std::mem::take(&mut t.far).into_iter().filter(|id| t.links.cut(*id, &self.cache)).count();
        }
        let pages: Vec<u32> = if first & !0xfff == last & !0xfff {
            t.high.get(&(first & !0xfff)).cloned().unwrap_or_default()
        } else {
            t.high.iter().filter(|(va, _)| (first..=last).contains(va)).flat_map(|(_, p)| p.iter().copied()).collect()
        };
        let mut cut = 0;
        for number in pages {
            let Some(page) = self.directory.page(number) else { continue };
            let entries: Vec<u32> = self.directory.entries(page).map(|(_, e)| e).filter(|e| *e != 0).collect();
            for entry in entries {
                if let Some(id) = self.fragment_at(t, entry) {
                    cut += t.links.cut_far(id, &self.cache);
                }
            }
        }
        cut
    }
}

impl Drop for CodeSpace {
    fn drop(&mut self) {
        self.bell.end();
    }
}

impl Table {
    /// An exit was linked to another page.
    fn note_far(&mut self, id: ExitId) {
        if self.far.len() == self.far.capacity() {
            // Each exit once, and only those that still are.
            let links = &self.links;
            self.far.retain(|id| links.is_far_link(*id));
            self.far.sort_unstable();
            self.far.dedup();
            self.far.reserve(self.far.len().max(1024));
        }
        self.far.push(id);
    }

    fn add_page(&mut self, directory: &Directory, key: &PageKey, stamp: CodeStamp) -> Option<u32> {
        let number = directory.add(key, stamp, &mut self.used)?;
        if self.live.len() <= number as usize {
            self.live.resize(number as usize + 1, 0);
        }
        self.live[number as usize] = 0;
        if key.space != 0 {
            self.high.entry(key.va).or_default().push(number);
        }
        Some(number)
    }

    fn remove_page(&mut self, directory: &Directory, number: u32, removed: &mut Removed) {
        let Some(key) = directory.page(number).map(directory::Page::key) else { return };
        if key.space != 0
            && let Some(pages) = self.high.get_mut(&key.va)
        {
            pages.retain(|n| *n != number);
            if pages.is_empty() {
                self.high.remove(&key.va);
            }
        }
        directory.remove(number, removed);
    }

    /// What nobody can have pointers to any more becomes free.
    fn reclaim(&mut self, grace: &Grace, directory: &Directory) {
        while let Some((epoch, _)) = self.retired.front() {
            if !grace.over(*epoch) {
                return;
            }
            match self.retired.pop_front() {
                Some((_, Retired::Chunk(chunk))) => {
                    self.links.clear(chunk);
                    self.retiring_chunks -= 1;
                    self.free.push(chunk);
                }
                Some((_, Retired::Directory(removed))) => directory.free(removed, &mut self.used),
                None => return,
            }
        }
    }
}
