//! Code of others on data of others: a panic in it is an error like any other, not the end of the program.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many calls of [`contain`] this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Whether a panic on this thread, now, is dealt with where it happens. For the program's panic hook, which otherwise ends
/// the program.
pub fn is_contained() -> bool {
    DEPTH.with(Cell::get) != 0
}

/// Calls `act`; `None` if it panicked. What it worked on may be in any state then, and is best not used again.
pub(crate) fn contain<T>(act: impl FnOnce() -> T) -> Option<T> {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let done = catch_unwind(AssertUnwindSafe(act));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_no_answer() {
        assert_eq!(contain(|| 5), Some(5));
        assert_eq!(contain(|| contain(|| assert!(is_contained())).is_some()), Some(true));
        let numbers: &[u8] = std::hint::black_box(&[1, 2, 3]);
        assert_eq!(contain(|| numbers[7]), None);
        assert!(!is_contained());
    }
}
