//! System instructions: hints, barriers, PSTATE fields and system registers that are plain storage.

use std::mem::offset_of;

use cpu::clock::Published;
use cpu::sysreg::{self, Effect, El0, Row, Rw, SysEnc, Via};
use isa::insn::{BarrierTypes, Insn, PstateField};

use crate::asm::{Alu, Cc, Gpr, Lock, Mem, Section, Shift, Sz, VLen, Xmm, ops};
use crate::env;
use crate::optimisations::Optimisation;
use crate::t1::builder::Builder;
use crate::t1::mem::Access;
use crate::t1::regs::ENV;
use crate::thunks::reason;

const RAX: Gpr = Gpr::RAX;
const RCX: Gpr = Gpr::RCX;

const NZCV: (u32, u32, u32, u32, u32) = (3, 3, 4, 2, 0);
const DAIF: (u32, u32, u32, u32, u32) = (3, 3, 4, 2, 1);
const CURRENT_EL: (u32, u32, u32, u32, u32) = (3, 0, 4, 2, 2);
const FPCR: (u32, u32, u32, u32, u32) = (3, 3, 4, 4, 0);
const FPSR: (u32, u32, u32, u32, u32) = (3, 3, 4, 4, 1);
/// Writable bits of FPCR: AHP, DN, FZ, RMode.
const FPCR_MASK: i32 = 0x07c0_0000;
/// Writable bits of FPSR: QC and the cumulative exception bits.
const FPSR_MASK: i32 = 0x0800_009f;
const CTR: (u32, u32, u32, u32, u32) = (3, 3, 0, 0, 1);
const DCZID: (u32, u32, u32, u32, u32) = (3, 3, 0, 0, 7);
const SP_EL0: (u32, u32, u32, u32, u32) = (3, 0, 4, 1, 0);

/// TTBR0_EL1 and TTBR1_EL1.
const TTBR: [(u32, u32, u32, u32, u32); 2] = [(3, 0, 2, 0, 0), (3, 0, 2, 0, 1)];

const CNTPCT: (u32, u32, u32, u32, u32) = (3, 3, 14, 0, 1);
const CNTVCT: (u32, u32, u32, u32, u32) = (3, 3, 14, 0, 2);

fn is(enc: isa::insn::SysEnc, e: (u32, u32, u32, u32, u32)) -> bool {
    enc.0 == isa::insn::SysEnc::new(e.0, e.1, e.2, e.3, e.4).0
}

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::Nop | Insn::Yield | Insn::Esb | Insn::Sb => {}
        Insn::Dmb { types, .. } => {
            // x86-TSO lets only a store pass a later load.
            if matches!(types, BarrierTypes::All | BarrierTypes::Reserved) && !b.fence_follows() {
                b.begin(&[], true);
                b.a.alu_mr(Lock::Yes, Alu::Or, Sz::D, Mem::b(Gpr::RSP, -8), RAX);
            }
        }
        // A barrier of stores orders nothing that x86 does not; it need not wait for TLB maintenance.
        Insn::Dsb { types: BarrierTypes::Writes | BarrierTypes::Reads, .. } => {}
        Insn::Svc { imm } if b.optimise.has(Optimisation::ExceptionCode) && b.mode.el1 == b.mode.sp_elx => {
            let thunk = b.thunks.svc[usize::from(b.mode.el1)];
            b.jump_for(thunk, imm);
        }
        Insn::Svc { imm } => b.leave_for(reason::SVC, imm),
        Insn::Eret if b.optimise.has(Optimisation::ExceptionCode) && b.mode.el1 && b.mode.sp_elx => {
            let thunk = b.thunks.eret;
            b.jump_for(thunk, 0);
        }
        Insn::Hvc { imm } if b.mode.el1 => b.leave_for(reason::HVC, imm),
        Insn::Eret if b.mode.el1 => b.leave_for(reason::ERET, 0),
        Insn::Isb => isb(b),
        Insn::Dsb { .. } => {
            b.begin(&[], true);
            let waits = b.interp_cold();
            b.a.alu_imm(Alu::Cmp, Sz::B, Mem::b(ENV, env::SHOOT_PENDING), 0);
            b.a.jcc(Cc::Ne, waits);
            b.a.alu_mr(Lock::Yes, Alu::Or, Sz::D, Mem::b(Gpr::RSP, -8), RAX);
        }
        Insn::Sys { enc, rt } => return sys(b, enc, rt),
        Insn::MsrImm { field, imm } => return msr_imm(b, field, imm),
        Insn::Mrs { enc, rt } => return mrs(b, enc, rt),
        Insn::Msr { enc, rt } => return msr(b, enc, rt),
        _ => return false,
    }
    true
}

