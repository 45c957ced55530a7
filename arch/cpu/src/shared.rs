//! What all vCPUs of a machine share, and what other threads touch of one vCPU. All atomics; one small lock for the TLBI queue.
//!
//! Invariants:
//! - `doze` is what an engine polls and sleeps on. Everybody who wants something of a vCPU first makes it visible (queue, `gic_best`, ...), then requests.
//! - `shoot` and `asids` say what TLB maintenance of others is to be applied and which of it concerns this vCPU at all.
//!
//! How these work, and why nothing is lost, stands in crate `protocols`, whose tests go through all interleavings.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocols::{AsidFilter, Doze, Shootdown};

use crate::clock::Clock;
use crate::code::CodeEpochs;
use crate::config::CpuConfig;
use crate::futex;
use crate::mmu::{TlbiKind, TlbiOp};
use crate::ram::Ram;
use crate::timer::TimerThread;

/// Bits of [`VcpuShared::req`].
pub mod req {
    /// `gic_best` changed, or an SError is pending.
    pub const IRQ: u32 = 1;
    /// A timer deadline passed.
    pub const TIMER: u32 = 2;
    /// The TLBI queue is not empty.
    pub const SHOOT: u32 = 4;
    /// Leave `run` with `Stop::Paused`.
    pub const PAUSE: u32 = 8;
    /// Somebody wants a trip through `poll` (safepoint); nothing else.
    pub const KICK: u32 = 16;
    /// The event register was set by another PE (SEV).
    pub const EVENT: u32 = 32;
    /// For the use of the translator: code was dropped.
    pub const CODE: u32 = 64;
}

/// Packs the best pending interrupt of a group for one atomic word.
fn pack_best(best: Option<(u8, u32)>) -> u64 {
    best.map_or(0, |(priority, intid)| 1 << 63 | u64::from(priority) << 32 | u64::from(intid))
}

/// Longest TLBI queue before it collapses into "everything".
pub(crate) const TLBI_QUEUE_LIMIT: usize = 64;

/// What other threads touch of one vCPU. Cache lines of its own (hosts fetch two at a time): generated code polls it all the time.
#[derive(Debug)]
#[repr(align(128))]
pub struct VcpuShared {
    /// Requests, bits of [`req`], and sleep; engines poll the requests at loop heads and indirect branches.
    doze: Doze,
    /// TLB maintenance of others.
    pub(crate) shoot: Shootdown<TlbiOp>,
    /// Whose translations may be cached.
    pub(crate) asids: AsidFilter,
    /// Best pending interrupt of group 0 and 1: bit 63 valid, 39:32 priority, 31:0 interrupt id.
    gic_best: [AtomicU64; 2],
    serror: AtomicBool,
    /// Counter value of the next timer event, `u64::MAX` for none.
    pub deadline: AtomicU64,
    /// Exception returns to EL0 since reset.
    pub eret_el0: AtomicU64,
    /// Nanoseconds spent parked.
    pub parked_ns: AtomicU64,
    /// Instructions executed, as last published by the engine.
    pub instructions: AtomicU64,
}

impl Default for VcpuShared {
    fn default() -> Self {
        VcpuShared {
            doze: Doze::default(),
            shoot: Shootdown::default(),
            asids: AsidFilter::new(1 << 16),
            gic_best: [AtomicU64::new(0), AtomicU64::new(0)],
            serror: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::MAX),
            eret_el0: AtomicU64::new(0),
            parked_ns: AtomicU64::new(0),
            instructions: AtomicU64::new(0),
        }
    }
}

impl VcpuShared {
    /// The distributor says what the best pending interrupt of `group` (0, 1) is now: (priority, interrupt id).
    pub fn publish_irq(&self, group: usize, best: Option<(u8, u32)>) {
        if let Some(cell) = self.gic_best.get(group) {
            let new = pack_best(best);
            if cell.swap(new, Ordering::SeqCst) != new {
                self.request(req::IRQ);
            }
        }
    }

    /// The best pending interrupt of `group`.
    #[inline]
    pub fn best_irq(&self, group: usize) -> Option<(u8, u32)> {
        let v = self.gic_best.get(group)?.load(Ordering::SeqCst);
        (v >> 63 != 0).then_some(((v >> 32) as u8, v as u32))
    }

    /// Sets request bits and wakes the vCPU when it is parked.
    pub fn request(&self, bits: u32) {
        if self.doze.request(bits) {
            futex::wake(self.doze.word());
        }
    }

    /// The request word.
    #[inline]
    pub fn req(&self) -> &AtomicU32 {
        self.doze.requests()
    }

