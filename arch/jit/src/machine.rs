//! A virtual CPU that runs by generated code, with the interpreter for what has no lowering: the dispatcher and the helpers that thunks call.
#![expect(unsafe_code, reason = "generated code calls the helpers with a raw pointer to the CPU it runs for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cpu::clock::Published;
use cpu::mmu::{AccessKind, Privilege};
use cpu::sysreg::Slot as Sys;
use cpu::{Conduit, Exception, Stop, Syndrome, Trap, Vcpu};

use crate::asm::{Asm, Section};
use crate::cache::CodeCache;
use crate::contexts::Contexts;
use crate::counters::JitCounters;
use crate::enter::enter;
use crate::exceptions::Inline;
use crate::fpstate;
use crate::fragments::{Exit, FragmentId, Fragments, PageKey};
use crate::host::{HostFeatures, Unsupported, detect};
use crate::optimisations::{Optimisation, Optimisations};
use crate::t1::builder::{Ids, Mode};
use crate::t1::flags::{from_nzcv, to_nzcv};
use crate::t1::{Request, Translator};
use crate::thunks::{self, Helpers, Thunks, reason};
use crate::tlb::{Context, Entry, JumpEntry, Slot, jump_index, l1_index};

/// What can be chosen about the translator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of the code cache of each vCPU.
    pub cache_bytes: usize,
    /// Count interpreter calls by instruction (costs some speed on those calls).
    pub count_interp: bool,
    /// What to do for speed.
    pub optimise: Optimisations,
    /// Compare each unit with the interpreter, see [`lockstep`].
    pub check: bool,
    /// Translate one instruction wrongly, so that a test can see that it is found.
    pub seeded_fault: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cache_bytes: 48 << 20,
            count_interp: false,
            optimise: Optimisations::ALL,
            check: false,
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
}

impl JitShared {
    /// For a host with these features, which has at least them.
    #[cfg(test)]
    pub(crate) fn with_host(options: Options, host: HostFeatures) -> Arc<JitShared> {
        Arc::new(JitShared { options, host, turn: lockstep::Turn::default() })
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
        if options.check {
            // Every unit comes back to the dispatcher, also where an exception ends it.
            for off in [Optimisation::Links, Optimisation::FarLinks, Optimisation::ExceptionCode] {
                options.optimise = options.optimise.with(off, false);
            }
        }
        Ok(Arc::new(JitShared { options, host, turn: lockstep::Turn::default() }))
    }
}

/// What generated code addresses besides the architectural state. Plain data.
#[repr(C)]
#[derive(Debug)]
pub struct Hot {
    /// NZCV, see `t1::flags`.
    pub flags: u32,
    /// Number of the exit taken * 2 + whether `pc_page` is already the target's.
    pub exit: u32,
    /// Virtual address of the page that is being executed.
    pub pc_page: u64,
    /// The request word of the vCPU.
    pub req: *const AtomicU32,
    /// In a lockstep run: passes over loop heads that are left.
    pub passes: u32,
    /// The count of code changes of the machine.
    pub changes: *const AtomicU64,
    /// What of it `fragments` has followed.
    pub changes_seen: u64,
    /// The line by which the counter is read; the clock belongs to `vcpu.vm`.
    pub clock: *const Published,
    /// A zero.
    pub zero: u64,
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
    /// Slots for EL0's rights.
    pub l0_el0: [Slot; crate::env::SLOTS as usize],
    /// Slots for EL1's rights.
    pub l0_el1: [Slot; crate::env::SLOTS as usize],
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
    cache: CodeCache,
    thunks: Thunks,
    fragments: Fragments,
    translator: Translator,
    contexts: Contexts,
    scratch: Box<Scratch>,
    stop: Option<Stop>,
    fp_odd: bool,
    /// The comparison with the interpreter, if that is asked for.
    lockstep: Option<Box<lockstep::Lockstep>>,
}

// SAFETY: the raw pointers in `hot` lead to allocations that this value owns (contexts) or keeps alive (the request word, by `vcpu.shared`);
// the value moves between threads only as a whole.
unsafe impl Send for JitCpu {}

