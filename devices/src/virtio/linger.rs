//! How long a worker looks for more before it sleeps: a driver that comes back at once needs no doorbell, and no vCPU pays
//! for waking the worker.

use std::num::NonZero;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Longest look. A driver that stays away for longer is not worth a processor.
const MOST: Duration = Duration::from_micros(100);
/// Shortest look.
const LEAST: Duration = Duration::from_micros(12);
/// A look that yields the processor for so long has taken it from somebody.
const CROWDED: Duration = Duration::from_micros(20);
/// After which it is not tried again for so long.
const ABSTAIN: Duration = Duration::from_millis(50);
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;

/// What one worker knows of how soon there is more.
pub(super) struct Linger {
    /// How long the next look may last: zero until the driver was seen to come back soon.
    window: Duration,
    /// Since when there has been nothing to do.
    idle_since: Option<Instant>,
    /// Until when others need the processors more.
    crowded_until: Option<Instant>,
    /// The host has a processor besides the vCPU's.
    roomy: bool,
}

/// Whether the process may use more than one processor; found out once.
fn is_roomy() -> bool {
    static ROOMY: OnceLock<bool> = OnceLock::new();
    *ROOMY.get_or_init(|| thread::available_parallelism().is_ok_and(|count| count > NonZero::<usize>::MIN))
}

impl Linger {
    pub(super) fn new() -> Linger {
        Linger { window: Duration::ZERO, idle_since: None, crowded_until: None, roomy: is_roomy() }
    }

    /// There is nothing to do: looks for a while whether there is. False if there still is not, and the worker may sleep;
    /// [`woke`](Self::woke) follows.
    pub(super) fn look(&mut self, mut is_ready: impl FnMut() -> bool) -> bool {
        let begin = Instant::now();
        let mut before = begin;
        while before.duration_since(begin) < self.window {
            for _ in 0..LOOKS {
                if is_ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            // Whoever else wants this processor comes first.
            thread::yield_now();
            let now = Instant::now();
            if now.duration_since(before) > CROWDED {
                self.window = Duration::ZERO;
                self.crowded_until = Some(now + ABSTAIN);
                break;
            }
            before = now;
        }
        self.idle_since = Some(begin);
        false
    }

    /// The worker is awake after it slept.
    pub(super) fn woke(&mut self) {
        let Some(since) = self.idle_since.take() else { return };
        let now = Instant::now();
        if now.duration_since(since) > MOST {
            self.window = if self.window > LEAST { self.window / 2 } else { Duration::ZERO };
        } else if self.roomy && self.crowded_until.is_none_or(|until| until < now) {
            // It would have been found by a longer look.
            self.window = (self.window * 2).clamp(LEAST, MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing for `idle`.
    fn absent(linger: &mut Linger, idle: Duration) {
        assert!(!linger.look(|| false));
        linger.idle_since = linger.idle_since.and_then(|since| since.checked_sub(idle));
        linger.woke();
    }

    #[test]
    fn a_driver_that_stays_away_is_not_looked_for() {
        let mut linger = Linger { window: MOST, idle_since: None, crowded_until: None, roomy: true };
        for _ in 0..8 {
            absent(&mut linger, Duration::from_millis(1));
        }
        assert_eq!(linger.window, Duration::ZERO);
        let mut looks = 0;
        assert!(!linger.look(|| {
            looks += 1;
            true
        }));
        assert_eq!(looks, 0);
    }

    #[test]
    fn looks_become_longer_while_the_driver_comes_back_soon() {
        let mut linger = Linger::new();
        linger.roomy = true;
        let mut windows = Vec::new();
        for _ in 0..6 {
            // As if the worker had slept for no time.
            linger.idle_since = Some(Instant::now());
            linger.woke();
            windows.push(linger.window);
        }
        assert!(windows.is_sorted() && windows.contains(&LEAST), "{windows:?}");
        assert_eq!(linger.window, MOST);
        let mut looks = 0;
        let mut third = || {
            looks += 1;
            looks == 3
        };
        assert!(linger.look(&mut third), "three looks take no {MOST:?}");
        assert_eq!(linger.idle_since, None);
    }

    #[test]
    fn a_look_that_costs_others_is_the_last_for_a_while() {
        let mut linger = Linger { window: MOST, idle_since: None, crowded_until: None, roomy: true };
        // Each look takes as long as if somebody else had had the processor.
        assert!(!linger.look(|| {
            thread::sleep(CROWDED);
            false
        }));
        assert_eq!(linger.window, Duration::ZERO);
        linger.idle_since = Some(Instant::now());
        linger.woke();
        assert_eq!(linger.window, Duration::ZERO);
        linger.crowded_until = Some(Instant::now());
        linger.idle_since = Some(Instant::now());
        linger.woke();
        assert_eq!(linger.window, LEAST);
    }

    #[test]
    fn a_host_with_one_processor_is_never_looked_at() {
        let mut linger = Linger { window: Duration::ZERO, idle_since: None, crowded_until: None, roomy: false };
        linger.idle_since = Some(Instant::now());
        linger.woke();
        assert_eq!(linger.window, Duration::ZERO);
    }
}
