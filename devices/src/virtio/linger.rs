//! How long a worker looks for more before it sleeps: a driver that comes back soon needs no doorbell, and no vCPU pays
//! for waking the worker.
//!
//! A look is a short spin, then a nap of half the time that the driver is expected to stay away, then a spin until it is
//! there. During all of it the driver is told not to ring. Where others need the processors the worker sleeps at once: a nap
//! would last for as long as they please.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Longest look. A driver that stays away for longer is not worth it.
const MOST: Duration = Duration::from_micros(500);
/// The spin that every look begins with, and what a look is longer than twice what is expected.
const SPIN: Duration = Duration::from_micros(12);
/// Shortest nap: to fall asleep and wake takes some microseconds.
const NAP: Duration = Duration::from_micros(25);
/// A look that yields the processor for so long has taken it from somebody who has work for it: interrupts and what the
/// host's kernel does now and then take less, a time slice takes more.
const CROWDED: Duration = Duration::from_micros(400);
/// A nap that lasts for so much longer found the processor taken.
const OVERSLEPT: Duration = Duration::from_micros(400);
/// After either there are no looks for so long.
const ABSTAIN: Duration = Duration::from_millis(50);
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;
/// Times in a row that the driver stayed away for longer than [`MOST`] after which it is not looked for.
const STRIKES: u32 = 3;

/// What one worker knows of how soon there is more.
pub(super) struct Linger {
    /// How long the driver stays away, where it comes back soon.
    expected: Option<Duration>,
    /// Times in a row that it did not.
    strikes: u32,
    /// Since when there has been nothing to do.
    idle_since: Option<Instant>,
    /// Until when others need the processors more.
    crowded_until: Option<Instant>,
    /// The host has a processor besides the vCPU's.
    roomy: bool,
}

/// How a spin ended.
#[derive(PartialEq, Eq)]
enum Spun {
    Found,
    Over,
    /// Others want the processor.
    Crowded,
}

/// Whether the process may use more than one processor; found out once.
fn is_roomy() -> bool {
    static ROOMY: OnceLock<bool> = OnceLock::new();
    *ROOMY.get_or_init(|| thread::available_parallelism().is_ok_and(|count| count > NonZero::<usize>::MIN))
}

impl Linger {
    pub(super) fn new() -> Linger {
        Linger { expected: None, strikes: 0, idle_since: None, crowded_until: None, roomy: is_roomy() }
    }

    /// There is nothing to do: looks for a while whether there is. False if there still is not, and the worker may sleep;
    /// [`woke`](Self::woke) follows. Naps only if a ring ends them: not where the worker waits for something else besides.
    pub(super) fn look(&mut self, may_nap: bool, mut is_ready: impl FnMut() -> bool) -> bool {
        let begin = Instant::now();
        let may_look = self.roomy && self.crowded_until.is_none_or(|until| until < begin);
        let found =
            may_look && self.expected.is_some_and(|expected| self.look_for(begin, expected, may_nap, &mut is_ready));
        if found {
            self.came_back(begin.elapsed());
        } else {
            self.idle_since = Some(begin);
        }
        found
    }

    fn look_for(
        &mut self,
        begin: Instant,
        expected: Duration,
        may_nap: bool,
        is_ready: &mut impl FnMut() -> bool,
    ) -> bool {
        let end = begin + (2 * expected + SPIN).min(MOST);
        match self.spin(end.min(begin + SPIN), is_ready) {
            Spun::Found => return true,
            Spun::Crowded => return false,
            Spun::Over => {}
        }
        if may_nap && expected / 2 > NAP {
            let asleep = Instant::now();
            thread::park_timeout(expected / 2);
            let now = Instant::now();
            if now.duration_since(asleep) > expected / 2 + OVERSLEPT {
                self.crowded_until = Some(now + ABSTAIN);
                return is_ready();
            }
        }
        self.spin(end, is_ready) == Spun::Found
    }

