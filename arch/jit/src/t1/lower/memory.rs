//! Loads and stores of general registers.

use isa::insn::{AddrMode, Extend, Insn, LoadExt, Size};

use crate::asm::{Alu, Gpr, Mem, Shift, Sz};
use crate::t1::builder::Builder;
use crate::t1::mem::Access;
use crate::t1::regs::{SP, ZR, or_sp, pin};

use super::alu::extended;

const RAX: Gpr = Gpr::RAX;
const RCX: Gpr = Gpr::RCX;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        // A load into its own base with write-back is constrained unpredictable: the interpreter decides.
        Insn::LoadImm { mode: AddrMode::PreIndex | AddrMode::PostIndex, rt, rn, .. } if rt == rn && rn != 31 => {
            return false;
        }
        Insn::LoadImm { size, ext, unpriv, mode, rt, rn, offset } => {
            let access = Access { unpriv, ..Access::plain(size.bytes(), false) };
            b.begin(&[rt, written(mode, rn)], true);
            let m = b.access_at(rn, if mode == AddrMode::PostIndex { 0 } else { offset }, &access);
            load(b, size, ext, rt, m);
            write_back(b, mode, rn, offset);
        }
        Insn::StoreImm { size, unpriv, mode, rt, rn, offset } => {
            let access = Access { unpriv, ..Access::plain(size.bytes(), true) };
            b.begin(&[written(mode, rn)], true);
            let m = b.access_at(rn, if mode == AddrMode::PostIndex { 0 } else { offset }, &access);
            store(b, size, rt, m);
            write_back(b, mode, rn, offset);
        }
        Insn::LoadReg { size, ext, extend, shift, rt, rn, rm } => {
            b.begin(&[rt], true);
            let m = indexed(b, extend, shift, rn, rm, &Access::plain(size.bytes(), false));
            load(b, size, ext, rt, m);
        }
        Insn::StoreReg { size, extend, shift, rt, rn, rm } => {
            b.begin(&[], true);
            let m = indexed(b, extend, shift, rn, rm, &Access::plain(size.bytes(), true));
            store(b, size, rt, m);
        }
        Insn::LoadLiteral { size, ext, rt, offset } => {
            b.begin(&[rt], true);
            b.start_access();
            let at = i64::from(b.pc_offset()) + offset;
            b.pc_plus(RAX, at);
            let m = b.check(RAX, 0, &Access::plain(size.bytes(), false));
            load(b, size, ext, rt, m);
        }
        Insn::LoadPair { size, ext, mode, rt, rt2, rn, offset } => {
            let n = size.bytes();
            if mode != AddrMode::Offset && (rt == rn || rt2 == rn) && rn != 31 {
                return false;
            }
            b.begin(&[rt, rt2, written(mode, rn)], true);
            let access = Access { element: n, ..Access::plain(2 * n, false) };
            let m = b.access_at(rn, if mode == AddrMode::PostIndex { 0 } else { i64::from(offset) }, &access);
            // The first destination may be the base: then it is loaded last, or by way of RCX.
            if pin(or_sp(rn)).is_some() && rt == rn && rn != 31 {
                load(b, size, ext, rt2, m.at(n.cast_signed()));
                load(b, size, ext, rt, m);
                if rt == rt2 {
                    return true;
                }
            } else {
                load_first_of_pair(b, size, ext, rt, m);
                load(b, size, ext, rt2, m.at(n.cast_signed()));
            }
            write_back(b, mode, rn, i64::from(offset));
        }
        Insn::StorePair { size, mode, rt, rt2, rn, offset } => {
            let n = size.bytes();
            b.begin(&[written(mode, rn)], true);
            let access = Access { element: n, ..Access::plain(2 * n, true) };
            let m = b.access_at(rn, if mode == AddrMode::PostIndex { 0 } else { i64::from(offset) }, &access);
            store(b, size, rt, m);
            store(b, size, rt2, m.at(n.cast_signed()));
            write_back(b, mode, rn, i64::from(offset));
        }
        _ => return false,
    }
    true
}

/// The base register if the mode writes it back, else the zero register (no write).
pub(super) fn written(mode: AddrMode, rn: u8) -> u8 {
    if mode == AddrMode::Offset { ZR } else { or_sp(rn) }
}

/// `base += offset` after the access.
pub(super) fn write_back(b: &mut Builder<'_>, mode: AddrMode, rn: u8, offset: i64) {
    if mode == AddrMode::Offset {
        return;
    }
    let base = or_sp(rn);
    let disp = i32::try_from(offset).unwrap_or(0);
    if let Some(m) = b.in_place(Sz::Q, base, base) {
        // The check has had EFLAGS.
        b.a.alu_imm(Alu::Add, Sz::Q, m, disp);
    } else {
        let d = b.d(base, RAX);
        b.a.lea(Sz::Q, d, Mem::b(d, disp));
    }
    if base == SP && offset % 16 != 0 {
        b.sp_aligned = false;
    }
}

/// Address `[rn, rm, extend #shift]` into RAX, checked.
pub(super) fn indexed(b: &mut Builder<'_>, extend: Extend, shift: u8, rn: u8, rm: u8, access: &Access) -> Mem {
    let base = or_sp(rn);
    b.start_access();
    let m = extended(b, extend, rm, RCX);
    if base == SP {
        b.check_sp();
    }
    if shift <= 3 {
        let n = b.r(base, RAX);
        b.a.lea(Sz::Q, RAX, Mem::bi(n, m, shift, 0));
    } else {
        b.a.mov(Sz::Q, RCX, m);
        b.a.shift_imm(Shift::Shl, Sz::Q, RCX, shift);
        let n = b.r(base, RAX);
        b.a.lea(Sz::Q, RAX, Mem::bi(n, RCX, 0, 0));
    }
    b.check(RAX, 0, access)
}

/// Load into `rt`.
fn load(b: &mut Builder<'_>, size: Size, ext: LoadExt, rt: u8, m: Mem) {
    let d = b.d(rt, RAX);
    load_into(b, size, ext, d, m);
    b.set(rt, d);
}

/// As [`load`] for the first register of a pair: the operand must stay usable, so nothing of it is overwritten.
fn load_first_of_pair(b: &mut Builder<'_>, size: Size, ext: LoadExt, rt: u8, m: Mem) {
    let d = b.d(rt, RCX);
    load_into(b, size, ext, d, m);
    b.set(rt, d);
}

fn load_into(b: &mut Builder<'_>, size: Size, ext: LoadExt, d: Gpr, m: Mem) {
    let to = if ext == LoadExt::SignTo64 { Sz::Q } else { Sz::D };
    match (size, ext) {
        (Size::B, LoadExt::Zero) => b.a.movzx(Sz::B, d, m),
        (Size::H, LoadExt::Zero) => b.a.movzx(Sz::H, d, m),
        (Size::B, _) => b.a.movsx(Sz::B, to, d, m),
        (Size::H, _) => b.a.movsx(Sz::H, to, d, m),
        (Size::W, LoadExt::SignTo64) => b.a.movsx(Sz::D, Sz::Q, d, m),
        (Size::W, _) => b.a.load(Sz::D, d, m),
        _ => b.a.load(Sz::Q, d, m),
    }
}

fn store(b: &mut Builder<'_>, size: Size, rt: u8, m: Mem) {
    let sz = Sz::of_log2(size.log2().min(3));
    if rt == ZR {
        return b.a.store_imm(sz, m, 0);
    }
    let r = b.r(rt, RCX);
    b.a.store(sz, m, r);
}
