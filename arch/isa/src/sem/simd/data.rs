//! Meaning of the Advanced SIMD data-processing instructions on integers, and of the cryptographic ones.
//!
//! Every instruction begins with the check that FP and SIMD are enabled, and writes the whole destination register: what lies above the
//! operation's width becomes zero, except where the instruction names an element or the upper half (`...2` forms).

use crate::insn::{Insn, Reg};
use crate::operand::LoadExt;
use crate::sem::Sem;
use crate::simd::{Accumulate, ESize, VecBinOp, VecImmOp, VecWidth};

/// Executes `insn` if it is of these classes; `None` else.
#[inline(always)]
pub(super) fn execute<S: Sem>(s: &mut S, insn: &Insn) -> Option<Result<(), S::Stop>> {
    Some(match *insn {
        Insn::VecBin { op, es, width, rd, rn, rm } => {
            operate2(s, rd, rn, rm, |s, a, b| s.vec_binary(op, es, width, a, b))
        }
        Insn::VecShiftReg { op, es, width, rd, rn, rm } => {
            operate2(s, rd, rn, rm, |s, a, b| s.vec_shift_register(op, es, width, a, b))
        }
        Insn::VecPermute { op, es, width, rd, rn, rm } => {
            operate2(s, rd, rn, rm, |s, a, b| s.vec_permute(op, es, width, a, b))
        }
        Insn::VecExtract { width, index, rd, rn, rm } => {
            operate2(s, rd, rn, rm, |s, a, b| s.vec_extract(width, a, b, index))
        }
        Insn::VecTern { op, es, width, rd, rn, rm } => {
            operate3(s, rd, rn, rm, |s, d, a, b| s.vec_ternary(op, es, width, d, a, b))
        }
        Insn::VecUn { op, es, width, rd, rn } => operate1(s, rd, rn, |s, a| s.vec_unary(op, es, width, a)),
        Insn::VecShift { op, es, width, count, rd, rn } => {
            operate1(s, rd, rn, |s, a| s.vec_shift(op, es, width, a, count))
        }
        Insn::VecAcross { op, es, width, rd, rn } => operate1(s, rd, rn, |s, a| s.vec_across(op, es, width, a)),
        Insn::VecBinAcc { op, es, width, rd, rn } => {
            operate2(s, rd, rd, rn, |s, d, a| s.vec_binary(op, es, width, d, a))
        }
        Insn::VecShiftInsert { left, es, width, count, rd, rn } => {
            operate2(s, rd, rd, rn, |s, d, a| s.vec_shift_insert(left, es, width, d, a, count))
        }
        Insn::VecShiftAcc { op, es, width, count, rd, rn } => operate2(s, rd, rd, rn, |s, d, a| {
            let shifted = s.vec_shift(op, es, width, a, count);
            s.vec_binary(VecBinOp::Add, es, width, d, shifted)
        }),
        Insn::VecPairLong { op, accumulate, es, width, rd, rn } => operate2(s, rd, rd, rn, |s, d, a| {
            let sums = s.vec_pair_long(op, es, width, a);
            if accumulate { s.vec_binary(VecBinOp::Add, es.wider(), width, d, sums) } else { sums }
        }),
        Insn::VecBinElem { op, es, width, rd, rn, rm, index } => operate2(s, rd, rn, rm, |s, a, b| {
            let b = element_everywhere(s, es, width, b, index);
            s.vec_binary(op, es, width, a, b)
        }),
        Insn::VecTernElem { op, es, width, rd, rn, rm, index } => operate3(s, rd, rn, rm, |s, d, a, b| {
            let b = element_everywhere(s, es, width, b, index);
            s.vec_ternary(op, es, width, d, a, b)
        }),
        Insn::VecLong { op, acc, es, width, upper, rd, rn, rm } => operate3(s, rd, rn, rm, |s, d, a, b| {
            let (a, b) = (half(s, upper, a), half(s, upper, b));
            let value = s.vec_long(op, es, width, a, b);
            accumulate(s, acc, es.wider(), width, d, value)
        }),
        Insn::VecLongElem { op, acc, es, width, upper, rd, rn, rm, index } => operate3(s, rd, rn, rm, |s, d, a, b| {
            let a = half(s, upper, a);
            let b = element_everywhere(s, es, VecWidth::D8, b, index);
            let value = s.vec_long(op, es, width, a, b);
            accumulate(s, acc, es.wider(), width, d, value)
        }),
        Insn::VecWide { sub, signed, es, upper, rd, rn, rm } => operate2(s, rd, rn, rm, |s, a, b| {
            let b = half(s, upper, b);
            let b = s.vec_widen(signed, es, b);
            s.vec_binary(add_or_sub(sub), es.wider(), VecWidth::Q16, a, b)
        }),
        _ => return execute_rest(s, insn),
    })
}

