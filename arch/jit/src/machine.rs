//! A virtual CPU that runs by generated code, with the interpreter for what has no lowering: the dispatcher and the helpers that thunks call.
#![expect(unsafe_code, reason = "generated code calls the helpers with a raw pointer to the CPU it runs for")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cpu::clock::Published;
use cpu::mmu::{AccessKind, Privilege};
use cpu::sysreg::Slot as Sys;
use cpu::{Conduit, Exception, Stop, Syndrome, Trap, Vcpu, VmShared};

use crate::asm::Asm;
use crate::code::{self, CodeSpace, ExitId, Filling};
use crate::contexts::{Contexts, LOCAL_LIMIT, Local};
use crate::counters::JitCounters;
use crate::enter::enter;
use crate::exceptions::Inline;
use crate::fpstate;
use crate::host::{HostFeatures, Unsupported, detect};
use crate::hugepages::HugeBox;
use crate::optimisations::{Optimisation, Optimisations};
use crate::perf_map::PerfMap;
use crate::second::{self, Second};
use crate::t1::Translator;
use crate::t1::builder::Mode;
use crate::t1::flags::{from_nzcv, to_nzcv};
use crate::thunks::{self, Helpers, reason};
use crate::tlb::{Context, Slot, SlotTable};

/// What can be chosen about the translator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of the code cache that all vCPUs of a machine share; a few chunks per vCPU at least.
    pub cache_bytes: usize,
    /// Count interpreter calls by instruction (costs some speed on those calls).
    pub count_interp: bool,
    /// What to do for speed.
    pub optimise: Optimisations,
    /// Compare each unit with the interpreter, see [`lockstep`].
    pub check: bool,
    /// Make what is rare common, drawn from this seed, see [`stress`].
    pub stress: Option<u64>,
    /// Count the guest instructions that translated code executes.
    pub count_executed: bool,
    /// Write `/tmp/perf-PID.map` for profilers.
    pub perf_map: bool,
    /// Translate one instruction wrongly, so that a test can see that it is found.
    pub seeded_fault: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cache_bytes: 256 << 20,
            count_interp: false,
            optimise: Optimisations::ALL,
            check: false,
            stress: None,
            count_executed: false,
            perf_map: false,
            seeded_fault: false,
        }
    }
}

/// What the translators of all vCPUs of a machine share.
#[derive(Debug)]
pub struct JitShared {
    options: Options,
    host: HostFeatures,
    /// In a lockstep run: whose unit is compared.
    turn: lockstep::Turn,
    perf_map: Option<PerfMap>,
    /// The code of the machine whose vCPUs are made.
    code: Mutex<Option<(Weak<VmShared>, Arc<CodeSpace>)>>,
}

impl JitShared {
    /// For a host with these features, which has at least them.
    #[cfg(test)]
    pub(crate) fn with_host(options: Options, host: HostFeatures) -> Arc<JitShared> {
        Arc::new(JitShared { options, host, turn: lockstep::Turn::default(), perf_map: None, code: Mutex::new(None) })
    }

    /// Checks the host.
    ///
    /// # Errors
    /// Generated code cannot run here; the message says why and what to use instead.
    pub fn new(mut options: Options) -> Result<Arc<JitShared>, Unsupported> {
        let mut host = detect()?;
        if !options.optimise.has(Optimisation::HostExtensions) {
            host = HostFeatures::default();
        }
        host.vectors32 &= options.optimise.has(Optimisation::Vectors32);
        if options.check {
            // Every unit comes back to the dispatcher, also where an exception ends it.
            for off in [Optimisation::Links, Optimisation::FarLinks, Optimisation::SecondTlb] {
                options.optimise = options.optimise.with(off, false);
            }
        }
        if options.stress.is_some() {
            options.cache_bytes = stress::CACHE_BYTES;
        }
        let perf_map = options.perf_map.then(PerfMap::create).transpose();
        let perf_map = perf_map.map_err(|e| Unsupported::PerfMap(e.to_string()))?;
        Ok(Arc::new(JitShared { options, host, turn: lockstep::Turn::default(), perf_map, code: Mutex::new(None) }))
    }