    /// No request, but the vCPU shall look again if it sleeps.
    pub(crate) fn rouse(&self) {
        if self.doze.rouse() {
            futex::wake(self.doze.word());
        }
    }

    /// A trip through `poll`.
    pub fn kick(&self) {
        self.request(req::KICK);
    }

    /// Makes `run` return `Stop::Paused` soon.
    pub fn request_pause(&self) {
        self.request(req::PAUSE);
    }

    /// Takes back a pause that was not served yet.
    pub fn cancel_pause(&self) {
        self.req().fetch_and(!req::PAUSE, Ordering::SeqCst);
    }

    /// An SError interrupt becomes pending (or not).
    pub fn set_serror_pending(&self, pending: bool) {
        self.serror.store(pending, Ordering::SeqCst);
        if pending {
            self.request(req::IRQ);
        }
    }

    /// True while an SError interrupt is pending.
    pub fn serror_pending(&self) -> bool {
        self.serror.load(Ordering::SeqCst)
    }

    /// Sleeps until a request comes or `timeout` passes. Only the vCPU's own thread calls it, while it does not use its translation caches.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        self.doze.sleep(!0, || false, |word| futex::wait(word, 1, timeout));
    }

    /// Sleeps until TLB maintenance is asked for, `done` holds (whoever makes it hold rouses), or `timeout` passes.
    pub(crate) fn park_for_answer(&self, done: impl FnOnce() -> bool, timeout: Duration) {
        self.doze.sleep(req::SHOOT, done, |word| futex::wait(word, 1, Some(timeout)));
    }

    /// True while the vCPU sleeps.
    pub fn is_parked(&self) -> bool {
        self.doze.is_asleep()
    }

    /// Queues a TLB maintenance operation of another vCPU; gives the number to wait for.
    pub(crate) fn post_tlbi(&self, op: TlbiOp) -> u64 {
        let number = self.shoot.post(op, &TlbiOp::ALL, TLBI_QUEUE_LIMIT);
        self.request(req::SHOOT);
        number
    }

    /// True if this operation may remove something that the vCPU caches. Ask after the tables were changed.
    pub(crate) fn is_concerned(&self, op: &TlbiOp) -> bool {
        match op.kind {
            TlbiKind::All | TlbiKind::VaAllAsids => true,
            TlbiKind::Asid => self.asids.may_hold(op.asid, false),
            // Global translations of the upper half are everywhere.
            TlbiKind::Va => op.last >> 55 & 1 != 0 || self.asids.may_hold(op.asid, true),
        }
    }
}

/// Shared by all vCPUs of a machine.
#[derive(Debug)]
pub struct VmShared {
    /// Guest RAM.
    pub ram: Ram,
    /// Guest time.
    pub clock: Arc<Clock>,
    /// One per vCPU, by index.
    pub vcpus: Vec<Arc<VcpuShared>>,
    /// Code invalidation.
    pub code: CodeEpochs,
    /// What the processing elements are.
    pub config: CpuConfig,
    /// Bits of [`crate::outside::trace`].
    pub trace: AtomicU32,
    /// Delays where vCPUs agree on something.
    pub stress: crate::stress::Stress,
    /// Sets `req` of vCPUs whose timer deadline passed.
    pub(crate) timers: OnceLock<TimerThread>,
}

impl VmShared {
    /// Rouses these vCPUs, a bit each.
    pub(crate) fn rouse(&self, who: u64) {
        if who != 0 {
            for (_, v) in self.vcpus.iter().enumerate().filter(|(i, _)| *i < 64 && who >> i & 1 != 0) {
                v.rouse();
            }
        }
    }

    /// A machine of `vcpus` processing elements.
    pub fn new(ram: Ram, clock: Arc<Clock>, vcpus: usize, config: CpuConfig) -> Arc<VmShared> {
        let code = CodeEpochs::new(&ram);
        Arc::new(VmShared {
            ram,
            clock,
            vcpus: (0..vcpus).map(|_| Arc::new(VcpuShared::default())).collect(),
            code,
            config,
            trace: AtomicU32::new(0),
            stress: crate::stress::Stress::default(),
            timers: OnceLock::new(),
        })
    }

    /// Starts the thread that makes timer interrupts prompt while guest code runs. Without it engines notice a deadline at their own checks.
    ///
    /// # Errors
    /// The host gives no thread.
    pub fn start_timer_thread(self: &Arc<Self>) -> std::io::Result<()> {
        if self.timers.get().is_none() {
            let thread = TimerThread::start(Arc::downgrade(self))?;
            // A second starter loses its thread at once; both see one.
            let _ = self.timers.set(thread);
        }
        Ok(())
    }
}
