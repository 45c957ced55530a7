//! Loads and stores of general-purpose registers.

use super::{Access, AccessKind, Sem, SemTypes};
use crate::insn::Reg;
use crate::operand::{AddrMode, Extend, LoadExt, Size};

/// Where a load puts what.
#[derive(Copy, Clone)]
pub(super) struct Target {
    pub size: Size,
    pub ext: LoadExt,
    pub rt: Reg,
}

/// The kind of a plain or unprivileged access.
pub(super) const fn kind(unpriv: bool) -> AccessKind {
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
pub(super) type Addressed<S> = (<S as SemTypes>::X, Option<<S as SemTypes>::X>);

/// Addresses a base and an offset as `mode` says. Write-back is the caller's, after the access.
#[inline(always)]
pub(super) fn address_and_base<S: Sem>(
    s: &mut S,
    mode: AddrMode,
    rn: Reg,
    offset: i64,
) -> Result<Addressed<S>, S::Stop> {
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
pub(super) fn write_back<S: Sem>(s: &mut S, rn: Reg, new_base: Option<S::X>) {
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
pub(super) fn load_imm<S: Sem>(
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
pub(super) fn store_imm<S: Sem>(
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

/// LDR (literal), LDRSW (literal).
#[inline(always)]
pub(super) fn load_literal<S: Sem>(s: &mut S, to: Target, offset: i64) -> Result<(), S::Stop> {
    let pc = s.pc();
    let address = s.add_const(pc, offset);
    load_to(s, address, AccessKind::Normal, to)
}

/// Addresses a base and an index register, extended and shifted.
#[inline(always)]
pub(super) fn register_address<S: Sem>(
    s: &mut S,
    extend: Extend,
    shift: u8,
    rn: Reg,
    rm: Reg,
) -> Result<S::X, S::Stop> {
    let base = base(s, rn)?;
    let index = s.x(rm);
    let offset = s.extend(extend, shift, index);
    Ok(s.add(base, offset))
}

#[inline(always)]
pub(super) fn load_reg<S: Sem>(
    s: &mut S,
    to: Target,
    extend: Extend,
    shift: u8,
    rn: Reg,
    rm: Reg,
) -> Result<(), S::Stop> {
    let address = register_address(s, extend, shift, rn, rm)?;
    load_to(s, address, AccessKind::Normal, to)
}

#[inline(always)]
pub(super) fn store_reg<S: Sem>(
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
pub(super) fn load_pair<S: Sem>(
    s: &mut S,
    to: Target,
    rt2: Reg,
    mode: AddrMode,
    rn: Reg,
    offset: i64,
) -> Result<(), S::Stop> {
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
pub(super) fn store_pair<S: Sem>(
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
