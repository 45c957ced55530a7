//! `--jit-stress`: everything that is rare becomes common. Drawn from a seed; with one vCPU a run repeats as far as time does.
//!
//! | rare in life | here |
//! |---|---|
//! | the code cache is full | it holds a sixth of what a boot needs |
//! | a translation is forgotten | first-level tables hold one page; random TLBI of everything |
//! | code is dropped | random IC IALLU |
//! | a fragment ends early | a quarter of the units has a random number of instructions, links and jump cache entries are made half of the time |
//! | a request comes just now | random requests, so that loops and exits leave |
//! | another thread is late | random delays where threads agree ([`cpu::stress`]) |

use std::sync::atomic::Ordering;

use cpu::mmu::TlbiOp;
use cpu::shared::req;

use super::JitCpu;

/// Bytes of the code cache: a sixth of what a boot translates, so that chunks are evicted all the time. With half of that, two thirds of the
/// time went to translating the same code again.
pub const CACHE_BYTES: usize = 4 << 20;

/// The dice of one vCPU.
#[derive(Debug)]
pub struct Stress {
    state: u64,
    /// The page that the first-level tables hold.
    page: Option<u64>,
}

impl Stress {
    /// For vCPU `index` of a machine with this seed.
    #[must_use]
    pub fn new(seed: u64, index: usize) -> Stress {
        Stress { state: seed.wrapping_add(index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, page: None }
    }

    fn next(&mut self) -> u64 {
        let mut x = self.state;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.state = x;
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    /// A length from 1 to `most`, short ones more often.
    pub fn length(&mut self, most: usize) -> usize {
        let (a, b) = (self.next() as usize % most, self.next() as usize % most);
        1 + a.min(b)
    }
}

impl JitCpu {
    /// Between two fragments: something that may happen at any time happens.
    pub(super) fn disturb(&mut self) {
        let Some(stress) = &mut self.stress else { return };
        if stress.one_in(4) {
            self.vcpu.shared.req().fetch_or(req::KICK, Ordering::SeqCst);
        }
        if stress.one_in(1000) {
            self.vcpu.apply_tlbi(&TlbiOp::ALL);
        }
        if stress.one_in(100_000) {
            self.vcpu.vm.code.invalidate_all();
        }
        if stress.one_in(16) {
            self.vcpu.vm.stress.point();
        }
    }

    /// Half of the time, under stress: leave out a link, or an entry of the jump cache.
    pub(super) fn skips(&mut self) -> bool {
        self.stress.as_mut().is_some_and(|s| s.one_in(2))
    }

    /// The first-level tables are going to hold `page`, and under stress nothing else.
    pub(super) fn make_room(&mut self, page: u64) {
        if let Some(stress) = &mut self.stress
            && let Some(old) = stress.page.replace(page)
            && old != page
        {
            self.contexts.forget_page(old, &mut self.hot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_fair_enough_and_repeat() {
        let mut s = Stress::new(7, 0);
        let hits = (0..10_000).filter(|_| s.one_in(4)).count();
        assert!((2300..2700).contains(&hits), "{hits}");
        let lengths: Vec<usize> = (0..1000).map(|_| s.length(64)).collect();
        assert!(lengths.contains(&1) && lengths.iter().all(|n| (1..=64).contains(n)));
        let draw = |index| (0..4).map(|_| Stress::new(7, index).next()).collect::<Vec<_>>();
        assert!(draw(0) == draw(0) && draw(0) != draw(1));
    }
}
