//! Scalar conversions: between formats, to and from integers, rounding to integral values.
//!
//! Rounding to an integer in a given direction suppresses the host's inexact flag and lets a truncation of the original value set it: that one is in range
//! whenever the result is, so values out of range set the invalid flag only.

use isa::insn::{FpRounding, FpSize, Insn};

use super::{Constant, L, RAX, RCX, X0, X1, X2, X3, constant};
use crate::asm::{Alu, Cc, Masking, Mem, Rounding, Section, Shift, Sz, Xmm, ops};
use crate::env;
use crate::t1::builder::Builder;
use crate::t1::flags::Flags;
use crate::t1::regs::ENV;

/// Immediate bit of VROUND: no inexact flag.
const QUIET: u8 = 8;

/// Lower one instruction of this family; false if it has no lowering.
pub(super) fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::FpConvert { from, to, rd, rn } => convert(b, from, to, rd, rn),
        Insn::FpRoundToInt { rounding, exact, shape, rd, rn } if shape.lanes == 1 => {
            round_to_int(b, rounding, exact, shape.size == FpSize::Double, rd, rn)
        }
        Insn::FpToGpr { size, sf, unsigned, rounding, fraction_bits, rd, rn } if size != FpSize::Half => {
            b.begin(&[rd], true);
            if !to_integer(b, size == FpSize::Double, sf, unsigned, (rounding, fraction_bits), rn) {
                return false;
            }
            b.set(rd, RAX);
            true
        }
        Insn::FpToIntLanes { shape, unsigned, rounding, fraction_bits, rd, rn } if shape.lanes == 1 => {
            let double = shape.size == FpSize::Double;
            b.begin(&[], true);
            if !to_integer(b, double, double, unsigned, (rounding, fraction_bits), rn) {
                return false;
            }
            from_gpr(b, double, rd);
            true
        }
        Insn::GprToFp { size, sf, unsigned, fraction_bits, rd, rn } if size != FpSize::Half => {
            b.begin(&[], true);
            b.load_sz(Sz::dq(sf), RAX, rn);
            from_integer(b, size == FpSize::Double, sf, unsigned, fraction_bits, rd);
            true
        }
        Insn::IntToFpLanes { shape, unsigned, fraction_bits, rd, rn } if shape.lanes == 1 => {
            let double = shape.size == FpSize::Double;
            b.begin(&[], true);
            match b.pin_v(rn) {
                Some(x) => b.a.vst(if double { ops::VMOVQ_ST } else { ops::VMOVD_ST }, L, RAX, x),
                None => b.a.load(Sz::dq(double), RAX, crate::t1::regs::home_v(rn)),
            }
            from_integer(b, double, double, unsigned, fraction_bits, rd);
            true
        }
        Insn::FpJavaScriptConvert { rd, rn } => {
            java_script(b, rd, rn);
            true
        }
        _ => false,
    }
}

/// FJCVTZS: the low half of the truncated number, and Z if that is the number itself, -0 not being 0. What 64 bits do not hold is the interpreter's.
fn java_script(b: &mut Builder<'_>, rd: u8, rn: u8) {
    let flags = Mem::b(ENV, env::FLAGS);
    b.begin_def();
    let slow = b.interp_cold();
    let (wide, done) = (b.a.label(), b.a.label());
    let n = b.scalar(true, rn, X1);
    b.a.v2_gpr(ops::VCVTTSD2SI, L, RAX, n);
    b.a.alu_imm(Alu::Cmp, Sz::D, RAX, 1);
    b.a.jcc(Cc::O, wide);
    b.a.vzero(X0);
    b.a.v3(ops::VCVTSI2SD, L, X0, X0, RAX);
    b.a.v3(ops::VXORPS, L, X0, X0, n);
    b.a.vst(ops::VMOVQ_ST, L, RCX, X0);
    b.a.test(Sz::Q, RCX, RCX);
    b.a.setcc(Cc::E, RCX);
    b.a.movzx(Sz::B, RCX, RCX);
    b.a.shift_imm(Shift::Shl, Sz::D, RCX, 14);
    b.a.bind(done);
    b.a.store(Sz::D, flags, RCX);
    b.set(rd, RAX);
    let old = b.a.switch(Section::Cold);
    b.a.bind(wide);
    // The host's invalid flag is Arm's: it is set unless the number is the smallest integer, which goes on to the interpreter.
    b.a.v3i(ops::VROUNDSD, L, X0, n, n, 3 | QUIET);
    b.a.v2_gpr(ops::VCVTTSD2SI_Q, L, RAX, X0);
    b.a.movsx(Sz::D, Sz::Q, RCX, RAX);
    b.a.alu(Alu::Cmp, Sz::Q, RCX, RAX);
    b.a.jcc(Cc::E, slow);
    b.a.alu_imm(Alu::Cmp, Sz::Q, RAX, 1);
    b.a.jcc(Cc::O, slow);
    b.a.mov(Sz::D, RAX, RAX);
    b.a.mov_imm(RCX, 0);
    b.a.jmp(done);
    b.a.switch(old);
    b.flags = Flags::STORED;
}

