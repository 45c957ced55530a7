//! Loads and stores of SIMD&FP registers: single registers, pairs, and structures of elements.
//!
//! One check covers all bytes of an instruction; behind it nothing can fault, so registers are written as they come.

use isa::insn::{AddrMode, ESize, Insn, VecWidth};

use crate::asm::{Gpr, Mem, Sz, VLen, Xmm, ops};
use crate::constants;
use crate::t1::builder::Builder;
use crate::t1::mem::Access;
use crate::t1::regs::{SP, ZR, or_sp};

use super::memory::{indexed, write_back, written};
use super::vector::{X0, X1, by_size};

const L: VLen = VLen::L128;
const RAX: Gpr = Gpr::RAX;
const RCX: Gpr = Gpr::RCX;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::SimdLoadImm { width, mode, rt, rn, offset } => {
            let m = based(b, mode, rn, offset.into(), &whole(width, 1, false));
            load(b, width, rt, m);
            write_back(b, mode, rn, offset.into());
        }
        Insn::SimdStoreImm { width, mode, rt, rn, offset } => {
            let m = based(b, mode, rn, offset.into(), &whole(width, 1, true));
            store(b, width, rt, m);
            write_back(b, mode, rn, offset.into());
        }
        Insn::SimdLoadReg { width, extend, shift, rt, rn, rm } => {
            b.begin(&[], true);
            let m = indexed(b, extend, shift, rn, rm, &whole(width, 1, false));
            load(b, width, rt, m);
        }
        Insn::SimdStoreReg { width, extend, shift, rt, rn, rm } => {
            b.begin(&[], true);
            let m = indexed(b, extend, shift, rn, rm, &whole(width, 1, true));
            store(b, width, rt, m);
        }
        Insn::SimdLoadLiteral { width, rt, offset } => {
            b.begin(&[], true);
            b.start_access();
            let at = i64::from(b.pc_offset()) + i64::from(offset);
            b.pc_plus(RAX, at);
            let m = b.check(RAX, 0, &whole(width, 1, false));
            load(b, width, rt, m);
        }
        Insn::SimdLoadPair { width, mode, rt, rt2, rn, offset } => {
            let m = based(b, mode, rn, offset.into(), &whole(width, 2, false));
            load(b, width, rt, m);
            load(b, width, rt2, m.at(bytes(width)));
            write_back(b, mode, rn, offset.into());
        }
        Insn::SimdStorePair { width, mode, rt, rt2, rn, offset } => {
            let m = based(b, mode, rn, offset.into(), &whole(width, 2, true));
            store(b, width, rt, m);
            store(b, width, rt2, m.at(bytes(width)));
            write_back(b, mode, rn, offset.into());
        }
        _ => return structures(b, insn),
    }
    true
}

fn structures(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::VecLoadMultiple { es, width, structure, registers, post, rt, rn, rm } => {
            let size = width.bytes() * u32::from(registers);
            let m = at_base(b, post, rn, &elements(es, size, false));
            if structure == 1 {
                for i in 0..registers {
                    load(b, width, (rt + i) & 31, m.at(i32::from(i) * bytes(width)));
                }
            } else {
                deinterleave(b, es, width, structure, rt, m);
            }
            step(b, post, rn, rm, size);
        }
        Insn::VecStoreMultiple { es, width, structure, registers, post, rt, rn, rm } => {
            let size = width.bytes() * u32::from(registers);
            let m = at_base(b, post, rn, &elements(es, size, true));
            if structure == 1 {
                for i in 0..registers {
                    store(b, width, (rt + i) & 31, m.at(i32::from(i) * bytes(width)));
                }
            } else {
                interleave(b, es, width, structure, rt, m);
            }
            step(b, post, rn, rm, size);
        }
        Insn::VecLoadSingle { es, index, structure, post, rt, rn, rm } => {
            let size = es.bytes() * u32::from(structure);
            let m = at_base(b, post, rn, &elements(es, size, false));
            let op = by_size(es, [ops::VPINSRB, ops::VPINSRW, ops::VPINSRD, ops::VPINSRQ]);
            for i in 0..structure {
                let r = (rt + i) & 31;
                let old = b.v(r, X0);
                let d = b.dv(r, X0);
                b.a.v3i(op, L, d, old, m.at(i32::from(i) << es as u32), index);
                b.set_v(r, d);
            }
            step(b, post, rn, rm, size);
        }
        Insn::VecStoreSingle { es, index, structure, post, rt, rn, rm } => {
            let size = es.bytes() * u32::from(structure);
            let m = at_base(b, post, rn, &elements(es, size, true));
            let op = by_size(es, [ops::VPEXTRB, ops::VPEXTRW, ops::VPEXTRD, ops::VPEXTRQ]);
            for i in 0..structure {
                let v = b.v((rt + i) & 31, X0);
                b.a.vsti(op, L, m.at(i32::from(i) << es as u32), v, index);
            }
            step(b, post, rn, rm, size);
        }
        Insn::VecLoadReplicate { es, width, structure, post, rt, rn, rm } => {
            let size = es.bytes() * u32::from(structure);
            let m = at_base(b, post, rn, &elements(es, size, false));
            let op = by_size(es, [ops::VPBROADCASTB, ops::VPBROADCASTW, ops::VPBROADCASTD, ops::VPBROADCASTQ]);
            for i in 0..structure {
                let r = (rt + i) & 31;
                let d = b.dv(r, X0);
                b.a.v2(op, L, d, m.at(i32::from(i) << es as u32));
                b.finish_v(r, d, width);
            }
            step(b, post, rn, rm, size);
        }
        _ => return false,
    }
    true
}

