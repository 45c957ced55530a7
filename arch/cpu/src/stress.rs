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
        self.0.store(x | 1, Ordering::Relaxed);
        match x >> 32 & 255 {
            0 => std::thread::sleep(Duration::from_micros(50 + (x >> 40 & 127))),
            1..=15 => std::thread::yield_now(),
            16..=63 => (0..x >> 40 & 1023).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}
