//! What all vCPUs of a machine share, and what other threads touch of one vCPU. All atomics; one small lock for the TLBI queue.
//!
//! Invariants:
//! - `req` is what an engine polls. Everybody who wants something of a vCPU first makes it visible (queue, `gic_best`, ...), then ORs a bit into `req`, then
//!   wakes. The vCPU clears the bits first, then looks. So nothing is lost.
//! - `running` is true while the vCPU may use its translation caches. It is set before `req` is looked at (both SeqCst), so a TLBI that is queued while it is
//!   false is applied before the first translation after it became true: the initiator need not wait for such a vCPU.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::code::CodeEpochs;
use crate::config::CpuConfig;
use crate::futex;
use crate::mmu::TlbiOp;
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
const TLBI_QUEUE_LIMIT: usize = 64;

/// What other threads touch of one vCPU.
#[derive(Debug)]
pub struct VcpuShared {
    /// Requests, bits of [`req`]; engines poll it at loop heads and indirect branches.
    pub req: AtomicU32,
    /// Best pending interrupt of group 0 and 1: bit 63 valid, 39:32 priority, 31:0 interrupt id.
    gic_best: [AtomicU64; 2],
    /// Futex word: 1 while parked.
    park: AtomicU32,
    /// May use its translation caches.
    running: AtomicBool,
    tlbi_queue: Mutex<Vec<TlbiOp>>,
    tlbi_posted: AtomicU64,
    tlbi_acked: AtomicU64,
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
            req: AtomicU32::new(0),
            gic_best: [AtomicU64::new(0), AtomicU64::new(0)],
            park: AtomicU32::new(0),
            running: AtomicBool::new(false),
            tlbi_queue: Mutex::new(Vec::new()),
            tlbi_posted: AtomicU64::new(0),
            tlbi_acked: AtomicU64::new(0),
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
        self.req.fetch_or(bits, Ordering::SeqCst);
        if self.park.swap(0, Ordering::SeqCst) != 0 {
            futex::wake(&self.park);
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
        self.req.fetch_and(!req::PAUSE, Ordering::SeqCst);
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

    /// Sleeps until a request comes or `timeout` passes. Only the vCPU's own thread calls it. `running` must be false.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        self.park.store(1, Ordering::SeqCst);
        if self.req.load(Ordering::SeqCst) == 0 {
            futex::wait(&self.park, 1, timeout);
        }
        self.park.store(0, Ordering::SeqCst);
    }

    /// True while the vCPU sleeps.
    pub fn is_parked(&self) -> bool {
        self.park.load(Ordering::Relaxed) != 0
    }

    /// Enters or leaves the state in which the vCPU uses its translation caches.
    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::SeqCst);
    }

    /// Queues a TLB maintenance operation of another vCPU; gives the number to wait for.
    pub(crate) fn post_tlbi(&self, op: TlbiOp) -> u64 {
        let seq = {
            let mut queue = self.tlbi_queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if queue.len() >= TLBI_QUEUE_LIMIT {
                queue.clear();
                queue.push(TlbiOp::ALL);
            } else {
                queue.push(op);
            }
            self.tlbi_posted.fetch_add(1, Ordering::SeqCst) + 1
        };
        self.request(req::SHOOT);
        seq
    }

    /// Takes what is queued, with the number to acknowledge once it is applied.
    pub(crate) fn take_tlbi(&self) -> (Vec<TlbiOp>, u64) {
        let mut queue = self.tlbi_queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (std::mem::take(&mut *queue), self.tlbi_posted.load(Ordering::SeqCst))
    }

    pub(crate) fn acknowledge_tlbi(&self, seq: u64) {
        self.tlbi_acked.store(seq, Ordering::SeqCst);
    }

    /// True when the operation with this number can have no effect on this vCPU any more.
    pub(crate) fn tlbi_done(&self, seq: u64) -> bool {
        self.tlbi_acked.load(Ordering::SeqCst) >= seq || !self.running.load(Ordering::SeqCst)
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