/// `rd` = EAX or RAX, zero above.
fn from_gpr(b: &mut Builder<'_>, double: bool, rd: u8) {
    let d = b.dv(rd, X0);
    b.a.v2(if double { ops::VMOVQ } else { ops::VMOVD }, L, d, RAX);
    b.set_v(rd, d);
    b.note_zero_above(double, rd);
}

/// FCVT. NaNs keep sign and payload and become quiet on both machines.
fn convert(b: &mut Builder<'_>, from: FpSize, to: FpSize, rd: u8, rn: u8) -> bool {
    if b.mode.fp_careful && (from == FpSize::Half || to == FpSize::Half) {
        return false;
    }
    b.begin(&[], b.mode.fp_careful);
    match (from, to) {
        (FpSize::Single, FpSize::Double) => {
            let n = b.scalar(false, rn, X1);
            b.a.v3(ops::VCVTSS2SD, L, X0, n, n);
            b.careful_nan(true, X0);
            b.set_scalar(true, rd, X0, false);
        }
        (FpSize::Double, FpSize::Single) => {
            let n = b.scalar(true, rn, X1);
            b.a.v3(ops::VCVTSD2SS, L, X0, n, n);
            b.careful_nan(false, X0);
            b.set_scalar(false, rd, X0, false);
        }
        (FpSize::Half, _) => {
            half_in(b, rn);
            b.a.v2(ops::VCVTPH2PS, L, X0, X0);
            if to == FpSize::Double {
                b.a.v3(ops::VCVTSS2SD, L, X0, X0, X0);
            }
            b.set_scalar(to == FpSize::Double, rd, X0, false);
        }
        (FpSize::Single, FpSize::Half) => {
            let n = b.scalar(false, rn, X1);
            if b.is_zero_above(false, rn) {
                b.a.vmov(X1, n);
            } else {
                b.a.v3i(ops::VINSERTPS, L, X1, n, n, 0x0e);
            }
            b.a.vsti(ops::VCVTPS2PH, L, X0, X1, 4);
            b.set_scalar(false, rd, X0, true);
        }
        _ => return false,
    }
    true
}

/// xmm0 = the lowest half-precision element of `rn`, zero above.
fn half_in(b: &mut Builder<'_>, rn: u8) {
    match b.pin_v(rn) {
        Some(x) => b.a.vst(ops::VMOVD_ST, L, RAX, x),
        None => b.a.load(Sz::D, RAX, crate::t1::regs::home_v(rn)),
    }
    b.a.movzx(Sz::H, RAX, RAX);
    b.a.v2(ops::VMOVD, L, X0, RAX);
}

/// VROUND immediate for a direction that it has; `None` for ties away.
pub(super) fn round_immediate(rounding: Option<FpRounding>) -> Option<u8> {
    Some(match rounding {
        None => 4,
        Some(FpRounding::TieEven) => 0,
        Some(FpRounding::NegInf) => 1,
        Some(FpRounding::PosInf) => 2,
        Some(FpRounding::Zero) => 3,
        Some(FpRounding::TieAway | FpRounding::Odd) => return None,
    })
}

