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
#[derive(Debug, Default)]
pub struct Dormant {
    fragments: HashMap<(PageKey, u16), FragmentId, ByPage>,
}

/// Offsets in a page have 12 bits.
fn place(key: &PageKey, offset: u64) -> (PageKey, u16) {
    (*key, (offset & 0xffc) as u16)
}

impl Dormant {
    /// A fragment is about to be killed.
    pub fn insert(&mut self, key: PageKey, offset: u16, id: FragmentId) {
        self.fragments.insert(place(&key, offset.into()), id);
    }

    /// The fragment that was there, which is forgotten.
    pub fn take(&mut self, key: &PageKey, offset: u64) -> Option<FragmentId> {
        if self.fragments.is_empty() {
            return None;
        }
        self.fragments.remove(&place(key, offset))
    }

    /// The memory of a chunk is going to be used again.
    pub fn forget_chunk(&mut self, chunk: usize) {
        self.fragments.retain(|_, id| (*id >> 16) as usize != chunk);
    }
}
