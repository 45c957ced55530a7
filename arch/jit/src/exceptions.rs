//! SVC and ERET as code: the exception is taken, or returned from, without the dispatcher, and the jump cache of the new context says where it goes on.
//!
//! Whatever is not plain goes the long way: self-hosted debug, tracing, changed code that was not followed, a change of the address space that
//! was not either, an interrupt that the return unmasks, an illegal SPSR, PAN changing over translations that depend on it, an Exception level
//! whose code would be specialised for another mode than last time. [`Inline`] holds what [`JitCpu`](crate::JitCpu) works out about that ahead, each time the
//! machine's controls change.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64};

use cpu::exception::{Record, Ring};
use cpu::state::ExclusiveMonitor;
use cpu::sysreg::Slot as Sys;
use cpu::{ArchState, Counters, Vcpu};

use crate::asm::{Alu, Asm, Cc, Gpr, Label, Mem, Shift, Sz, Unary};
use crate::env;
use crate::machine::JitCpu;
use crate::t1::regs::{CTX, ENV, SP, pin};
use crate::thunks::reason;

/// What the thunks ask before they do anything.
#[repr(C)]
#[derive(Debug)]
pub struct Inline {
    /// Bits of `cpu::outside::trace`: not 0, somebody wants to hear of exceptions.
    pub trace: *const AtomicU32,
    /// Counter of returns to EL0; only this vCPU writes it.
    pub returns: *const AtomicU64,
    /// SVC may be taken from EL0 (`[0]`) and from EL1h (`[1]`).
    pub svc: [u8; 2],
    /// ERET may go to EL0 (`[0]`) and to EL1h (`[1]`).
    pub eret: [u8; 2],
    /// SCTLR_EL1.SPAN = 0: PAN is set by exceptions.
    pub sets_pan: u8,
    /// SCTLR_EL1.DSSBS.
    pub ssbs: u8,
    /// The EL1 context was filled for the lower half while PSTATE.PAN was 0.
    pub pan_open: u8,
    /// EL or PAN changed and `Vcpu::follow_mode` was not called yet.
    pub changed: u8,
    /// Numbers of the contexts, see `cpu::mmu::Tlb::contexts`.
    pub contexts: [[u64; 2]; 2],
}

impl Inline {
    /// Nothing is allowed yet.
    pub fn new(vcpu: &Vcpu) -> Inline {
        Inline {
            trace: &raw const vcpu.vm.trace,
            returns: &raw const vcpu.shared.eret_el0,
            svc: [0; 2],
            eret: [0; 2],
            sets_pan: 0,
            ssbs: 0,
            pan_open: 0,
            changed: 0,
            contexts: [[0; 2]; 2],
        }
    }
}

const INLINE: usize = offset_of!(JitCpu, hot) + offset_of!(crate::machine::Hot, inline);
const VCPU: usize = offset_of!(JitCpu, vcpu);

const fn at(offset: usize) -> Mem {
    Mem::b(ENV, offset as i32 - env::BIAS)
}
const fn inline(offset: usize) -> Mem {
    at(INLINE + offset)
}
const fn arch(offset: usize) -> Mem {
    at(VCPU + offset_of!(Vcpu, arch) + offset)
}
const fn sys(slot: Sys) -> Mem {
    arch(offset_of!(ArchState, sys) + slot as usize * 8)
}

const PAN: Mem = arch(offset_of!(ArchState, pan));
const DIT: Mem = arch(offset_of!(ArchState, dit));
const SSBS: Mem = arch(offset_of!(ArchState, ssbs));
const EL: Mem = arch(offset_of!(ArchState, el));
const SPSEL: Mem = arch(offset_of!(ArchState, spsel));
const DAIF: Mem = arch(offset_of!(ArchState, daif));
const FLAGS: Mem = Mem::b(ENV, env::FLAGS);
const CLAIM: Mem = arch(offset_of!(ArchState, exclusive) + offset_of!(ExclusiveMonitor, size));

const RAX: Gpr = Gpr::RAX;
const RCX: Gpr = Gpr::RCX;
const RDX: Gpr = Gpr::RDX;
const RSI: Gpr = Gpr::RSI;
const RDI: Gpr = Gpr::RDI;

/// Exception class of SVC in AArch64 state, and IL.
const ESR_SVC: i32 = 0x15 << 26 | 1 << 25;
/// Bits of NZCV in the environment's format.
const FLAG_BITS: u64 = 0xc101;