    /// The shared code of `vm`, made when its first vCPU asks.
    fn code_of(&self, vm: &Arc<VmShared>) -> Result<Arc<CodeSpace>, String> {
        let mut code = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, space)) = &*code
            && of.upgrade().is_some_and(|of| Arc::ptr_eq(&of, vm))
        {
            return Ok(Arc::clone(space));
        }
        let helpers = Helpers {
            interp: helper_interp as extern "sysv64" fn(*mut JitCpu) -> u32 as usize as u64,
            miss: helper_miss as extern "sysv64" fn(*mut JitCpu) -> u32 as usize as u64,
            miss_group: helper_miss_group as extern "sysv64" fn(*mut JitCpu) -> u32 as usize as u64,
            set_space: helper_set_space as extern "sysv64" fn(*mut JitCpu) -> u32 as usize as u64,
            maintain: helper_maintain as extern "sysv64" fn(*mut JitCpu) -> u32 as usize as u64,
        };
        let huge = self.options.optimise.has(Optimisation::HugePages);
        let space = CodeSpace::new(vm.vcpus.len(), vm.ram.pages(), self.options.cache_bytes, huge, |base| {
            thunks::emit(&mut Asm::new(), base, &helpers, self.host).map_err(|e| e.to_string())
        })?;
        let space = Arc::new(space);
        if self.options.optimise.has(Optimisation::IdleTrim) {
            code::watch(&space);
        }
        if let Some(map) = &self.perf_map {
            map.thunks(space.cache().address(0), 24 << 10);
        }
        if let Some(seed) = self.options.stress {
            vm.stress.arm(seed);
        }
        *code = Some((Arc::downgrade(vm), Arc::clone(&space)));
        Ok(space)
    }
}

/// What generated code addresses besides the architectural state. Plain data.
#[repr(C)]
#[derive(Debug)]
pub struct Hot {
    /// NZCV, see `t1::flags`.
    pub flags: u32,
    /// A carry alone, see `t1::flags`.
    pub carry: u8,
    /// Virtual address of the page that is being executed.
    pub pc_page: u64,
    /// Bit 0: `pc_page` is already the target's; bits 31..1: number of the exit taken; bits 63..32: its target from its page. Or an immediate.
    pub exit: u64,
    /// The request word of the vCPU.
    pub req: *const AtomicU32,
    /// In a lockstep run: passes over loop heads that are left.
    pub passes: u32,
    /// Instructions executed by generated code, if they are counted.
    pub executed: u64,
    /// The count of code changes of the machine.
    pub changes: *const AtomicU64,
    /// What of it `fragments` has followed.
    pub changes_seen: u64,
    /// The line by which the counter is read; the clock belongs to `vcpu.vm`.
    pub clock: *const Published,
    /// A zero.
    pub zero: u64,
    /// The addend of the empty half of a slot.
    pub empty_addend: u64,
    /// Not 0: a store-release was a plain store, so a load-acquire needs a fence first.
    pub fence: u64,
    /// Context of EL0.
    pub ctx_el0: *mut Context,
    /// Context of EL1.
    pub ctx_el1: *mut Context,
    /// Context of the current Exception level.
    pub ctx: *mut Context,
    /// Scratch of thunks; the parameters of an access that missed.
    pub tmp: [u64; 5],
    /// The guest's MXCSR: its sticky bits are exception flags not yet in FPSR.
    pub mxcsr: u32,
    /// The VMM's MXCSR.
    pub host_mxcsr: u32,
    /// What SVC and ERET in code ask.
    pub inline: Inline,
    /// Constants of floating-point code.
    pub fp_constants: [[u64; 2]; crate::t1::lower::fp::CONSTANTS.len()],
    /// Constants of vector code.
    pub constants: crate::constants::Table,
    /// The second-level TLB; it belongs to `second`.
    pub second: *mut second::Set,
    /// What of the EL1 context leaves with the address space.
    pub local: Local,
    /// Indirect branches that the victim cache knew.
    pub victim_hits: u64,
    /// Accesses that missed their slot.
    pub slot_misses: u64,
    /// ... that the second-level TLB knew.
    pub second_hits: u64,
    /// Slots for EL0's rights.
    pub l0_el0: SlotTable<{ crate::env::SLOTS_EL0 as usize }>,
    /// Slots for EL1's rights.
    pub l0_el1: SlotTable<{ crate::env::SLOTS_EL1 as usize }>,
}

#[repr(C, align(4096))]
struct Scratch([u8; 8192]);

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scratch({} bytes)", self.0.len())
    }
}

