//! Fragments, their exits, and which exit leads to which fragment. Everything here is under the lock of the code space.
//!
//! Fragments and exits belong to the chunk of the code cache that holds their code and go with it. The exits that lead to a fragment are a list through the
//! exits themselves, so taking one out costs the same however many there are.

use crate::cache::CodeCache;

/// Number of an exit: chunk << 16 | index.
pub type ExitId = u32;
/// Number of a fragment: chunk << 16 | index.
pub type FragmentId = u32;
/// No exit, no fragment.
pub const NONE: u32 = u32::MAX;

/// A direct exit: executable addresses as offsets in the code cache.
#[derive(Clone, Copy, Debug)]
pub struct ExitSite {
    /// Target relative to the page of the fragment.
    pub target: i32,
    /// Field of the hot branch.
    pub hot_field: u32,
    /// Stub as the hot branch reaches it when unlinked.
    pub stub: u32,
    /// Stub without the store of the flags.
    pub clean_stub: u32,
    /// Field of the stub's jump.
    pub stub_field: u32,
    /// Where that jump goes when unlinked.
    pub unlinked: u32,
    /// The stub must run.
    pub needs_stub: bool,
}

impl ExitSite {
    /// It leads to another page.
    #[must_use]
    pub fn is_far(&self) -> bool {
        !(0..4096).contains(&self.target)
    }
}

#[derive(Debug)]
struct Exit {
    site: ExitSite,
    /// The fragment that it is linked to, and its neighbours among those that lead there.
    to: FragmentId,
    next: ExitId,
    previous: ExitId,
    owner: u32,
}

/// One translated unit.
#[derive(Debug)]
pub struct Fragment {
    /// Offset of its code in the cache.
    pub hot: u32,
    /// Number of its page in the directory.
    pub page: u32,
    /// Byte offset in the page.
    pub offset: u16,
    /// It does not read NZCV at its entry.
    pub flags_dead: bool,
    /// Something leads to it.
    pub live: bool,
    exits: u32,
    exit_count: u32,
    incoming: ExitId,
    words: u32,
    word_count: u32,
}

/// A fragment to be added.
#[derive(Debug)]
pub struct NewFragment<'a> {
    /// See [`Fragment`].
    pub hot: u32,
    /// See [`Fragment`].
    pub page: u32,
    /// See [`Fragment`].
    pub offset: u16,
    /// See [`Fragment`].
    pub flags_dead: bool,
    /// Its exits.
    pub exits: &'a [ExitSite],
    /// The guest words that it stands for; none: it is not to be revived.
    pub words: &'a [u32],
}

/// Fragments and exits of one chunk, in the order of their code.
#[derive(Debug, Default)]
struct Chunk {
    fragments: Vec<Fragment>,
    exits: Vec<Exit>,
    words: Vec<u32>,
}

/// All fragments and exits.
#[derive(Debug, Default)]
pub struct Links {
    chunks: Vec<Chunk>,
}

fn split(id: u32) -> (usize, usize) {
    ((id >> 16) as usize, (id & 0xffff) as usize)
}

impl Links {
    /// For so many chunks.
    #[must_use]
    pub fn new(chunks: usize) -> Links {
        Links { chunks: (0..chunks).map(|_| Chunk::default()).collect() }
    }

    /// A fragment.
    #[must_use]
    pub fn fragment(&self, id: FragmentId) -> Option<&Fragment> {
        let (c, i) = split(id);
        self.chunks.get(c)?.fragments.get(i)
    }

    fn fragment_mut(&mut self, id: FragmentId) -> Option<&mut Fragment> {
        let (c, i) = split(id);
        self.chunks.get_mut(c)?.fragments.get_mut(i)
    }

    fn exit(&self, id: ExitId) -> Option<&Exit> {
        let (c, i) = split(id);
        self.chunks.get(c)?.exits.get(i)
    }

    fn exit_mut(&mut self, id: ExitId) -> Option<&mut Exit> {
        let (c, i) = split(id);
        self.chunks.get_mut(c)?.exits.get_mut(i)
    }

    /// Where an exit leads and the fragment that it belongs to.
    #[must_use]
    pub fn source(&self, id: ExitId) -> Option<(&ExitSite, &Fragment)> {
        let e = self.exit(id)?;
        Some((&e.site, self.fragment(id & !0xffff | e.owner)?))
    }

    /// The fragment of `chunk` whose code begins at this offset of the cache.
    #[must_use]
    pub fn at(&self, chunk: usize, hot: u32) -> Option<FragmentId> {
        let fragments = &self.chunks.get(chunk)?.fragments;
        let i = fragments.binary_search_by_key(&hot, |f| f.hot).ok()?;
        Some((chunk << 16 | i) as u32)
    }

    /// Numbers of the fragments of a chunk.
    pub fn of_chunk(&self, chunk: usize) -> impl Iterator<Item = FragmentId> + use<> {
        let n = self.chunks.get(chunk).map_or(0, |c| c.fragments.len());
        (0..n).map(move |i| (chunk << 16 | i) as u32)
    }

