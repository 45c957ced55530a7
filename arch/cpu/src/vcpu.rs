//! One virtual PE: its registers, its caches of translations and code, its counters, and the few functions that every engine calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::{CpuConfig, ID_AA64MMFR1};
use crate::debugger::Debugger;
use crate::exception::{Exception, Ring, Syndrome};
use crate::gic::CpuInterface;
use crate::interp::CodeCache;
use crate::mmu::{Tlb, TlbiOp};
use crate::outside::Outside;
use crate::shared::{VcpuShared, VmShared, req};
use crate::state::{ArchState, pstate};
use crate::stepping::DebugState;
use crate::stop::Stop;
use crate::sysreg::{ROWS, SysEnc, Via};

/// Why an instruction did not complete normally. Small on purpose: what happened stands in [`Vcpu::syndrome`] or [`Vcpu::exit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Trap {
    /// Take `Vcpu::syndrome` as a synchronous exception.
    Exception,
    /// Leave the run loop with `Vcpu::exit`; the instruction is complete.
    Exit,
}

/// What the ID registers say, where execution asks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeFeatures {
    pub pan: bool,
    pub hardware_af: bool,
    pub hardware_dirty: bool,
}

impl PeFeatures {
    fn of(config: &CpuConfig) -> PeFeatures {
        PeFeatures {
            pan: config.id_field(ID_AA64MMFR1, 20) >= 1,
            hardware_af: config.id_field(ID_AA64MMFR1, 0) >= 1,
            hardware_dirty: config.id_field(ID_AA64MMFR1, 0) >= 2,
        }
    }
}

/// Counters of one PE. Plain numbers: only its own thread writes them.
#[derive(Debug, Clone)]
pub struct Counters {
    /// Instructions executed by the interpreter.
    pub instructions: u64,
    /// Synchronous exceptions by class.
    pub exceptions: [u64; 64],
    /// IRQs and FIQs taken.
    pub irqs: u64,
    /// Table walks.
    pub walks: u64,
    /// Lookups of the second-level TLB.
    pub tlb_lookups: u64,
    /// ... that hit.
    pub tlb_hits: u64,
    /// Maintenance operations applied.
    pub tlbi: u64,
    /// Operations of this PE that were posted to another.
    pub shootdowns: u64,
    /// Sleeps until another PE had applied one.
    pub shootdown_sleeps: u64,
    /// Nanoseconds in which other PEs had not applied them yet, seen from a DSB of this one.
    pub shootdown_ns: u64,
    /// IC instructions that made code stale: pages of which some was decoded or translated, or all of it.
    pub code_invalidations: u64,
    /// Device accesses.
    pub mmio: u64,
    /// Pages decoded.
    pub pages_decoded: u64,
    /// WFI and WFE that parked.
    pub parks: u64,
    /// Accesses to unimplemented system encodings.
    pub unimplemented: BTreeMap<u16, u64>,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            instructions: 0,
            exceptions: [0; 64],
            irqs: 0,
            walks: 0,
            tlb_lookups: 0,
            tlb_hits: 0,
            tlbi: 0,
            shootdowns: 0,
            shootdown_sleeps: 0,
            shootdown_ns: 0,
            code_invalidations: 0,
            mmio: 0,
            pages_decoded: 0,
            parks: 0,
            unimplemented: BTreeMap::new(),
        }
    }
}

impl Counters {
    /// (encoding, count) of every access to a system encoding that does not exist here.
    pub fn unimplemented(&self) -> impl Iterator<Item = (SysEnc, u64)> {
        self.unimplemented.iter().map(|(e, n)| (SysEnc(*e), *n))
    }
}