/// A context synchronisation event: nothing to do if no code and no translation context changed since the dispatcher looked.
fn isb(b: &mut Builder<'_>) {
    b.begin(&[], true);
    let cold = b.a.label();
    b.a.load(Sz::Q, RAX, Mem::b(ENV, env::CHANGES));
    b.a.load(Sz::Q, RAX, Mem::b(RAX, 0));
    b.a.alu(Alu::Cmp, Sz::Q, RAX, Mem::b(ENV, env::CHANGES_SEEN));
    b.a.jcc(Cc::Ne, cold);
    b.a.alu_imm(Alu::Cmp, Sz::B, Mem::b(ENV, env::CONTEXT_DIRTY), 0);
    b.a.jcc(Cc::Ne, cold);
    if counter_may_follow(b) {
        b.a.lfence();
    }
    let old = b.a.switch(Section::Cold);
    b.a.bind(cold);
    b.cold_store_flags();
    b.count_to(b.i + 1);
    b.a.mov_imm(RAX, u64::from(b.pc_offset()));
    b.a.mov_imm(Gpr::RDX, u64::from(reason::ISB));
    b.a.jmp_abs(b.thunks.leave_for);
    b.a.switch(old);
}

/// True if the instruction behind the current one may read the counter: it must not be read before this one then.
fn counter_may_follow(b: &Builder<'_>) -> bool {
    match b.insns.get(b.i + 1) {
        Some(Insn::Mrs { enc, .. }) => is(*enc, CNTVCT) || is(*enc, CNTPCT),
        Some(_) => false,
        None => true,
    }
}

/// CNTVCT_EL0 or CNTPCT_EL0 by the published line, as `cpu::clock::Published::read` does it. RDTSC may run ahead of what precedes, as the counter may
/// be read ahead on Arm; an ISB in front has an LFENCE.
fn counter(b: &mut Builder<'_>, virtual_one: bool, rt: u8) {
    let rdx = Gpr::RDX;
    let field = |offset: usize| Mem::b(RCX, i32::try_from(offset).unwrap_or(0));
    b.begin(&[rt], true);
    let slow = b.interp_cold();
    if !b.mode.el1 {
        // CNTKCTL_EL1.EL0VCTEN or EL0PCTEN.
        let allowed = if virtual_one { 2 } else { 1 };
        b.a.test_imm(Sz::B, Mem::b(ENV, env::sys(sysreg::Slot::CNTKCTL_EL1)), allowed);
        b.a.jcc(Cc::E, slow);
    }
    b.a.load(Sz::Q, RCX, Mem::b(ENV, env::CLOCK));
    b.a.load(Sz::Q, RAX, field(offset_of!(Published, sequence)));
    b.a.store(Sz::Q, Mem::b(ENV, env::TMP), RAX);
    b.a.test_imm(Sz::B, RAX, 1);
    b.a.jcc(Cc::Ne, slow);
    b.a.rdtsc();
    b.a.shift_imm(Shift::Shl, Sz::Q, rdx, 32);
    b.a.alu(Alu::Or, Sz::Q, rdx, RAX);
    b.a.alu(Alu::Sub, Sz::Q, rdx, field(offset_of!(Published, start)));
    b.a.alu(Alu::Cmp, Sz::Q, rdx, field(offset_of!(Published, valid)));
    b.a.jcc(Cc::Ae, slow);
    b.a.mulx(Sz::Q, rdx, RAX, field(offset_of!(Published, rate)));
    b.a.shrd(Sz::Q, RAX, rdx, 32);
    b.a.alu(Alu::Add, Sz::Q, RAX, field(offset_of!(Published, base)));
    b.a.load(Sz::Q, rdx, field(offset_of!(Published, sequence)));
    b.a.alu(Alu::Cmp, Sz::Q, rdx, Mem::b(ENV, env::TMP));
    b.a.jcc(Cc::Ne, slow);
    b.set(rt, RAX);
}

/// TLB maintenance and IC IVAU at EL1: a helper does it, or the interpreter what faults.
fn maintain(b: &mut Builder<'_>, enc: isa::insn::SysEnc, rt: u8) {
    b.begin(&[], true);
    let otherwise = b.interp_cold();
    b.load_x(RAX, rt);
    b.a.mov_imm(Gpr::RDX, enc.0.into());
    b.a.call_abs(b.thunks.maintain);
    b.a.jcc(Cc::Ne, otherwise);
}

