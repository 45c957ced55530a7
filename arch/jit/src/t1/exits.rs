//! How a fragment is left: direct exits that get linked, indirect ones through the jump cache.
//!
//! A direct exit is a branch with a patchable displacement to a cold stub. The stub stores the flags (if they are not stored yet), polls for interrupts (if the
//! branch goes backward), moves the page address (if it goes to another page), and ends in a patchable jump. Linking patches
//! the stub's jump; when the target does not read the flags and the stub has nothing else to do, it patches the branch itself.

use crate::asm::{Alu, Cc, Gpr, Label, Mem, Section, Sz};
use crate::env;
use crate::optimisations::Optimisation;

use super::builder::{Builder, ExitSpec};
use super::flags::Flags;
use super::regs::{CTX, ENV};

impl Builder<'_> {
    /// Branch to `target` (bytes from the start of this page) if `cc` holds (always, if `None`), inside this fragment or out of it.
    pub fn branch_to(&mut self, cc: Option<Cc>, target: i64) {
        if let Some(index) = self.inner_index(target)
            && let Some(label) = self.labels.get(index).copied().flatten()
        {
            return self.inner_branch(cc, index, label);
        }
        self.exit_to(cc, target);
    }

    /// Leave the fragment to `target`, even if that is inside.
    pub fn exit_to(&mut self, cc: Option<Cc>, target: i64) {
        let same_page = (0..4096).contains(&target);
        if same_page || self.mode.far {
            self.exit_direct(cc, target);
        } else {
            self.exit_other_page(cc, target);
        }
    }

    /// Index in this fragment of the instruction at `target`.
    pub fn inner_index(&self, target: i64) -> Option<usize> {
        let offset = target - i64::from(self.start);
        let index = usize::try_from(offset / 4).ok()?;
        (offset >= 0 && index < self.insns.len()).then_some(index)
    }

    fn inner_branch(&mut self, cc: Option<Cc>, index: usize, label: Label) {
        let live = self.info.get(index).is_none_or(|i| i.flags_live_in);
        match cc {
            // Where the target reads the flags they have to be in the environment, as at every label: storing them keeps EFLAGS.
            Some(cc) if live && !self.flags.env || self.counted.is_some() => {
                let cold = self.a.label();
                self.a.jcc(cc, cold);
                let old = self.a.switch(Section::Cold);
                self.a.bind(cold);
                if live && !self.flags.env {
                    self.cold_store_flags();
                }
                self.count_to(self.i + 1);
                self.a.jmp(label);
                self.a.switch(old);
            }
            Some(cc) => self.a.jcc(cc, label),
            None => {
                if live {
                    self.store_flags();
                }
                self.count_to(self.i + 1);
                self.a.jmp(label);
            }
        }
    }

    /// Poll for interrupts and other requests; `slow` is taken if there is one. Clobbers RAX and EFLAGS.
    pub fn poll(&mut self, slow: Label) {
        self.a.load(Sz::Q, Gpr::RAX, Mem::b(ENV, env::REQ));
        self.a.alu_imm(Alu::Cmp, Sz::D, Mem::b(Gpr::RAX, 0), 0);
        self.a.jcc(Cc::Ne, slow);
    }

    /// The poll at a loop head inside the fragment: flags are in the environment or dead here.
    pub fn loop_head_poll(&mut self) {
        let slow = self.a.label();
        if self.lockstep {
            self.a.alu_imm(Alu::Sub, Sz::D, Mem::b(ENV, env::PASSES), 1);
            self.a.jcc(Cc::B, slow);
        } else {
            self.poll(slow);
        }
        let old = self.a.switch(Section::Cold);
        self.a.bind(slow);
        self.a.mov_imm(Gpr::RAX, u64::from(self.pc_offset()));
        self.a.jmp_abs(self.thunks.leave_at);
        self.a.switch(old);
    }

    fn exit_direct(&mut self, cc: Option<Cc>, target: i64) {
        let stub = self.a.label();
        let hot_field = match cc {
            Some(cc) => self.a.jcc_patchable(cc, stub),
            None => self.a.jmp_patchable(stub),
        };
        let hot_field = (self.a.section(), hot_field);
        let backward = target <= i64::from(self.pc_offset());
        let page_delta = (target >> 12) << 12;
        let id = self.first_exit + u32::try_from(self.exits.len()).unwrap_or(u32::MAX >> 1);
        // Up to 128 MiB away: fits.
        let number = u64::from(i32::try_from(target).unwrap_or(0).cast_unsigned()) << 32 | u64::from(id << 1);

        let old = self.a.switch(Section::Cold);
        let saved = self.flags;
        self.a.bind(stub);
        self.store_flags();
        let clean_stub = self.a.here();
        self.count_to(self.i + 1);
        let slow = self.a.label();
        if backward {
            self.poll(slow);
        }
        if page_delta != 0 {
            // Up to 128 MiB away: fits.
            let delta = i32::try_from(page_delta).unwrap_or(0);
            self.a.alu_imm(Alu::Add, Sz::Q, Mem::b(ENV, env::PC_PAGE), delta);
        }
        let unlinked = self.a.label();
        let stub_field = self.a.jmp_patchable(unlinked);
        if backward {
            self.a.bind(slow);
            self.a.mov_imm(Gpr::RAX, number);
            self.a.jmp_abs(self.thunks.exit_slow);
        }
        self.a.bind(unlinked);
        self.a.mov_imm(Gpr::RAX, number | 1);
        self.a.jmp_abs(self.thunks.exit_link);
        self.flags = saved;
        self.a.switch(old);
        self.exits.push(ExitSpec {
            target,
            hot_field,
            stub_field,
            stub,
            clean_stub,
            needs_stub: backward || page_delta != 0 || self.counted.is_some(),
            unlinked,
        });
    }

    /// Another page: where it leads depends on the address space, so it goes through the jump cache of the context.
    fn exit_other_page(&mut self, cc: Option<Cc>, target: i64) {
        let Some(cc) = cc else {
            self.store_flags();
            self.pc_plus(Gpr::RAX, target);
            return self.indirect();
        };
        let cold = self.a.label();
        self.a.jcc(cc, cold);
        let old = self.a.switch(Section::Cold);
        let saved = self.flags;
        self.a.bind(cold);
        self.store_flags();
        self.pc_plus(Gpr::RAX, target);
        self.indirect();
        self.flags = saved;
        self.a.switch(old);
    }

    /// Branch to the guest address in RAX. The flags are stored already.
    pub fn indirect(&mut self) {
        debug_assert!(self.flags.env);
        self.count_to(self.i + 1);
        let miss = self.thunks.indirect_miss;
        if !self.optimise.has(Optimisation::JumpCache) {
            return self.a.jmp_abs(miss);
        }
        self.a.load(Sz::Q, Gpr::RDX, Mem::b(ENV, env::REQ));
        // A rotation where the hash has a shift: what comes round is above the mask.
        const _: () = assert!(env::JC_MASK.leading_zeros() as u8 >= env::JC_SHIFT);
        self.a.rorx(Sz::D, Gpr::RCX, Gpr::RAX, env::JC_SHIFT);
        self.a.alu(Alu::Xor, Sz::D, Gpr::RCX, Gpr::RAX);
        self.a.alu_imm(Alu::And, Sz::D, Gpr::RCX, env::JC_MASK);
        self.a.alu(Alu::Cmp, Sz::Q, Gpr::RAX, Mem::bi(CTX, Gpr::RCX, 2, env::CTX_JUMPS));
        self.a.jcc_abs(Cc::Ne, miss);
        self.a.alu_imm(Alu::Cmp, Sz::D, Mem::b(Gpr::RDX, 0), 0);
        self.a.jcc_abs(Cc::Ne, miss);
        self.a.alu_imm(Alu::And, Sz::Q, Gpr::RAX, -4096);
        self.a.store(Sz::Q, Mem::b(ENV, env::PC_PAGE), Gpr::RAX);
        self.a.jmp_rm(Mem::bi(CTX, Gpr::RCX, 2, env::CTX_JUMPS + 8));
    }

    /// End the fragment: continue at `target` in this or the next page.
    pub fn fall_through(&mut self, target: i64) {
        self.exit_to(None, target);
        self.ended = true;
    }

    /// If instructions are counted: adds those up to the one with index `end` that are not counted yet on this path. Clobbers EFLAGS.
    pub fn count_to(&mut self, end: usize) {
        if let Some(from) = self.counted
            && let Ok(n @ 1..) = i32::try_from(end.saturating_sub(from))
        {
            self.a.alu_imm(Alu::Add, Sz::Q, Mem::b(ENV, env::EXECUTED), n);
        }
    }

    /// The state at a label: flags stored if anything behind reads them.
    pub fn join(&mut self, index: usize) {
        if self.info.get(index).is_none_or(|i| i.flags_live_in) {
            self.store_flags();
        }
        self.flags = Flags::STORED;
        self.sp_aligned = false;
    }
}
