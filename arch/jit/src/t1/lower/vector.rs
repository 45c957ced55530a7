//! What lowerings of vector instructions share: widths, constants, saturation, and the order in which the families are asked.

use isa::insn::{ESize, Insn, VecWidth};

use crate::asm::{Alu, Cc, Gpr, Mem, Rm, Section, Sz, VLen, Vop, Xmm, ops};
use crate::constants::{self, Const};
use crate::env;
use crate::t1::builder::Builder;
use crate::t1::regs::ENV;

use super::{crypto, simd_int, simd_memory, simd_permute, simd_shift, simd_ternary, simd_wide};

/// Scratch.
pub const X0: Xmm = Xmm(0);
/// Scratch.
pub const X1: Xmm = Xmm(1);
/// Scratch.
pub const X2: Xmm = Xmm(2);
/// Scratch.
pub const X3: Xmm = Xmm(3);

const L: VLen = VLen::L128;
/// FPSR.QC.
const QC: i32 = 1 << 27;

/// Lower one instruction of these families; false if it has no lowering, or traps in this mode.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    if let Insn::Crc32 { castagnoli: false, size, rd, rn, rm } = *insn {
        return crypto::crc32(b, size, rd, rn, rm);
    }
    if b.mode.fp_trap {
        return false;
    }
    simd_memory::lower(b, insn)
        || simd_permute::lower(b, insn)
        || simd_int::lower(b, insn)
        || simd_ternary::lower(b, insn)
        || simd_shift::lower(b, insn)
        || simd_wide::lower(b, insn)
        || crypto::lower(b, insn)
}

/// The one of four instructions for an element size.
#[must_use]
pub fn by_size(es: ESize, each: [Vop; 4]) -> Vop {
    each[es as usize]
}

/// `vpadd` of an element size.
#[must_use]
pub fn add(es: ESize) -> Vop {
    by_size(es, [ops::VPADDB, ops::VPADDW, ops::VPADDD, ops::VPADDQ])
}

/// `vpsub` of an element size.
#[must_use]
pub fn sub(es: ESize) -> Vop {
    by_size(es, [ops::VPSUBB, ops::VPSUBW, ops::VPSUBD, ops::VPSUBQ])
}

/// `vpcmpeq` of an element size.
#[must_use]
pub fn cmpeq(es: ESize) -> Vop {
    by_size(es, [ops::VPCMPEQB, ops::VPCMPEQW, ops::VPCMPEQD, ops::VPCMPEQQ])
}

/// `vpcmpgt` (signed) of an element size.
#[must_use]
pub fn cmpgt(es: ESize) -> Vop {
    by_size(es, [ops::VPCMPGTB, ops::VPCMPGTW, ops::VPCMPGTD, ops::VPCMPGTQ])
}

/// The constant of a group that is ordered by element size.
#[must_use]
pub fn sized(group: Const, es: ESize) -> Const {
    group.plus(es as u8)
}