/// The classes that occur less often, apart so that the first match stays small.
fn execute_rest<S: Sem>(s: &mut S, insn: &Insn) -> Option<Result<(), S::Stop>> {
    use crate::value::lanes::VecNarrowOp;
    Some(match *insn {
        Insn::VecHighNarrow { sub, round, es, upper, rd, rn, rm } => operate3(s, rd, rn, rm, |s, d, a, b| {
            let sums = s.vec_binary(add_or_sub(sub), es.wider(), VecWidth::Q16, a, b);
            let value = s.vec_narrow(VecNarrowOp::Truncate, es, false, round, es.bits() as u8, sums);
            into_half(s, upper, d, value)
        }),
        Insn::VecNarrow { op, round, es, scalar, upper, count, rd, rn } => operate2(s, rd, rd, rn, |s, d, a| {
            let value = s.vec_narrow(op, es, scalar, round, count, a);
            into_half(s, upper, d, value)
        }),
        Insn::VecWiden { signed, es, upper, count, rd, rn } => operate1(s, rd, rn, |s, a| {
            let a = half(s, upper, a);
            let value = s.vec_widen(signed, es, a);
            if count == 0 {
                value
            } else {
                s.vec_shift(crate::value::lanes::VecShiftOp::Shl, es.wider(), VecWidth::Q16, value, count)
            }
        }),
        Insn::VecTable { keep, width, registers, rd, rn, rm } => table(s, keep, width, registers, rd, rn, rm),
        Insn::VecImm { op, width, rd, imm } => immediate(s, op, width, rd, imm),
        Insn::VecDupElem { es, width, index, rd, rn } => {
            operate1(s, rd, rn, |s, a| element_everywhere(s, es, width, a, index))
        }
        Insn::VecDupGeneral { es, width, rd, rn } => checked(s, |s| {
            let x = s.x(rn);
            let v = s.vec_duplicate(es, width, x);
            s.set_v(rd, v);
        }),
        Insn::VecInsElem { es, to, from, rd, rn } => operate2(s, rd, rd, rn, |s, d, a| {
            let x = s.vec_element(es, a, from, LoadExt::Zero);
            s.vec_with_element(es, d, to, x)
        }),
        Insn::VecInsGeneral { es, index, rd, rn } => checked(s, |s| {
            let (d, x) = (s.v(rd), s.x(rn));
            let v = s.vec_with_element(es, d, index, x);
            s.set_v(rd, v);
        }),
        Insn::VecToGeneral { signed, sf, es, index, rd, rn } => checked(s, |s| {
            let a = s.v(rn);
            let extension = match (signed, sf) {
                (false, _) => LoadExt::Zero,
                (true, false) => LoadExt::SignTo32,
                (true, true) => LoadExt::SignTo64,
            };
            let x = s.vec_element(es, a, index, extension);
            s.set_x(rd, x);
        }),
        Insn::CryptoAes { op, rd, rn } => operate2(s, rd, rd, rn, |s, d, a| s.aes(op, d, a)),
        Insn::CryptoSha { op, rd, rn, rm } => operate3(s, rd, rn, rm, |s, d, a, b| s.sha(op, d, a, b)),
        _ => return None,
    })
}

#[inline(always)]
fn checked<S: Sem>(s: &mut S, f: impl FnOnce(&mut S)) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    f(s);
    Ok(())
}

