//! Multiplication and division.

use super::{RAX, RCX, RDX};
use crate::asm::{Alu, Cc, Mem, Section, Shift, Sz, Unary};
use crate::optimisations::Optimisation;
use crate::t1::builder::Builder;
use crate::t1::regs::{ZR, pin};

/// RAX = RAX / RCX with Arm's rules: by zero gives zero, the overflow of a signed division wraps.
pub(super) fn divide(b: &mut Builder<'_>, sz: Sz, signed: bool) {
    if sz == Sz::Q && b.optimise.has(Optimisation::NarrowDivision) {
        return divide_narrow(b, signed);
    }
    let (cold, done) = (b.a.label(), b.a.label());
    if signed {
        // 0 and -1 leave the straight line: (divisor + 1) is 1 or 0.
        b.a.lea(sz, RDX, Mem::b(RCX, 1));
        b.a.alu_imm(Alu::Cmp, sz, RDX, 1);
        b.a.jcc(Cc::Be, cold);
        b.a.sign_rdx(sz);
        b.a.unary(Unary::Idiv, sz, RCX);
    } else {
        b.a.test(sz, RCX, RCX);
        b.a.jcc(Cc::E, cold);
        b.a.zero(RDX);
        b.a.unary(Unary::Div, sz, RCX);
    }
    b.a.bind(done);
    let old = b.a.switch(Section::Cold);
    b.a.bind(cold);
    // Divisor 0: RAX * 0. Divisor -1: RAX * -1, which wraps as the architecture says.
    b.a.imul(sz, RAX, RCX);
    b.a.jmp(done);
    b.a.switch(old);
}

/// As [`divide`] of 64 bits: what fits 32 unsigned bits, as nearly all that programs divide, is divided in 32, which takes hosts less time.
fn divide_narrow(b: &mut Builder<'_>, signed: bool) {
    let (wide, zero, done) = (b.a.label(), b.a.label(), b.a.label());
    b.a.mov(Sz::Q, RDX, RAX);
    b.a.alu(Alu::Or, Sz::Q, RDX, RCX);
    b.a.shift_imm(Shift::Shr, Sz::Q, RDX, 32);
    b.a.jcc(Cc::Ne, wide);
    b.a.test(Sz::D, RCX, RCX);
    b.a.jcc(Cc::E, zero);
    // RDX is 0.
    b.a.unary(Unary::Div, Sz::D, RCX);
    b.a.bind(done);
    let old = b.a.switch(Section::Cold);
    b.a.bind(wide);
    if signed {
        b.a.lea(Sz::Q, RDX, Mem::b(RCX, 1));
        b.a.alu_imm(Alu::Cmp, Sz::Q, RDX, 1);
        b.a.jcc(Cc::Be, zero);
        b.a.sign_rdx(Sz::Q);
        b.a.unary(Unary::Idiv, Sz::Q, RCX);
    } else {
        b.a.test(Sz::Q, RCX, RCX);
        b.a.jcc(Cc::E, zero);
        b.a.zero(RDX);
        b.a.unary(Unary::Div, Sz::Q, RCX);
    }
    b.a.jmp(done);
    b.a.bind(zero);
    b.a.imul(Sz::Q, RAX, RCX);
    b.a.jmp(done);
    b.a.switch(old);
}

/// As [`accumulate`], with EFLAGS left alone. Uses RCX.
fn accumulate_keeping_flags(b: &mut Builder<'_>, sz: Sz, sub: bool, rd: u8, ra: u8) {
    if ra == ZR && !sub {
        return b.set(rd, RAX);
    }
    if sub {
        b.a.unary(Unary::Not, sz, RAX);
    }
    let d = b.d(rd, RAX);
    let a = if ra == ZR {
        b.a.mov_imm(RCX, 0);
        RCX
    } else {
        b.r(ra, RCX)
    };
    b.a.lea(sz, d, Mem::bi(a, RAX, 0, i32::from(sub)));
    b.set(rd, d);
}

pub(super) fn mul_add(b: &mut Builder<'_>, sz: Sz, sub: bool, rd: u8, rn: u8, rm: u8, ra: u8) {
    if b.keeps_flags() {
        b.begin(&[rd], false);
        let other = b.factors(rn, rm);
        let m = b.rm(other, RCX);
        if ra == ZR && !sub {
            let d = b.d(rd, RAX);
            b.a.mulx(sz, RCX, d, m);
            return b.set(rd, d);
        }
        b.a.mulx(sz, RCX, RAX, m);
        return accumulate_keeping_flags(b, sz, sub, rd, ra);
    }
    b.begin(&[rd], true);
    if ra == ZR && !sub {
        let overlaps = pin(rd).is_some() && pin(rd) == pin(rm);
        let (first, second) = if overlaps { (rm, rn) } else { (rn, rm) };
        let d = b.d(rd, RAX);
        b.load_low(sz, d, first);
        let m = b.rm(second, RCX);
        b.a.imul(sz, d, m);
        return b.set(rd, d);
    }
    b.load_sz(sz, RAX, rn);
    let m = b.rm(rm, RCX);
    b.a.imul(sz, RAX, m);
    accumulate(b, sz, sub, rd, ra);
}

/// `rd = ra + RAX` or `ra - RAX`.
fn accumulate(b: &mut Builder<'_>, sz: Sz, sub: bool, rd: u8, ra: u8) {
    if sub {
        b.load_sz(sz, RCX, ra);
        b.a.alu(Alu::Sub, sz, RCX, RAX);
        return b.set(rd, RCX);
    }
    if ra != ZR {
        let a = b.rm(ra, RCX);
        b.a.alu(Alu::Add, sz, RAX, a);
    }
    b.set(rd, RAX);
}

pub(super) fn mul_add_long(b: &mut Builder<'_>, signed: bool, sub: bool, rd: u8, rn: u8, rm: u8, ra: u8) {
    let keep = b.keeps_flags();
    b.begin(&[rd], !keep);
    let first = if keep { RDX } else { RAX };
    for (to, reg) in [(first, rn), (RCX, rm)] {
        if signed {
            let src = b.rm(reg, to);
            b.a.movsx(Sz::D, Sz::Q, to, src);
        } else {
            b.load_w(to, reg);
        }
    }
    if keep {
        b.a.mulx(Sz::Q, RCX, RAX, RCX);
        return accumulate_keeping_flags(b, Sz::Q, sub, rd, ra);
    }
    b.a.imul(Sz::Q, RAX, RCX);
    accumulate(b, Sz::Q, sub, rd, ra);
}

pub(super) fn mul_high(b: &mut Builder<'_>, signed: bool, rd: u8, rn: u8, rm: u8) {
    if !signed {
        // Leaves EFLAGS alone: multiplications stand between the links of carry chains.
        b.begin(&[rd], false);
        let other = b.factors(rn, rm);
        let m = b.rm(other, RCX);
        let d = b.d(rd, RAX);
        b.a.mulx(Sz::Q, d, d, m);
        return b.set(rd, d);
    }
    b.begin(&[rd], true);
    b.load_x(RAX, rn);
    let m = b.rm(rm, RCX);
    b.a.unary(Unary::Imul, Sz::Q, m);
    b.set(rd, RDX);
}
