//! Guest time from host time: one object for the counter, so that pausing, snapshots and time scaling need no second mechanism.

mod line;
mod tsc;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use line::Published;
use line::{Anchor, Sample};

/// Default frequency of the generic timer: the same on every host, one tick a nanosecond.
pub const DEFAULT_FREQUENCY: u64 = 1_000_000_000;

/// The system counter of a machine. `counter = offset + host nanoseconds * scale * frequency / 1e9`; stands still while paused.
///
/// Where the host's time stamp counter is a clock, values come from a line through it (see `line`), so that generated code can read the counter
/// by itself and all readers get values of one line.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    frequency: u64,
    /// Ticks per host nanosecond, 32.32 fixed point.
    rate: u64,
    /// Added to the scaled host time, wrapping.
    offset: AtomicU64,
    paused: AtomicBool,
    paused_at: AtomicU64,
    /// Guest wall clock minus host wall clock, nanoseconds, wrapping.
    wall_offset: AtomicU64,
    published: Published,
    /// `None`: the host's time stamp counter is not a clock.
    anchor: Option<Mutex<Anchor>>,
}

impl Clock {
    /// A running clock at zero with the default frequency.
    pub fn new() -> Clock {
        Clock::with(DEFAULT_FREQUENCY, 1.0)
    }

    /// A clock of `frequency` Hz whose time runs `scale` times as fast as the host's (both clamped to sane ranges).
    pub fn with(frequency: u64, scale: f64) -> Clock {
        let frequency = frequency.clamp(1, 4_000_000_000);
        let scale = if scale.is_finite() { scale.clamp(1e-6, 1e6) } else { 1.0 };
        let rate = (frequency as f64 / 1e9 * scale * 4_294_967_296.0).max(1.0) as u64;
        let origin = Instant::now();
        Clock {
            origin,
            frequency,
            rate,
            offset: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            paused_at: AtomicU64::new(0),
            wall_offset: AtomicU64::new(0),
            published: Published::default(),
            anchor: tsc::usable().then(|| Mutex::new(Anchor::new(sample(origin)))),
        }
    }

    /// CNTFRQ_EL0, Hz.
    pub fn frequency(&self) -> u64 {
        self.frequency
    }

    fn scaled(&self, ns: u64) -> u64 {
        ((u128::from(ns) * u128::from(self.rate)) >> 32) as u64
    }

    /// The line that generated code reads the counter by. It stays where it is for the life of the clock.
    pub fn published(&self) -> &Published {
        &self.published
    }

