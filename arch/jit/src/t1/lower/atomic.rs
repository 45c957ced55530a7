//! Atomics, acquire and release, exclusives. x86-TSO orders everything but a store before a later load: stores with release
//! semantics are exchanges, or plain stores that leave a fence due for the next load-acquire; everything else is plain.

use isa::insn::{AtomicOp, Insn, LoadExt, Size};

use crate::asm::{Alu, Cc, Gpr, Label, Lock, Mem, Section, Shift, Sz, Unary};
use crate::env;
use crate::optimisations::Optimisation;
use crate::t1::builder::Builder;
use crate::t1::mem::Access;
use crate::t1::regs::{ENV, ZR, or_sp};

const RAX: Gpr = Gpr::RAX;
const RCX: Gpr = Gpr::RCX;
const RDX: Gpr = Gpr::RDX;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::LoadAcquire { size, ext, rt, rn, offset, pc, .. } => {
            b.begin(&[rt], true);
            if !pc {
                pay_fence(b);
            }
            let m = b.access_at(rn, i64::from(offset), &aligned(size, false));
            let d = b.d(rt, RAX);
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
            b.set(rt, d);
        }
        Insn::StoreRelease { size, rt, rn, offset } => {
            b.begin(&[], true);
            let m = b.access_at(rn, i64::from(offset), &aligned(size, true));
            b.load_x(RCX, rt);
            if b.optimise.has(Optimisation::DeferredFences) {
                b.a.store(sz(size), m, RCX);
                b.a.store_imm(Sz::B, Mem::b(ENV, env::FENCE), 1);
            } else {
                b.a.xchg(sz(size), m, RCX);
            }
        }
        Insn::AtomicRmw { size, op, rs, rt, rn, .. } => {
            b.begin(&[rt], true);
            let m = b.access_at(rn, 0, &aligned(size, true));
            b.a.lea(Sz::Q, RDX, m);
            rmw(b, sz(size), op, rs, rt);
        }
        Insn::CompareSwap { size, rs, rt, rn, .. } => {
            b.begin(&[rs], true);
            let m = b.access_at(rn, 0, &aligned(size, true));
            b.a.lea(Sz::Q, RDX, m);
            b.load_x(RAX, rs);
            b.load_x(RCX, rt);
            b.a.cmpxchg(sz(size), Mem::b(RDX, 0), RCX);
            zero_extend(b, sz(size), RAX);
            b.set(rs, RAX);
        }
        Insn::CompareSwapPair { size, rs, rt, rn, .. } => {
            b.begin(&[rs, rs + 1], true);
            let m = b.access_at(rn, 0, &aligned_pair(size, true));
            b.a.lea(Sz::Q, RDX, m);
            compare_swap_pair(b, size == Size::X, rs, rt);
        }
        Insn::LoadExclusive { size, acquire, rt, rn } => {
            b.begin(&[rt], true);
            if acquire {
                pay_fence(b);
            }
            let m = b.access_at(rn, 0, &aligned(size, false));
            match size {
                Size::B | Size::H => b.a.movzx(sz(size), RCX, m),
                _ => b.a.load(sz(size), RCX, m),
            }
            claim(b, m, size.bytes());
            b.set(rt, RCX);
        }
        Insn::LoadExclusivePair { size, acquire, rt, rt2, rn } => {
            b.begin(&[rt, rt2], true);
            if acquire {
                pay_fence(b);
            }
            let m = b.access_at(rn, 0, &aligned_pair(size, false));
            b.a.load(Sz::Q, RCX, m);
            if size == Size::X {
                b.a.load(Sz::Q, RDX, m.at(8));
                b.a.store(Sz::Q, Mem::b(ENV, env::EXCLUSIVE + HIGH), RDX);
            }
            claim(b, m, 2 * size.bytes());
            if size == Size::X {
                b.set(rt, RCX);
                b.a.load(Sz::Q, RCX, Mem::b(ENV, env::EXCLUSIVE + HIGH));
                b.set(rt2, RCX);
            } else {
                b.a.mov(Sz::D, RAX, RCX);
                b.set(rt, RAX);
                b.a.shift_imm(Shift::Shr, Sz::Q, RCX, 32);
                b.set(rt2, RCX);
            }
        }
        Insn::Clrex => {
            b.begin(&[], false);
            b.a.store_imm(Sz::Q, Mem::b(ENV, env::EXCLUSIVE + SIZE), 0);
        }
        Insn::StoreExclusive { size, rs, rt, rn, .. } => {
            b.begin(&[rs], true);
            let failed = check_claim(b, rn, size.bytes(), &aligned(size, true));
            b.load_x(RCX, rt);
            b.a.cmpxchg(sz(size), Mem::b(RDX, 0), RCX);
            finish_store(b, rs, failed);
        }
        Insn::StoreExclusivePair { size, rs, rt, rt2, rn, .. } => {
            b.begin(&[rs], true);
            let failed = check_claim(b, rn, 2 * size.bytes(), &aligned_pair(size, true));
            if size == Size::X {
                b.a.store(Sz::Q, tmp(2), RDX);
                b.load_x(RCX, rt2);
                b.load_x(RDX, rt);
                b.a.store(Sz::Q, tmp(3), RDX);
                b.a.load(Sz::Q, RDX, Mem::b(ENV, env::EXCLUSIVE + HIGH));
                exchange_16(b);
            } else {
                b.load_w(RCX, rt2);
                b.a.shift_imm(Shift::Shl, Sz::Q, RCX, 32);
                b.a.store(Sz::Q, tmp(0), RCX);
                b.load_w(RCX, rt);
                b.a.alu(Alu::Or, Sz::Q, RCX, tmp(0));
                b.a.cmpxchg(Sz::Q, Mem::b(RDX, 0), RCX);
            }
            finish_store(b, rs, failed);
        }
        _ => return false,
    }
    true
}