impl Builder<'_> {
    /// `op dst, a, b` on 128 bits.
    pub fn v128(&mut self, op: Vop, dst: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.a.v3(op, L, dst, a, b);
    }

    /// All bits one.
    pub fn ones(&mut self, dst: Xmm) {
        self.v128(ops::VPCMPEQD, dst, dst, dst);
    }

    /// `dst` = !`src`, with `scratch` for the ones.
    pub fn invert(&mut self, dst: Xmm, src: Xmm, scratch: Xmm) {
        self.ones(scratch);
        self.v128(ops::VPXOR, dst, src, scratch);
    }

    /// `dst` = the low `width` of `src`, zero above.
    pub fn truncate(&mut self, dst: Xmm, src: Xmm, width: VecWidth) {
        match width {
            VecWidth::Q16 => self.a.vmov(dst, src),
            VecWidth::D8 => self.a.v2(ops::VMOVQ_X, L, dst, src),
            _ => self.v128(ops::VPAND, dst, src, constants::WIDTH.plus(width as u8)),
        }
    }

    /// `rd` = the low `width` of `from`, zero above.
    pub fn finish_v(&mut self, rd: u8, from: Xmm, width: VecWidth) {
        let d = self.pin_v(rd).unwrap_or(from);
        let d = if width != VecWidth::Q16 && self.pin_v(rd).is_none() && from.0 > 3 { X0 } else { d };
        self.truncate(d, from, width);
        self.set_v(rd, d);
    }

    /// `rd` = `op` of `n` and `m`, cut to `width`.
    pub fn finish_op(&mut self, op: Vop, rd: u8, n: Xmm, m: impl Into<Rm>, width: VecWidth) {
        let d = self.dv(rd, X0);
        self.v128(op, d, n, m);
        self.finish_v(rd, d, width);
    }

    /// A register in `scratch` as a copy that may be overwritten.
    pub fn v_copy(&mut self, v: u8, scratch: Xmm) {
        let x = self.v(v, scratch);
        self.a.vmov(scratch, x);
    }

    /// Set FPSR.QC if `x & mask` is not zero. Clobbers EFLAGS.
    pub fn saturated(&mut self, x: Xmm, mask: impl Into<Rm>) {
        self.a.v2(ops::VPTEST, L, x, mask);
        let (hit, done) = (self.a.label(), self.a.label());
        self.a.jcc(Cc::Ne, hit);
        self.a.bind(done);
        let old = self.a.switch(Section::Cold);
        self.a.bind(hit);
        self.a.alu_imm(Alu::Or, Sz::D, Mem::b(ENV, env::FPSR), QC);
        self.a.jmp(done);
        self.a.switch(old);
    }

    /// As [`Builder::saturated`], for any bit of `width`.
    pub fn saturated_in(&mut self, x: Xmm, width: VecWidth) {
        if width == VecWidth::Q16 {
            self.saturated(x, x);
        } else {
            self.saturated(x, constants::WIDTH.plus(width as u8));
        }
    }

    /// Element `index` of `v` in all elements of `dst` (128 bits).
    pub fn dup_element(&mut self, es: ESize, dst: Xmm, v: u8, index: u8) {
        let Some(x) = self.pin_v(v) else {
            let at = crate::t1::regs::home_v(v).at(i32::from(index) << es as u32);
            let op = by_size(es, [ops::VPBROADCASTB, ops::VPBROADCASTW, ops::VPBROADCASTD, ops::VPBROADCASTQ]);
            return self.a.v2(op, L, dst, at);
        };
        match es {
            ESize::B if index == 0 => self.a.v2(ops::VPBROADCASTB, L, dst, x),
            ESize::B => self.v128(ops::VPSHUFB, dst, x, constants::DUP_BYTE.plus(index & 15)),
            ESize::H if index == 0 => self.a.v2(ops::VPBROADCASTW, L, dst, x),
            ESize::H => self.v128(ops::VPSHUFB, dst, x, constants::DUP_HALF.plus(index & 7)),
            ESize::S => self.a.v2i(ops::VPSHUFD, L, dst, x, (index & 3) * 0x55),
            ESize::D => self.a.v2i(ops::VPSHUFD, L, dst, x, if index & 1 == 0 { 0x44 } else { 0xee }),
        }
    }

    /// `dst` = a general register in all elements.
    pub fn dup_general(&mut self, es: ESize, dst: Xmm, from: Gpr) {
        if es == ESize::D {
            self.a.v2(ops::VMOVQ, L, dst, from);
        } else {
            self.a.v2(ops::VMOVD, L, dst, from);
        }
        let op = by_size(es, [ops::VPBROADCASTB, ops::VPBROADCASTW, ops::VPBROADCASTD, ops::VPBROADCASTQ]);
        self.a.v2(op, L, dst, dst);
    }

    /// `dst` = `imm` in both halves, or in the lower one. Uses RAX.
    pub fn v_imm(&mut self, dst: Xmm, imm: u64, width: VecWidth) {
        if imm == 0 {
            return self.a.vzero(dst);
        }
        if imm == u64::MAX {
            self.ones(dst);
            if width != VecWidth::Q16 {
                self.a.v2(ops::VMOVQ_X, L, dst, dst);
            }
            return;
        }
        self.a.mov_imm(Gpr::RAX, imm);
        self.a.v2(ops::VMOVQ, L, dst, Gpr::RAX);
        if width == VecWidth::Q16 {
            self.v128(ops::VPUNPCKLQDQ, dst, dst, dst);
        }
    }
}