/// One vCPU on the translator.
#[repr(C)]
#[derive(Debug)]
pub struct JitCpu {
    /// The processing element; its `arch` is what generated code works on.
    pub vcpu: Vcpu,
    pub(crate) hot: Hot,
    /// Counters.
    pub counters: JitCounters,
    shared: Arc<JitShared>,
    code: Arc<CodeSpace>,
    /// The chunk that this vCPU fills.
    filling: Option<Filling>,
    /// What of `CodeSpace::drops` the jump caches have followed.
    drops_seen: u64,
    /// What of `CodeSpace::trims` the contexts have followed.
    trims_seen: u64,
    /// The last safepoint, see `protocols::Grace`.
    passed: u64,
    translator: Translator,
    contexts: Contexts,
    second: Second,
    scratch: Box<Scratch>,
    stop: Option<Stop>,
    /// FPCR bits that code depends on.
    fp_mode: u32,
    /// The comparison with the interpreter, if that is asked for.
    lockstep: Option<Box<lockstep::Lockstep>>,
    stress: Option<stress::Stress>,
}

// SAFETY: the raw pointers in `hot` lead to allocations that this value owns (contexts) or keeps alive (the request word, by `vcpu.shared`);
// the value moves between threads only as a whole.
unsafe impl Send for JitCpu {}

impl JitCpu {
    /// A translator around `vcpu`.
    ///
    /// # Errors
    /// No executable memory.
    pub fn new(vcpu: Box<Vcpu>, shared: Arc<JitShared>) -> Result<HugeBox<JitCpu>, Unsupported> {
        let code = shared.code_of(&vcpu.vm).map_err(Unsupported::Memory)?;
        let scratch = Box::new(Scratch([0; 8192]));
        let empty = Slot::empty(std::ptr::from_ref(&*scratch).addr() as u64);
        let victims = shared.options.optimise.has(Optimisation::JumpVictims);
        let mut contexts = Contexts::new(code.thunks.indirect_miss, empty, code.arena(), victims);
        let mut req: *const AtomicU32 = std::ptr::from_ref(vcpu.shared.req());
        let mut vcpu = *vcpu;
        let stress = shared.options.stress.map(|seed| stress::Stress::new(seed, vcpu.index));
        let lockstep = shared.options.check.then(|| Box::new(lockstep::Lockstep::new()));
        if let Some(lockstep) = &lockstep {
            vcpu.install_rehearsal();
            req = &raw const *lockstep.no_request;
        }
        vcpu.tlbi_log = Some(Vec::new());
        vcpu.context_dirty = true;
        let mut second = Second::new(code.arena());
        let buckets = shared.options.optimise.has(Optimisation::SlotBuckets);
        let hot = Hot {
            flags: 0,
            carry: 0,
            pc_page: 0,
            exit: 0,
            req,
            passes: 0,
            executed: 0,
            changes: vcpu.vm.code.changes_word(),
            clock: std::ptr::from_ref(vcpu.vm.clock.published()),
            changes_seen: 0,
            zero: 0,
            empty_addend: empty.waddend,
            fence: 0,
            ctx_el0: contexts.nothing(),
            ctx_el1: contexts.el1(),
            ctx: contexts.el1(),
            tmp: [0; 5],
            mxcsr: crate::fpstate::MXCSR,
            host_mxcsr: crate::fpstate::MXCSR,
            inline: Inline::new(&vcpu),
            fp_constants: crate::t1::lower::fp::CONSTANTS,
            constants: crate::constants::Table::new(),
            second: second.table(),
            local: Local { count: 0, pages: [0; LOCAL_LIMIT] },
            victim_hits: 0,
            slot_misses: 0,
            second_hits: 0,
            l0_el0: SlotTable::new(empty, buckets),
            l0_el1: SlotTable::new(empty, buckets),
        };
        let arena = Arc::clone(code.arena());
        let cpu = JitCpu {
            vcpu,
            hot,
            counters: JitCounters::default(),
            shared,
            code,
            filling: None,
            drops_seen: 0,
            trims_seen: 0,
            passed: 0,
            translator: Translator::default(),
            contexts,
            second,
            scratch,
            stop: None,
            fp_mode: 0,
            lockstep,
            stress,
        };
        Ok(HugeBox::new(&arena, cpu))
    }