/// `dst` = `src` rounded to an integral value without the inexact flag. `dst` is none of xmm2, xmm3.
fn round(b: &mut Builder<'_>, double: bool, rounding: Option<FpRounding>, dst: Xmm, src: Xmm) -> bool {
    let vround = if double { ops::VROUNDSD } else { ops::VROUNDSS };
    if let Some(imm) = round_immediate(rounding) {
        b.a.v3i(vround, L, dst, src, src, imm | QUIET);
        return true;
    }
    if rounding != Some(FpRounding::TieAway) {
        return false;
    }
    let (add, sub) = if double { (ops::VADDSD, ops::VSUBSD) } else { (ops::VADDSS, ops::VSUBSS) };
    b.a.v3(ops::VANDPS, L, X2, src, constant(Constant::Sign, double));
    if b.host.avx512 {
        // Adding a half with truncation never carries a smaller fraction over.
        b.a.v3(ops::VORPS, L, X2, X2, constant(Constant::Half, double));
        b.a.v3_ext(add, L, dst, src, X2, Masking::default(), Some(Rounding::Zero));
        // The sum of NaNs is one; a zero keeps its sign by the half's.
        b.a.v3i(vround, L, dst, dst, dst, 3 | QUIET);
        return true;
    }
    // Truncate; if the (exact) rest is at least a half, one more in the direction of the sign.
    let cold = b.interp_cold();
    b.a.v3(ops::VANDPS, L, X3, src, constant(Constant::AbsScalar, double));
    b.a.v2(if double { ops::VUCOMISD } else { ops::VUCOMISS }, L, X3, constant(Constant::Integers, double));
    b.a.jcc(Cc::Ae, cold);
    b.a.jcc(Cc::P, cold);
    b.a.v3(ops::VORPS, L, X2, X2, constant(Constant::One, double));
    b.a.v3i(vround, L, X3, src, src, 3 | QUIET);
    b.a.v3(sub, L, dst, src, X3);
    b.a.v3(ops::VANDPS, L, dst, dst, constant(Constant::AbsScalar, double));
    let compare = if double { ops::VCMPSD } else { ops::VCMPSS };
    b.a.v3i(compare, L, dst, dst, constant(Constant::Half, double), 0x1d);
    b.a.v3(ops::VANDPS, L, X2, X2, dst);
    b.a.v3(add, L, dst, X3, X2);
    b.a.v3(ops::VANDPS, L, X2, src, constant(Constant::Sign, double));
    b.a.v3(ops::VORPS, L, dst, dst, X2);
    true
}

fn round_to_int(b: &mut Builder<'_>, rounding: Option<FpRounding>, exact: bool, double: bool, rd: u8, rn: u8) -> bool {
    let vround = if double { ops::VROUNDSD } else { ops::VROUNDSS };
    b.begin(&[], true);
    let n = b.scalar(double, rn, X1);
    if rounding != Some(FpRounding::TieAway) {
        b.careful_nan(double, n);
    }
    if exact {
        let Some(imm) = round_immediate(rounding) else { return false };
        b.a.v3i(vround, L, X0, n, n, imm);
    } else {
        if rounding == Some(FpRounding::TieAway) {
            // Static rounding hides the invalid flag of a signalling NaN.
            b.nan_to_interpreter(double, n);
        }
        if !round(b, double, rounding, X0, n) {
            return false;
        }
    }
    b.set_scalar(double, rd, X0, false);
    true
}

