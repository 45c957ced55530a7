//! Deliberate delays at the points where threads agree on something, so that rare orders of events become common (`--jit-stress`). Off: one relaxed load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The state of the delays of a machine; 0 = none.
#[derive(Debug, Default)]
pub struct Stress(AtomicU64);

impl Stress {
    /// Delays from now on, drawn from `seed`.
    pub fn arm(&self, seed: u64) {
        self.0.store(seed | 1, Ordering::Relaxed);
    }

    /// A place where another thread may be anywhere: before a message is sent, before it is acknowledged, before something is published.
    #[inline]
    pub fn point(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.delay();
        }
    }

    #[cold]
    fn delay(&self) {
        // Threads may draw the same number: as good as any.
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        // What counts is that a race is open for longer than it takes the other to get there. Most races are nanoseconds wide, so
        // lengths are spread over powers of two; a thread that sleeps or yields is gone for milliseconds on a busy host, which has to
        // happen, but hundreds of times in a run, not a hundred thousand times.
        let length = x >> 48 & ((2 << (x >> 44 & 15).min(9)) - 1);
        match x >> 32 & 4095 {
            0 | 1 => std::thread::sleep(Duration::from_micros(length.min(200))),
            2 => std::thread::yield_now(),
            3..=511 => (0..length).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}