/// In front of a load-acquire: a store-release before it was a plain store, which x86 lets this load pass and Arm does not. Loads that are
/// locked operations, and barriers, order it by themselves; so do LDAPR and plain loads, which need no order.
fn pay_fence(b: &mut Builder<'_>) {
    if !b.optimise.has(Optimisation::DeferredFences) {
        return;
    }
    let (due, done) = (b.a.label(), b.a.label());
    b.a.alu_imm(Alu::Cmp, Sz::B, Mem::b(ENV, env::FENCE), 0);
    b.a.jcc(Cc::Ne, due);
    b.a.bind(done);
    let old = b.a.switch(Section::Cold);
    b.a.bind(due);
    b.a.store_imm(Sz::B, Mem::b(ENV, env::FENCE), 0);
    b.a.alu_mr(Lock::Yes, Alu::Or, Sz::D, Mem::b(Gpr::RSP, -8), RAX);
    b.a.jmp(done);
    b.a.switch(old);
}

/// Fields of the exclusive monitor. Generated code keeps the virtual address in its first word; a store-exclusive that is executed
/// by the other engine then fails once, which the architecture allows.
const LOW: i32 = 8;
const HIGH: i32 = 16;
const SIZE: i32 = 24;

fn tmp(n: i32) -> Mem {
    Mem::b(ENV, env::TMP + 8 * n)
}

/// Open the monitor for the access at `m` whose value is in RCX. Uses RDX.
fn claim(b: &mut Builder<'_>, m: Mem, bytes: u32) {
    b.a.lea(Sz::Q, RDX, Mem::b(m.base, m.disp));
    b.a.store(Sz::Q, Mem::b(ENV, env::EXCLUSIVE), RDX);
    b.a.store(Sz::Q, Mem::b(ENV, env::EXCLUSIVE + LOW), RCX);
    b.a.store_imm(Sz::Q, Mem::b(ENV, env::EXCLUSIVE + SIZE), bytes.cast_signed());
}

/// Branch to the answered label if the monitor is not open for the access at `rn`: then there is no access, and no fault of one.
/// Leaves RDX = host address, RAX = value to compare with.
fn check_claim(b: &mut Builder<'_>, rn: u8, bytes: u32, access: &Access) -> Label {
    let failed = b.a.label();
    let n = b.r(or_sp(rn), RAX);
    b.a.alu(Alu::Cmp, Sz::Q, n, Mem::b(ENV, env::EXCLUSIVE));
    b.a.jcc(Cc::Ne, failed);
    b.a.alu_imm(Alu::Cmp, Sz::Q, Mem::b(ENV, env::EXCLUSIVE + SIZE), bytes.cast_signed());
    b.a.jcc(Cc::Ne, failed);
    let m = b.access_at(rn, 0, access);
    // The path that fails has not looked at SP.
    b.sp_aligned &= rn != 31;
    b.a.lea(Sz::Q, RDX, m);
    b.a.load(Sz::Q, RAX, Mem::b(ENV, env::EXCLUSIVE + LOW));
    failed
}

/// Status from ZF to `rs`, and the monitor closed.
fn finish_store(b: &mut Builder<'_>, rs: u8, failed: Label) {
    let done = b.a.label();
    b.a.setcc(Cc::Ne, RAX);
    b.a.movzx(Sz::B, RAX, RAX);
    b.a.bind(done);
    b.a.store_imm(Sz::Q, Mem::b(ENV, env::EXCLUSIVE + SIZE), 0);
    b.set(rs, RAX);
    let old = b.a.switch(Section::Cold);
    b.a.bind(failed);
    b.a.mov_imm(RAX, 1);
    b.a.jmp(done);
    b.a.switch(old);
}

/// CMPXCHG16B of the address in `tmp(2)`: RDX:RAX against, RCX:`tmp(3)` new. ZF and RDX:RAX as it leaves them.
fn exchange_16(b: &mut Builder<'_>) {
    b.a.store(Sz::Q, tmp(0), Gpr::RBX);
    b.a.store(Sz::Q, tmp(1), Gpr::RSI);
    b.a.load(Sz::Q, Gpr::RBX, tmp(3));
    b.a.load(Sz::Q, Gpr::RSI, tmp(2));
    b.a.cmpxchg16b(Mem::b(Gpr::RSI, 0));
    b.a.load(Sz::Q, Gpr::RBX, tmp(0));
    b.a.load(Sz::Q, Gpr::RSI, tmp(1));
}

