//! How long things take: durations in buckets, and the time from an interrupt's cause to its acknowledgement.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

/// Buckets for each doubling.
const STEPS: u32 = 8;
/// Durations of up to 2^40 ns, some 18 minutes.
const BUCKETS: usize = 40 * STEPS as usize;
/// An interrupt that was not taken for so long is not waited for.
const PATIENCE: u64 = 1_000_000_000;

/// Many durations, each with an error of at most an eighth.
pub struct Durations {
    buckets: Box<[AtomicU64]>,
}

fn bucket(nanoseconds: u64) -> usize {
    let value = nanoseconds.max(1);
    let power = value.ilog2();
    // The three bits below the highest one.
    let step = if power >= 3 { value >> (power - 3) & 7 } else { value << (3 - power) & 7 };
    (power as usize * STEPS as usize + step as usize).min(BUCKETS - 1)
}

/// The least duration in a bucket.
fn least(bucket: usize) -> u64 {
    let (power, step) = (bucket as u32 / STEPS, u64::from(bucket as u32 % STEPS));
    if power >= 3 { (8 + step) << (power - 3) } else { (8 + step) >> (3 - power) }
}

impl Default for Durations {
    fn default() -> Durations {
        Durations { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Durations {
    /// Takes one in.
    pub fn add(&self, nanoseconds: u64) {
        if let Some(count) = self.buckets.get(bucket(nanoseconds)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there are, their median and their 99th percentile.
    pub fn report(&self) -> Value {
        let counts: Vec<u64> = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let at = |share: u64| {
            let mut left = all * share / 100;
            let place = counts.iter().position(|&count| {
                let here = left < count;
                left = left.saturating_sub(count);
                here
            });
            place.map_or(0, least)
        };
        json!({ "count": all, "median_ns": at(50), "p99_ns": at(99) })
    }
}

/// Follows one interrupt at a time from its cause to its acknowledgement.
pub(crate) struct Probe {
    start: Instant,
    /// The INTID that is followed; 0: none.
    intid: AtomicU32,
    since: AtomicU64,
    pub(crate) durations: Durations,
}

impl Default for Probe {
    fn default() -> Probe {
        let (intid, since) = (AtomicU32::new(0), AtomicU64::new(0));
        Probe { start: Instant::now(), intid, since, durations: Durations::default() }
    }
}

impl Probe {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A device has raised an interrupt.
    pub(crate) fn raised(&self, intid: u32) {
        let now = self.now();
        if self.intid.compare_exchange(0, intid, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.since.store(now, Ordering::Release);
        } else if now.saturating_sub(self.since.load(Ordering::Acquire)) > PATIENCE {
            self.intid.store(0, Ordering::Release);
        }
    }

    /// A vCPU has taken an interrupt.
    pub(crate) fn acknowledged(&self, intid: u32) {
        if self.intid.load(Ordering::Acquire) == intid {
            let since = self.since.swap(0, Ordering::AcqRel);
            if since != 0 {
                self.durations.add(self.now().saturating_sub(since));
            }
            self.intid.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_an_eighth_wide() {
        for nanoseconds in (0..40).flat_map(|power| [1u64 << power, (1 << power) + (1 << power) / 3, (2 << power) - 1])
        {
            let found = least(bucket(nanoseconds));
            assert!(found <= nanoseconds && nanoseconds - found <= nanoseconds / 8, "{nanoseconds} became {found}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let durations = Durations::default();
        assert_eq!(durations.report()["count"], 0);
        (1..=1000).for_each(|n| durations.add(n * 1000));
        let report = durations.report();
        assert_eq!(report["count"], 1000);
        assert!((440_000..=500_000).contains(&report["median_ns"].as_u64().unwrap()), "{report}");
        assert!((870_000..=991_000).contains(&report["p99_ns"].as_u64().unwrap()), "{report}");
    }

    #[test]
    fn one_interrupt_is_followed() {
        let probe = Probe::default();
        probe.acknowledged(40);
        probe.raised(40);
        probe.raised(41);
        probe.acknowledged(41);
        assert_eq!(probe.durations.report()["count"], 0);
        probe.acknowledged(40);
        probe.raised(41);
        probe.acknowledged(41);
        assert_eq!(probe.durations.report()["count"], 2);
    }
}