/// Cache maintenance by address, TLB maintenance at EL1, and DC ZVA.
fn sys(b: &mut Builder<'_>, enc: isa::insn::SysEnc, rt: u8) -> bool {
    let ic_ivau = enc.op1() == 3 && enc.crn() == 7 && enc.crm() == 5 && enc.op2() == 1;
    let tlbi = enc.op1() == 0 && enc.crn() == 8;
    if b.mode.el1 && enc.op0() == 1 && (tlbi || ic_ivau) && b.optimise.has(Optimisation::MaintenanceCode) {
        maintain(b, enc, rt);
        return true;
    }
    if b.mode.strict || enc.op0() != 1 || enc.op1() != 3 || enc.crn() != 7 || enc.op2() != 1 {
        return false;
    }
    match enc.crm() {
        // DC CVAC, CVAU, CVAP, CVADP, CIVAC: nothing but their faults.
        10..=14 if b.mode.el1 => {
            b.begin(&[], true);
            b.start_access();
            let r = b.r(rt, RAX);
            b.check(r, 0, &Access::plain(1, false));
        }
        4 if b.ids.dczid == 4 => {
            b.begin(&[], true);
            if !b.mode.el1 {
                // SCTLR_EL1.DZE.
                let trapped = b.interp_cold();
                b.a.test_imm(Sz::D, Mem::b(ENV, env::sys(sysreg::Slot::SCTLR_EL1)), 1 << 14);
                b.a.jcc(Cc::E, trapped);
            }
            b.start_access();
            b.load_x(RAX, rt);
            b.a.alu_imm(Alu::And, Sz::Q, RAX, -64);
            let m = b.check(RAX, 0, &Access { element: 1, ..Access::plain(64, true) });
            b.a.vzero(Xmm(0));
            b.a.vst(ops::VMOVUPS_ST, VLen::L256, m, Xmm(0));
            b.a.vst(ops::VMOVUPS_ST, VLen::L256, m.at(32), Xmm(0));
        }
        _ => return false,
    }
    true
}

fn msr_imm(b: &mut Builder<'_>, field: PstateField, imm: u8) -> bool {
    if !b.mode.el1 {
        return false;
    }
    let bits = i32::from(imm & 15) << 6;
    let daif = Mem::b(ENV, env::DAIF);
    match field {
        PstateField::DaifSet => {
            b.begin(&[], true);
            b.a.load(Sz::D, RAX, daif);
            b.a.alu_imm(Alu::Or, Sz::D, RAX, bits);
            b.a.store(Sz::D, daif, RAX);
        }
        PstateField::DaifClr => {
            b.begin(&[], true);
            b.a.load(Sz::D, RAX, daif);
            b.a.alu_imm(Alu::And, Sz::D, RAX, !bits);
            b.a.store(Sz::D, daif, RAX);
            leave_if_deliverable(b);
        }
        _ => return false,
    }
    true
}

/// EAX = DAIF as just written: if that opens a pending interrupt, leave behind this instruction.
fn leave_if_deliverable(b: &mut Builder<'_>) {
    let cold = b.a.label();
    b.a.andn(Sz::D, RAX, RAX, Mem::b(ENV, env::PENDING));
    b.a.jcc(Cc::Ne, cold);
    let old = b.a.switch(Section::Cold);
    b.a.bind(cold);
    b.cold_store_flags();
    b.count_to(b.i + 1);
    b.a.mov_imm(RAX, u64::from(b.pc_offset() + 4));
    b.a.jmp_abs(b.thunks.leave_at);
    b.a.switch(old);
}

/// The row of a register whose storage generated code may touch.
fn plain(enc: isa::insn::SysEnc) -> Option<(&'static Row, sysreg::Slot)> {
    let row = sysreg::find(SysEnc(enc.0))?;
    if let Via::Slot(slot) = row.via { Some((row, slot)) } else { None }
}