    /// Add a fragment behind all others of its chunk.
    pub fn add(&mut self, chunk: usize, new: &NewFragment<'_>) {
        let Some(c) = self.chunks.get_mut(chunk) else { return };
        let (owner, first, words) = (c.fragments.len() as u32, c.exits.len() as u32, c.words.len() as u32);
        c.exits.extend(new.exits.iter().map(|site| Exit { site: *site, to: NONE, next: NONE, previous: NONE, owner }));
        c.words.extend_from_slice(new.words);
        c.fragments.push(Fragment {
            hot: new.hot,
            page: new.page,
            offset: new.offset,
            flags_dead: new.flags_dead,
            live: true,
            exits: first,
            exit_count: new.exits.len() as u32,
            incoming: NONE,
            words,
            word_count: new.words.len() as u32,
        });
    }

    /// The guest words that a fragment stands for, if they were kept.
    #[must_use]
    pub fn words(&self, id: FragmentId) -> Option<&[u32]> {
        let f = self.fragment(id)?;
        let words = self.chunks.get(split(id).0)?.words.get(f.words as usize..)?.get(..f.word_count as usize)?;
        Some(words).filter(|w| !w.is_empty())
    }

    /// A fragment that was killed lives again, in page `page` of the directory. False if it lives.
    pub fn revive(&mut self, id: FragmentId, page: u32) -> bool {
        let Some(f) = self.fragment_mut(id).filter(|f| !f.live) else { return false };
        (f.live, f.page) = (true, page);
        true
    }

    /// Forget a chunk: nothing of it is live.
    pub fn clear(&mut self, chunk: usize) {
        if let Some(c) = self.chunks.get_mut(chunk) {
            *c = Chunk::default();
        }
    }

    /// Make exit `id` branch to fragment `to`. False if it leads somewhere already or one of both is dead.
    pub fn link(&mut self, id: ExitId, to: FragmentId, cache: &CodeCache) -> bool {
        let Some(f) = self.fragment(to).filter(|f| f.live) else { return false };
        let (host, flags_dead, first) = (cache.address(f.hot as usize), f.flags_dead, f.incoming);
        let Some((_, source)) = self.source(id) else { return false };
        if !source.live || self.exit(id).is_none_or(|e| e.to != NONE) {
            return false;
        }
        let Some(e) = self.exit_mut(id) else { return false };
        let site = e.site;
        (e.to, e.next, e.previous) = (to, first, NONE);
        if let Some(neighbour) = self.exit_mut(first) {
            neighbour.previous = id;
        }
        if let Some(f) = self.fragment_mut(to) {
            f.incoming = id;
        }
        let mut ok = cache.patch_rel32(cache.address(site.stub_field as usize), host);
        if flags_dead {
            let direct = if site.needs_stub { cache.address(site.clean_stub as usize) } else { host };
            ok &= cache.patch_rel32(cache.address(site.hot_field as usize), direct);
        }
        ok
    }

    /// Make an exit lead to the dispatcher again.
    pub fn unlink(&mut self, id: ExitId, cache: &CodeCache) {
        let Some(e) = self.exit_mut(id) else { return };
        if e.to == NONE {
            return;
        }
        let (to, next, previous, site) = (e.to, e.next, e.previous, e.site);
        e.to = NONE;
        if let Some(p) = self.exit_mut(previous) {
            p.next = next;
        } else if let Some(f) = self.fragment_mut(to) {
            f.incoming = next;
        }
        if let Some(n) = self.exit_mut(next) {
            n.previous = previous;
        }
        let at = |offset: u32| cache.address(offset as usize);
        cache.patch_rel32(at(site.hot_field), at(site.stub));
        cache.patch_rel32(at(site.stub_field), at(site.unlinked));
    }

    /// The exit is linked to another page.
    #[must_use]
    pub fn is_far_link(&self, id: ExitId) -> bool {
        self.exit(id).is_some_and(|e| e.to != NONE && e.site.is_far())
    }

    /// Make the exit lead to the dispatcher if it leads to another page; if it did.
    pub fn cut(&mut self, id: ExitId, cache: &CodeCache) -> bool {
        let is = self.is_far_link(id);
        if is {
            self.unlink(id, cache);
        }
        is
    }

    /// Cut the exits of other pages that lead to a fragment; how many.
    pub fn cut_far(&mut self, to: FragmentId, cache: &CodeCache) -> usize {
        let mut cut = 0;
        let mut id = self.fragment(to).map_or(NONE, |f| f.incoming);
        while let Some(e) = self.exit(id) {
            let next = e.next;
            cut += usize::from(self.cut(id, cache));
            id = next;
        }
        cut
    }

    /// Nothing leads to this fragment by a link any more, and from it none leads on. False if that was so already.
    pub fn kill(&mut self, id: FragmentId, cache: &CodeCache) -> bool {
        let Some(f) = self.fragment_mut(id).filter(|f| f.live) else { return false };
        f.live = false;
        let (first, count) = (f.exits, f.exit_count);
        while let Some(exit) = self.fragment(id).map(|f| f.incoming).filter(|e| *e != NONE) {
            self.unlink(exit, cache);
        }
        for n in first..first + count {
            self.unlink(id & !0xffff | n, cache);
        }
        true
    }
}
