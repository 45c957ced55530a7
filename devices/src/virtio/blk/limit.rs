//! Rate limits: two buckets, of requests and of bytes, which fill steadily and hold what a tenth of a second brings. A
//! request goes ahead while both have something in them and takes out what it costs, even below zero: so large requests
//! pass, and the mean is kept.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock;

/// Most that a disk may do in a second; none: as much as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests in a second.
    pub requests: Option<u64>,
    /// Bytes in a second.
    pub bytes: Option<u64>,
}

/// How long a bucket takes to fill.
const BURST: f64 = 0.1;

/// One bucket.
struct Bucket {
    rate: f64,
    level: f64,
}

/// The limits of one disk.
pub(super) struct Limiter {
    /// Requests, bytes.
    buckets: Mutex<([Option<Bucket>; 2], Instant)>,
    limited: bool,
}

impl Bucket {
    fn new(rate: u64) -> Bucket {
        // Beyond 2^53 a limit is none anyhow.
        let rate = rate.max(1) as f64;
        Bucket { rate, level: (rate * BURST).max(1.0) }
    }

    fn fill(&mut self, seconds: f64) {
        self.level = (self.level + self.rate * seconds).min((self.rate * BURST).max(1.0));
    }

    /// Seconds until there is something in it.
    fn wait(&self) -> f64 {
        if self.level > 0.0 { 0.0 } else { (1.0 - self.level) / self.rate }
    }
}

impl Limiter {
    pub(super) fn new(rates: Rates) -> Limiter {
        let buckets = [rates.requests, rates.bytes].map(|rate| rate.map(Bucket::new));
        Limiter { limited: buckets.iter().any(Option::is_some), buckets: Mutex::new((buckets, Instant::now())) }
    }

    /// How long a request that comes at `now` has to wait; none: not at all.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        if !self.limited {
            return None;
        }
        let mut guard = lock(&self.buckets);
        let (buckets, last) = &mut *guard;
        let seconds = now.saturating_duration_since(*last).as_secs_f64();
        *last = now.max(*last);
        let waits = buckets.iter_mut().flatten().map(|bucket| {
            bucket.fill(seconds);
            bucket.wait()
        });
        let wait = waits.fold(0.0, f64::max);
        (wait > 0.0).then(|| Duration::from_secs_f64(wait.min(3600.0)))
    }

    /// A request of `bytes` went ahead.
    pub(super) fn take(&self, bytes: u64) {
        if self.limited {
            let (buckets, _) = &mut *lock(&self.buckets);
            for (bucket, cost) in buckets.iter_mut().zip([1.0, bytes as f64]) {
                if let Some(bucket) = bucket {
                    bucket.level -= cost;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that pass in ten simulated seconds of requests as fast as they may be.
    fn pass(rates: Rates, size: u64) -> u64 {
        let start = Instant::now();
        let limiter = Limiter::new(rates);
        let (mut now, mut passed) = (start, 0);
        while now < start + Duration::from_secs(10) && passed < 1 << 40 {
            match limiter.wait(now) {
                Some(wait) => now += wait,
                None => {
                    limiter.take(size);
                    passed += size;
                }
            }
        }
        passed
    }

    #[test]
    fn the_mean_is_kept_whatever_the_size() {
        let bytes = |rate| Rates { bytes: Some(rate), requests: None };
        for (rate, size) in [(1 << 20, 512), (1 << 20, 4096), (1 << 20, 5 << 20), (1 << 30, 1 << 20)] {
            let passed = pass(bytes(rate), size);
            let wanted = 10 * rate;
            assert!(passed >= wanted - size && passed <= wanted + wanted / 50 + 2 * size, "{rate} {size}: {passed}");
        }
        let requests = Rates { requests: Some(100), bytes: Some(1 << 30) };
        assert!((990..=1020).contains(&(pass(requests, 4096) / 4096)));
        assert_eq!(pass(Rates::default(), 1 << 20), 1 << 40, "no limit");
    }
}