/// Leave for `slow` unless nothing waits to be followed: changed code, changed controls, a tracer. Uses RCX.
fn check_quiet(a: &mut Asm, slow: Label) {
    a.alu_imm(Alu::Cmp, Sz::B, Mem::b(ENV, env::CONTEXT_DIRTY), 0);
    a.jcc(Cc::Ne, slow);
    a.load(Sz::Q, RCX, Mem::b(ENV, env::CHANGES));
    a.load(Sz::Q, RCX, Mem::b(RCX, 0));
    a.alu(Alu::Cmp, Sz::Q, RCX, Mem::b(ENV, env::CHANGES_SEEN));
    a.jcc(Cc::Ne, slow);
    a.load(Sz::Q, RCX, inline(offset_of!(Inline, trace)));
    a.alu_imm(Alu::Cmp, Sz::D, Mem::b(RCX, 0), 0);
    a.jcc(Cc::Ne, slow);
}

/// The stack pointer of bank `old` is put away, that of bank `new` taken.
fn switch_sp(a: &mut Asm, old: i32, new: i32) {
    let Some(sp) = pin(SP) else { return };
    let bank = |n: i32| Mem::b(ENV, env::SP_EL + 8 * n);
    a.store(Sz::Q, bank(old), sp);
    a.load(Sz::Q, sp, bank(new));
}

/// The numbers of the contexts for EL1 (by PAN) or EL0. Uses RCX and RDX.
fn number_contexts(a: &mut Asm, el1: bool) {
    let number = |unprivileged: usize, half: usize| inline(offset_of!(Inline, contexts) + 16 * unprivileged + 8 * half);
    if el1 {
        a.movzx(Sz::B, RCX, PAN);
        a.alu_imm(Alu::Add, Sz::D, RCX, 1);
    }
    for half in 0..2 {
        a.load(Sz::Q, RDX, number(1, half));
        if el1 {
            a.alu(Alu::Or, Sz::Q, RDX, RCX);
        }
        a.store(Sz::Q, number(0, half), RDX);
    }
}

/// Go on at the guest address in RAX: by the jump cache of the context in r14, or by way of `miss`.
fn go_on(a: &mut Asm, miss: u64) {
    a.load(Sz::Q, RDX, Mem::b(ENV, env::REQ));
    a.mov(Sz::D, RCX, RAX);
    a.shift_imm(Shift::Shr, Sz::D, RCX, env::JC_SHIFT);
    a.alu(Alu::Xor, Sz::D, RCX, RAX);
    a.alu_imm(Alu::And, Sz::D, RCX, env::JC_MASK);
    a.alu(Alu::Cmp, Sz::Q, RAX, Mem::bi(CTX, RCX, 2, env::CTX_JUMPS));
    a.jcc_abs(Cc::Ne, miss);
    a.alu_imm(Alu::Cmp, Sz::D, Mem::b(RDX, 0), 0);
    a.jcc_abs(Cc::Ne, miss);
    a.alu_imm(Alu::And, Sz::Q, RAX, -4096);
    a.store(Sz::Q, Mem::b(ENV, env::PC_PAGE), RAX);
    a.jmp_rm(Mem::bi(CTX, RCX, 2, env::CTX_JUMPS + 8));
}

