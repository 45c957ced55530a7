//! From the guest's PC to code: safepoints, lookup, translation, linking.

use cpu::Stop;
use cpu::mmu::AccessKind;

use super::JitCpu;
use crate::asm::Section;
use crate::code::{ExitId, ExitSite, PageKey, Publication, Published};
use crate::optimisations::Optimisation;
use crate::t1::builder::{Ids, Mode};
use crate::t1::{Request, Unit};
use crate::tlb::jump_index;

impl JitCpu {
    /// This vCPU is going to execute guest code again.
    pub(super) fn come_in(&mut self) {
        self.code.grace.come_in(self.vcpu.index);
        self.passed = 0;
        // Who dropped something after this sees that this vCPU is in; what was dropped before is seen here.
        self.forget_dropped();
    }

    /// Something that may sleep, between fragments.
    pub(super) fn outside<T>(&mut self, f: impl FnOnce(&mut JitCpu) -> T) -> T {
        self.code.grace.go_out(self.vcpu.index);
        let result = f(self);
        self.come_in();
        result
    }

    /// Jump caches lead to nothing that was taken out before now. Code that belongs to a virtual page is reached by addresses of that page only, and at EL1.
    fn forget_dropped(&mut self) {
        let drops = self.code.drops();
        if drops != self.drops_seen {
            let by_page = self.shared.options.optimise.has(Optimisation::PageDrops);
            match self.code.dropped(self.drops_seen, drops).filter(|_| by_page) {
                Some(pages) => pages.into_iter().for_each(|page| self.contexts.forget_code(page)),
                None => {
                    self.counters.jumps_cleared += 1;
                    self.contexts.clear_jumps();
                }
            }
            self.drops_seen = drops;
            let trims = self.code.trims();
            if trims != self.trims_seen {
                self.trims_seen = trims;
                self.contexts.give_back();
            }
        }
    }

    /// Outside all fragments: follow what changed, hold no old code pointers.
    pub(super) fn safepoint(&mut self) {
        let epoch = self.code.grace.now();
        let changes = self.vcpu.vm.code.changes();
        if changes != self.hot.changes_seen {
            self.hot.changes_seen = changes;
            self.counters.pages_dropped += u64::from(self.code.follow(changes, &self.vcpu.vm.code));
        }
        self.forget_dropped();
        if epoch != self.passed {
            self.passed = epoch;
            self.code.grace.pass(self.vcpu.index, epoch);
        }
        self.sync();
    }

    /// Host address of the fragment at PC; `None` if the interpreter has to execute there. `link`: the exit that led here.
    pub(super) fn find(&mut self, link: Option<ExitId>) -> Option<u64> {
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
        let mut mode = self.mode();
        mode.far = mode.el1 && (!mode.mmu || pc >> 55 & 1 != 0);
        let key = PageKey::new(page, mode, pc, self.contexts.link_space());
        let host = match self.code.lookup(&key, pc & 0xfff, &self.vcpu.vm.code) {
            Some(host) => host,
            None => self.translate(key, t.pa, mode)?,
        };
        let on = |o| self.shared.options.optimise.has(o);
        let links = on(Optimisation::Links);
        let far = (mode.far && t.global && on(Optimisation::FarLinks)).then_some(t.block_shift);
        if let Some(exit) = link
            && links
            && !self.skips()
        {
            self.vcpu.vm.stress.point();
            self.counters.links += u64::from(self.code.link(exit, host, far));
        }
        if self.lockstep.is_some() || self.skips() {
            return Some(host);
        }
        self.contexts.note_exec(pc, mode.el1, t.global);
        // SAFETY: as above.
        unsafe { (*self.hot.ctx).enter_jump(pc, host) };
        Some(host)
    }

    /// Translate the unit at `pa` and publish it.
    fn translate(&mut self, key: PageKey, pa: u64, mode: Mode) -> Option<u64> {
        let begun = std::time::Instant::now();
        let vm = self.vcpu.vm.clone();
        // A few attempts: another vCPU may change the code again and again.
        for _ in 0..4 {
            let stamp = vm.code.begin(key.page);
            let mut words = [0u32; crate::t1::MAX_INSNS];
            let mut count = vm.ram.read_code_words(pa & !3, &mut words);
            if let Some(stress) = &mut self.stress
                && stress.one_in(4)
            {
                count = count.min(stress.length(crate::t1::MAX_INSNS));
            }
            let words = words.get(..count).filter(|w| !w.is_empty())?;
            if self.shared.options.optimise.has(Optimisation::RevivedCode)
                && let Some(host) = self.code.revive(&key, pa & 0xffc, stamp, words, &vm.code)
            {
                self.counters.revived += 1;
                return Some(host);
            }
            match self.emit(key, stamp, pa & 0xffc, words, mode)? {
                (Published::Ours, host) => {
                    self.counters.translate_ns += u64::try_from(begun.elapsed().as_nanos()).unwrap_or(0);
                    return Some(host);
                }
                (Published::Theirs(host), _) => {
                    self.counters.not_published += 1;
                    return Some(host);
                }
                (Published::Stale, _) => self.counters.not_published += 1,
            }
        }
        None
    }