    /// Run until something stops the vCPU.
    pub fn run(&mut self) -> Stop {
        self.vcpu.enter_guest();
        self.come_in();
        // Whatever was loaded or written while nobody ran is looked at anew.
        self.vcpu.context_dirty = true;
        let stop = self.dispatch();
        self.code.grace.go_out(self.vcpu.index);
        self.vcpu.leave_guest();
        if self.vcpu.index == 0 {
            self.counters.chunks_trimmed = self.code.trimmed();
        }
        self.counters.executed = self.hot.executed;
        self.counters.victim_hits = self.hot.victim_hits;
        self.counters.slot_misses = self.hot.slot_misses;
        self.counters.second_hits = self.hot.second_hits;
        self.counters.bucket_overflows = self.hot.l0_el0.buckets.overflows + self.hot.l0_el1.buckets.overflows;
        stop
    }

    fn dispatch(&mut self) -> Stop {
        let mut link: Option<ExitId> = None;
        loop {
            if self.vcpu.shared.req().load(Ordering::Acquire) != 0 || self.vcpu.interrupt_deliverable() {
                link = None;
                if let Some(stop) = self.vcpu.poll() {
                    return stop;
                }
            }
            self.disturb();
            self.safepoint();
            if self.vcpu.needs_stepping() {
                if let Some(stop) = self.outside(JitCpu::step) {
                    return stop;
                }
                continue;
            }
            let Some(host) = self.find(link.take()) else {
                // Not executable: the interpreter takes the abort.
                if let Some(stop) = self.outside(JitCpu::step) {
                    return stop;
                }
                continue;
            };
            let answer = if self.lockstep.is_some() {
                match self.execute_in_lockstep(host) {
                    Ok(answer) => answer,
                    Err(stop) => return stop,
                }
            } else {
                self.execute(host)
            };
            match answer {
                reason::EXIT => link = self.take_exit(),
                reason::LOOKUP => self.counters.lookups += 1,
                reason::SVC => {
                    #[expect(clippy::cast_possible_truncation, reason = "a 16-bit immediate")]
                    let imm = self.hot.exit as u16;
                    self.vcpu.take_exception(Exception::Sync(Syndrome::svc(imm)));
                }
                reason::ERET => self.vcpu.eret(),
                reason::ISB => self.vcpu.arch.pc = self.vcpu.arch.pc.wrapping_add(4),
                reason::HVC => {
                    if let Some(stop) = self.outside(JitCpu::hypercall) {
                        return stop;
                    }
                }
                reason::STEP => {
                    if let Some(stop) = self.outside(JitCpu::step) {
                        return stop;
                    }
                }
                _ => {
                    if let Some(stop) = self.stop.take() {
                        return stop;
                    }
                }
            }
        }
    }

    fn hypercall(&mut self) -> Option<Stop> {
        #[expect(clippy::cast_possible_truncation, reason = "a 16-bit immediate")]
        let imm = self.hot.exit as u16;
        match self.vcpu.smccc(Conduit::Hvc, imm) {
            Ok(()) => self.vcpu.arch.pc = self.vcpu.arch.pc.wrapping_add(4),
            Err(Trap::Exception) => {
                let syndrome = self.vcpu.syndrome;
                self.vcpu.take_exception(Exception::Sync(syndrome));
            }
            Err(Trap::Exit) => {
                self.vcpu.arch.pc = self.vcpu.arch.pc.wrapping_add(4);
                return self.vcpu.exit.take();
            }
        }
        None
    }

    fn execute(&mut self, host: u64) -> u32 {
        self.counters.enters += 1;
        self.hot.pc_page = self.vcpu.arch.pc & !0xfff;
        self.hot.flags = from_nzcv(self.vcpu.arch.nzcv);
        self.hot.mxcsr = fpstate::mxcsr(self.vcpu.arch.fpcr);
        let (thunk, this) = (self.code.thunks.enter, std::ptr::from_mut(self));
        // SAFETY: `thunk` and `host` lie in the cache of this CPU's machine, `host` was found after the last safepoint; contexts are valid, `sync` has just chosen them.
        let reason = unsafe { enter(this, thunk, host) };
        self.vcpu.arch.nzcv = to_nzcv(self.hot.flags);
        self.vcpu.arch.fpsr |= fpstate::cumulative(self.hot.mxcsr);
        self.follow_mode();
        reason
    }

    /// Generated code may have taken exceptions and returned from them.
    fn follow_mode(&mut self) {
        if std::mem::take(&mut self.hot.inline.changed) != 0 {
            self.vcpu.follow_mode();
            self.number_contexts();
        }
    }

