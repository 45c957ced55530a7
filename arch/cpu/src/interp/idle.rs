//! WFI and WFE: sleeping without burning the host, and SMCCC calls that may sleep or stop.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::exception::{Syndrome, ec};
use crate::outside::{Conduit, SmcccOutcome};
use crate::shared::req;
use crate::stop::Stop;
use crate::sysreg::Slot;
use crate::vcpu::{Trap, Vcpu};

const SCTLR_NTWI: u64 = 1 << 16;
const SCTLR_NTWE: u64 = 1 << 18;
/// A WFE never sleeps longer: what it waits for may come without an event (a lock holder that another host thread preempted).
const WFE_NAP: Duration = Duration::from_micros(50);
/// WFEs in a row that only spin, before they begin to nap.
const WFE_SPINS: u32 = 64;
/// A WFE that comes this much later (ticks) than the last one begins a new wait.
const WFE_FRESH: u64 = 20_000;

impl Vcpu {
    fn wait_trapped(&self, bit: u64) -> bool {
        self.arch.el == 0 && self.arch.sys(Slot::SCTLR_EL1) & bit == 0
    }

    /// Something to do that ends WFI: a pending interrupt (masked or not), or a request.
    fn wake_pending(&self) -> bool {
        self.arch.pending != 0 || self.shared.req().load(Ordering::SeqCst) != 0
    }

    /// WFI (`ti` 0) and WFIT (`ti` 2, with a limit). PC is that of the instruction; it completes at once for the caller.
    ///
    /// # Errors
    /// Trapped from EL0.
    pub fn wfi(&mut self, limit: Option<u64>) -> Result<(), Trap> {
        if self.wait_trapped(SCTLR_NTWI) {
            return Err(self.raise(Syndrome::new(ec::WFX, wfx_iss(if limit.is_some() { 2 } else { 0 }))));
        }
        self.update_timers();
        self.update_interrupts();
        if !self.wake_pending() {
            let deadline = limit.map_or(self.deadline, |l| l.min(self.deadline));
            self.sleep_until(deadline, None);
        }
        // The interrupt that ended the wait is taken right after it, as guests rely on: `while (!seen) wfi();`.
        self.fetch_stale();
        Ok(())
    }

    /// WFE and WFET.
    ///
    /// # Errors
    /// Trapped from EL0.
    pub fn wfe(&mut self, limit: Option<u64>) -> Result<(), Trap> {
        let own = std::mem::take(&mut self.own_event);
        if std::mem::take(&mut self.arch.event) != 0 {
            // Linux waits with SEVL, WFE, a look, WFE: the first of them says nothing about how long it has been waiting.
            if !own {
                self.wfe_spins = 0;
            }
            return Ok(());
        }
        if self.wait_trapped(SCTLR_NTWE) {
            return Err(self.raise(Syndrome::new(ec::WFX, wfx_iss(if limit.is_some() { 3 } else { 1 }))));
        }
        if self.wake_pending() {
            return Ok(());
        }
        let now = self.counter();
        if now.wrapping_sub(self.last_wfe) > WFE_FRESH {
            self.wfe_spins = 0;
        }
        self.last_wfe = now;
        self.wfe_spins += 1;
        if self.wfe_spins < WFE_SPINS {
            std::hint::spin_loop();
            return Ok(());
        }
        let mut deadline = limit.map_or(self.deadline, |l| l.min(self.deadline));
        if let Some(tick) = self.next_event_tick() {
            deadline = deadline.min(tick);
        }
        self.sleep_until(deadline, Some(WFE_NAP));
        self.wfe_spins = WFE_SPINS / 2;
        self.last_wfe = self.counter();
        Ok(())
    }

    /// Parks until a request, or the counter reaches `deadline`, or `longest` passed.
    fn sleep_until(&mut self, deadline: u64, longest: Option<Duration>) {
        let until = if deadline == u64::MAX { None } else { self.vm.clock.host_time_until(deadline) };
        let timeout = match (until, longest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if timeout == Some(Duration::ZERO) {
            self.update_timers();
            return;
        }
        self.outside.before_sleep(self.index);
        self.counters.parks += 1;
        self.publish_counters();
        let start = Instant::now();
        // The futex has the deadline: the timer thread need not care.
        self.shared.deadline.store(u64::MAX, Ordering::SeqCst);
        self.vm.rouse(self.shared.shoot.end());
        self.shared.park(timeout);
        self.shared.shoot.begin();
        self.shared.parked_ns.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if self.shared.req().load(Ordering::SeqCst) & req::SHOOT != 0 {
            self.shared.req().fetch_and(!req::SHOOT, Ordering::SeqCst);
            self.drain_tlbi();
        }
        self.update_timers();
        self.update_interrupts();
    }

    /// SEV: sets the event register of every PE.
    pub fn sev(&mut self) {
        self.arch.event = 1;
        for (i, v) in self.vm.vcpus.iter().enumerate() {
            if i != self.index {
                v.request(req::EVENT);
            }
        }
    }

    /// HVC or SMC with the SMC calling convention. PC is that of the instruction.
    ///
    /// # Errors
    /// Undefined at EL0 or without such a conduit; or the call stops this vCPU.
    pub fn smccc(&mut self, conduit: Conduit, imm: u16) -> Result<(), Trap> {
        if self.arch.el == 0 {
            return Err(self.raise(Syndrome::UNDEFINED));
        }
        let mut regs = [0u64; 18];
        regs.copy_from_slice(&self.arch.x[..18]);
        let outcome = self.outside.smccc(self.index, conduit, imm, &mut regs);
        self.arch.x[..18].copy_from_slice(&regs);
        match outcome {
            SmcccOutcome::Continue => Ok(()),
            SmcccOutcome::Suspend => self.wfi(None),
            SmcccOutcome::CpuOff => Err(self.leave(Stop::CpuOff)),
            SmcccOutcome::Shutdown => Err(self.leave(Stop::Shutdown)),
            SmcccOutcome::Reset => Err(self.leave(Stop::Reset)),
            SmcccOutcome::Undefined => Err(self.raise(Syndrome::UNDEFINED)),
        }
    }
}

/// ISS of a trapped WFI or WFE: CV, COND = always, TI.
fn wfx_iss(ti: u32) -> u32 {
    1 << 24 | 0xe << 20 | ti
}
