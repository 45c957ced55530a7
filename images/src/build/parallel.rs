//! The same work on many things, on a few threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// `work` on each of `items` on at most `threads` threads; the results in the order of the items. After an error nothing
/// new is begun.
///
/// # Errors
/// That of the first item that has one.
pub(crate) fn map<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || {
        let mut results = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            let result = work(item);
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            results.push((index, result));
        }
        results
    };
    let mut results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.clamp(1, items.len().max(1))).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(results) => all.extend(results),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stay_in_order() {
        let items: Vec<u32> = (0..100).collect();
        let doubled = map(&items, 4, |n| Ok::<_, ()>(n * 2)).expect("no error");
        assert_eq!(doubled, items.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(map(&items, 3, |n| if *n == 50 { Err(*n) } else { Ok(*n) }), Err(50));
        assert_eq!(map(&[0u8; 0], 3, |_| Ok::<_, ()>(1)), Ok(vec![]));
    }
}
