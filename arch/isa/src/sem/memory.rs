//! Loads and stores of general-purpose registers.

use super::{Access, AccessKind, Sem, SemTypes};
use crate::insn::{Insn, Reg};
use crate::operand::{AddrMode, Extend, LoadExt, Size};

/// Executes an instruction of these classes; `None` when it is none.
#[inline(always)]
pub(super) fn execute<S: Sem>(s: &mut S, insn: &Insn) -> Option<Result<(), S::Stop>> {
    Some(match *insn {
        Insn::LoadImm { size, ext, unpriv, mode, rt, rn, offset } => {
            load_imm(s, Target { size, ext, rt }, kind(unpriv), mode, rn, offset)
        }
        Insn::StoreImm { size, unpriv, mode, rt, rn, offset } => store_imm(s, size, kind(unpriv), mode, rt, rn, offset),
        Insn::LoadReg { size, ext, extend, shift, rt, rn, rm } => {
            load_reg(s, Target { size, ext, rt }, extend, shift, rn, rm)
        }
        Insn::StoreReg { size, extend, shift, rt, rn, rm } => store_reg(s, size, extend, shift, rt, rn, rm),
        Insn::LoadLiteral { size, ext, rt, offset } => {
            let pc = s.pc();
            let address = s.add_const(pc, offset);
            load_to(s, address, AccessKind::Normal, Target { size, ext, rt })
        }
        Insn::LoadPair { size, ext, mode, rt, rt2, rn, offset } => {
            load_pair(s, Target { size, ext, rt }, rt2, mode, rn, offset.into())
        }
        Insn::StorePair { size, mode, rt, rt2, rn, offset } => store_pair(s, size, mode, (rt, rt2), rn, offset.into()),
        Insn::LoadAcquire { size, ext, pc, rt, rn, offset } => {
            let kind = if pc { AccessKind::AcquirePc } else { AccessKind::Acquire };
            load_imm(s, Target { size, ext, rt }, kind, AddrMode::Offset, rn, offset.into())
        }
        Insn::StoreRelease { size, rt, rn, offset } => {
            store_imm(s, size, AccessKind::Release, AddrMode::Offset, rt, rn, offset.into())
        }
        _ => return None,
    })
}

/// Where a load puts what.
#[derive(Copy, Clone)]
struct Target {
    size: Size,
    ext: LoadExt,
    rt: Reg,
}

const fn kind(unpriv: bool) -> AccessKind {
    if unpriv { AccessKind::Unprivileged } else { AccessKind::Normal }
}

/// The value of a base register; SP must be aligned where that is checked.
#[inline(always)]
pub(super) fn base<S: Sem>(s: &mut S, rn: Reg) -> Result<S::X, S::Stop> {
    if rn == 31 {
        s.check_sp_alignment()?;
    }
    Ok(s.x_sp(rn))
}

/// The address of an access, and what the base register becomes.
type Addressed<S> = (<S as SemTypes>::X, Option<<S as SemTypes>::X>);

#[inline(always)]
fn address_and_base<S: Sem>(s: &mut S, mode: AddrMode, rn: Reg, offset: i64) -> Result<Addressed<S>, S::Stop> {
    let base = base(s, rn)?;
    Ok(match mode {
        AddrMode::Offset => (s.add_const(base, offset), None),
        AddrMode::PreIndex => {
            let address = s.add_const(base, offset);
            (address, Some(address))
        }
        AddrMode::PostIndex => (base, Some(s.add_const(base, offset))),
    })
}

/// Write-back comes last: a fault leaves the base as it was, and a base that is also loaded (CONSTRAINED UNPREDICTABLE)
/// ends as the base.
#[inline(always)]
fn write_back<S: Sem>(s: &mut S, rn: Reg, new_base: Option<S::X>) {
    if let Some(value) = new_base {
        s.set_x_sp(rn, value);
    }
}

#[inline(always)]
fn load_to<S: Sem>(s: &mut S, address: S::X, kind: AccessKind, to: Target) -> Result<(), S::Stop> {
    let value = s.load(address, Access { size: to.size, kind })?;
    let value = s.extend_load(to.ext, to.size, value);
    s.set_x(to.rt, value);
    Ok(())
}

#[inline(always)]
fn load_imm<S: Sem>(
    s: &mut S,
    to: Target,
    kind: AccessKind,
    mode: AddrMode,
    rn: Reg,
    offset: i64,
) -> Result<(), S::Stop> {
    let (address, new_base) = address_and_base(s, mode, rn, offset)?;
    load_to(s, address, kind, to)?;
    write_back(s, rn, new_base);
    Ok(())
}

#[inline(always)]
fn store_imm<S: Sem>(
    s: &mut S,
    size: Size,
    kind: AccessKind,
    mode: AddrMode,
    rt: Reg,
    rn: Reg,
    offset: i64,
) -> Result<(), S::Stop> {
    let (address, new_base) = address_and_base(s, mode, rn, offset)?;
    let value = s.x(rt);
    s.store(address, Access { size, kind }, value)?;
    write_back(s, rn, new_base);
    Ok(())
}

#[inline(always)]
fn register_address<S: Sem>(s: &mut S, extend: Extend, shift: u8, rn: Reg, rm: Reg) -> Result<S::X, S::Stop> {
    let base = base(s, rn)?;
    let index = s.x(rm);
    let offset = s.extend(extend, shift, index);
    Ok(s.add(base, offset))
}

#[inline(always)]
fn load_reg<S: Sem>(s: &mut S, to: Target, extend: Extend, shift: u8, rn: Reg, rm: Reg) -> Result<(), S::Stop> {
    let address = register_address(s, extend, shift, rn, rm)?;
    load_to(s, address, AccessKind::Normal, to)
}

#[inline(always)]
fn store_reg<S: Sem>(
    s: &mut S,
    size: Size,
    extend: Extend,
    shift: u8,
    rt: Reg,
    rn: Reg,
    rm: Reg,
) -> Result<(), S::Stop> {
    let address = register_address(s, extend, shift, rn, rm)?;
    let value = s.x(rt);
    s.store(address, Access::normal(size), value)
}

#[inline(always)]
fn load_pair<S: Sem>(s: &mut S, to: Target, rt2: Reg, mode: AddrMode, rn: Reg, offset: i64) -> Result<(), S::Stop> {
    let (address, new_base) = address_and_base(s, mode, rn, offset)?;
    let (first, second) = s.load_pair(address, to.size)?;
    let first = s.extend_load(to.ext, to.size, first);
    let second = s.extend_load(to.ext, to.size, second);
    s.set_x(to.rt, first);
    s.set_x(rt2, second);
    write_back(s, rn, new_base);
    Ok(())
}

#[inline(always)]
fn store_pair<S: Sem>(
    s: &mut S,
    size: Size,
    mode: AddrMode,
    (rt, rt2): (Reg, Reg),
    rn: Reg,
    offset: i64,
) -> Result<(), S::Stop> {
    let (address, new_base) = address_and_base(s, mode, rn, offset)?;
    let (first, second) = (s.x(rt), s.x(rt2));
    s.store_pair(address, size, first, second)?;
    write_back(s, rn, new_base);
    Ok(())
}