    /// The tags of the second-level TLB for accesses from now on.
    fn number_contexts(&mut self) {
        self.hot.inline.contexts = self.vcpu.tlb.contexts().map(|c| c.map(u64::from));
    }

    /// Works out which exceptions generated code may take: those after which the code of the other Exception level is the same as it was last time there.
    fn allow_inline(&mut self) {
        let plain = self.vcpu.plain_exceptions();
        let [el0, el1] = [self.mode_at(0, 0), self.mode_at(1, 1)].map(|m| self.contexts.is_mode(m));
        let sctlr = self.vcpu.arch.sys(Sys::SCTLR_EL1);
        let inline = &mut self.hot.inline;
        inline.svc = [u8::from(plain && el1), u8::from(plain)];
        inline.eret = [u8::from(plain && el0 && self.contexts.el0_known()), u8::from(plain)];
        inline.sets_pan = u8::from(sctlr >> 23 & 1 == 0);
        inline.ssbs = u8::from(sctlr >> 44 & 1 != 0);
    }

    /// One instruction by the interpreter.
    fn step(&mut self) -> Option<Stop> {
        self.counters.steps += 1;
        if self.shared.options.count_interp {
            self.count_interp();
        }
        // It may have been anything: SPSel for one changes what code is specialised for.
        self.vcpu.context_dirty = true;
        self.pay_fence();
        self.vcpu.step()
    }

