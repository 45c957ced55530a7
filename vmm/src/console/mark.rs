//! Words that the guest is waited for to print on its serial port, and what happens then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is done when the words are there; called on the thread that printed the last of them.
pub type Found = Box<dyn FnOnce() + Send>;

/// Watches the guest's output for words, once.
#[derive(Default)]
pub struct Mark {
    /// Nothing is waited for: output is not looked at.
    armed: AtomicBool,
    search: Mutex<Option<Search>>,
}

struct Search {
    wanted: Vec<u8>,
    /// How many bytes at the end of the output are the beginning of `wanted`.
    matched: usize,
    found: Found,
}

impl Mark {
    /// Longest text, in bytes.
    pub const LONGEST: usize = 256;

    /// Calls `found` when `text` has been printed, across lines too. An empty text is never found.
    pub fn wait_for(&self, text: &str, found: Found) {
        let search = Search { wanted: text.as_bytes().to_vec(), matched: 0, found };
        *self.search.lock().unwrap_or_else(PoisonError::into_inner) = Some(search);
        self.armed.store(true, Ordering::Release);
    }

    /// Looks at what the guest printed.
    pub fn look_at(&self, bytes: &[u8]) {
        if !self.armed.load(Ordering::Acquire) {
            return;
        }
        let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        if search.as_mut().is_some_and(|search| bytes.iter().any(|&byte| search.takes(byte))) {
            self.armed.store(false, Ordering::Release);
            let found = search.take();
            // Whoever is told may print itself.
            drop(search);
            if let Some(search) = found {
                (search.found)();
            }
        }
    }
}

impl Search {
    /// True when `byte` was the last one that was missing.
    fn takes(&mut self, byte: u8) -> bool {
        let wanted = &self.wanted;
        // The longest beginning of the text that still fits, at most one byte longer than the last.
        let seen = wanted.get(..self.matched).unwrap_or_default();
        let fits = |length: usize| {
            let Some((last, before)) = wanted.get(..length).and_then(|start| start.split_last()) else { return true };
            *last == byte && seen.ends_with(before)
        };
        self.matched = (0..=self.matched + 1).rev().find(|&length| length <= wanted.len() && fits(length)).unwrap_or(0);
        self.matched != 0 && self.matched == wanted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    /// Number of bytes after which the mark was found, and how often.
    fn found_at(text: &str, output: &[u8]) -> (Option<usize>, usize) {
        let mark = Mark::default();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        mark.wait_for(
            text,
            Box::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            }),
        );
        let mut at = None;
        for (index, byte) in output.iter().enumerate() {
            mark.look_at(&[*byte]);
            if at.is_none() && count.load(Ordering::SeqCst) == 1 {
                at = Some(index + 1);
            }
        }
        (at, count.load(Ordering::SeqCst))
    }

    #[test]
    fn words_are_found_once_wherever_they_begin() {
        assert_eq!(found_at("GUEST sum 2", b"GUEST sum 1\r\nGUEGUEST sum 2 x GUEST sum 2"), (Some(27), 1));
        assert_eq!(found_at("aab", b"aaaab"), (Some(5), 1));
        assert_eq!(found_at("ab", b"a b"), (None, 0));
        assert_eq!(found_at("", b"anything"), (None, 0));
        let mark = Mark::default();
        mark.look_at(b"nobody waits");
    }

    proptest! {
        #[test]
        fn the_first_place_is_the_one_that_a_search_finds(text in "[ab]{1,5}", output in "[ab]{0,40}") {
            let expected = output.find(&text).map(|at| at + text.len());
            prop_assert_eq!(found_at(&text, output.as_bytes()).0, expected);
        }
    }
}