    /// Looks until `end` while nobody else wants the processor.
    fn spin(&mut self, end: Instant, is_ready: &mut impl FnMut() -> bool) -> Spun {
        let mut before = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if is_ready() {
                    return Spun::Found;
                }
                std::hint::spin_loop();
            }
            // Whoever else wants this processor comes first.
            thread::yield_now();
            let now = Instant::now();
            if now.duration_since(before) > CROWDED {
                self.crowded_until = Some(now + ABSTAIN);
                return Spun::Crowded;
            }
            if now >= end {
                return Spun::Over;
            }
            before = now;
        }
    }

    /// The worker is awake after it slept; `called` is when the driver called, if that is longer ago.
    pub(super) fn woke(&mut self, called: Option<Instant>) {
        let Some(since) = self.idle_since.take() else { return };
        let idle = called.unwrap_or_else(Instant::now).saturating_duration_since(since);
        if idle <= MOST {
            return self.came_back(idle);
        }
        self.strikes += 1;
        if self.strikes >= STRIKES {
            self.expected = None;
        }
    }

    /// There was more after `idle`.
    fn came_back(&mut self, idle: Duration) {
        self.strikes = 0;
        self.expected = Some(self.expected.map_or(idle, |expected| (3 * expected + idle) / 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linger(expected: Option<Duration>) -> Linger {
        Linger { expected, strikes: 0, idle_since: None, crowded_until: None, roomy: true }
    }

    /// Nothing for `idle`.
    fn absent(linger: &mut Linger, idle: Duration) {
        assert!(!linger.look(true, || false));
        linger.idle_since = linger.idle_since.and_then(|since| since.checked_sub(idle));
        linger.woke(None);
    }

    /// How often a look looks that finds something the `n`th time.
    fn looks(linger: &mut Linger, n: usize) -> (usize, bool) {
        let mut looks = 0;
        let found = linger.look(true, || {
            looks += 1;
            looks == n
        });
        (looks, found)
    }

    #[test]
    fn a_driver_that_stays_away_is_not_looked_for() {
        let mut linger = linger(Some(NAP));
        for _ in 0..STRIKES {
            assert_eq!(linger.expected, Some(NAP));
            absent(&mut linger, MOST);
        }
        assert_eq!(linger.expected, None);
        absent(&mut linger, MOST);
        assert_eq!((linger.expected, looks(&mut linger, 1)), (None, (0, false)));
    }

    #[test]
    fn a_driver_that_came_back_soon_is_looked_for() {
        let mut linger = linger(None);
        assert_eq!(looks(&mut linger, 1), (0, false));
        linger.idle_since = Some(Instant::now());
        linger.woke(None);
        assert!(linger.expected.is_some_and(|expected| expected <= MOST));
        // The clock is read behind so many looks.
        assert_eq!(looks(&mut linger, LOOKS as usize), (LOOKS as usize, true));
        assert_eq!(linger.idle_since, None);
    }

    #[test]
    fn what_is_expected_follows_the_driver() {
        let mut linger = linger(Some(MOST));
        for _ in 0..40 {
            linger.came_back(NAP);
        }
        assert!(linger.expected.is_some_and(|expected| expected < 2 * NAP), "{:?}", linger.expected);
        absent(&mut linger, MOST);
        assert_eq!(linger.strikes, 1);
        linger.came_back(NAP);
        assert_eq!(linger.strikes, 0);
    }

    #[test]
    fn a_look_that_costs_others_is_the_last_for_a_while() {
        let mut linger = linger(Some(MOST));
        // Each look takes as long as if somebody else had had the processor.
        assert!(!linger.look(true, || {
            thread::sleep(CROWDED);
            false
        }));
        assert_eq!(looks(&mut linger, 1), (0, false));
        linger.crowded_until = Some(Instant::now());
        assert_eq!(looks(&mut linger, 1), (1, true));
    }

    #[test]
    fn a_host_with_one_processor_is_never_looked_at() {
        let mut linger = linger(Some(MOST));
        linger.roomy = false;
        assert_eq!(looks(&mut linger, 1), (0, false));
    }
}