    /// The interpreter's loads know nothing of a fence that generated code has put off.
    fn pay_fence(&mut self) {
        if std::mem::take(&mut self.hot.fence) != 0 {
            std::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    fn count_interp(&mut self) {
        let who = self.vcpu.privilege();
        let pc = self.vcpu.arch.pc;
        let word =
            self.vcpu.translate(pc, AccessKind::Execute, who).ok().and_then(|t| self.vcpu.vm.ram.read_code_word(t.pa));
        if let Some(word) = word {
            *self.counters.interp_words.entry(word).or_default() += 1;
        }
    }

    /// A direct exit was taken: sets PC; the exit to link, if it can be.
    fn take_exit(&mut self) -> Option<ExitId> {
        self.counters.exits += 1;
        let exit = self.hot.exit;
        #[expect(clippy::cast_possible_truncation, reason = "its two halves")]
        let (id, target) = ((exit as u32) >> 1, i64::from((exit >> 32) as u32 as i32));
        let moved = exit & 1 != 0;
        let target = if moved { target & 0xfff } else { target };
        self.vcpu.arch.pc = self.hot.pc_page.wrapping_add_signed(target);
        moved.then_some(id)
    }

    /// What the guest machine is like now, as far as code depends on it; `far` depends on the address too and is left out.
    fn mode(&self) -> Mode {
        self.mode_at(self.vcpu.arch.el, self.vcpu.arch.spsel)
    }

    /// The same, if EL and SPSel were these.
    fn mode_at(&self, el: u8, spsel: u8) -> Mode {
        let a = &self.vcpu.arch;
        let sctlr = a.sys(Sys::SCTLR_EL1);
        let el1 = el != 0;
        let fpen = a.sys(Sys::CPACR_EL1) >> 20 & 3;
        Mode {
            el1,
            strict: sctlr & 1 == 0 || sctlr & 2 != 0,
            fp_trap: if el1 { fpen & 1 == 0 } else { fpen != 3 },
            mmu: sctlr & 1 != 0,
            sp_elx: el1 && spsel != 0,
            fp_odd: fpstate::is_odd(a.fpcr),
            fp_careful: fpstate::is_careful(a.fpcr),
            far: false,
        }
    }

    /// Bring contexts and slots in line with what the interpreter did to the machine: TLB maintenance, address space. Also called in the midst of a
    /// fragment: so changed code is left to [`JitCpu::safepoint`], and an ISB behind it finds it not followed yet.
    fn sync(&mut self) {
        if self.vcpu.tlbi_log.as_ref().is_some_and(|l| !l.is_empty()) {
            let mut ops = self.vcpu.tlbi_log.replace(Vec::new()).unwrap_or_default();
            for op in ops.drain(..) {
                self.counters.tlbi += 1;
                if let Some((first, last)) = self.contexts.apply(&op, &mut self.hot) {
                    self.counters.links_cut += self.code.cut(first, last) as u64;
                    self.second.remove(first, last);
                }
            }
            // With its allocation.
            self.vcpu.tlbi_log = Some(ops);
        }
        for (first, last) in self.vcpu.completed.drain(..) {
            self.counters.links_cut += self.code.cut_widely(first, last) as u64;
        }
        let fp_mode = fpstate::mode_bits(self.vcpu.arch.fpcr);
        if fp_mode != self.fp_mode {
            self.fp_mode = fp_mode;
            self.vcpu.context_dirty = true;
        }
        if self.vcpu.context_dirty {
            self.vcpu.context_dirty = false;
            let mode = self.mode();
            self.contexts.update(&self.vcpu, mode, &mut self.hot, &self.code);
            self.allow_inline();
        }
        self.follow_space();
    }

    /// What depends on which address space is current and on what was forgotten.
    fn follow_space(&mut self) {
        self.counters.context_switches = self.contexts.switches;
        self.counters.context_misses = self.contexts.made;
        self.second.follow([self.vcpu.tlb.numbering, self.contexts.cleared]);
        self.number_contexts();
    }

    /// MSR to TTBR0_EL1 (`hot.tmp[1]` = 0) or TTBR1_EL1 of the value in `hot.tmp[0]`: 0 if it was done and the code that is being executed means the same
    /// afterwards; else nothing was done, and the dispatcher has to.
    fn set_space(&mut self) -> u32 {
        let [value, which, ..] = self.hot.tmp;
        let slot = if which == 0 { Sys::TTBR0_EL1 } else { Sys::TTBR1_EL1 };
        let old = self.vcpu.arch.sys(slot);
        if old == value {
            return 0;
        }
        let other_table = (old ^ value) & crate::contexts::TABLE != 0;
        let high_code = self.hot.pc_page >> 55 & 1 != 0;
        let quiet = !self.vcpu.context_dirty
            && self.lockstep.is_none()
            && self.vcpu.vm.trace.load(Ordering::Relaxed) == 0
            && self.vcpu.tlbi_log.as_ref().is_some_and(Vec::is_empty);
        if !quiet || other_table && !(which == 0 && high_code) || self.contexts.el1_local_code() {
            return 1;
        }
        self.vcpu.set_translation_table(slot, value);
        self.hot.inline.changed = 0;
        self.vcpu.context_dirty = false;
        self.contexts.switch_space(&self.vcpu, &mut self.hot);
        self.hot.inline.eret[0] &= u8::from(self.contexts.el0_known());
        self.follow_space();
        0
    }

    /// The SYS instruction of encoding `hot.tmp[1]` with the value `hot.tmp[0]`: 0 if it was TLB maintenance or IC IVAU and is done, in line with what
    /// [`JitCpu::interp`] does behind one; else nothing was done, and the interpreter has to.
    fn maintain(&mut self) -> u32 {
        let [value, enc, ..] = self.hot.tmp;
        let quiet = self.lockstep.is_none() && self.vcpu.vm.trace.load(Ordering::Relaxed) == 0;
        self.follow_mode();
        #[expect(clippy::cast_possible_truncation, reason = "an encoding has 16 bits")]
        if !quiet || !self.vcpu.maintain(cpu::sysreg::SysEnc(enc as u16), value) {
            return 1;
        }
        self.counters.maintenance += 1;
        self.sync();
        0
    }

    /// An access missed the first-level table: fill it, or have the instruction executed.
    fn miss(&mut self) -> u32 {
        self.follow_mode();
        self.counters.l1_misses += 1;
        let pc_offset = self.hot.tmp[2];
        self.vcpu.arch.pc = self.hot.pc_page.wrapping_add(pc_offset & 0xfff);
        if self.fill_missed() {
            return reason::RETRY;
        }
        self.counters.slow_accesses += 1;
        match self.interp() {
            0 => reason::DONE,
            r => r,
        }
    }

    /// A group of accesses missed the first-level table: fill it if all of the group is there.
    fn miss_group(&mut self) -> u32 {
        self.follow_mode();
        self.counters.l1_misses += 1;
        if self.fill_missed() { reason::RETRY } else { reason::DONE }
    }

    /// Fill the first-level table for the access that `hot.tmp` describes, unless it crosses its page.
    fn fill_missed(&mut self) -> bool {
        let [info, va, _, how, _] = self.hot.tmp;
        let last = info & 0xff;
        let (write, el0) = (how & thunks::HOW_WRITE != 0, how & thunks::HOW_EL0 != 0);
        let filled = (va & 0xfff) + last < 4096 && self.fill(va, write, el0);
        self.counters.l1_fills += u64::from(filled);
        filled
    }

    fn fill(&mut self, va: u64, write: bool, el0: bool) -> bool {
        let unprivileged = el0 && self.vcpu.arch.el != 0;
        let who = if unprivileged { Privilege { el1: false, pan: false } } else { self.vcpu.privilege() };
        let kind = if write { AccessKind::Write } else { AccessKind::Read };
        let Ok(t) = self.vcpu.translate(va, kind, who) else { return false };
        let mmu = self.vcpu.arch.sys(Sys::SCTLR_EL1) & 1 != 0;
        if mmu && t.attributes.is_device() || !t.readable {
            return false;
        }
        let Some(host) = self.vcpu.vm.ram.host(t.pa & !0xfff, 4096) else { return false };
        let page = va & !0xfff;
        let addend = (host.addr() as u64).wrapping_sub(page);
        let scratch = std::ptr::from_ref(&*self.scratch).addr() as u64;
        let pan = self.vcpu.arch.pan;
        self.make_room(page);
        let context = self.contexts.for_fill(va, &t, el0, pan, &mut self.hot);
        context.enter_page(va, Slot::of_page(page, addend, t.writable, scratch));
        let high = va >> 55 & 1 != 0;
        let plain = if el0 { !high && !unprivileged } else { !high || t.global };
        if plain && self.shared.options.optimise.has(Optimisation::SecondTlb) {
            let number = self.hot.inline.contexts[0][usize::from(high)];
            self.second.insert(page, number, t.writable, addend);
        }
        true
    }

    /// Execute the instruction at PC out of generated code: 0 if simply the next one follows.
    fn interp(&mut self) -> u32 {
        self.follow_mode();
        self.counters.interp_calls += 1;
        if self.shared.options.count_interp {
            self.count_interp();
        }
        self.pay_fence();
        let next = self.vcpu.arch.pc.wrapping_add(4);
        let el = self.vcpu.arch.el;
        self.vcpu.arch.nzcv = to_nzcv(self.hot.flags);
        self.vcpu.arch.fpsr |= fpstate::cumulative(self.hot.mxcsr);
        self.hot.mxcsr = fpstate::mxcsr(self.vcpu.arch.fpcr);
        if let Some(lockstep) = &self.lockstep
            && lockstep.phase == lockstep::Phase::Compared
        {
            let answer = self.attempt_in_lockstep();
            self.hot.flags = from_nzcv(self.vcpu.arch.nzcv);
            return answer;
        }
        if let Some(stop) = self.vcpu.step() {
            self.stop = Some(stop);
            return reason::STOP;
        }
        self.hot.flags = from_nzcv(self.vcpu.arch.nzcv);
        let device = self.lockstep.as_ref().is_some_and(|l| l.phase == lockstep::Phase::Device);
        if self.vcpu.arch.pc != next || self.vcpu.arch.el != el || device {
            return reason::CHECK;
        }
        self.sync();
        0
    }
}

/// The instruction at PC, called by a thunk.
extern "sysv64" fn helper_interp(cpu: *mut JitCpu) -> u32 {
    // SAFETY: the thunk passes the CPU that it was entered with, which `execute` borrows mutably and does not touch meanwhile.
    unsafe { (*cpu).interp() }
}

/// A write to a translation table base register, called by a thunk.
extern "sysv64" fn helper_set_space(cpu: *mut JitCpu) -> u32 {
    // SAFETY: as in `helper_interp`.
    unsafe { (*cpu).set_space() }
}

/// TLB or instruction cache maintenance, called by a thunk.
extern "sysv64" fn helper_maintain(cpu: *mut JitCpu) -> u32 {
    // SAFETY: as in `helper_interp`.
    unsafe { (*cpu).maintain() }
}

/// A missed access, called by a thunk.
extern "sysv64" fn helper_miss(cpu: *mut JitCpu) -> u32 {
    // SAFETY: as in `helper_interp`.
    unsafe { (*cpu).miss() }
}

/// A missed check of a group of accesses, called by a thunk.
extern "sysv64" fn helper_miss_group(cpu: *mut JitCpu) -> u32 {
    // SAFETY: as in `helper_interp`.
    unsafe { (*cpu).miss_group() }
}

mod find;
pub(crate) mod lockstep;
#[cfg(test)]
mod spaces;
mod stress;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod wild;