fn bytes(width: VecWidth) -> i32 {
    width.bytes().cast_signed()
}

/// An access of `count` registers; strict modes check the alignment of one.
fn whole(width: VecWidth, count: u32, write: bool) -> Access {
    Access { element: width.bytes(), ..Access::plain(count * width.bytes(), write) }
}

/// An access of `size` bytes of elements.
fn elements(es: ESize, size: u32, write: bool) -> Access {
    Access { element: es.bytes(), ..Access::plain(size, write) }
}

fn based(b: &mut Builder<'_>, mode: AddrMode, rn: u8, offset: i64, access: &Access) -> Mem {
    b.begin(&[written(mode, rn)], true);
    b.access_at(rn, if mode == AddrMode::PostIndex { 0 } else { offset }, access)
}

fn at_base(b: &mut Builder<'_>, post: bool, rn: u8, access: &Access) -> Mem {
    b.begin(&[if post { or_sp(rn) } else { ZR }], true);
    b.access_at(rn, 0, access)
}

/// Post-index: the base moves by `rm`, or by the bytes of the access if that is 31.
fn step(b: &mut Builder<'_>, post: bool, rn: u8, rm: u8, size: u32) {
    if !post {
        return;
    }
    if rm == 31 {
        return write_back(b, AddrMode::PostIndex, rn, size.into());
    }
    let base = or_sp(rn);
    let by = b.r(rm, RCX);
    let d = b.d(base, RAX);
    b.load_x(d, base);
    b.a.lea(Sz::Q, d, Mem::bi(d, by, 0, 0));
    b.set(base, d);
    if base == SP {
        b.sp_aligned = false;
    }
}

fn load_into(b: &mut Builder<'_>, width: VecWidth, d: Xmm, m: Mem) {
    match width {
        VecWidth::B1 | VecWidth::H2 => {
            b.a.movzx(if width == VecWidth::B1 { Sz::B } else { Sz::H }, RCX, m);
            b.a.v2(ops::VMOVD, L, d, RCX);
        }
        VecWidth::S4 => b.a.v2(ops::VMOVSS_LD, L, d, m),
        VecWidth::D8 => b.a.v2(ops::VMOVSD_LD, L, d, m),
        VecWidth::Q16 => b.a.vload(d, m),
    }
}

fn load(b: &mut Builder<'_>, width: VecWidth, rt: u8, m: Mem) {
    let d = b.dv(rt, X0);
    load_into(b, width, d, m);
    b.set_v(rt, d);
}

fn store_from(b: &mut Builder<'_>, width: VecWidth, m: Mem, v: Xmm) {
    match width {
        VecWidth::B1 => b.a.vsti(ops::VPEXTRB, L, m, v, 0),
        VecWidth::H2 => b.a.vsti(ops::VPEXTRW, L, m, v, 0),
        VecWidth::S4 => b.a.vst(ops::VMOVSS_ST, L, m, v),
        VecWidth::D8 => b.a.vst(ops::VMOVSD_ST, L, m, v),
        VecWidth::Q16 => b.a.vstore(m, v),
    }
}

fn store(b: &mut Builder<'_>, width: VecWidth, rt: u8, m: Mem) {
    let v = b.v(rt, X0);
    store_from(b, width, m, v);
}

/// Bytes of memory that number `i` of the 16-byte parts of an access holds, as a width.
fn part(width: VecWidth, structure: u8, i: u8) -> Option<VecWidth> {
    let left = (u32::from(structure) * width.bytes()).checked_sub(u32::from(i) * 16)?;
    match left {
        0 => None,
        8 => Some(VecWidth::D8),
        _ => Some(VecWidth::Q16),
    }
}

/// LD2 to LD4: each register is put together from shuffles of what is in memory.
fn deinterleave(b: &mut Builder<'_>, es: ESize, width: VecWidth, structure: u8, rt: u8, m: Mem) {
    for to in 0..structure {
        let r = (rt + to) & 31;
        for from in 0..structure {
            let Some(w) = part(width, structure, from) else { break };
            let x = if from == 0 { X0 } else { X1 };
            load_into(b, w, x, m.at(16 * i32::from(from)));
            b.v128(ops::VPSHUFB, x, x, constants::deinterleave(es as u8, structure, to, from));
            if from != 0 {
                b.v128(ops::VPOR, X0, X0, X1);
            }
        }
        b.finish_v(r, X0, width);
    }
}

/// ST2 to ST4: each 16 bytes of memory are put together from shuffles of the registers.
fn interleave(b: &mut Builder<'_>, es: ESize, width: VecWidth, structure: u8, rt: u8, m: Mem) {
    for to in 0..structure {
        let Some(w) = part(width, structure, to) else { break };
        for from in 0..structure {
            let x = if from == 0 { X0 } else { X1 };
            let v = b.v((rt + from) & 31, x);
            b.v128(ops::VPSHUFB, x, v, constants::interleave(es as u8, structure, to, from));
            if from != 0 {
                b.v128(ops::VPOR, X0, X0, X1);
            }
        }
        store_from(b, w, m.at(16 * i32::from(to)), X0);
    }
}
