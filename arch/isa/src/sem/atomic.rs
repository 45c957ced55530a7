//! Exclusives and atomic memory operations.

use super::memory::base;
use super::{Order, Sem};
use crate::insn::Reg;
use crate::operand::{AtomicOp, Shift, Size};

/// LDADD and its relatives, SWP.
#[inline]
pub(super) fn read_modify_write<S: Sem>(
    s: &mut S,
    size: Size,
    op: AtomicOp,
    order: Order,
    (rs, rt): (Reg, Reg),
    rn: Reg,
) -> Result<(), S::Stop> {
    let address = base(s, rn)?;
    let operand = s.x(rs);
    let old = s.atomic_rmw(address, size, op, order, operand)?;
    s.set_x(rt, old);
    Ok(())
}

/// CAS.
#[inline]
pub(super) fn compare_and_swap<S: Sem>(
    s: &mut S,
    size: Size,
    order: Order,
    (rs, rt): (Reg, Reg),
    rn: Reg,
) -> Result<(), S::Stop> {
    let address = base(s, rn)?;
    let (expected, new) = (s.x(rs), s.x(rt));
    let old = s.compare_and_swap(address, size, order, expected, new)?;
    s.set_x(rs, old);
    Ok(())
}

/// Two words as the doubleword that they are in memory: the first one low.
#[inline(always)]
fn join<S: Sem>(s: &mut S, (first, second): (S::X, S::X)) -> S::X {
    let high = s.shift(Shift::Lsl, true, second, 32);
    let low = s.low_word(first);
    s.add(high, low)
}

#[inline(always)]
fn split<S: Sem>(s: &mut S, both: S::X) -> (S::X, S::X) {
    (s.low_word(both), s.shift(Shift::Lsr, true, both, 32))
}

#[inline]
pub(super) fn load_exclusive<S: Sem>(s: &mut S, size: Size, acquire: bool, rt: Reg, rn: Reg) -> Result<(), S::Stop> {
    let address = base(s, rn)?;
    let value = s.load_exclusive(address, size, acquire)?;
    s.set_x(rt, value);
    Ok(())
}

/// The status register: 0 = stored.
#[inline(always)]
fn set_status<S: Sem>(s: &mut S, rs: Reg, stored: S::C) {
    let (zero, one) = (s.x_const(0), s.x_const(1));
    let status = s.select(stored, zero, one);
    s.set_x(rs, status);
}

#[inline]
pub(super) fn store_exclusive<S: Sem>(
    s: &mut S,
    size: Size,
    release: bool,
    rs: Reg,
    rt: Reg,
    rn: Reg,
) -> Result<(), S::Stop> {
    let address = base(s, rn)?;
    let value = s.x(rt);
    let stored = s.store_exclusive(address, size, release, value)?;
    set_status(s, rs, stored);
    Ok(())
}

#[inline]
pub(super) fn load_exclusive_pair<S: Sem>(
    s: &mut S,
    size: Size,
    acquire: bool,
    (rt, rt2): (Reg, Reg),
    rn: Reg,
) -> Result<(), S::Stop> {
    let address = base(s, rn)?;
    let (first, second) = if size == Size::X {
        s.load_exclusive_pair(address, acquire)?
    } else {
        let both = s.load_exclusive(address, Size::X, acquire)?;
        split(s, both)
    };
    s.set_x(rt, first);
    s.set_x(rt2, second);
    Ok(())
}

#[inline]
pub(super) fn store_exclusive_pair<S: Sem>(
    s: &mut S,
    size: Size,
    release: bool,
    rs: Reg,
    (rt, rt2): (Reg, Reg),
    rn: Reg,
) -> Result<(), S::Stop> {
    let address = base(s, rn)?;
    let values = (s.x(rt), s.x(rt2));
    let stored = if size == Size::X {
        s.store_exclusive_pair(address, release, values.0, values.1)?
    } else {
        let both = join(s, values);
        s.store_exclusive(address, Size::X, release, both)?
    };
    set_status(s, rs, stored);
    Ok(())
}

#[inline]
pub(super) fn compare_and_swap_pair<S: Sem>(
    s: &mut S,
    size: Size,
    order: Order,
    rs: Reg,
    rt: Reg,
    rn: Reg,
) -> Result<(), S::Stop> {
    let address = base(s, rn)?;
    // Both are even, so that the second register of a pair is at most 31: ZR.
    let (rs2, rt2) = (rs | 1, rt | 1);
    let expected = (s.x(rs), s.x(rs2));
    let new = (s.x(rt), s.x(rt2));
    let (first, second) = if size == Size::X {
        s.compare_and_swap_pair(address, order, expected, new)?
    } else {
        let (expected, new) = (join(s, expected), join(s, new));
        let old = s.compare_and_swap(address, Size::X, order, expected, new)?;
        split(s, old)
    };
    s.set_x(rs, first);
    s.set_x(rs2, second);
    Ok(())
}
