//! From the class of an instruction to its meaning function.

use super::alu::{self, AddSub, Compare, LogicalOperand};
use super::memory::{self, Target};
use super::{AccessKind, Flow, Order, Sem, atomic, branch, fp, simd, system};
use crate::insn::Insn;
use crate::operand::AddrMode;

/// Executes one instruction.
///
/// # Errors
/// Whatever a primitive of the engine stopped it with; no register has changed then.
#[inline]
pub fn execute<S: Sem>(s: &mut S, insn: &Insn) -> Result<Flow, S::Stop> {
    // One flat match and not one per family: it becomes one jump table, and this is the interpreter's hottest place.
    match *insn {
        Insn::PcRel { rd, page, offset } => alu::pc_relative(s, rd, page, offset),
        Insn::AddSubImm { sf, sub, setflags, rd, rn, imm } => {
            alu::add_sub_imm(s, AddSub { sf, sub, setflags }, rd, rn, imm);
        }
        Insn::AddSubShifted { sf, sub, setflags, shift, amount, rd, rn, rm } => {
            alu::add_sub_shifted(s, AddSub { sf, sub, setflags }, rd, rn, rm, shift, amount);
        }
        Insn::AddSubExtended { sf, sub, setflags, extend, shift, rd, rn, rm } => {
            alu::add_sub_extended(s, AddSub { sf, sub, setflags }, rd, rn, rm, extend, shift);
        }
        Insn::AddSubCarry { sf, sub, setflags, rd, rn, rm } => {
            alu::add_sub_carry(s, AddSub { sf, sub, setflags }, rd, rn, rm);
        }
        Insn::LogicalImm { sf, op, setflags, rd, rn, imm } => alu::logical_imm(s, sf, op, setflags, rd, rn, imm),
        Insn::LogicalShifted { sf, op, invert, setflags, shift, amount, rd, rn, rm } => {
            alu::logical_shifted(s, sf, op, setflags, rd, rn, LogicalOperand { shift, amount, invert, rm });
        }
        Insn::MoveWide { sf, op, rd, shift, imm } => alu::move_wide(s, sf, op, rd, shift, imm),
        Insn::Bitfield { sf, op, rd, rn, immr, imms } => alu::bitfield(s, sf, op, rd, rn, immr, imms),
        Insn::Extract { sf, rd, rn, rm, lsb } => alu::extract(s, sf, rd, rn, rm, lsb),
        Insn::DataProc1 { sf, op, rd, rn } => alu::unary(s, sf, op, rd, rn),
        Insn::DataProc2 { sf, op, rd, rn, rm } => alu::binary(s, sf, op.into(), rd, rn, rm),
        Insn::Crc32 { castagnoli, size, rd, rn, rm } => alu::crc32(s, castagnoli, size, rd, rn, rm),
        Insn::MulAdd { sf, sub, rd, rn, rm, ra } => alu::mul_add(s, sf, sub, rd, rn, rm, ra),
        Insn::MulAddLong { signed, sub, rd, rn, rm, ra } => alu::mul_add_long(s, signed, sub, rd, rn, rm, ra),
        Insn::MulHigh { signed, rd, rn, rm } => alu::binary(s, true, alu::high_product(signed), rd, rn, rm),
        Insn::CondSelect { sf, op, cond, rd, rn, rm } => alu::cond_select(s, sf, op, cond, rd, rn, rm),
        Insn::CondCompareReg { sf, sub, cond, nzcv, rn, rm } => {
            alu::cond_compare_reg(s, Compare { sf, sub, cond, nzcv }, rn, rm);
        }
        Insn::CondCompareImm { sf, sub, cond, nzcv, rn, imm } => {
            alu::cond_compare_imm(s, Compare { sf, sub, cond, nzcv }, rn, imm);
        }
        Insn::FlagManip { op, rn, rotate, mask } => alu::flag_manipulation(s, op, rn, rotate, mask),

        Insn::Branch { link, offset } => return Ok(branch::immediate(s, link, offset)),
        Insn::BranchCond { cond, offset } => return Ok(branch::conditional(s, cond, offset)),
        Insn::CompareBranch { sf, nonzero, rt, offset } => return Ok(branch::compare(s, sf, nonzero, rt, offset)),
        Insn::TestBranch { nonzero, bit, rt, offset } => return Ok(branch::test(s, nonzero, bit, rt, offset)),
        Insn::BranchReg { kind, rn } => return Ok(branch::register(s, kind, rn)),

        Insn::LoadImm { size, ext, unpriv, mode, rt, rn, offset } => {
            memory::load_imm(s, Target { size, ext, rt }, memory::kind(unpriv), mode, rn, offset)?;
        }
        Insn::StoreImm { size, unpriv, mode, rt, rn, offset } => {
            memory::store_imm(s, size, memory::kind(unpriv), mode, rt, rn, offset)?;
        }
        Insn::LoadReg { size, ext, extend, shift, rt, rn, rm } => {
            memory::load_reg(s, Target { size, ext, rt }, extend, shift, rn, rm)?;
        }
        Insn::StoreReg { size, extend, shift, rt, rn, rm } => {
            memory::store_reg(s, size, extend, shift, rt, rn, rm)?;
        }
        Insn::LoadLiteral { size, ext, rt, offset } => memory::load_literal(s, Target { size, ext, rt }, offset)?,
        Insn::LoadPair { size, ext, mode, rt, rt2, rn, offset } => {
            memory::load_pair(s, Target { size, ext, rt }, rt2, mode, rn, offset.into())?;
        }
        Insn::StorePair { size, mode, rt, rt2, rn, offset } => {
            memory::store_pair(s, size, mode, (rt, rt2), rn, offset.into())?;
        }
        Insn::LoadAcquire { size, ext, pc, rt, rn, offset } => {
            let kind = if pc { AccessKind::AcquirePc } else { AccessKind::Acquire };
            memory::load_imm(s, Target { size, ext, rt }, kind, AddrMode::Offset, rn, offset.into())?;
        }
        Insn::StoreRelease { size, rt, rn, offset } => {
            memory::store_imm(s, size, AccessKind::Release, AddrMode::Offset, rt, rn, offset.into())?;
        }

        Insn::LoadExclusive { size, acquire, rt, rn } => atomic::load_exclusive(s, size, acquire, rt, rn)?,
        Insn::StoreExclusive { size, release, rs, rt, rn } => atomic::store_exclusive(s, size, release, rs, rt, rn)?,
        Insn::LoadExclusivePair { size, acquire, rt, rt2, rn } => {
            atomic::load_exclusive_pair(s, size, acquire, (rt, rt2), rn)?;
        }
        Insn::StoreExclusivePair { size, release, rs, rt, rt2, rn } => {
            atomic::store_exclusive_pair(s, size, release, rs, (rt, rt2), rn)?;
        }
        Insn::AtomicRmw { size, op, acquire, release, rs, rt, rn } => {
            atomic::read_modify_write(s, size, op, Order { acquire, release }, (rs, rt), rn)?;
        }
        Insn::CompareSwap { size, acquire, release, rs, rt, rn } => {
            atomic::compare_and_swap(s, size, Order { acquire, release }, (rs, rt), rn)?;
        }
        Insn::CompareSwapPair { size, acquire, release, rs, rt, rn } => {
            atomic::compare_and_swap_pair(s, size, Order { acquire, release }, rs, rt, rn)?;
        }

        Insn::Nop => {}
        _ => return others(s, insn),
    }
    Ok(Flow::Next)
}

/// The families that are rarer or take longer than a second look-up.
#[inline(never)]
fn others<S: Sem>(s: &mut S, insn: &Insn) -> Result<Flow, S::Stop> {
    if let Some(result) = system::execute(s, insn) {
        return result;
    }
    match fp::execute(s, insn).or_else(|| simd::execute(s, insn)) {
        Some(completed) => completed.map(|()| Flow::Next),
        None => Err(s.undefined()),
    }
}
