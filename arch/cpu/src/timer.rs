//! The generic timers: when the virtual and the physical EL1 timer fire, their lines, and the thread that makes a running guest notice in time.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::futex;
use crate::outside::{PPI_PHYSICAL_TIMER, PPI_PMU, PPI_VIRTUAL_TIMER};
use crate::shared::{VmShared, req};
use crate::sysreg::Slot;
use crate::vcpu::Vcpu;

/// CNTx_CTL: the timer is on.
pub const CTL_ENABLE: u64 = 1;
/// CNTx_CTL: its interrupt is masked.
pub const CTL_IMASK: u64 = 2;
/// CNTx_CTL: its condition is met (read only).
pub const CTL_ISTATUS: u64 = 4;

/// One of the two EL1 timers. No EL2: the virtual offset is part of the machine's clock, so both count the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// CNTV_*, interrupt 27.
    Virtual,
    /// CNTP_*, interrupt 30.
    Physical,
}

impl Timer {
    /// Both.
    pub const ALL: [Timer; 2] = [Timer::Virtual, Timer::Physical];

    fn ctl(self) -> Slot {
        match self {
            Timer::Virtual => Slot::CNTV_CTL_EL0,
            Timer::Physical => Slot::CNTP_CTL_EL0,
        }
    }

    fn cval(self) -> Slot {
        match self {
            Timer::Virtual => Slot::CNTV_CVAL_EL0,
            Timer::Physical => Slot::CNTP_CVAL_EL0,
        }
    }

    fn intid(self) -> u32 {
        match self {
            Timer::Virtual => PPI_VIRTUAL_TIMER,
            Timer::Physical => PPI_PHYSICAL_TIMER,
        }
    }
}

impl Vcpu {
    /// CNTVCT_EL0, CNTPCT_EL0.
    #[inline]
    pub fn counter(&self) -> u64 {
        self.vm.clock.counter()
    }

    /// CNTx_CTL_EL0 with ISTATUS.
    pub(crate) fn timer_ctl(&self, timer: Timer) -> u64 {
        let ctl = self.arch.sys(timer.ctl()) & (CTL_ENABLE | CTL_IMASK);
        let met = ctl & CTL_ENABLE != 0 && self.counter() >= self.arch.sys(timer.cval());
        ctl | if met { CTL_ISTATUS } else { 0 }
    }

    pub(crate) fn set_timer_ctl(&mut self, timer: Timer, value: u64) {
        self.arch.set_sys(timer.ctl(), value & (CTL_ENABLE | CTL_IMASK));
        self.update_timers();
    }

    pub(crate) fn timer_cval(&self, timer: Timer) -> u64 {
        self.arch.sys(timer.cval())
    }

    pub(crate) fn set_timer_cval(&mut self, timer: Timer, value: u64) {
        self.arch.set_sys(timer.cval(), value);
        self.update_timers();
    }

    pub(crate) fn timer_tval(&self, timer: Timer) -> u64 {
        u64::from(self.arch.sys(timer.cval()).wrapping_sub(self.counter()) as u32)
    }

    pub(crate) fn set_timer_tval(&mut self, timer: Timer, value: u64) {
        let value = self.counter().wrapping_add(value as i32 as i64 as u64);
        self.set_timer_cval(timer, value);
    }

    /// Drives the interrupt lines from the timers' conditions and publishes the next deadline.
    pub fn update_timers(&mut self) {
        let now = self.counter();
        let mut deadline = u64::MAX;
        for (i, timer) in Timer::ALL.into_iter().enumerate() {
            let ctl = self.arch.sys(timer.ctl());
            let cval = self.arch.sys(timer.cval());
            let enabled = ctl & CTL_ENABLE != 0;
            let level = enabled && ctl & CTL_IMASK == 0 && now >= cval;
            if enabled && ctl & CTL_IMASK == 0 && now < cval {
                deadline = deadline.min(cval);
            }
            if self.timer_lines[i] != level {
                self.timer_lines[i] = level;
                self.outside.gic_set_ppi(self.index, timer.intid(), level);
            }
        }
        if let Some(at) = self.pmu_deadline() {
            deadline = deadline.min(at);
        }
        self.deadline = deadline;
        self.shared.deadline.store(deadline, Ordering::SeqCst);
        if deadline != u64::MAX
            && let Some(thread) = self.vm.timers.get()
        {
            thread.sooner(deadline);
        }
    }