/// SVC from EL0 or EL1h. RAX = offset of the instruction in its page, RDX = its immediate; NZCV is stored.
/// `leave_for` and `indirect_miss` as in `Thunks`.
pub fn svc(a: &mut Asm, from_el1: bool, leave_for: u64, indirect_miss: u64) {
    let slow = a.label();
    a.alu_imm(Alu::Cmp, Sz::B, inline(offset_of!(Inline, svc) + usize::from(from_el1)), 0);
    a.jcc(Cc::E, slow);
    check_quiet(a, slow);
    a.push(RSI);
    a.push(RDI);
    let (slow_popped, same_pan) = (a.label(), a.label());
    a.movzx(Sz::B, RSI, PAN);
    a.movzx(Sz::B, RCX, inline(offset_of!(Inline, sets_pan)));
    a.alu(Alu::Or, Sz::D, RCX, RSI);
    a.alu(Alu::Cmp, Sz::D, RCX, RSI);
    a.jcc(Cc::E, same_pan);
    a.alu_imm(Alu::Cmp, Sz::B, inline(offset_of!(Inline, pan_open)), 0);
    a.jcc(Cc::Ne, slow_popped);
    a.store(Sz::B, PAN, RCX);
    a.bind(same_pan);

    // From here on nothing goes back. RCX = SPSR.
    a.mov_imm(RDI, FLAG_BITS);
    a.load(Sz::D, RCX, FLAGS);
    a.pext(Sz::D, RCX, RCX, RDI);
    a.shift_imm(Shift::Shl, Sz::D, RCX, 28);
    a.alu(Alu::Or, Sz::D, RCX, DAIF);
    a.shift_imm(Shift::Shl, Sz::D, RSI, 22);
    a.alu(Alu::Or, Sz::D, RCX, RSI);
    for (field, shift) in [(DIT, 24), (SSBS, 12)] {
        a.movzx(Sz::B, RSI, field);
        a.shift_imm(Shift::Shl, Sz::D, RSI, shift);
        a.alu(Alu::Or, Sz::D, RCX, RSI);
    }
    if from_el1 {
        a.alu_imm(Alu::Or, Sz::D, RCX, 5);
    }
    a.alu(Alu::Add, Sz::Q, RAX, Mem::b(ENV, env::PC_PAGE));
    a.lea(Sz::Q, RSI, Mem::b(RAX, 4));
    a.alu_imm(Alu::Or, Sz::D, RDX, ESR_SVC);
    a.store(Sz::Q, sys(Sys::SPSR_EL1), RCX);
    a.store(Sz::Q, sys(Sys::ELR_EL1), RSI);
    a.store(Sz::Q, sys(Sys::ESR_EL1), RDX);
    record(a, if from_el1 { 0x200 } else { 0x400 });

    a.movzx(Sz::B, RCX, inline(offset_of!(Inline, ssbs)));
    a.store(Sz::B, SSBS, RCX);
    a.store_imm(Sz::D, DAIF, 0x3c0);
    a.store_imm(Sz::Q, CLAIM, 0);
    a.store_imm(Sz::B, inline(offset_of!(Inline, changed)), 1);
    number_contexts(a, true);
    if !from_el1 {
        a.store_imm(Sz::B, EL, 1);
        a.store_imm(Sz::B, SPSEL, 1);
        switch_sp(a, 0, 1);
        a.load(Sz::Q, CTX, Mem::b(ENV, env::CTX_EL1));
        a.store(Sz::Q, Mem::b(ENV, env::CTX), CTX);
    }
    a.load(Sz::Q, RAX, sys(Sys::VBAR_EL1));
    a.alu_imm(Alu::Add, Sz::Q, RAX, if from_el1 { 0x200 } else { 0x400 });
    a.pop(RDI);
    a.pop(RSI);
    go_on(a, indirect_miss);

    a.bind(slow_popped);
    a.pop(RDI);
    a.pop(RSI);
    a.bind(slow);
    a.shift_imm(Shift::Shl, Sz::D, RDX, 8);
    a.alu_imm(Alu::Or, Sz::D, RDX, reason::SVC.cast_signed());
    a.jmp_abs(leave_for);
}

/// Counts the exception and enters it into the ring. RAX = PC, RCX = SPSR, RDX = ESR. Uses RSI and RDI.
fn record(a: &mut Asm, vector: i32) {
    const _: () = assert!(size_of::<Record>() == 56 && Ring::LEN == 64);
    let ring = VCPU + offset_of!(Vcpu, ring);
    let counters = VCPU + offset_of!(Vcpu, counters);
    let count = at(ring + Ring::COUNT);
    a.inc_dec(false, Sz::Q, at(counters + offset_of!(Counters, exceptions) + 0x15 * 8));
    a.load(Sz::Q, RDI, count);
    a.inc_dec(false, Sz::Q, count);
    a.alu_imm(Alu::And, Sz::D, RDI, Ring::LEN as i32 - 1);
    // 56 n = 7 (8 n).
    a.shift_imm(Shift::Shl, Sz::D, RDI, 3);
    a.lea(Sz::Q, RSI, Mem::bi(RDI, RDI, 1, 0));
    a.lea(Sz::Q, RDI, Mem::bi(RDI, RSI, 1, 0));
    let field = |offset: usize| Mem::bi(ENV, RDI, 0, at(ring + Ring::RECORDS + offset).disp);
    a.store(Sz::Q, field(offset_of!(Record, pc)), RAX);
    a.store(Sz::Q, field(offset_of!(Record, spsr)), RCX);
    a.store(Sz::Q, field(offset_of!(Record, esr)), RDX);
    a.lea(Sz::Q, RSI, Mem::b(RAX, 4));
    a.store(Sz::Q, field(offset_of!(Record, elr)), RSI);
    a.load(Sz::Q, RSI, sys(Sys::FAR_EL1));
    a.store(Sz::Q, field(offset_of!(Record, far)), RSI);
    a.load(Sz::Q, RSI, at(counters + offset_of!(Counters, instructions)));
    a.store(Sz::Q, field(offset_of!(Record, when)), RSI);
    a.store_imm(Sz::H, field(offset_of!(Record, vector)), vector);
}