/// CASP on the host address in RDX.
fn compare_swap_pair(b: &mut Builder<'_>, wide: bool, rs: u8, rt: u8) {
    b.a.store(Sz::Q, tmp(2), RDX);
    if wide {
        b.load_x(RAX, rt);
        b.a.store(Sz::Q, tmp(3), RAX);
        b.load_x(RCX, rt + 1);
        b.load_x(RAX, rs);
        b.load_x(RDX, rs + 1);
        exchange_16(b);
        b.set(rs, RAX);
        return b.set(rs + 1, RDX);
    }
    for (low, to) in [(rs, RAX), (rt, RCX)] {
        b.load_w(RDX, low + 1);
        b.a.shift_imm(Shift::Shl, Sz::Q, RDX, 32);
        b.load_w(to, low);
        b.a.alu(Alu::Or, Sz::Q, to, RDX);
    }
    b.a.load(Sz::Q, RDX, tmp(2));
    b.a.cmpxchg(Sz::Q, Mem::b(RDX, 0), RCX);
    b.a.mov(Sz::D, RCX, RAX);
    b.set(rs, RCX);
    b.a.shift_imm(Shift::Shr, Sz::Q, RAX, 32);
    b.set(rs + 1, RAX);
}

fn aligned_pair(size: Size, write: bool) -> Access {
    let n = 2 * size.bytes();
    Access { align: n, element: n, ..Access::plain(n, write) }
}

fn sz(size: Size) -> Sz {
    Sz::of_log2(size.log2().min(3))
}

fn aligned(size: Size, write: bool) -> Access {
    Access { align: size.bytes(), ..Access::plain(size.bytes(), write) }
}

fn zero_extend(b: &mut Builder<'_>, sz: Sz, r: Gpr) {
    match sz {
        Sz::B | Sz::H => b.a.movzx(sz, r, r),
        Sz::D => b.a.mov(Sz::D, r, r),
        Sz::Q => {}
    }
}

/// The operation on `[RDX]`; the old value to `rt`.
fn rmw(b: &mut Builder<'_>, sz: Sz, op: AtomicOp, rs: u8, rt: u8) {
    let at = Mem::b(RDX, 0);
    match op {
        AtomicOp::Add => {
            b.load_x(RCX, rs);
            if rt == ZR {
                b.a.alu_mr(Lock::Yes, Alu::Add, sz, at, RCX);
            } else {
                b.a.xadd(sz, at, RCX);
                zero_extend(b, sz, RCX);
                b.set(rt, RCX);
            }
        }
        AtomicOp::Swp => {
            b.load_x(RCX, rs);
            b.a.xchg(sz, at, RCX);
            zero_extend(b, sz, RCX);
            b.set(rt, RCX);
        }
        AtomicOp::Clr | AtomicOp::Eor | AtomicOp::Set if rt == ZR => {
            b.load_x(RCX, rs);
            let alu = match op {
                AtomicOp::Clr => {
                    b.a.unary(Unary::Not, Sz::Q, RCX);
                    Alu::And
                }
                AtomicOp::Eor => Alu::Xor,
                _ => Alu::Or,
            };
            b.a.alu_mr(Lock::Yes, alu, sz, at, RCX);
        }
        _ => compare_loop(b, sz, op, rs, rt),
    }
}

/// A loop around CMPXCHG for the operations that have no locked form with a result.
fn compare_loop(b: &mut Builder<'_>, sz: Sz, op: AtomicOp, rs: u8, rt: u8) {
    let at = Mem::b(RDX, 0);
    let wide = if sz == Sz::Q { Sz::Q } else { Sz::D };
    match sz {
        Sz::B | Sz::H => b.a.movzx(sz, RAX, at),
        _ => b.a.load(sz, RAX, at),
    }
    let again = b.a.here();
    b.load_x(RCX, rs);
    match op {
        AtomicOp::Clr => {
            b.a.unary(Unary::Not, Sz::Q, RCX);
            b.a.alu(Alu::And, wide, RCX, RAX);
        }
        AtomicOp::Eor => b.a.alu(Alu::Xor, wide, RCX, RAX),
        AtomicOp::Set => b.a.alu(Alu::Or, wide, RCX, RAX),
        AtomicOp::Smax | AtomicOp::Smin | AtomicOp::Umax | AtomicOp::Umin => {
            b.a.alu(Alu::Cmp, sz, RAX, RCX);
            let keep = match op {
                AtomicOp::Smax => Cc::Ge,
                AtomicOp::Smin => Cc::Le,
                AtomicOp::Umax => Cc::Ae,
                _ => Cc::Be,
            };
            b.a.cmov(keep, wide, RCX, RAX);
        }
        _ => {}
    }
    b.a.cmpxchg(sz, at, RCX);
    b.a.jcc(Cc::Ne, again);
    zero_extend(b, sz, RAX);
    b.set(rt, RAX);
}
