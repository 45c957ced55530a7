//! Guest time from host time: one object for the counter, so that pausing, snapshots and time scaling need no second mechanism.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Default frequency of the generic timer: the same on every host, one tick a nanosecond.
pub const DEFAULT_FREQUENCY: u64 = 1_000_000_000;

/// The system counter of a machine. `counter = offset + host nanoseconds * scale * frequency / 1e9`; stands still while paused.
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
        Clock {
            origin: Instant::now(),
            frequency,
            rate,
            offset: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            paused_at: AtomicU64::new(0),
            wall_offset: AtomicU64::new(0),
        }
    }

    /// CNTFRQ_EL0, Hz.
    pub fn frequency(&self) -> u64 {
        self.frequency
    }

    #[inline]
    fn scaled(&self) -> u64 {
        let ns = self.origin.elapsed().as_nanos() as u64;
        ((u128::from(ns) * u128::from(self.rate)) >> 32) as u64
    }

    /// The system counter, ticks.
    #[inline]
    pub fn counter(&self) -> u64 {
        if self.paused.load(Ordering::Acquire) {
            return self.paused_at.load(Ordering::Relaxed);
        }
        self.scaled().wrapping_add(self.offset.load(Ordering::Relaxed))
    }

    /// Sets the counter to `value`, from which it goes on (restore).
    pub fn set_counter(&self, value: u64) {
        self.offset.store(value.wrapping_sub(self.scaled()), Ordering::Relaxed);
        self.paused_at.store(value, Ordering::Relaxed);
    }

    /// Stops guest time. Call when no vCPU runs.
    pub fn pause(&self) {
        let now = self.counter();
        self.paused_at.store(now, Ordering::Relaxed);
        self.paused.store(true, Ordering::Release);
    }

    /// Guest time goes on where it stopped.
    pub fn resume(&self) {
        if self.paused.load(Ordering::Acquire) {
            self.set_counter(self.paused_at.load(Ordering::Relaxed));
            self.paused.store(false, Ordering::Release);
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
    fn deadline_in_host_time_follows_frequency() {
        let c = Clock::with(62_500_000, 1.0);
        let until = c.host_time_until(c.counter() + 62_500_000).expect("near");
        assert!(until > Duration::from_millis(900) && until < Duration::from_millis(1100), "{until:?}");
        assert_eq!(c.host_time_until(u64::MAX), None);
    }
}