fn mrs(b: &mut Builder<'_>, enc: isa::insn::SysEnc, rt: u8) -> bool {
    if is(enc, NZCV) {
        b.store_flags();
        b.begin(&[rt], true);
        let d = b.d(rt, RAX);
        b.a.mov_imm(RCX, 0xc101);
        b.a.load(Sz::D, RAX, Mem::b(ENV, env::FLAGS));
        b.a.pext(Sz::D, d, RAX, RCX);
        b.a.shift_imm(Shift::Shl, Sz::D, d, 28);
        b.set(rt, d);
        return true;
    }
    if (is(enc, CNTVCT) || is(enc, CNTPCT)) && b.optimise.has(Optimisation::CounterCode) {
        counter(b, is(enc, CNTVCT), rt);
        return true;
    }
    let at = if is(enc, SP_EL0) && b.mode.el1 && b.mode.sp_elx {
        env::SP_EL
    } else if is(enc, FPCR) && !b.mode.fp_trap {
        b.begin(&[rt], false);
        let d = b.d(rt, RAX);
        b.a.load(Sz::D, d, Mem::b(ENV, env::FPCR));
        b.set(rt, d);
        return true;
    } else if is(enc, FPSR) && !b.mode.fp_trap {
        b.begin(&[rt], true);
        b.a.stmxcsr(Mem::b(ENV, env::TMP));
        b.a.load(Sz::D, RAX, Mem::b(ENV, env::TMP));
        b.a.mov(Sz::D, RCX, RAX);
        b.a.shift_imm(Shift::Shr, Sz::D, RCX, 1);
        b.a.alu_imm(Alu::And, Sz::D, RAX, 1);
        b.a.alu_imm(Alu::And, Sz::D, RCX, 0x1e);
        b.a.alu(Alu::Or, Sz::D, RAX, RCX);
        b.a.alu(Alu::Or, Sz::D, RAX, Mem::b(ENV, env::FPSR));
        b.set(rt, RAX);
        return true;
    } else if is(enc, DAIF) && b.mode.el1 {
        b.begin(&[rt], false);
        let d = b.d(rt, RAX);
        b.a.load(Sz::D, d, Mem::b(ENV, env::DAIF));
        b.set(rt, d);
        return true;
    } else if is(enc, CTR) || is(enc, DCZID) && b.ids.dczid & 16 == 0 {
        b.begin(&[rt], !b.mode.el1);
        if !b.mode.el1 {
            // SCTLR_EL1.UCT: does not trap; SCTLR_EL1.DZE: DZP is 0.
            let wanted = 1 << if is(enc, CTR) { 15 } else { 14 };
            let otherwise = b.interp_cold();
            b.a.test_imm(Sz::D, Mem::b(ENV, env::sys(sysreg::Slot::SCTLR_EL1)), wanted);
            b.a.jcc(Cc::E, otherwise);
        }
        b.set_imm(rt, if is(enc, CTR) { b.ids.ctr } else { b.ids.dczid });
        return true;
    } else if is(enc, CURRENT_EL) && b.mode.el1 {
        b.begin(&[rt], false);
        b.set_imm(rt, 4);
        return true;
    } else {
        let Some((row, slot)) = plain(enc) else { return false };
        let allowed = if b.mode.el1 { row.rw != Rw::Wo } else { matches!(row.el0, El0::Free | El0::ReadOnly) };
        // Reading these has side effects on nothing; the timer's status bits are not kept in storage.
        if !allowed || row.name.starts_with("CNT") || row.name.starts_with("ICC") || row.name.starts_with("PM") {
            return false;
        }
        env::sys(slot)
    };
    b.begin(&[rt], false);
    let d = b.d(rt, RAX);
    b.a.load(Sz::Q, d, Mem::b(ENV, at));
    b.set(rt, d);
    true
}