    fn anchor(&self) -> Option<MutexGuard<'_, Anchor>> {
        self.anchor.as_ref().map(|a| a.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The system counter, ticks.
    #[inline]
    pub fn counter(&self) -> u64 {
        match self.published.read(tsc::read) {
            Some(value) => value,
            None => self.counter_by_host(),
        }
    }

    /// The counter where no line holds: paused, too early to have one, or time to anchor it again.
    fn counter_by_host(&self) -> u64 {
        let mut anchor = self.anchor();
        if self.paused.load(Ordering::Acquire) {
            return self.paused_at.load(Ordering::Relaxed);
        }
        let now = sample(self.origin);
        let by_host = self.scaled(now.ns).wrapping_add(self.offset.load(Ordering::Relaxed));
        let Some(anchor) = anchor.as_deref_mut().filter(|a| !a.broken) else { return by_host };
        if let Some(line) = anchor.line
            && now.time_stamp.saturating_sub(line.start) < line::VALID
        {
            // Somebody else has just anchored it.
            return line.at(now.time_stamp);
        }
        let old = anchor.line;
        anchor.advance(now, self.rate, by_host);
        if anchor.broken {
            self.published.publish(None);
            // Not below anything that was read from the line.
            let least = old.map_or(by_host, |l| l.at(l.start.saturating_add(line::VALID)));
            let ahead = least.wrapping_sub(by_host).cast_signed().max(0).cast_unsigned();
            self.offset.fetch_add(ahead, Ordering::Relaxed);
            return by_host.wrapping_add(ahead);
        }
        if anchor.line != old {
            self.published.publish(anchor.line);
        }
        anchor.line.map_or(by_host, |l| l.at(now.time_stamp))
    }

    /// Sets the counter to `value`, from which it goes on (restore).
    pub fn set_counter(&self, value: u64) {
        self.go_on_from(value, !self.paused.load(Ordering::Acquire));
    }

    fn go_on_from(&self, value: u64, running: bool) {
        let mut anchor = self.anchor();
        let now = sample(self.origin);
        self.offset.store(value.wrapping_sub(self.scaled(now.ns)), Ordering::Relaxed);
        self.paused_at.store(value, Ordering::Relaxed);
        if let Some(anchor) = anchor.as_deref_mut() {
            anchor.restart(now, value);
            self.published.publish(anchor.line.filter(|_| running && !anchor.broken));
        }
        self.paused.store(!running, Ordering::Release);
    }

    /// Stops guest time. Call when no vCPU runs.
    pub fn pause(&self) {
        let now = self.counter();
        let anchor = self.anchor();
        self.paused_at.store(now, Ordering::Relaxed);
        self.paused.store(true, Ordering::Release);
        if anchor.is_some() {
            self.published.publish(None);
        }
    }

    /// Guest time goes on where it stopped.
    pub fn resume(&self) {
        if self.paused.load(Ordering::Acquire) {
            self.go_on_from(self.paused_at.load(Ordering::Relaxed), true);
        }
    }

    /// True between [`Clock::pause`] and [`Clock::resume`].
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Host time that passes until the counter reaches `target`; `None` when that is so far away that no one will see it, or the clock is paused.
    pub fn host_time_until(&self, target: u64) -> Option<Duration> {
        if self.paused.load(Ordering::Acquire) {
            return None;
        }
        let now = self.counter();
        if target <= now {
            return Some(Duration::ZERO);
        }
        let ns = (u128::from(target - now) << 32) / u128::from(self.rate.max(1)) + 1;
        // A year and more is "never".
        (ns < 1 << 55).then(|| Duration::from_nanos(ns as u64))
    }

    /// Guest wall clock: time since 1970.
    pub fn wall(&self) -> Duration {
        let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        Duration::from_nanos(host.wrapping_add(self.wall_offset.load(Ordering::Relaxed)))
    }

    /// Sets the guest wall clock.
    pub fn set_wall(&self, now: Duration) {
        let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        self.wall_offset.store((now.as_nanos() as u64).wrapping_sub(host), Ordering::Relaxed);
    }
}

/// Both clocks of the host, as close to each other as three attempts get.
fn sample(origin: Instant) -> Sample {
    let attempt = || {
        let time_stamp = tsc::read();
        let ns = origin.elapsed().as_nanos() as u64;
        (tsc::read().wrapping_sub(time_stamp), Sample { time_stamp, ns })
    };
    let mut best = attempt();
    for _ in 0..2 {
        let other = attempt();
        if other.0 < best.0 {
            best = other;
        }
    }
    best.1
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_stops_time_and_resume_goes_on() {
        let c = Clock::new();
        c.set_counter(1_000_000_000_000);
        c.pause();
        let a = c.counter();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(c.counter(), a);
        c.resume();
        let b = c.counter();
        assert!(b >= a && b - a < 1_000_000_000, "{a} {b}");
    }

    #[test]
    fn the_counter_never_goes_back_on_any_thread() {
        let c = Clock::new();
        let shared = AtomicU64::new(0);
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_millis(60) {
                        let before = shared.load(Ordering::SeqCst);
                        let now = c.counter();
                        assert!(now >= before, "{now} after {before}");
                        shared.fetch_max(now, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(c.counter() >= shared.load(Ordering::SeqCst));
        let line = c.published().valid.load(Ordering::Relaxed) != 0;
        assert_eq!(line, tsc::usable(), "a line after 25 ms, where there can be one");
        let host = c.scaled(c.origin.elapsed().as_nanos() as u64);
        assert!(c.counter().abs_diff(host) < 5_000_000_000, "some relation to host time");
        c.pause();
        assert_eq!(c.published().read(tsc::read), None, "no line while paused");
        let at = c.counter();
        c.resume();
        assert!(c.counter() >= at);
        c.set_counter(77_000_000_000);
        let now = c.counter();
        assert!((77_000_000_000..87_000_000_000).contains(&now), "{now}");
    }

    #[test]
    fn deadline_in_host_time_follows_frequency() {
        let c = Clock::with(62_500_000, 1.0);
        let until = c.host_time_until(c.counter() + 62_500_000).expect("near");
        assert!(until > Duration::from_millis(900) && until < Duration::from_millis(1100), "{until:?}");
        assert_eq!(c.host_time_until(u64::MAX), None);
    }
}