/// One PE.
#[repr(C)]
pub struct Vcpu {
    /// Registers.
    pub arch: ArchState,
    /// Translation caches.
    pub tlb: Tlb,
    /// The synchronous exception to take after [`Trap::Exception`].
    pub syndrome: Syndrome,
    /// The stop after [`Trap::Exit`].
    pub exit: Option<Stop>,
    /// Number of the vCPU.
    pub index: usize,
    /// What all vCPUs share.
    pub vm: Arc<VmShared>,
    /// What others touch of this one.
    pub shared: Arc<VcpuShared>,
    /// The rest of the machine.
    pub outside: Arc<dyn Outside>,
    /// Counters.
    pub counters: Counters,
    /// The last exceptions.
    pub ring: Ring,
    /// When `Some`: every TLBI applied here is appended, for an engine with caches of its own.
    pub tlbi_log: Option<Vec<TlbiOp>>,
    /// With [`tlbi_log`](Self::tlbi_log): ranges of the upper half (first and last byte) whose broadcast maintenance by this PE is complete. What an engine
    /// shares between vCPUs and made of a translation of these, some vCPU may have added before it acknowledged. The engine empties it.
    pub completed: Vec<(u64, u64)>,
    /// Set when the address space, EL, PAN or a translation control changed, for an engine with contexts of its own; it clears it.
    pub context_dirty: bool,
    /// Private memory for [rehearsals](crate::rehearsal); `None` but in comparisons of engines.
    pub rehearsal: Option<Box<crate::rehearsal::Rehearsal>>,
    /// GIC CPU interface.
    pub gic: CpuInterface,
    pub(crate) features: PeFeatures,
    pub(crate) debug: DebugState,
    pub(crate) debugger: Debugger,
    pub(crate) code: CodeCache,
    pub(crate) deadline: u64,
    pub(crate) timer_lines: [bool; 2],
    pub(crate) pmu_line: bool,
    /// Counter value at which PMCCNTR_EL0 was zero, while it counts.
    pub(crate) pmu_base: u64,
    pub(crate) shoot_waits: Vec<u64>,
    /// As [`completed`](Self::completed), before the DSB.
    pub(crate) announced: Vec<(u64, u64)>,
    /// A broadcast TLBI of this PE waits for its DSB.
    pub shoot_pending: bool,
    /// The event register was set by this PE's SEVL.
    pub(crate) own_event: bool,
    pub(crate) wfe_spins: u32,
    pub(crate) last_wfe: u64,
    pub(crate) yields: u32,
}

impl std::fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vcpu").field("index", &self.index).field("pc", &self.arch.pc).finish_non_exhaustive()
    }
}

impl Vcpu {
    /// A PE in reset state; `reset` gives it an entry point.
    pub fn new(index: usize, vm: Arc<VmShared>, outside: Arc<dyn Outside>) -> Box<Vcpu> {
        let shared = vm.vcpus.get(index).cloned().unwrap_or_default();
        let mut v = Box::new(Vcpu {
            arch: ArchState::new(),
            tlb: Tlb::new(),
            syndrome: Syndrome::UNDEFINED,
            exit: None,
            index,
            shared,
            outside,
            counters: Counters::default(),
            ring: Ring::new(),
            tlbi_log: None,
            completed: Vec::new(),
            context_dirty: true,
            rehearsal: None,
            gic: CpuInterface::default(),
            features: PeFeatures::of(&vm.config),
            debug: DebugState::default(),
            debugger: Debugger::default(),
            code: CodeCache::new(&vm.config),
            deadline: u64::MAX,
            timer_lines: [false; 2],
            pmu_line: false,
            pmu_base: 0,
            shoot_waits: vec![0; vm.vcpus.len()],
            announced: Vec::new(),
            shoot_pending: false,
            own_event: false,
            wfe_spins: 0,
            last_wfe: 0,
            yields: 0,
            vm,
        });
        v.reset(0, [0; 4]);
        v
    }

    /// Architectural reset, then the boot protocol: EL1h, DAIF masked, MMU off, PC = `entry`, X0 to X3 = `x0_3`, all else zero.
    pub fn reset(&mut self, entry: u64, x0_3: [u64; 4]) {
        self.arch = ArchState::new();
        for row in ROWS {
            if let Via::Slot(slot) = row.via {
                self.arch.set_sys(slot, row.reset | row.res1);
            }
        }
        self.arch.pc = entry;
        self.arch.x[..4].copy_from_slice(&x0_3);
        self.gic = CpuInterface::default();
        self.pmu_reset();
        self.shared.req().fetch_and(!(req::IRQ | req::TIMER | req::EVENT), Ordering::SeqCst);
        self.shared.set_serror_pending(false);
        self.exit = None;
        self.after_load();
    }

    /// Everything that is derived from registers is made anew: after reset and load.
    pub(crate) fn after_load(&mut self) {
        self.apply_tlbi(&TlbiOp::ALL);
        self.code.clear();
        self.debugger.restart();
        self.debug_changed();
        self.mode_changed();
        self.drive_lines_anew();
        self.update_interrupts();
        self.context_dirty = true;
    }

    /// Remembers a synchronous exception; the caller returns the trap.
    #[cold]
    pub fn raise(&mut self, syndrome: Syndrome) -> Trap {
        self.syndrome = syndrome;
        Trap::Exception
    }

    /// Remembers a stop; the caller returns the trap.
    #[cold]
    pub(crate) fn leave(&mut self, stop: Stop) -> Trap {
        self.exit = Some(stop);
        Trap::Exit
    }

