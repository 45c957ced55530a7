//! Counter values by the host's time stamp counter: a straight line, anchored again every second or so to the clock of the host's kernel.
//!
//! Reading the kernel's clock takes 25 ns and more, the time stamp counter 10, and generated code can do it in line. The line is
//! published under a sequence number, for [`Published::read`] and for generated code that does the same. It holds for a while only
//! ([`Published::valid`]); then whoever reads next anchors it again: it goes on where it is, with a slope that meets the host's clock a second
//! later. So guest time never goes back and follows the host's corrections.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Time stamp counter ticks for which an anchored line holds: about a second.
pub const VALID: u64 = 1 << 32;

/// Shortest time between two samples from which a slope is taken, nanoseconds: an error of 25 ns is then 1 part per million.
const BASELINE_NS: u64 = 25_000_000;

/// A line further than this from the host's clock, nanoseconds, is not bent but cut: the host slept, or was stopped.
const FAR_NS: u64 = 1_000_000;

/// Counter = base + (time stamp - start) * rate, while time stamp - start is below `valid`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Published {
    /// Odd while the others change.
    pub sequence: AtomicU64,
    /// Time stamp at which the line begins.
    pub start: AtomicU64,
    /// For how many time stamp ticks it holds; 0: there is no line.
    pub valid: AtomicU64,
    /// Counter ticks per time stamp tick, 32.32 fixed point.
    pub rate: AtomicU64,
    /// Counter at `start`.
    pub base: AtomicU64,
}

impl Published {
    /// The counter, if a line holds.
    #[inline]
    pub fn read(&self, time_stamp: impl Fn() -> u64) -> Option<u64> {
        let before = self.sequence.load(Ordering::Acquire);
        let since = time_stamp().wrapping_sub(self.start.load(Ordering::Relaxed));
        let holds = since < self.valid.load(Ordering::Relaxed);
        let value = along(since, self.rate.load(Ordering::Relaxed)).wrapping_add(self.base.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (holds && before & 1 == 0 && self.sequence.load(Ordering::Relaxed) == before).then_some(value)
    }

    /// Publishes `line`, or that there is none. One caller at a time.
    pub fn publish(&self, line: Option<Line>) {
        let before = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let l = line.unwrap_or_default();
        self.start.store(l.start, Ordering::Relaxed);
        self.valid.store(if line.is_some() { VALID } else { 0 }, Ordering::Relaxed);
        self.rate.store(l.rate, Ordering::Relaxed);
        self.base.store(l.base, Ordering::Relaxed);
        self.sequence.store(before.wrapping_add(2), Ordering::Release);
    }
}

fn along(ticks: u64, rate: u64) -> u64 {
    ((u128::from(ticks) * u128::from(rate)) >> 32) as u64
}

/// A line, see [`Published`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// Time stamp at which it begins.
    pub start: u64,
    /// Counter ticks per time stamp tick, 32.32 fixed point.
    pub rate: u64,
    /// Counter at `start`.
    pub base: u64,
}

impl Line {
    /// The counter at `time_stamp`, which is not before the start.
    pub fn at(&self, time_stamp: u64) -> u64 {
        along(time_stamp.saturating_sub(self.start), self.rate).wrapping_add(self.base)
    }
}

/// Both clocks at one moment, the time stamp first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Time stamp counter.
    pub time_stamp: u64,
    /// Host's monotonic clock, nanoseconds since the origin of the machine's clock.
    pub ns: u64,
}

/// What anchoring remembers.
#[derive(Debug)]
pub struct Anchor {
    last: Sample,
    /// The line, once there is one.
    pub line: Option<Line>,
    /// The time stamp counter went back: it is not used any more.
    pub broken: bool,
}

impl Anchor {
    /// Begins with a first sample.
    pub fn new(first: Sample) -> Anchor {
        Anchor { last: first, line: None, broken: false }
    }