    /// Drives all private lines even if they did not change: the GIC may have been reset too.
    pub(crate) fn drive_lines_anew(&mut self) {
        self.timer_lines = [false; 2];
        self.pmu_line = false;
        for intid in [PPI_VIRTUAL_TIMER, PPI_PHYSICAL_TIMER, PPI_PMU] {
            self.outside.gic_set_ppi(self.index, intid, false);
        }
        self.update_timers();
        self.update_pmu();
    }

    /// True when the published deadline passed.
    #[inline]
    pub(crate) fn deadline_passed(&self) -> bool {
        self.deadline != u64::MAX && self.counter() >= self.deadline
    }

    /// Next tick of the event stream (CNTKCTL_EL1.EVNTEN): the counter value at which bit EVNTI changes in the chosen direction.
    pub(crate) fn next_event_tick(&self) -> Option<u64> {
        let ctl = self.arch.sys(Slot::CNTKCTL_EL1);
        if ctl & (1 << 2) == 0 {
            return None;
        }
        let bit = (ctl >> 4 & 15) as u32 + if ctl & (1 << 17) != 0 { 8 } else { 0 };
        let period = 1u64 << (bit + 1);
        let now = self.counter();
        // EVNTDIR 0: the transition 0 -> 1 of the bit, in the middle of the period; 1: 1 -> 0, at its end.
        let phase = if ctl & (1 << 3) == 0 { period / 2 } else { 0 };
        Some(now.wrapping_sub(phase).wrapping_div(period).wrapping_add(1).wrapping_mul(period).wrapping_add(phase))
    }
}

/// The timer thread looks at least this often.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Wheel {
    /// Futex word: bumped to wake the thread.
    word: AtomicU32,
    /// Counter value until which the thread sleeps.
    sleeping_until: AtomicU64,
    stop: AtomicBool,
}

/// One thread per machine: sleeps until the earliest deadline of a vCPU that runs guest code, then sets its request bit.
#[derive(Debug)]
pub struct TimerThread {
    wheel: Arc<Wheel>,
}

impl TimerThread {
    pub(crate) fn start(vm: Weak<VmShared>) -> std::io::Result<TimerThread> {
        let wheel = Arc::new(Wheel {
            word: AtomicU32::new(0),
            sleeping_until: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
        });
        let theirs = wheel.clone();
        std::thread::Builder::new().name("timer".into()).spawn(move || run(&theirs, &vm))?;
        Ok(TimerThread { wheel })
    }

    /// A vCPU has a new deadline; wakes the thread only when it would sleep past it.
    pub(crate) fn sooner(&self, deadline: u64) {
        if deadline < self.wheel.sleeping_until.load(Ordering::SeqCst) {
            self.wheel.word.fetch_add(1, Ordering::SeqCst);
            futex::wake(&self.wheel.word);
        }
    }
}

impl Drop for TimerThread {
    fn drop(&mut self) {
        self.wheel.stop.store(true, Ordering::SeqCst);
        self.wheel.word.fetch_add(1, Ordering::SeqCst);
        futex::wake(&self.wheel.word);
    }
}

fn run(wheel: &Wheel, vm: &Weak<VmShared>) {
    loop {
        let word = wheel.word.load(Ordering::SeqCst);
        if wheel.stop.load(Ordering::SeqCst) {
            return;
        }
        let timeout = {
            let Some(vm) = vm.upgrade() else { return };
            let now = vm.clock.counter();
            // Claim "awake" first: a deadline that is stored from here on either is seen below or wakes us.
            wheel.sleeping_until.store(u64::MAX, Ordering::SeqCst);
            let mut earliest = u64::MAX;
            for v in &vm.vcpus {
                let deadline = v.deadline.load(Ordering::SeqCst);
                if deadline <= now {
                    // Told once: the vCPU publishes the next one when it has looked.
                    if v.deadline.compare_exchange(deadline, u64::MAX, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                        v.request(req::TIMER);
                    }
                } else {
                    earliest = earliest.min(deadline);
                }
            }
            wheel.sleeping_until.store(earliest, Ordering::SeqCst);
            // A deadline stored between the scan and this line compared itself with u64::MAX and has bumped the word.
            vm.clock.host_time_until(earliest).filter(|t| *t < LONGEST_SLEEP).unwrap_or_else(|| {
                // A paused clock (or a far deadline): whatever is published next wakes the thread.
                wheel.sleeping_until.store(u64::MAX, Ordering::SeqCst);
                LONGEST_SLEEP
            })
        };
        futex::wait(&wheel.word, word, Some(timeout));
    }
}
