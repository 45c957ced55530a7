//! Fragments whose page was changed, until it turns out whether what they stand for was.
//!
//! The architecture announces changes of code by line, and most of a page is not touched by one: a kernel that patches a jump, or a runtime that compiles one
//! more function into a page. Their fragments are taken out as all of the page, as nobody may execute them before their words were looked at; but they are named
//! here, and when one is wanted again it is compared with the words of the guest instead of translated. They go with the chunk that holds their code.

use std::collections::HashMap;

use super::PageKey;
use super::hash::ByPage;
use super::links::FragmentId;

/// By page and byte offset in it: the last fragment that was there.
#[derive(Debug)]
pub struct Dormant {
    fragments: HashMap<(PageKey, u16), FragmentId, ByPage>,
    /// Physical pages that had any, a bit each: what is translated is asked for here first, and few pages change.
    pages: Box<[u64]>,
}

/// Offsets in a page have 12 bits.
fn place(key: &PageKey, offset: u64) -> (PageKey, u16) {
    (*key, (offset & 0xffc) as u16)
}

impl Dormant {
    /// None, for a machine with so many pages of RAM.
    #[must_use]
    pub fn new(pages: usize) -> Dormant {
        Dormant { fragments: HashMap::default(), pages: vec![0; pages.div_ceil(64)].into() }
    }

    /// A fragment is about to be killed.
    pub fn insert(&mut self, key: PageKey, offset: u16, id: FragmentId) {
        if let Some(bits) = self.pages.get_mut(key.page / 64) {
            *bits |= 1 << (key.page % 64);
        }
        self.fragments.insert(place(&key, offset.into()), id);
    }

    /// The fragment that was there, which is forgotten.
    pub fn take(&mut self, key: &PageKey, offset: u64) -> Option<FragmentId> {
        if self.pages.get(key.page / 64).is_none_or(|bits| bits >> (key.page % 64) & 1 == 0) {
            return None;
        }
        self.fragments.remove(&place(key, offset))
    }

    /// The memory of a chunk is going to be used again.
    pub fn forget_chunk(&mut self, chunk: usize) {
        self.fragments.retain(|_, id| (*id >> 16) as usize != chunk);
    }
}