/// RAX = `rn` as an integer. Out-of-range values and NaNs go to the interpreter.
fn to_integer(
    b: &mut Builder<'_>,
    double: bool,
    sf: bool,
    unsigned: bool,
    (rounding, fraction_bits): (FpRounding, u8),
    rn: u8,
) -> bool {
    let truncate = if double { [ops::VCVTTSD2SI, ops::VCVTTSD2SI_Q] } else { [ops::VCVTTSS2SI, ops::VCVTTSS2SI_Q] };
    let truncate_unsigned =
        if double { [ops::VCVTTSD2USI, ops::VCVTTSD2USI_Q] } else { [ops::VCVTTSS2USI, ops::VCVTTSS2USI_Q] };
    let cold = b.interp_cold();
    let mut n = b.scalar(double, rn, X1);
    if fraction_bits > 0 {
        // Only numbers that cannot overflow are scaled, which is exact then.
        b.a.v3(ops::VANDPS, L, X2, n, constant(Constant::AbsScalar, double));
        b.a.v2(if double { ops::VUCOMISD } else { ops::VUCOMISS }, L, X2, constant(Constant::Integers, double));
        b.a.jcc(Cc::Ae, cold);
        b.a.jcc(Cc::P, cold);
        let scale = u64::from(fraction_bits);
        b.a.mov_imm(RAX, if double { (1023 + scale) << 52 } else { (127 + scale) << 23 });
        b.a.v2(ops::VMOVQ, L, X2, RAX);
        b.a.v3(if double { ops::VMULSD } else { ops::VMULSS }, L, X1, n, X2);
        n = X1;
    }
    let t = if rounding == FpRounding::Zero {
        n
    } else {
        if !round(b, double, Some(rounding), X0, n) {
            return false;
        }
        X0
    };
    let sz = Sz::dq(sf);
    if !unsigned {
        let op = truncate[usize::from(sf)];
        b.a.v2_gpr(op, L, RAX, t);
        b.a.alu_imm(Alu::Cmp, sz, RAX, 1);
        b.a.jcc(Cc::O, cold);
        if t != n {
            b.a.v2_gpr(op, L, RCX, n);
        }
        return true;
    }
    if b.host.avx512 {
        let op = truncate_unsigned[usize::from(sf)];
        b.a.v2_gpr(op, L, RAX, t);
        b.a.alu_imm(Alu::Cmp, sz, RAX, -1);
        b.a.jcc(Cc::E, cold);
        if t != n {
            // -0.5 rounded up is in range, and so is its truncation.
            b.a.v2_gpr(op, L, RCX, n);
        }
        return true;
    }
    // Through signed 64 bits, for what lies between -1 and the limit of both.
    let compare = if double { ops::VUCOMISD } else { ops::VUCOMISS };
    let limit = match (double, sf) {
        (true, true) => 0x43e0_0000_0000_0000,
        (true, false) => 0x41f0_0000_0000_0000,
        (false, true) => 0x5f00_0000,
        (false, false) => 0x4f80_0000,
    };
    for (bits, below) in [(limit, true), (if double { 0xbff0_0000_0000_0000 } else { 0xbf80_0000 }, false)] {
        b.a.mov_imm(RAX, bits);
        b.a.v2(ops::VMOVQ, L, X2, RAX);
        // Of the value as it is converted: rounding -0.6 to -1 is out of range.
        let (first, second) = if below { (X2, t) } else { (t, X2) };
        b.a.v2(compare, L, first, second);
        b.a.jcc(Cc::Be, cold);
    }
    b.a.v2_gpr(truncate[1], L, RAX, t);
    if t != n {
        b.a.v2_gpr(truncate[1], L, RCX, n);
    }
    true
}

/// `rd` = the integer in RAX, divided by two to the `fraction_bits`.
fn from_integer(b: &mut Builder<'_>, double: bool, sf: bool, unsigned: bool, fraction_bits: u8, rd: u8) {
    let (narrow, wide, vadd) = if double {
        (ops::VCVTSI2SD, ops::VCVTSI2SD_Q, ops::VADDSD)
    } else {
        (ops::VCVTSI2SS, ops::VCVTSI2SS_Q, ops::VADDSS)
    };
    b.a.vzero(X0);
    if !unsigned {
        b.a.v3(if sf { wide } else { narrow }, L, X0, X0, RAX);
    } else if !sf {
        b.a.v3(wide, L, X0, X0, RAX);
    } else if b.host.avx512 {
        b.a.v3(if double { ops::VCVTUSI2SD_Q } else { ops::VCVTUSI2SS_Q }, L, X0, X0, RAX);
    } else {
        // Large values by halves, the lost bit kept sticky: exact doubling afterwards.
        let (cold, done) = (b.a.label(), b.a.label());
        b.a.test(Sz::Q, RAX, RAX);
        b.a.jcc(Cc::S, cold);
        b.a.v3(wide, L, X0, X0, RAX);
        b.a.bind(done);
        let old = b.a.switch(Section::Cold);
        b.a.bind(cold);
        b.a.mov(Sz::Q, RCX, RAX);
        b.a.shift_imm(Shift::Shr, Sz::Q, RCX, 1);
        b.a.alu_imm(Alu::And, Sz::D, RAX, 1);
        b.a.alu(Alu::Or, Sz::Q, RCX, RAX);
        b.a.v3(wide, L, X0, X0, RCX);
        b.a.v3(vadd, L, X0, X0, X0);
        b.a.jmp(done);
        b.a.switch(old);
    }
    if fraction_bits > 0 {
        let n = u64::from(fraction_bits);
        b.a.mov_imm(RAX, if double { (1023 - n) << 52 } else { (127 - n) << 23 });
        b.a.v2(ops::VMOVQ, L, X1, RAX);
        b.a.v3(if double { ops::VMULSD } else { ops::VMULSS }, L, X0, X0, X1);
    }
    b.set_scalar(double, rd, X0, true);
}