/// ERET from EL1h. RAX = offset of the instruction in its page. `leave_for` and `indirect_miss` as in `Thunks`.
pub fn eret(a: &mut Asm, leave_for: u64, indirect_miss: u64) {
    let (slow, to_el1, masked, same_pan) = (a.label(), a.label(), a.label(), a.label());
    let allowed = |n: usize| inline(offset_of!(Inline, eret) + n);
    check_quiet(a, slow);
    a.load(Sz::Q, RCX, sys(Sys::SPSR_EL1));
    // An interrupt that this unmasks is the dispatcher's.
    a.mov(Sz::D, RDX, RCX);
    a.unary(Unary::Not, Sz::Q, RDX);
    a.alu_imm(Alu::And, Sz::D, RDX, 0x3c0);
    a.test(Sz::D, arch(offset_of!(ArchState, pending)), RDX);
    a.jcc(Cc::Ne, slow);
    // PAN: bit 22.
    a.mov(Sz::D, RDX, RCX);
    a.shift_imm(Shift::Shr, Sz::D, RDX, 22);
    a.alu_imm(Alu::And, Sz::D, RDX, 1);
    a.alu(Alu::Cmp, Sz::B, RDX, PAN);
    a.jcc(Cc::E, same_pan);
    a.alu_imm(Alu::Cmp, Sz::B, inline(offset_of!(Inline, pan_open)), 0);
    a.jcc(Cc::Ne, slow);
    a.bind(same_pan);
    // PSTATE.IL and the mode: EL1h, or EL0.
    a.mov(Sz::D, RDX, RCX);
    a.alu_imm(Alu::And, Sz::D, RDX, 1 << 20 | 0x1f);
    a.alu_imm(Alu::Cmp, Sz::D, RDX, 5);
    a.jcc(Cc::E, to_el1);
    a.test(Sz::D, RDX, RDX);
    a.jcc(Cc::Ne, slow);
    a.alu_imm(Alu::Cmp, Sz::B, allowed(0), 0);
    a.jcc(Cc::E, slow);
    a.store_imm(Sz::B, EL, 0);
    a.store_imm(Sz::B, SPSEL, 0);
    switch_sp(a, 1, 0);
    a.load(Sz::Q, CTX, Mem::b(ENV, env::CTX_EL0));
    a.store(Sz::Q, Mem::b(ENV, env::CTX), CTX);
    a.load(Sz::Q, RDX, inline(offset_of!(Inline, returns)));
    a.inc_dec(false, Sz::Q, Mem::b(RDX, 0));
    a.jmp(masked);
    a.bind(to_el1);
    a.alu_imm(Alu::Cmp, Sz::B, allowed(1), 0);
    a.jcc(Cc::E, slow);
    a.bind(masked);

    a.mov_imm(RAX, FLAG_BITS);
    a.mov(Sz::D, RDX, RCX);
    a.shift_imm(Shift::Shr, Sz::D, RDX, 28);
    a.pdep(Sz::D, RDX, RDX, RAX);
    a.store(Sz::D, FLAGS, RDX);
    for (field, shift) in [(DIT, 24), (PAN, 22), (SSBS, 12)] {
        a.mov(Sz::D, RDX, RCX);
        a.shift_imm(Shift::Shr, Sz::D, RDX, shift);
        a.alu_imm(Alu::And, Sz::D, RDX, 1);
        a.store(Sz::B, field, RDX);
    }
    a.alu_imm(Alu::And, Sz::D, RCX, 0x3c0);
    a.store(Sz::D, DAIF, RCX);
    a.store_imm(Sz::Q, CLAIM, 0);
    a.store_imm(Sz::B, arch(offset_of!(ArchState, event)), 1);
    a.store_imm(Sz::B, inline(offset_of!(Inline, changed)), 1);
    let (lower, numbered) = (a.label(), a.label());
    a.alu_imm(Alu::Cmp, Sz::B, EL, 0);
    a.jcc(Cc::E, lower);
    number_contexts(a, true);
    a.jmp(numbered);
    a.bind(lower);
    number_contexts(a, false);
    a.bind(numbered);
    a.load(Sz::Q, RAX, sys(Sys::ELR_EL1));
    go_on(a, indirect_miss);

    a.bind(slow);
    a.mov_imm(RDX, u64::from(reason::ERET));
    a.jmp_abs(leave_for);
}

#[cfg(test)]
mod tests;