#[inline(always)]
fn operate1<S: Sem>(s: &mut S, rd: Reg, rn: Reg, f: impl FnOnce(&mut S, S::V) -> S::V) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let a = s.v(rn);
    let value = f(s, a);
    s.set_v(rd, value);
    Ok(())
}

#[inline(always)]
fn operate2<S: Sem>(
    s: &mut S,
    rd: Reg,
    rn: Reg,
    rm: Reg,
    f: impl FnOnce(&mut S, S::V, S::V) -> S::V,
) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let (a, b) = (s.v(rn), s.v(rm));
    let value = f(s, a, b);
    s.set_v(rd, value);
    Ok(())
}

#[inline(always)]
fn operate3<S: Sem>(
    s: &mut S,
    rd: Reg,
    rn: Reg,
    rm: Reg,
    f: impl FnOnce(&mut S, S::V, S::V, S::V) -> S::V,
) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let (d, a, b) = (s.v(rd), s.v(rn), s.v(rm));
    let value = f(s, d, a, b);
    s.set_v(rd, value);
    Ok(())
}

const fn add_or_sub(sub: bool) -> VecBinOp {
    if sub { VecBinOp::Sub } else { VecBinOp::Add }
}

/// The half of a source that a long operation reads, in the low 64 bits.
#[inline(always)]
fn half<S: Sem>(s: &mut S, upper: bool, v: S::V) -> S::V {
    if upper { s.vec_high(v) } else { v }
}

/// A narrowed value in the half of the destination that a narrowing operation writes: the lower one clears the upper.
#[inline(always)]
fn into_half<S: Sem>(s: &mut S, upper: bool, d: S::V, value: S::V) -> S::V {
    if upper { s.vec_concat(d, value) } else { value }
}

/// One element repeated over the width.
#[inline(always)]
fn element_everywhere<S: Sem>(s: &mut S, es: ESize, width: VecWidth, v: S::V, index: u8) -> S::V {
    let x = s.vec_element(es, v, index, LoadExt::Zero);
    s.vec_duplicate(es, width, x)
}

#[inline(always)]
fn accumulate<S: Sem>(s: &mut S, how: Accumulate, es: ESize, width: VecWidth, d: S::V, value: S::V) -> S::V {
    match how {
        Accumulate::None => value,
        Accumulate::Add => s.vec_binary(VecBinOp::Add, es, width, d, value),
        Accumulate::Sub => s.vec_binary(VecBinOp::Sub, es, width, d, value),
        Accumulate::SatAdd => s.vec_binary(VecBinOp::Sqadd, es, width, d, value),
        Accumulate::SatSub => s.vec_binary(VecBinOp::Sqsub, es, width, d, value),
    }
}

/// TBL and TBX. The table's registers follow one another modulo 32.
fn table<S: Sem>(
    s: &mut S,
    keep: bool,
    width: VecWidth,
    registers: u8,
    rd: Reg,
    rn: Reg,
    rm: Reg,
) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let table = [0, 1, 2, 3].map(|i: u8| s.v((rn + i.min(registers - 1)) & 31));
    let index = s.v(rm);
    let outside = if keep { s.v(rd) } else { s.vec_const(0) };
    let value = s.vec_table(&table[..usize::from(registers).min(4)], index, outside);
    let value = s.vec_truncate(width, value);
    s.set_v(rd, value);
    Ok(())
}

fn immediate<S: Sem>(s: &mut S, op: VecImmOp, width: VecWidth, rd: Reg, imm: u64) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let constant = s.vec_const(width.truncate(u128::from(imm) << 64 | u128::from(imm)));
    let value = match op {
        VecImmOp::Set => constant,
        VecImmOp::Orr | VecImmOp::Bic => {
            let op = if op == VecImmOp::Orr { VecBinOp::Orr } else { VecBinOp::Bic };
            let d = s.v(rd);
            s.vec_binary(op, ESize::D, width, d, constant)
        }
    };
    s.set_v(rd, value);
    Ok(())
}