fn msr(b: &mut Builder<'_>, enc: isa::insn::SysEnc, rt: u8) -> bool {
    if is(enc, NZCV) {
        b.begin_def();
        b.load_w(RAX, rt);
        b.a.shift_imm(Shift::Shr, Sz::D, RAX, 28);
        b.a.mov_imm(RCX, 0xc101);
        b.a.pdep(Sz::D, RAX, RAX, RCX);
        b.a.store(Sz::D, Mem::b(ENV, env::FLAGS), RAX);
        b.flags = crate::t1::flags::Flags::STORED;
        return true;
    }
    if is(enc, DAIF) && b.mode.el1 {
        b.begin(&[], true);
        b.load_w(RAX, rt);
        b.a.alu_imm(Alu::And, Sz::D, RAX, 0x3c0);
        b.a.store(Sz::D, Mem::b(ENV, env::DAIF), RAX);
        leave_if_deliverable(b);
        return true;
    }
    if is(enc, FPCR) && !b.mode.fp_trap {
        b.begin(&[], true);
        b.load_w(RAX, rt);
        b.a.alu_imm(Alu::And, Sz::D, RAX, FPCR_MASK);
        b.a.alu(Alu::Cmp, Sz::D, RAX, Mem::b(ENV, env::FPCR));
        let cold = b.a.label();
        b.a.jcc(Cc::Ne, cold);
        // Another rounding mode, or other code: the dispatcher knows.
        let old = b.a.switch(Section::Cold);
        b.a.bind(cold);
        b.a.store(Sz::D, Mem::b(ENV, env::FPCR), RAX);
        b.cold_store_flags();
        b.count_to(b.i + 1);
        b.a.mov_imm(RAX, u64::from(b.pc_offset() + 4));
        b.a.jmp_abs(b.thunks.leave_at);
        b.a.switch(old);
        return true;
    }
    if is(enc, FPSR) && !b.mode.fp_trap {
        // A compare done again behind this would set again what is cleared here.
        b.forget_compare_of(u32::MAX);
        b.begin(&[], true);
        b.load_w(RAX, rt);
        b.a.alu_imm(Alu::And, Sz::D, RAX, FPSR_MASK);
        b.a.store(Sz::D, Mem::b(ENV, env::FPSR), RAX);
        b.a.stmxcsr(Mem::b(ENV, env::TMP));
        b.a.alu_imm(Alu::And, Sz::D, Mem::b(ENV, env::TMP), !0x3f);
        b.a.ldmxcsr(Mem::b(ENV, env::TMP));
        return true;
    }
    if is(enc, SP_EL0) && b.mode.el1 && b.mode.sp_elx {
        b.begin(&[], false);
        let r = b.r(rt, RAX);
        b.a.store(Sz::Q, Mem::b(ENV, env::SP_EL), r);
        return true;
    }
    if let Some(which) = TTBR.iter().position(|t| is(enc, *t))
        && b.mode.el1
        && b.mode.mmu
        && b.optimise.has(Optimisation::SpaceCode)
    {
        set_space(b, which as u64, rt);
        return true;
    }
    let Some((row, slot)) = plain(enc) else { return false };
    let simple = row.effect == Effect::None
        && row.rw == Rw::Rw
        && (row.name.starts_with("TPIDR")
            || matches!(row.name, "ELR_EL1" | "SPSR_EL1" | "ESR_EL1" | "FAR_EL1" | "VBAR_EL1" | "PAR_EL1"));
    let allowed = if b.mode.el1 { true } else { row.el0 == El0::Free };
    if !simple || !allowed || row.res1 != 0 {
        return false;
    }
    if row.mask == u64::MAX {
        b.begin(&[], false);
        let r = b.r(rt, RAX);
        b.a.store(Sz::Q, Mem::b(ENV, env::sys(slot)), r);
    } else {
        b.begin(&[], true);
        b.load_x(RAX, rt);
        b.a.mov_imm(RCX, row.mask);
        b.a.alu(Alu::And, Sz::Q, RAX, RCX);
        b.a.store(Sz::Q, Mem::b(ENV, env::sys(slot)), RAX);
    }
    true
}

/// MSR to a translation table base register: the thunk does it, or the dispatcher.
fn set_space(b: &mut Builder<'_>, which: u64, rt: u8) {
    b.begin(&[], true);
    b.load_x(RAX, rt);
    b.a.mov_imm(Gpr::RDX, which);
    b.a.call_abs(b.thunks.set_space);
    let cold = b.a.label();
    b.a.jcc(Cc::Ne, cold);
    let old = b.a.switch(Section::Cold);
    b.a.bind(cold);
    b.cold_store_flags();
    b.count_to(b.i);
    b.a.mov_imm(RAX, u64::from(b.pc_offset()));
    b.a.jmp_abs(b.thunks.interp_end);
    b.a.switch(old);
}

/// True if the interpreter's execution of this instruction may change what fragments are specialised for, or the flow of control.
#[must_use]
pub fn ends_fragment(insn: &Insn) -> bool {
    matches!(
        insn,
        Insn::Undefined
            | Insn::Udf { .. }
            | Insn::Wfe
            | Insn::Wfi
            | Insn::Wfet { .. }
            | Insn::Wfit { .. }
            | Insn::Msr { .. }
            | Insn::MsrImm { .. }
            | Insn::Svc { .. }
            | Insn::Hvc { .. }
            | Insn::Smc { .. }
            | Insn::Brk { .. }
            | Insn::Hlt { .. }
            | Insn::Dcps { .. }
            | Insn::Eret
    )
}