    /// Translate `words` into this vCPU's chunk and publish that; the result and the address.
    fn emit(
        &mut self,
        key: PageKey,
        stamp: cpu::CodeStamp,
        offset: u64,
        words: &[u32],
        mode: Mode,
    ) -> Option<(Published, u64)> {
        if self.filling.is_none() {
            self.new_chunk()?;
        }
        let config = &self.vcpu.vm.config;
        let ids = Ids { ctr: config.ctr, dczid: config.dczid };
        let mut unit = self.translate_words(words, key.page, offset, mode, ids)?;
        let lengths = |asm: &crate::asm::Asm| (asm.len_of(Section::Hot), asm.len_of(Section::Cold));
        let (mut hot_len, mut cold_len) = lengths(&self.translator.asm);
        if !self.filling.as_ref()?.region.fits(hot_len, cold_len) {
            if self.filling.as_ref()?.region.is_fresh() {
                // Larger than a chunk: the interpreter does it.
                return None;
            }
            self.new_chunk()?;
            // The numbers of exits are the new chunk's.
            unit = self.translate_words(words, key.page, offset, mode, ids)?;
            (hot_len, cold_len) = lengths(&self.translator.asm);
        }
        let filling = self.filling.as_mut()?;
        let cache = self.code.cache();
        let [hot, cold] = cache.places(&filling.region, cold_len)?;
        let mark = filling.region.mark();
        let written = match self.translator.asm.finish(hot, cold) {
            Ok((h, c)) => cache.append(&mut filling.region, h, c),
            Err(e) => {
                self.stop = Some(Stop::Internal(format!("translator: {e}")));
                return None;
            }
        };
        written.ok()?;
        let exits = sites(&self.translator, cache, hot, cold);
        let kept = if self.shared.options.optimise.has(Optimisation::RevivedCode) { unit.insns as usize } else { 0 };
        let publication = Publication {
            key,
            stamp,
            offset,
            hot: cache.offset(hot)?,
            flags_dead: unit.flags_dead,
            exits: &exits,
            words: words.get(..kept).unwrap_or_default(),
        };
        if self.lockstep.is_some() {
            self.shared.turn.note(hot, self.translator.shape());
        }
        self.vcpu.vm.stress.point();
        let published = self.code.publish(filling, &publication, &self.vcpu.vm.code);
        if published == Published::Ours {
            filling.exits += exits.len() as u32;
            if let Some(map) = &self.shared.perf_map {
                map.fragment([(hot, hot_len), (cold, cold_len)], mode.el1, self.vcpu.arch.pc);
            }
            let c = &mut self.counters;
            c.fragments += 1;
            c.ungrouped += u64::from(unit.ungrouped);
            c.guest_insns += u64::from(unit.insns);
            c.host_bytes += (hot_len + cold_len) as u64;
        } else {
            filling.region.rewind(mark);
        }
        Some((published, hot))
    }

    fn translate_words(&mut self, words: &[u32], page: usize, offset: u64, mode: Mode, ids: Ids) -> Option<Unit> {
        Some(self.translator.translate(&Request {
            words,
            ids,
            #[expect(clippy::cast_possible_truncation, reason = "an offset in a page")]
            start: offset as u32,
            // Pages get slots far from each other's.
            slot_base: (page as u32).wrapping_mul(0x9e37_79b1) >> 16,
            mode,
            features: isa::Features::ALL,
            thunks: &self.code.thunks,
            first_exit: self.filling.as_ref()?.first_exit(),
            host: self.shared.host,
            optimise: self.shared.options.optimise,
            count: self.shared.options.count_executed,
            lockstep: self.shared.options.check,
            seeded_fault: self.shared.options.seeded_fault,
        }))
    }

    /// Fill another chunk. None is free: see that one becomes so, and let the interpreter work meanwhile.
    fn new_chunk(&mut self) -> Option<()> {
        let full = self.filling.take();
        let evicted = self.counters.chunks_evicted;
        self.filling = self.code.next_chunk(full, &mut self.counters.chunks_evicted);
        if self.filling.is_none() || self.counters.chunks_evicted != evicted {
            // This is a safepoint too: no code pointer was kept since the last one.
            let epoch = self.code.grace.now();
            self.forget_dropped();
            self.passed = epoch;
            self.code.grace.pass(self.vcpu.index, epoch);
            for index in self.code.laggards() {
                if let Some(v) = self.vcpu.vm.vcpus.get(index) {
                    v.request(cpu::shared::req::CODE);
                }
            }
        }
        if self.filling.is_none() {
            self.filling = self.code.next_chunk(None, &mut self.counters.chunks_evicted);
        }
        if self.filling.is_none() {
            self.counters.no_chunk += 1;
        }
        self.filling.is_some().then_some(())
    }
}

/// The exits of the unit just translated, at their places in the cache.
fn sites(translator: &crate::t1::Translator, cache: &crate::cache::CodeCache, hot: u64, cold: u64) -> Vec<ExitSite> {
    let address = |section: Section, offset: u32| u64::from(offset) + if section == Section::Hot { hot } else { cold };
    let place = |address: u64| cache.offset(address).and_then(|o| u32::try_from(o).ok()).unwrap_or(0);
    let of = |label| place(translator.asm.position(label).map_or(0, |(s, o)| address(s, o)));
    translator
        .exits
        .iter()
        .map(|e| ExitSite {
            target: i32::try_from(e.target).unwrap_or(0),
            hot_field: place(address(e.hot_field.0, e.hot_field.1)),
            stub: of(e.stub),
            clean_stub: of(e.clean_stub),
            stub_field: place(address(Section::Cold, e.stub_field)),
            unlinked: of(e.unlinked),
            needs_stub: e.needs_stub,
        })
        .collect()
}