impl JitCpu {
    /// A translator around `vcpu`.
    ///
    /// # Errors
    /// No executable memory.
    pub fn new(vcpu: Box<Vcpu>, shared: Arc<JitShared>) -> Result<Box<JitCpu>, Unsupported> {
        let memory = |e: &dyn std::fmt::Display| Unsupported::Memory(e.to_string());
        let mut cache = CodeCache::new(shared.options.cache_bytes).map_err(|e| memory(&e))?;
        let helpers = Helpers {
            interp: helper_interp as extern "sysv64" fn(*mut JitCpu) -> u32 as usize as u64,
            miss: helper_miss as extern "sysv64" fn(*mut JitCpu) -> u32 as usize as u64,
        };
        let mut asm = Asm::new();
        let (code, thunks) = thunks::emit(&mut asm, cache.next()[0], &helpers).map_err(|e| memory(&e))?;
        cache.append(&code, &[]).map_err(|e| memory(&e))?;
        cache.set_mark();

        let scratch = Box::new(Scratch([0; 8192]));
        let empty = Slot::empty(std::ptr::from_ref(&*scratch).addr() as u64);
        let mut contexts = Contexts::new(thunks.indirect_miss, empty);
        let mut req: *const AtomicU32 = &raw const vcpu.shared.req;
        let mut vcpu = *vcpu;
        let lockstep = shared.options.check.then(|| Box::new(lockstep::Lockstep::new()));
        if let Some(lockstep) = &lockstep {
            vcpu.install_rehearsal();
            req = &raw const *lockstep.no_request;
        }
        vcpu.tlbi_log = Some(Vec::new());
        vcpu.context_dirty = true;
        let hot = Hot {
            flags: 0,
            exit: 0,
            pc_page: 0,
            req,
            passes: 0,
            changes: vcpu.vm.code.changes_word(),
            clock: std::ptr::from_ref(vcpu.vm.clock.published()),
            changes_seen: 0,
            zero: 0,
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
            l0_el0: [empty; crate::env::SLOTS as usize],
            l0_el1: [empty; crate::env::SLOTS as usize],
        };
        Ok(Box::new(JitCpu {
            vcpu,
            hot,
            counters: JitCounters::default(),
            shared,
            cache,
            thunks,
            fragments: Fragments::new(),
            translator: Translator::default(),
            contexts,
            scratch,
            stop: None,
            fp_odd: false,
            lockstep,
        }))
    }

    /// Run until something stops the vCPU.
    pub fn run(&mut self) -> Stop {
        self.vcpu.enter_guest();
        // Whatever was loaded or written while nobody ran is looked at anew.
        self.vcpu.context_dirty = true;
        let stop = self.dispatch();
        self.vcpu.leave_guest();
        stop
    }

