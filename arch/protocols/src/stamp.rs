//! The version of the guest code of a page: who makes something of the code can tell whether it is still what the guest asks to be executed.

use crate::sync::atomic::{AtomicU32, Ordering, fence};

/// Bit 0: somebody made code of the page. Bits 31..1: how often that was invalidated.
///
/// An engine calls [`Stamp::begin`] before it reads guest words and keeps the answer with what it made; whoever changes code writes the words first, then
/// calls [`Stamp::invalidate`], then counts the change. So an engine that read old words has an answer that is not current, or its code is there to
/// be found by whoever follows the count.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a>(pub &'a AtomicU32);

impl Stamp<'_> {
    /// Code is going to be made of the page.
    pub fn begin(self) -> u32 {
        let version = self.0.fetch_or(1, Ordering::SeqCst) | 1;
        fence(Ordering::SeqCst);
        version
    }

    /// True while what was made under this version is what the guest asks to be executed.
    #[inline]
    pub fn is_current(self, version: u32) -> bool {
        self.0.load(Ordering::Acquire) == version
    }

    /// Somebody made code of it since its last invalidation.
    #[inline]
    pub fn has_code(self) -> bool {
        self.0.load(Ordering::SeqCst) & 1 != 0
    }

    /// The code changed. False: nobody had made anything of it.
    pub fn invalidate(self) -> bool {
        fence(Ordering::SeqCst);
        let mut old = self.0.load(Ordering::SeqCst);
        loop {
            if old & 1 == 0 {
                return false;
            }
            match self.0.compare_exchange_weak(old, (old & !1).wrapping_add(2), Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicU64;
    use crate::sync::{Arc, Mutex};
    use loom::thread;

    /// A guest word, its stamp, the count of changes, and the table of translations: (version, word).
    struct Machine {
        word: AtomicU32,
        stamp: AtomicU32,
        changes: AtomicU64,
        table: Mutex<(u64, Option<(u32, u32)>)>,
    }

    impl Machine {
        /// What `CodeSpace::publish` does.
        fn translate(&self) {
            let version = Stamp(&self.stamp).begin();
            let word = self.word.load(Ordering::SeqCst);
            let mut table = self.table.lock().expect("no panics");
            if Stamp(&self.stamp).is_current(version) {
                table.1 = Some((version, word));
            }
        }

        /// What `CodeSpace::follow` does, then a lookup: what a vCPU executes after a context synchronisation event, if it is there.
        fn execute(&self) -> Option<u32> {
            let changes = self.changes.load(Ordering::Acquire);
            let mut table = self.table.lock().expect("no panics");
            if table.0 < changes {
                table.0 = changes;
                if table.1.is_some_and(|(version, _)| !Stamp(&self.stamp).is_current(version)) {
                    table.1 = None;
                }
            }
            table.1.filter(|(version, _)| Stamp(&self.stamp).is_current(*version)).map(|(_, word)| word)
        }
    }

    #[test]
    fn no_old_code_is_executed_after_its_invalidation_was_seen() {
        loom::model(|| {
            let machine = Arc::new(Machine {
                word: AtomicU32::new(1),
                stamp: AtomicU32::new(0),
                changes: AtomicU64::new(0),
                table: Mutex::new((0, None)),
            });
            let ready = Arc::new(AtomicU32::new(0));
            let m = Arc::clone(&machine);
            let translator = thread::spawn(move || m.translate());
            let (m, r) = (Arc::clone(&machine), Arc::clone(&ready));
            let writer = thread::spawn(move || {
                m.word.store(2, Ordering::SeqCst);
                if Stamp(&m.stamp).invalidate() {
                    m.changes.fetch_add(1, Ordering::SeqCst);
                }
                r.store(1, Ordering::Release);
            });
            let told = ready.load(Ordering::Acquire) == 1;
            let executed = machine.execute();
            if told {
                assert_ne!(executed, Some(1), "stale code");
            }
            translator.join().expect("ends");
            writer.join().expect("ends");
            assert_ne!(machine.execute(), Some(1), "stale code");
        });
    }
}