    /// Writes PSTATE.DAIF (bits 9 to 6).
    #[inline]
    pub fn set_daif(&mut self, daif: u64) {
        self.arch.daif = (daif & pstate::DAIF) as u32;
        if self.interrupt_deliverable() {
            self.shared.req().fetch_or(req::IRQ, Ordering::Relaxed);
            self.fetch_stale();
        }
    }

    /// True when an interrupt is pending that PSTATE does not mask.
    #[inline]
    pub fn interrupt_deliverable(&self) -> bool {
        self.arch.pending & !self.arch.daif != 0
    }

    /// Recomputes `arch.pending` from the GIC CPU interface and SError.
    pub fn update_interrupts(&mut self) {
        let mut pending = 0u64;
        if self.shared.serror_pending() {
            pending |= pstate::A;
        }
        let (fiq, irq) = self.gic_signals();
        if irq {
            pending |= pstate::I;
        }
        if fiq {
            pending |= pstate::F;
        }
        self.arch.pending = pending as u32;
        if self.interrupt_deliverable() {
            self.shared.req().fetch_or(req::IRQ, Ordering::Relaxed);
            self.fetch_stale();
        }
    }

    /// Serves all requests: TLBI queue, timers, interrupts, pause. Call between instructions when `shared.req` is not 0.
    /// An interrupt that is pending and not masked is taken: PC and PSTATE change.
    pub fn poll(&mut self) -> Option<Stop> {
        let bits = self.shared.req().swap(0, Ordering::SeqCst);
        if bits & req::SHOOT != 0 {
            self.drain_tlbi();
        }
        if bits & req::TIMER != 0 || self.deadline_passed() {
            self.update_timers();
            self.update_pmu();
        }
        if bits & req::EVENT != 0 {
            self.arch.event = 1;
        }
        if bits & req::PAUSE != 0 {
            self.shared.instructions.store(self.counters.instructions, Ordering::Relaxed);
            return Some(Stop::Paused);
        }
        self.update_interrupts();
        self.take_pending_interrupt();
        None
    }

    /// Takes the pending unmasked interrupt of the highest priority, if any: SError, FIQ, IRQ.
    pub(crate) fn take_pending_interrupt(&mut self) -> bool {
        let open = u64::from(self.arch.pending & !self.arch.daif);
        if open == 0 {
            return false;
        }
        // They are taken now; what stays pending is told again when PSTATE opens.
        self.shared.req().fetch_and(!req::IRQ, Ordering::SeqCst);
        if open & pstate::A != 0 {
            self.shared.set_serror_pending(false);
            self.take_exception(Exception::SError(0));
        } else if open & pstate::F != 0 {
            self.take_exception(Exception::Fiq);
        } else {
            self.take_exception(Exception::Irq);
        }
        // The bits could have come with news that the clearing above swallowed.
        self.update_interrupts();
        true
    }

    /// True when instructions must go one by one through [`Vcpu::step`]: self-hosted debug is at work, or PSTATE.IL or PSTATE.SS is set.
    #[inline]
    pub fn needs_stepping(&self) -> bool {
        self.debug.careful || self.arch.il != 0 || self.arch.ss != 0
    }

    /// EL, PAN, SP or the masks changed.
    #[inline]
    pub(crate) fn mode_changed(&mut self) {
        self.select_context();
        if self.pmu_filtered() {
            self.update_pmu();
        }
        self.fetch_stale();
        if self.interrupt_deliverable() {
            self.shared.req().fetch_or(req::IRQ, Ordering::Relaxed);
            self.fetch_stale();
        }
    }

    /// True while exceptions and their returns change registers and nothing else: no self-hosted debug, no PMU filter by EL. Then generated code may take them
    /// and tell by [`Vcpu::follow_mode`] afterwards.
    #[inline]
    pub fn plain_exceptions(&self) -> bool {
        self.features.pan && !self.debug.careful && !self.debug.step && !self.pmu_filtered()
    }

    /// Generated code took exceptions or returned from them: what the interpreter keeps by EL and PAN follows.
    #[inline]
    pub fn follow_mode(&mut self) {
        let (asid, who) = (self.asid(), self.privilege());
        self.tlb.select(asid, who);
        self.fetch_stale();
    }

    /// ISB, exception return: what was changed takes effect on the instruction stream.
    pub(crate) fn context_synchronization(&mut self) {
        self.fetch_stale();
    }

    /// Publishes the counters that other threads read.
    pub fn publish_counters(&self) {
        self.shared.instructions.store(self.counters.instructions, Ordering::Relaxed);
    }
}