    /// The line from here on. `rate`: counter ticks per nanosecond, 32.32; `target`: what the counter is by the host's clock at the sample.
    /// Nothing changes while there is too little to measure the slope by.
    pub fn advance(&mut self, now: Sample, rate: u64, target: u64) {
        if now.time_stamp < self.last.time_stamp {
            self.broken = true;
            return;
        }
        let (ticks, ns) = (now.time_stamp - self.last.time_stamp, now.ns.saturating_sub(self.last.ns));
        if ns < BASELINE_NS || ticks == 0 {
            return;
        }
        let slope = (u128::from(ns) * u128::from(rate) / u128::from(ticks)) as u64;
        let far = along(FAR_NS, rate).max(1) as i64;
        let base = self.line.map_or(target, |l| l.at(now.time_stamp));
        let behind = target.wrapping_sub(base).cast_signed();
        self.line = Some(if self.line.is_none() || behind > far {
            Line { start: now.time_stamp, rate: slope, base: target }
        } else {
            // Meets the host's clock after as many ticks as a second has.
            let second = i128::from(along(1_000_000_000, rate).max(1));
            let bend = i128::from(slope) * i128::from(behind.max(-far)) / second;
            let rate = i128::from(slope).saturating_add(bend).clamp(1, i128::from(u64::MAX)) as u64;
            Line { start: now.time_stamp, rate, base }
        });
        self.last = now;
    }

    /// The counter is `value` at `now`.
    pub fn restart(&mut self, now: Sample, value: u64) {
        if let Some(l) = &mut self.line {
            *l = Line { start: now.time_stamp, base: value, ..*l };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GHZ: u64 = 1 << 32;

    /// A host whose time stamp counter runs at 3.5 GHz.
    fn sample(ns: u64) -> Sample {
        Sample { time_stamp: 1_000_000 + ns * 7 / 2, ns }
    }

    fn line(ns: u64) -> Anchor {
        let mut a = Anchor::new(sample(0));
        a.advance(sample(ns), GHZ, ns);
        a
    }

    #[test]
    fn a_slope_needs_a_baseline() {
        assert_eq!(line(1_000_000).line, None);
        let a = line(50_000_000);
        let l = a.line.expect("measured");
        assert_eq!(l.base, 50_000_000);
        let later = l.at(sample(1_050_000_000).time_stamp);
        assert!(later.abs_diff(1_050_000_000) < 10, "{later}");
    }

    #[test]
    fn an_anchored_line_goes_on_where_it_was_and_meets_the_host_a_second_later() {
        for (target, meets) in [(2_000_000_400u64, true), (1_999_999_700, true), (1_990_000_000, false)] {
            let mut a = line(1_000_000_000);
            let before = a.line.expect("a line").at(sample(2_000_000_000).time_stamp);
            a.advance(sample(2_000_000_000), GHZ, target);
            let l = a.line.expect("a line");
            assert_eq!(l.base, before, "no step");
            let error = target.wrapping_sub(2_000_000_000);
            let met = l.at(sample(3_000_000_000).time_stamp).abs_diff(3_000_000_000u64.wrapping_add(error));
            assert_eq!(met < 10, meets, "{met}");
            assert!(l.rate > 0);
        }
    }

    #[test]
    fn a_host_that_slept_is_followed_at_once() {
        let mut a = line(1_000_000_000);
        a.advance(sample(2_000_000_000), GHZ, 9_000_000_000);
        assert_eq!(a.line.expect("a line").base, 9_000_000_000);
    }

    #[test]
    fn a_time_stamp_that_goes_back_is_not_trusted_again() {
        let mut a = line(1_000_000_000);
        a.advance(Sample { time_stamp: 5, ns: 2_000_000_000 }, GHZ, 2_000_000_000);
        assert!(a.broken);
    }

    #[test]
    fn published_lines_are_read_only_while_they_hold() {
        let p = Published::default();
        assert_eq!(p.read(|| 0), None);
        p.publish(Some(Line { start: 1000, rate: GHZ / 4, base: 7 }));
        assert_eq!(p.read(|| 1000), Some(7));
        assert_eq!(p.read(|| 1400), Some(107));
        assert_eq!(p.read(|| 999), None, "before the start");
        assert_eq!(p.read(|| 1000 + VALID), None);
        p.sequence.fetch_add(1, Ordering::Relaxed);
        assert_eq!(p.read(|| 1000), None, "being written");
        p.sequence.fetch_add(1, Ordering::Relaxed);
        p.publish(None);
        assert_eq!(p.read(|| 1000), None);
    }
}