    fn dispatch(&mut self) -> Stop {
        let mut link: Option<u32> = None;
        loop {
            if self.vcpu.shared.req.load(Ordering::Acquire) != 0 || self.vcpu.interrupt_deliverable() {
                link = None;
                if let Some(stop) = self.vcpu.poll() {
                    return stop;
                }
            }
            self.sync();
            if self.vcpu.needs_stepping() {
                if let Some(stop) = self.step() {
                    return stop;
                }
                continue;
            }
            let Some(host) = self.find(link.take()) else {
                // Not executable: the interpreter takes the abort.
                if let Some(stop) = self.step() {
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
                reason::EXIT => link = self.take_exit().filter(|exit| self.may_link(*exit)),
                reason::LOOKUP => self.counters.lookups += 1,
                reason::SVC => {
                    #[expect(clippy::cast_possible_truncation, reason = "a 16-bit immediate")]
                    let imm = self.hot.exit as u16;
                    self.vcpu.take_exception(Exception::Sync(Syndrome::svc(imm)));
                }
                reason::ERET => self.vcpu.eret(),
                reason::ISB => self.vcpu.arch.pc = self.vcpu.arch.pc.wrapping_add(4),
                reason::HVC => {
                    if let Some(stop) = self.hypercall() {
                        return stop;
                    }
                }
                reason::STEP => {
                    if let Some(stop) = self.step() {
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
        let (thunk, this) = (self.thunks.enter, std::ptr::from_mut(self));
        // SAFETY: `thunk` and `host` lie in this CPU's own cache; contexts are valid, `sync` has just chosen them.
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
        }
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
    fn take_exit(&mut self) -> Option<u32> {
        self.counters.exits += 1;
        let (id, moved) = (self.hot.exit >> 1, self.hot.exit & 1 != 0);
        let exit = self.fragments.exit(id)?;
        let target = if moved { exit.target & 0xfff } else { exit.target };
        self.vcpu.arch.pc = self.hot.pc_page.wrapping_add_signed(target);
        moved.then_some(id)
    }

    /// The switches let this exit be patched to its target.
    fn may_link(&self, exit: u32) -> bool {
        let on = |o| self.shared.options.optimise.has(o);
        let far = || self.fragments.exit(exit).is_none_or(|e| !(0..4096).contains(&e.target));
        on(Optimisation::Links) && (on(Optimisation::FarLinks) || !far())
    }

    /// What the guest machine is like now, as far as code depends on it.
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
        }
    }

    /// Bring contexts and slots in line with what the interpreter did to the machine: TLB maintenance, address space, changed code.
    fn sync(&mut self) {
        let changes = self.vcpu.vm.code.changes();
        if changes != self.hot.changes_seen {
            self.hot.changes_seen = changes;
            let dropped = self.fragments.drop_stale(&self.vcpu.vm.code, &self.cache);
            self.counters.pages_dropped += dropped as u64;
            if dropped > 0 {
                self.contexts.clear_jumps();
            }
        }
        if self.vcpu.tlbi_log.as_ref().is_some_and(|l| !l.is_empty()) {
            let ops = self.vcpu.tlbi_log.replace(Vec::new()).unwrap_or_default();
            for op in &ops {
                self.counters.tlbi += 1;
                if let Some((first, last)) = self.contexts.apply(op, &mut self.hot) {
                    self.fragments.cut_far_links(first, last, &self.cache);
                }
            }
        }
        let odd = fpstate::is_odd(self.vcpu.arch.fpcr);
        if odd != self.fp_odd {
            self.fp_odd = odd;
            self.vcpu.context_dirty = true;
        }
        if self.vcpu.context_dirty {
            self.vcpu.context_dirty = false;
            let mode = self.mode();
            if self.contexts.update(&self.vcpu, mode, &mut self.hot) {
                self.fragments.cut_far_links(0, u64::MAX, &self.cache);
            }
            self.allow_inline();
            self.counters.context_switches = self.contexts.switches;
            self.counters.context_misses = self.contexts.made;
        }
    }

    /// Host address of the fragment at PC; `None` if the page cannot be executed. `link`: the exit that led here.
    fn find(&mut self, link: Option<u32>) -> Option<u64> {
        let pc = self.vcpu.arch.pc;
        if link.is_none() {
            // SAFETY: `ctx` leads to a context that `contexts` owns.
            let e = unsafe { &(*self.hot.ctx).jumps[jump_index(pc)] };
            if e.va == pc {
                return Some(e.host);
            }
        }
        if pc & 3 != 0 {
            return None;
        }
        let who = self.vcpu.privilege();
        let t = self.vcpu.translate(pc, AccessKind::Execute, who).ok()?;
        let page = self.vcpu.vm.ram.page_index(t.pa)?;
        let mode = self.mode();
        let key = PageKey::new(page, mode, pc);
        let vm = self.vcpu.vm.clone();
        let flushes = self.counters.flushes;
        let id = match self.fragments.find(key, pc & 0xfff, &vm.code, &self.cache) {
            Some(id) => id,
            None => self.translate(key, t.pa, mode)?,
        };
        let host = self.fragments.get(id)?.host;
        if let Some(exit) = link
            && flushes == self.counters.flushes
        {
            let far = self.fragments.exit(exit).is_some_and(|e| !(0..4096).contains(&e.target)).then_some(pc);
            self.counters.links += u64::from(self.fragments.link(exit, id, far, &self.cache));
        }
        if self.lockstep.is_some() {
            return Some(host);
        }
        self.contexts.note_exec(pc, mode.el1, t.global);
        // SAFETY: as above.
        unsafe { (*self.hot.ctx).jumps[jump_index(pc)] = JumpEntry { va: pc, host } };
        Some(host)
    }

    fn translate(&mut self, key: PageKey, pa: u64, mode: Mode) -> Option<FragmentId> {
        let begun = std::time::Instant::now();
        let vm = self.vcpu.vm.clone();
        self.fragments.page(key, || vm.code.begin(key.page));
        let mut words = [0u32; crate::t1::MAX_INSNS];
        let count = vm.ram.read_code_words(pa & !3, &mut words);
        if count == 0 {
            return None;
        }
        let offset = pa & 0xffc;
        loop {
            let first_exit = self.fragments.exit_count();
            let unit = self.translator.translate(&Request {
                words: words.get(..count)?,
                ids: Ids { ctr: vm.config.ctr, dczid: vm.config.dczid },
                start: offset as u32,
                mode,
                features: isa::Features::ALL,
                thunks: &self.thunks,
                first_exit,
                host: self.shared.host,
                optimise: self.shared.options.optimise,
                lockstep: self.shared.options.check,
                seeded_fault: self.shared.options.seeded_fault,
            });
            let asm = &mut self.translator.asm;
            let (hot_len, cold_len) = (asm.len_of(Section::Hot), asm.len_of(Section::Cold));
            if !self.cache.fits(hot_len, cold_len) {
                self.flush();
                self.fragments.page(key, || vm.code.begin(key.page));
                let asm = &self.translator.asm;
                if !self.cache.fits(asm.len_of(Section::Hot), asm.len_of(Section::Cold)) {
                    return None;
                }
                continue;
            }
            let [hot, cold] = self.cache.next();
            let (hot_code, cold_code) = match asm.finish(hot, cold) {
                Ok((h, c)) => (h.to_vec(), c.to_vec()),
                Err(e) => {
                    self.stop = Some(Stop::Internal(format!("translator: {e}")));
                    return None;
                }
            };
            self.cache.append(&hot_code, &cold_code).ok()?;
            let asm = &self.translator.asm;
            let address =
                |section: Section, offset: u32| u64::from(offset) + if section == Section::Hot { hot } else { cold };
            let of = |label| asm.position(label).map_or(0, |(s, o)| address(s, o));
            let exits: Vec<Exit> = self
                .translator
                .exits
                .iter()
                .map(|e| Exit {
                    target: e.target,
                    hot_field: address(e.hot_field.0, e.hot_field.1),
                    stub: of(e.stub),
                    clean_stub: of(e.clean_stub),
                    stub_field: address(Section::Cold, e.stub_field),
                    unlinked: of(e.unlinked),
                    needs_stub: e.needs_stub,
                    linked: 0,
                })
                .collect();
            let id = self.fragments.insert(key, offset, hot, unit.flags_dead, exits.into_iter());
            if let Some(lockstep) = &mut self.lockstep {
                lockstep.note(hot, self.translator.shape());
            }
            let c = &mut self.counters;
            c.fragments += 1;
            c.guest_insns += u64::from(unit.insns);
            c.host_bytes += (hot_len + cold_len) as u64;
            c.translate_ns += u64::try_from(begun.elapsed().as_nanos()).unwrap_or(0);
            return Some(id);
        }
    }

    /// Drop all code.
    fn flush(&mut self) {
        self.counters.flushes += 1;
        self.fragments.clear();
        self.contexts.clear_jumps();
        self.cache.rewind();
    }

    /// An access missed the first-level table: fill it, or have the instruction executed.
    fn miss(&mut self) -> u32 {
        self.follow_mode();
        self.counters.l1_misses += 1;
        let [info, va, ..] = self.hot.tmp;
        self.vcpu.arch.pc = self.hot.pc_page.wrapping_add(info & 0xfff);
        let size = info >> 12 & 0xff;
        let (write, el0) = (info >> 20 & 1 != 0, info >> 21 & 1 != 0);
        if (va & 0xfff) + size <= 4096 && self.fill(va, write, el0) {
            self.counters.l1_fills += 1;
            return reason::RETRY;
        }
        self.counters.slow_accesses += 1;
        match self.interp() {
            0 => reason::DONE,
            r => r,
        }
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
        let entry = Entry { page, addend: (host.addr() as u64).wrapping_sub(page) };
        let pan = self.vcpu.arch.pan;
        let context = self.contexts.for_fill(va, &t, el0, pan, &mut self.hot);
        let i = l1_index(va);
        context.reads[i] = entry;
        if t.writable {
            context.writes[i] = entry;
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

/// A missed access, called by a thunk.
extern "sysv64" fn helper_miss(cpu: *mut JitCpu) -> u32 {
    // SAFETY: as in `helper_interp`.
    unsafe { (*cpu).miss() }
}

pub(crate) mod lockstep;
#[cfg(test)]
pub(crate) mod tests;
