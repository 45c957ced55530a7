//! Vector instructions: VEX and EVEX encodings of constant descriptors, and the SHA extensions (legacy encoding only).

use super::bytes::Bytes;
use super::{Asm, Gpr, Mem, Rm, Xmm};

/// Vector length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum VLen {
    /// 128 bits (also: scalar).
    L128 = 0,
    /// 256 bits.
    L256 = 1,
    /// 512 bits (EVEX only).
    L512 = 2,
}

/// What the W bit says in each encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wide {
    /// VEX ignores W (the short form is used), EVEX wants 0.
    G0,
    /// VEX ignores W, EVEX wants 1.
    G1,
    /// 0 in both.
    W0,
    /// 1 in both.
    W1,
    /// VEX wants 0, EVEX wants 1.
    X1,
}

/// How operands are placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `reg, vvvv, rm`.
    Rvm,
    /// `reg, vvvv, rm, imm8`.
    Rvmi,
    /// `reg, vvvv, rm, reg in imm8[7:4]`.
    Rvmr,
    /// `reg, rm`.
    Rm,
    /// `reg, rm, imm8`.
    Rmi,
    /// `rm, reg`.
    Mr,
    /// `rm, reg, imm8`.
    Mri,
    /// `vvvv, rm, imm8`, with this opcode extension in the reg field.
    Vmi(u8),
}

/// Which encodings exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Has {
    /// VEX only.
    Vex,
    /// EVEX only.
    Evex,
    /// Both.
    Both,
}

/// Bytes that one disp8 step means in EVEX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tuple {
    /// The vector length.
    Full,
    /// Half the vector length.
    Half,
    /// A quarter of the vector length.
    Quarter,
    /// An eighth of the vector length.
    Eighth,
    /// This many bytes.
    Fix(u8),
}

/// Classes of the register operands, in encoding order reg, vvvv, rm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Regs {
    /// All vector.
    V,
    /// `reg` is a general register.
    RegG,
    /// `rm` is a general register.
    RmG,
    /// `reg` is a mask register.
    RegK,
}

/// One vector instruction: everything of its encoding but the operands.
#[derive(Clone, Copy, Debug)]
pub struct Vop {
    /// Mnemonic, as the disassembler writes it.
    pub name: &'static str,
    /// Mandatory prefix: 0 none, 1 66, 2 F3, 3 F2.
    pub pp: u8,
    /// Opcode map: 1 0F, 2 0F38, 3 0F3A.
    pub map: u8,
    /// Opcode byte.
    pub opcode: u8,
    /// W bit.
    pub wide: Wide,
    /// Operand placement.
    pub form: Form,
    /// Encodings.
    pub has: Has,
    /// disp8 scale of the EVEX form.
    pub tuple: Tuple,
    /// Operand classes.
    pub regs: Regs,
}

/// Predication of an EVEX instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Masking {
    /// Mask register 1..=7, or 0 for none.
    pub k: u8,
    /// Zero the elements left out, instead of keeping them.
    pub zero: bool,
}

/// Static rounding of an EVEX register-to-register instruction; it also suppresses exceptions' effects on MXCSR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest = 0,
    /// Towards minus infinity.
    Down = 1,
    /// Towards plus infinity.
    Up = 2,
    /// Towards zero.
    Zero = 3,
}

/// Registers by way of which instructions without an EVEX form reach xmm16 to xmm31.
pub const BY_WAY_OF: [Xmm; 2] = [Xmm(14), Xmm(15)];

/// What an instruction has besides its operands.
#[derive(Clone, Copy, Default)]
struct Extra {
    mask: Masking,
    round: Option<Rounding>,
    imm: Option<u8>,
}

impl Extra {
    fn imm(imm: u8) -> Extra {
        Extra { imm: Some(imm), ..Extra::default() }
    }
}

impl Asm {
    fn vector(&mut self, op: &Vop, len: VLen, reg: u8, vvvv: u8, rm: Rm, extra: Extra) {
        let Extra { mask, round, imm } = extra;
        let high = reg >= 16 || vvvv >= 16 || matches!(rm, Rm::Reg(r) if r >= 16);
        if high && op.has == Has::Vex {
            return self.by_way_of(op, len, reg, vvvv, rm, extra);
        }
        let evex = op.has == Has::Evex || high || mask.k != 0 || round.is_some() || len == VLen::L512;
        debug_assert!(!(evex && op.has == Has::Vex), "{} has no EVEX form", op.name);
        if evex {
            self.evex(op, len, reg, vvvv, &rm, mask, round);
        } else {
            self.vex(op, len, reg, vvvv, &rm);
        }
        if let Some(imm) = imm {
            self.byte(imm);
        }
    }

    /// An instruction without an EVEX form on registers that only EVEX names: copies in [`BY_WAY_OF`], whose moves cost no time.
    fn by_way_of(&mut self, op: &Vop, len: VLen, reg: u8, vvvv: u8, rm: Rm, extra: Extra) {
        let [first, second] = BY_WAY_OF;
        let copy = |a: &mut Asm, to: Xmm, from: u8| {
            if from < 16 {
                return from;
            }
            a.v2(ops::VMOVAPS, len, to, Xmm(from));
            to.0
        };
        let stores = matches!(op.form, Form::Mr | Form::Mri);
        if stores || op.opcode == ops::VPTEST.opcode && op.map == ops::VPTEST.map {
            // `reg` is a source, and a memory operand is all that such instructions write.
            debug_assert!(!stores || !matches!(rm, Rm::Reg(r) if r >= 16), "{}", op.name);
            let reg = copy(self, first, reg);
            let rm = match rm {
                Rm::Reg(r) => Rm::Reg(copy(self, second, r)),
                mem @ Rm::Mem(_) => mem,
            };
            return self.vector(op, len, reg, vvvv, rm, extra);
        }
        let rm = match rm {
            Rm::Reg(r) => Rm::Reg(copy(self, second, r)),
            mem @ Rm::Mem(_) => mem,
        };
        let vvvv = copy(self, first, vvvv);
        let d = if reg < 16 { reg } else { first.0 };
        self.vector(op, len, d, vvvv, rm, extra);
        if d != reg {
            self.v2(ops::VMOVAPS, len, Xmm(reg), Xmm(d));
        }
    }

    fn vex(&mut self, op: &Vop, len: VLen, reg: u8, vvvv: u8, rm: &Rm) {
        let w = u8::from(op.wide == Wide::W1);
        let xb = Self::xb(rm);
        let tail = (!vvvv & 15) << 3 | (len as u8) << 2 | op.pp;
        let mut o = Bytes::default();
        if op.map == 1 && w == 0 && xb == 0 {
            o.push_all(&[0xc5, (!(reg >> 3) & 1) << 7 | tail]);
        } else {
            let b1 = (!(reg >> 3) & 1) << 7 | (!(xb >> 1) & 1) << 6 | (!xb & 1) << 5 | op.map;
            o.push_all(&[0xc4, b1, w << 7 | tail]);
        }
        o.push(op.opcode);
        o.modrm(reg, rm, 1);
        self.put(o);
    }

    fn evex(&mut self, op: &Vop, len: VLen, reg: u8, vvvv: u8, rm: &Rm, mask: Masking, round: Option<Rounding>) {
        let w = u8::from(matches!(op.wide, Wide::W1 | Wide::G1 | Wide::X1));
        let (x, b) = match rm {
            Rm::Reg(r) => (r >> 4 & 1, r >> 3 & 1),
            Rm::Mem(m) => (m.index.map_or(0, |(i, _)| i.0 >> 3), m.base.0 >> 3),
        };
        let p0 = (!(reg >> 3) & 1) << 7 | (!x & 1) << 6 | (!b & 1) << 5 | (!(reg >> 4) & 1) << 4 | op.map;
        let p1 = w << 7 | (!vvvv & 15) << 3 | 4 | op.pp;
        let ll = round.map_or(len as u8, |r| r as u8);
        let p2 =
            u8::from(mask.zero) << 7 | ll << 5 | u8::from(round.is_some()) << 4 | (!(vvvv >> 4) & 1) << 3 | mask.k & 7;
        let mut o = Bytes::default();
        o.push_all(&[0x62, p0, p1, p2, op.opcode]);
        let full = 16i32 << (len as i32);
        let n = match op.tuple {
            Tuple::Full => full,
            Tuple::Half => full / 2,
            Tuple::Quarter => full / 4,
            Tuple::Eighth => full / 8,
            Tuple::Fix(n) => i32::from(n),
        };
        o.modrm(reg, rm, n);
        self.put(o);
    }

    /// `op dst, a, b`.
    pub fn v3(&mut self, op: Vop, len: VLen, dst: Xmm, a: Xmm, b: impl Into<Rm>) {
        self.vector(&op, len, dst.0, a.0, b.into(), Extra::default());
    }

    /// `op dst {k}{z}, a, b {er}`.
    pub fn v3_ext(
        &mut self,
        op: Vop,
        len: VLen,
        dst: Xmm,
        a: Xmm,
        b: impl Into<Rm>,
        mask: Masking,
        round: Option<Rounding>,
    ) {
        self.vector(&op, len, dst.0, a.0, b.into(), Extra { mask, round, imm: None });
    }

    /// `op dst, a, b, imm`.
    pub fn v3i(&mut self, op: Vop, len: VLen, dst: Xmm, a: Xmm, b: impl Into<Rm>, imm: u8) {
        self.vector(&op, len, dst.0, a.0, b.into(), Extra::imm(imm));
    }

    /// `op dst, a, b, mask register` (VBLENDV*).
    pub fn v4(&mut self, op: Vop, len: VLen, dst: Xmm, a: Xmm, b: impl Into<Rm>, m: Xmm) {
        self.vector(&op, len, dst.0, a.0, b.into(), Extra::imm(m.0 << 4));
    }

    /// `op dst, src`.
    pub fn v2(&mut self, op: Vop, len: VLen, dst: Xmm, src: impl Into<Rm>) {
        self.vector(&op, len, dst.0, 0, src.into(), Extra::default());
    }

    /// `op dst {k}{z}, src {er}`.
    pub fn v2_ext(&mut self, op: Vop, len: VLen, dst: Xmm, src: impl Into<Rm>, mask: Masking, round: Option<Rounding>) {
        self.vector(&op, len, dst.0, 0, src.into(), Extra { mask, round, imm: None });
    }

    /// `op dst, src, imm`.
    pub fn v2i(&mut self, op: Vop, len: VLen, dst: Xmm, src: impl Into<Rm>, imm: u8) {
        self.vector(&op, len, dst.0, 0, src.into(), Extra::imm(imm));
    }

    /// `op gpr, src`: a result in a general register.
    pub fn v2_gpr(&mut self, op: Vop, len: VLen, dst: Gpr, src: impl Into<Rm>) {
        self.vector(&op, len, dst.0, 0, src.into(), Extra::default());
    }

    /// `op mem-or-reg, src`: stores and moves out.
    pub fn vst(&mut self, op: Vop, len: VLen, dst: impl Into<Rm>, src: Xmm) {
        self.vector(&op, len, src.0, 0, dst.into(), Extra::default());
    }

    /// `op mem-or-reg, src, imm`.
    pub fn vsti(&mut self, op: Vop, len: VLen, dst: impl Into<Rm>, src: Xmm, imm: u8) {
        self.vector(&op, len, src.0, 0, dst.into(), Extra::imm(imm));
    }

    /// `op dst, src, imm` for shifts by an immediate.
    pub fn vshift(&mut self, op: Vop, len: VLen, dst: Xmm, src: Xmm, imm: u8) {
        let ext = if let Form::Vmi(n) = op.form { n } else { 0 };
        self.vector(&op, len, ext, dst.0, src.into(), Extra::imm(imm));
    }

    /// `vzeroupper`.
    pub fn vzeroupper(&mut self) {
        self.bytes(&[0xc5, 0xf8, 0x77]);
    }

    /// A SHA instruction of map 0F38 (`dst` is read and written; SHA256RNDS2 also reads XMM0).
    pub fn sha(&mut self, opcode: u8, dst: Xmm, src: Xmm) {
        let src = self.in_lower_half(src);
        let rex = (dst.0 >> 3) << 2 | src.0 >> 3;
        if rex != 0 {
            self.byte(0x40 | rex);
        }
        self.bytes(&[0x0f, 0x38, opcode]);
        self.modrm_only(dst.0, &src.into());
    }

    /// `sha1rnds4 dst, src, imm`.
    pub fn sha1rnds4(&mut self, dst: Xmm, src: Xmm, imm: u8) {
        let src = self.in_lower_half(src);
        let rex = (dst.0 >> 3) << 2 | src.0 >> 3;
        if rex != 0 {
            self.byte(0x40 | rex);
        }
        self.bytes(&[0x0f, 0x3a, 0xcc]);
        self.modrm_only(dst.0, &src.into());
        self.byte(imm);
    }

    /// `src`, or a copy of it that every encoding names.
    fn in_lower_half(&mut self, src: Xmm) -> Xmm {
        if src.0 < 16 {
            return src;
        }
        self.vmov(BY_WAY_OF[0], src);
        BY_WAY_OF[0]
    }

    /// `kmovd k, reg`.
    pub fn kmov_from_gpr(&mut self, k: u8, src: Gpr) {
        self.bytes(&[0xc4, 0xc1 | (!(src.0 >> 3) & 1) << 5, 0x7b, 0x92]);
        self.modrm_only(k, &src.into());
    }

    /// `kmovd reg, k`.
    pub fn kmov_to_gpr(&mut self, dst: Gpr, k: u8) {
        self.bytes(&[0xc5, 0x7b | (!(dst.0 >> 3) & 1) << 7, 0x93]);
        self.modrm_only(dst.0, &Rm::Reg(k));
    }

    // ---- the moves everybody needs

    /// `vmovdqu dst, [mem]`.
    pub fn vload(&mut self, dst: Xmm, mem: Mem) {
        self.v2(if dst.0 >= 16 { ops::VMOVUPS } else { ops::VMOVDQU }, VLen::L128, dst, mem);
    }

    /// `vmovdqu [mem], src`.
    pub fn vstore(&mut self, mem: Mem, src: Xmm) {
        self.vst(if src.0 >= 16 { ops::VMOVUPS_ST } else { ops::VMOVDQU_ST }, VLen::L128, mem, src);
    }

    /// `vmovaps dst, src`, nothing if they are the same.
    pub fn vmov(&mut self, dst: Xmm, src: Xmm) {
        if dst != src {
            self.v2(ops::VMOVAPS, VLen::L128, dst, src);
        }
    }

    /// `vpxor dst, dst, dst` (or its EVEX sibling): zero.
    pub fn vzero(&mut self, dst: Xmm) {
        if dst.0 < 16 {
            self.v3(ops::VPXOR, VLen::L128, dst, dst, dst);
        } else {
            self.v3(ops::VXORPS, VLen::L128, dst, dst, dst);
        }
    }
}

macro_rules! vops { ($($id:ident $name:literal $pp:literal $map:literal $wide:ident $opc:literal $form:expr, $has:ident $tuple:expr, $regs:ident;)*) => {
    /// The instructions, one constant each; the doc of each is its mnemonic.
    pub mod ops {
        use super::{Form::*, Has, Regs, Tuple::*, Vop, Wide};
        $(#[doc = $name] pub const $id: Vop = Vop { name: $name, pp: $pp, map: $map, opcode: $opc, wide: Wide::$wide, form: $form, has: Has::$has, tuple: $tuple, regs: Regs::$regs };)*
        /// All of them, for the encoder's test.
        #[cfg(test)]
        pub const ALL: &[Vop] = &[$($id),*];
    }
} }

vops! {
    VADDPS "vaddps" 0 1 G0 0x58 Rvm, Both Full, V;  VADDPD "vaddpd" 1 1 G1 0x58 Rvm, Both Full, V;
    VADDSS "vaddss" 2 1 G0 0x58 Rvm, Both Fix(4), V;  VADDSD "vaddsd" 3 1 G1 0x58 Rvm, Both Fix(8), V;
    VMULPS "vmulps" 0 1 G0 0x59 Rvm, Both Full, V;  VMULPD "vmulpd" 1 1 G1 0x59 Rvm, Both Full, V;
    VMULSS "vmulss" 2 1 G0 0x59 Rvm, Both Fix(4), V;  VMULSD "vmulsd" 3 1 G1 0x59 Rvm, Both Fix(8), V;
    VSUBPS "vsubps" 0 1 G0 0x5c Rvm, Both Full, V;  VSUBPD "vsubpd" 1 1 G1 0x5c Rvm, Both Full, V;
    VSUBSS "vsubss" 2 1 G0 0x5c Rvm, Both Fix(4), V;  VSUBSD "vsubsd" 3 1 G1 0x5c Rvm, Both Fix(8), V;
    VDIVPS "vdivps" 0 1 G0 0x5e Rvm, Both Full, V;  VDIVPD "vdivpd" 1 1 G1 0x5e Rvm, Both Full, V;
    VDIVSS "vdivss" 2 1 G0 0x5e Rvm, Both Fix(4), V;  VDIVSD "vdivsd" 3 1 G1 0x5e Rvm, Both Fix(8), V;
    VMINPS "vminps" 0 1 G0 0x5d Rvm, Both Full, V;  VMINPD "vminpd" 1 1 G1 0x5d Rvm, Both Full, V;
    VMINSS "vminss" 2 1 G0 0x5d Rvm, Both Fix(4), V;  VMINSD "vminsd" 3 1 G1 0x5d Rvm, Both Fix(8), V;
    VMAXPS "vmaxps" 0 1 G0 0x5f Rvm, Both Full, V;  VMAXPD "vmaxpd" 1 1 G1 0x5f Rvm, Both Full, V;
    VMAXSS "vmaxss" 2 1 G0 0x5f Rvm, Both Fix(4), V;  VMAXSD "vmaxsd" 3 1 G1 0x5f Rvm, Both Fix(8), V;
    VSQRTPS "vsqrtps" 0 1 G0 0x51 Rm, Both Full, V;  VSQRTPD "vsqrtpd" 1 1 G1 0x51 Rm, Both Full, V;
    VSQRTSS "vsqrtss" 2 1 G0 0x51 Rvm, Both Fix(4), V;  VSQRTSD "vsqrtsd" 3 1 G1 0x51 Rvm, Both Fix(8), V;
    VUCOMISS "vucomiss" 0 1 G0 0x2e Rm, Both Fix(4), V;  VUCOMISD "vucomisd" 1 1 G1 0x2e Rm, Both Fix(8), V;
    VCOMISS "vcomiss" 0 1 G0 0x2f Rm, Both Fix(4), V;  VCOMISD "vcomisd" 1 1 G1 0x2f Rm, Both Fix(8), V;
    VCMPPS "vcmpps" 0 1 G0 0xc2 Rvmi, Vex Full, V;  VCMPPD "vcmppd" 1 1 G0 0xc2 Rvmi, Vex Full, V;
    VCMPSS "vcmpss" 2 1 G0 0xc2 Rvmi, Vex Full, V;  VCMPSD "vcmpsd" 3 1 G0 0xc2 Rvmi, Vex Full, V;
    VANDPS "vandps" 0 1 G0 0x54 Rvm, Both Full, V;  VANDNPS "vandnps" 0 1 G0 0x55 Rvm, Both Full, V;
    VORPS "vorps" 0 1 G0 0x56 Rvm, Both Full, V;  VXORPS "vxorps" 0 1 G0 0x57 Rvm, Both Full, V;
    VFMADD231PS "vfmadd231ps" 1 2 W0 0xb8 Rvm, Both Full, V;  VFMADD231PD "vfmadd231pd" 1 2 W1 0xb8 Rvm, Both Full, V;
    VFMADD231SS "vfmadd231ss" 1 2 W0 0xb9 Rvm, Both Fix(4), V;  VFMADD231SD "vfmadd231sd" 1 2 W1 0xb9 Rvm, Both Fix(8), V;
    VFMSUB231SS "vfmsub231ss" 1 2 W0 0xbb Rvm, Both Fix(4), V;  VFMSUB231SD "vfmsub231sd" 1 2 W1 0xbb Rvm, Both Fix(8), V;
    VFNMADD231PS "vfnmadd231ps" 1 2 W0 0xbc Rvm, Both Full, V;  VFNMADD231PD "vfnmadd231pd" 1 2 W1 0xbc Rvm, Both Full, V;
    VFNMADD231SS "vfnmadd231ss" 1 2 W0 0xbd Rvm, Both Fix(4), V;  VFNMADD231SD "vfnmadd231sd" 1 2 W1 0xbd Rvm, Both Fix(8), V;
    VFNMSUB231SS "vfnmsub231ss" 1 2 W0 0xbf Rvm, Both Fix(4), V;  VFNMSUB231SD "vfnmsub231sd" 1 2 W1 0xbf Rvm, Both Fix(8), V;
    VROUNDPS "vroundps" 1 3 G0 0x08 Rmi, Vex Full, V;  VROUNDPD "vroundpd" 1 3 G0 0x09 Rmi, Vex Full, V;
    VROUNDSS "vroundss" 1 3 G0 0x0a Rvmi, Vex Full, V;  VROUNDSD "vroundsd" 1 3 G0 0x0b Rvmi, Vex Full, V;
    VRNDSCALESS "vrndscaless" 1 3 W0 0x0a Rvmi, Evex Fix(4), V;  VRNDSCALESD "vrndscalesd" 1 3 W1 0x0b Rvmi, Evex Fix(8), V;
    VRNDSCALEPS "vrndscaleps" 1 3 W0 0x08 Rmi, Evex Full, V;  VRNDSCALEPD "vrndscalepd" 1 3 W1 0x09 Rmi, Evex Full, V;
    VRANGEPS "vrangeps" 1 3 W0 0x50 Rvmi, Evex Full, V;  VRANGEPD "vrangepd" 1 3 W1 0x50 Rvmi, Evex Full, V;
    VCVTSS2SD "vcvtss2sd" 2 1 G0 0x5a Rvm, Both Fix(4), V;  VCVTSD2SS "vcvtsd2ss" 3 1 G1 0x5a Rvm, Both Fix(8), V;
    VCVTPS2PD "vcvtps2pd" 0 1 G0 0x5a Rm, Both Half, V;  VCVTPD2PS "vcvtpd2ps" 1 1 G1 0x5a Rm, Both Full, V;
    VCVTDQ2PS "vcvtdq2ps" 0 1 G0 0x5b Rm, Both Full, V;  VCVTTPS2DQ "vcvttps2dq" 2 1 G0 0x5b Rm, Both Full, V;
    VCVTPS2DQ "vcvtps2dq" 1 1 G0 0x5b Rm, Both Full, V;  VCVTDQ2PD "vcvtdq2pd" 2 1 G0 0xe6 Rm, Both Half, V;
    VCVTUDQ2PS "vcvtudq2ps" 3 1 W0 0x7a Rm, Evex Full, V;  VCVTTPS2UDQ "vcvttps2udq" 0 1 W0 0x78 Rm, Evex Full, V;
    VCVTQQ2PD "vcvtqq2pd" 2 1 W1 0xe6 Rm, Evex Full, V;  VCVTUQQ2PD "vcvtuqq2pd" 2 1 W1 0x7a Rm, Evex Full, V;
    VCVTTPD2QQ "vcvttpd2qq" 1 1 W1 0x7a Rm, Evex Full, V;  VCVTTPD2UQQ "vcvttpd2uqq" 1 1 W1 0x78 Rm, Evex Full, V;
    VCVTPH2PS "vcvtph2ps" 1 2 W0 0x13 Rm, Both Half, V;  VCVTPS2PH "vcvtps2ph" 1 3 W0 0x1d Mri, Both Half, V;
    VCVTTSS2SI "vcvttss2si" 2 1 W0 0x2c Rm, Both Fix(4), RegG;  VCVTTSS2SI_Q "vcvttss2si" 2 1 W1 0x2c Rm, Both Fix(4), RegG;
    VCVTTSD2SI "vcvttsd2si" 3 1 W0 0x2c Rm, Both Fix(8), RegG;  VCVTTSD2SI_Q "vcvttsd2si" 3 1 W1 0x2c Rm, Both Fix(8), RegG;
    VCVTSS2SI "vcvtss2si" 2 1 W0 0x2d Rm, Both Fix(4), RegG;  VCVTSS2SI_Q "vcvtss2si" 2 1 W1 0x2d Rm, Both Fix(4), RegG;
    VCVTSD2SI "vcvtsd2si" 3 1 W0 0x2d Rm, Both Fix(8), RegG;  VCVTSD2SI_Q "vcvtsd2si" 3 1 W1 0x2d Rm, Both Fix(8), RegG;
    VCVTTSS2USI "vcvttss2usi" 2 1 W0 0x78 Rm, Evex Fix(4), RegG;  VCVTTSS2USI_Q "vcvttss2usi" 2 1 W1 0x78 Rm, Evex Fix(4), RegG;
    VCVTTSD2USI "vcvttsd2usi" 3 1 W0 0x78 Rm, Evex Fix(8), RegG;  VCVTTSD2USI_Q "vcvttsd2usi" 3 1 W1 0x78 Rm, Evex Fix(8), RegG;
    VCVTSI2SS "vcvtsi2ss" 2 1 W0 0x2a Rvm, Both Fix(4), RmG;  VCVTSI2SS_Q "vcvtsi2ss" 2 1 W1 0x2a Rvm, Both Fix(8), RmG;
    VCVTSI2SD "vcvtsi2sd" 3 1 W0 0x2a Rvm, Both Fix(4), RmG;  VCVTSI2SD_Q "vcvtsi2sd" 3 1 W1 0x2a Rvm, Both Fix(8), RmG;
    VCVTUSI2SS "vcvtusi2ss" 2 1 W0 0x7b Rvm, Evex Fix(4), RmG;  VCVTUSI2SS_Q "vcvtusi2ss" 2 1 W1 0x7b Rvm, Evex Fix(8), RmG;
    VCVTUSI2SD "vcvtusi2sd" 3 1 W0 0x7b Rvm, Evex Fix(4), RmG;  VCVTUSI2SD_Q "vcvtusi2sd" 3 1 W1 0x7b Rvm, Evex Fix(8), RmG;
    VMOVAPS "vmovaps" 0 1 G0 0x28 Rm, Both Full, V;  VMOVUPS "vmovups" 0 1 G0 0x10 Rm, Both Full, V;
    VMOVUPS_ST "vmovups" 0 1 G0 0x11 Mr, Both Full, V;  VMOVDQU "vmovdqu" 2 1 G0 0x6f Rm, Vex Full, V;
    VMOVDQU_ST "vmovdqu" 2 1 G0 0x7f Mr, Vex Full, V;  VMOVDQA "vmovdqa" 1 1 G0 0x6f Rm, Vex Full, V;
    VMOVD "vmovd" 1 1 W0 0x6e Rm, Both Fix(4), RmG;  VMOVD_ST "vmovd" 1 1 W0 0x7e Mr, Both Fix(4), RmG;
    VMOVQ "vmovq" 1 1 W1 0x6e Rm, Both Fix(8), RmG;  VMOVQ_ST "vmovq" 1 1 W1 0x7e Mr, Both Fix(8), RmG;
    VMOVQ_X "vmovq" 2 1 G1 0x7e Rm, Both Fix(8), V;  VMOVQ_XST "vmovq" 1 1 G1 0xd6 Mr, Both Fix(8), V;
    VMOVSS_REG "vmovss" 2 1 G0 0x10 Rvm, Both Fix(4), V;  VMOVSD_REG "vmovsd" 3 1 G1 0x10 Rvm, Both Fix(8), V;
    VMOVSS_LD "vmovss" 2 1 G0 0x10 Rm, Both Fix(4), V;  VMOVSS_ST "vmovss" 2 1 G0 0x11 Mr, Both Fix(4), V;
    VMOVSD_LD "vmovsd" 3 1 G1 0x10 Rm, Both Fix(8), V;  VMOVSD_ST "vmovsd" 3 1 G1 0x11 Mr, Both Fix(8), V;
    VMOVLHPS "vmovlhps" 0 1 G0 0x16 Rvm, Both Fix(8), V;  VMOVHLPS "vmovhlps" 0 1 G0 0x12 Rvm, Both Fix(8), V;
    VMOVDDUP "vmovddup" 3 1 G1 0x12 Rm, Both Fix(8), V;
    VMOVHPS_ST "vmovhps" 0 1 G0 0x17 Mr, Both Fix(8), V;  VMOVHPS_LD "vmovhps" 0 1 G0 0x16 Rvm, Both Fix(8), V;
    VMOVMSKPS "vmovmskps" 0 1 G0 0x50 Rm, Vex Full, RegG;  VMOVMSKPD "vmovmskpd" 1 1 G0 0x50 Rm, Vex Full, RegG;
    VPMOVMSKB "vpmovmskb" 1 1 G0 0xd7 Rm, Vex Full, RegG;
    VPADDB "vpaddb" 1 1 G0 0xfc Rvm, Both Full, V;  VPADDW "vpaddw" 1 1 G0 0xfd Rvm, Both Full, V;
    VPADDD "vpaddd" 1 1 G0 0xfe Rvm, Both Full, V;  VPADDQ "vpaddq" 1 1 G1 0xd4 Rvm, Both Full, V;
    VPSUBB "vpsubb" 1 1 G0 0xf8 Rvm, Both Full, V;  VPSUBW "vpsubw" 1 1 G0 0xf9 Rvm, Both Full, V;
    VPSUBD "vpsubd" 1 1 G0 0xfa Rvm, Both Full, V;  VPSUBQ "vpsubq" 1 1 G1 0xfb Rvm, Both Full, V;
    VPADDSB "vpaddsb" 1 1 G0 0xec Rvm, Both Full, V;  VPADDSW "vpaddsw" 1 1 G0 0xed Rvm, Both Full, V;
    VPADDUSB "vpaddusb" 1 1 G0 0xdc Rvm, Both Full, V;  VPADDUSW "vpaddusw" 1 1 G0 0xdd Rvm, Both Full, V;
    VPSUBSB "vpsubsb" 1 1 G0 0xe8 Rvm, Both Full, V;  VPSUBSW "vpsubsw" 1 1 G0 0xe9 Rvm, Both Full, V;
    VPSUBUSB "vpsubusb" 1 1 G0 0xd8 Rvm, Both Full, V;  VPSUBUSW "vpsubusw" 1 1 G0 0xd9 Rvm, Both Full, V;
    VPAVGB "vpavgb" 1 1 G0 0xe0 Rvm, Both Full, V;  VPAVGW "vpavgw" 1 1 G0 0xe3 Rvm, Both Full, V;
    VPMULLW "vpmullw" 1 1 G0 0xd5 Rvm, Both Full, V;  VPMULLD "vpmulld" 1 2 W0 0x40 Rvm, Both Full, V;
    VPMULLQ "vpmullq" 1 2 W1 0x40 Rvm, Evex Full, V;  VPMULUDQ "vpmuludq" 1 1 G1 0xf4 Rvm, Both Full, V;
    VPMULDQ "vpmuldq" 1 2 G1 0x28 Rvm, Both Full, V;  VPMULHW "vpmulhw" 1 1 G0 0xe5 Rvm, Both Full, V;
    VPMULHUW "vpmulhuw" 1 1 G0 0xe4 Rvm, Both Full, V;  VPMULHRSW "vpmulhrsw" 1 2 G0 0x0b Rvm, Both Full, V;
    VPMADDWD "vpmaddwd" 1 1 G0 0xf5 Rvm, Both Full, V;  VPMADDUBSW "vpmaddubsw" 1 2 G0 0x04 Rvm, Both Full, V;
    VPSADBW "vpsadbw" 1 1 G0 0xf6 Rvm, Both Full, V;  VPHMINPOSUW "vphminposuw" 1 2 G0 0x41 Rm, Vex Full, V;
    VPMINSB "vpminsb" 1 2 G0 0x38 Rvm, Both Full, V;  VPMINSW "vpminsw" 1 1 G0 0xea Rvm, Both Full, V;
    VPMINSD "vpminsd" 1 2 W0 0x39 Rvm, Both Full, V;  VPMINSQ "vpminsq" 1 2 W1 0x39 Rvm, Evex Full, V;
    VPMAXSB "vpmaxsb" 1 2 G0 0x3c Rvm, Both Full, V;  VPMAXSW "vpmaxsw" 1 1 G0 0xee Rvm, Both Full, V;
    VPMAXSD "vpmaxsd" 1 2 W0 0x3d Rvm, Both Full, V;  VPMAXSQ "vpmaxsq" 1 2 W1 0x3d Rvm, Evex Full, V;
    VPMINUB "vpminub" 1 1 G0 0xda Rvm, Both Full, V;  VPMINUW "vpminuw" 1 2 G0 0x3a Rvm, Both Full, V;
    VPMINUD "vpminud" 1 2 W0 0x3b Rvm, Both Full, V;  VPMINUQ "vpminuq" 1 2 W1 0x3b Rvm, Evex Full, V;
    VPMAXUB "vpmaxub" 1 1 G0 0xde Rvm, Both Full, V;  VPMAXUW "vpmaxuw" 1 2 G0 0x3e Rvm, Both Full, V;
    VPMAXUD "vpmaxud" 1 2 W0 0x3f Rvm, Both Full, V;  VPMAXUQ "vpmaxuq" 1 2 W1 0x3f Rvm, Evex Full, V;
    VPAND "vpand" 1 1 G0 0xdb Rvm, Both Full, V;  VPANDN "vpandn" 1 1 G0 0xdf Rvm, Both Full, V;
    VPOR "vpor" 1 1 G0 0xeb Rvm, Both Full, V;  VPXOR "vpxor" 1 1 G0 0xef Rvm, Both Full, V;
    VPTERNLOGD "vpternlogd" 1 3 W0 0x25 Rvmi, Evex Full, V;  VPTERNLOGQ "vpternlogq" 1 3 W1 0x25 Rvmi, Evex Full, V;
    VPCMPEQB "vpcmpeqb" 1 1 G0 0x74 Rvm, Vex Full, V;  VPCMPEQW "vpcmpeqw" 1 1 G0 0x75 Rvm, Vex Full, V;
    VPCMPEQD "vpcmpeqd" 1 1 G0 0x76 Rvm, Vex Full, V;  VPCMPEQQ "vpcmpeqq" 1 2 G0 0x29 Rvm, Vex Full, V;
    VPCMPGTB "vpcmpgtb" 1 1 G0 0x64 Rvm, Vex Full, V;  VPCMPGTW "vpcmpgtw" 1 1 G0 0x65 Rvm, Vex Full, V;
    VPCMPGTD "vpcmpgtd" 1 1 G0 0x66 Rvm, Vex Full, V;  VPCMPGTQ "vpcmpgtq" 1 2 G0 0x37 Rvm, Vex Full, V;
    VPCMPUB "vpcmpub" 1 3 W0 0x3e Rvmi, Evex Full, RegK;  VPCMPUW "vpcmpuw" 1 3 W1 0x3e Rvmi, Evex Full, RegK;
    VPCMPUD "vpcmpud" 1 3 W0 0x1e Rvmi, Evex Full, RegK;  VPCMPUQ "vpcmpuq" 1 3 W1 0x1e Rvmi, Evex Full, RegK;
    VPTESTMW "vptestmw" 1 2 W1 0x26 Rvm, Evex Full, RegK;  VPTESTMD "vptestmd" 1 2 W0 0x27 Rvm, Evex Full, RegK;
    VPTESTMQ "vptestmq" 1 2 W1 0x27 Rvm, Evex Full, RegK;
    VPTESTNMB "vptestnmb" 2 2 W0 0x26 Rvm, Evex Full, RegK;  VPTEST "vptest" 1 2 G0 0x17 Rm, Vex Full, V;
    VPABSB "vpabsb" 1 2 G0 0x1c Rm, Both Full, V;  VPABSW "vpabsw" 1 2 G0 0x1d Rm, Both Full, V;
    VPABSD "vpabsd" 1 2 W0 0x1e Rm, Both Full, V;  VPABSQ "vpabsq" 1 2 W1 0x1f Rm, Evex Full, V;
    VPSIGNB "vpsignb" 1 2 G0 0x08 Rvm, Vex Full, V;
    VPSLLW_I "vpsllw" 1 1 G0 0x71 Vmi(6), Both Full, V;  VPSLLD_I "vpslld" 1 1 G0 0x72 Vmi(6), Both Full, V;
    VPSLLQ_I "vpsllq" 1 1 G1 0x73 Vmi(6), Both Full, V;  VPSRLW_I "vpsrlw" 1 1 G0 0x71 Vmi(2), Both Full, V;
    VPSRLD_I "vpsrld" 1 1 G0 0x72 Vmi(2), Both Full, V;  VPSRLQ_I "vpsrlq" 1 1 G1 0x73 Vmi(2), Both Full, V;
    VPSRAW_I "vpsraw" 1 1 G0 0x71 Vmi(4), Both Full, V;  VPSRAD_I "vpsrad" 1 1 G0 0x72 Vmi(4), Both Full, V;
    VPSRAQ_I "vpsraq" 1 1 W1 0x72 Vmi(4), Evex Full, V;
    VPSLLDQ "vpslldq" 1 1 G0 0x73 Vmi(7), Both Full, V;  VPSRLDQ "vpsrldq" 1 1 G0 0x73 Vmi(3), Both Full, V;
    VPSLLW "vpsllw" 1 1 G0 0xf1 Rvm, Both Fix(16), V;  VPSLLD "vpslld" 1 1 G0 0xf2 Rvm, Both Fix(16), V;
    VPSRLW "vpsrlw" 1 1 G0 0xd1 Rvm, Both Fix(16), V;  VPSRLD "vpsrld" 1 1 G0 0xd2 Rvm, Both Fix(16), V;
    VPSRLQ "vpsrlq" 1 1 G1 0xd3 Rvm, Both Fix(16), V;  VPSLLQ "vpsllq" 1 1 G1 0xf3 Rvm, Both Fix(16), V;
    VPSLLVD "vpsllvd" 1 2 W0 0x47 Rvm, Both Full, V;  VPSLLVQ "vpsllvq" 1 2 W1 0x47 Rvm, Both Full, V;
    VPSRLVD "vpsrlvd" 1 2 W0 0x45 Rvm, Both Full, V;  VPSRLVQ "vpsrlvq" 1 2 W1 0x45 Rvm, Both Full, V;
    VPSRAVD "vpsravd" 1 2 W0 0x46 Rvm, Both Full, V;  VPSRAVQ "vpsravq" 1 2 W1 0x46 Rvm, Evex Full, V;
    VPSLLVW "vpsllvw" 1 2 W1 0x12 Rvm, Evex Full, V;  VPSRLVW "vpsrlvw" 1 2 W1 0x10 Rvm, Evex Full, V;
    VPSRAVW "vpsravw" 1 2 W1 0x11 Rvm, Evex Full, V;
    VPROLD "vprold" 1 1 W0 0x72 Vmi(1), Evex Full, V;  VPRORD "vprord" 1 1 W0 0x72 Vmi(0), Evex Full, V;
    VPACKSSWB "vpacksswb" 1 1 G0 0x63 Rvm, Both Full, V;  VPACKSSDW "vpackssdw" 1 1 G0 0x6b Rvm, Both Full, V;
    VPACKUSWB "vpackuswb" 1 1 G0 0x67 Rvm, Both Full, V;  VPACKUSDW "vpackusdw" 1 2 W0 0x2b Rvm, Both Full, V;
    VPUNPCKLBW "vpunpcklbw" 1 1 G0 0x60 Rvm, Both Full, V;  VPUNPCKLWD "vpunpcklwd" 1 1 G0 0x61 Rvm, Both Full, V;
    VPUNPCKLDQ "vpunpckldq" 1 1 G0 0x62 Rvm, Both Full, V;  VPUNPCKLQDQ "vpunpcklqdq" 1 1 G1 0x6c Rvm, Both Full, V;
    VPUNPCKHBW "vpunpckhbw" 1 1 G0 0x68 Rvm, Both Full, V;  VPUNPCKHWD "vpunpckhwd" 1 1 G0 0x69 Rvm, Both Full, V;
    VPUNPCKHDQ "vpunpckhdq" 1 1 G0 0x6a Rvm, Both Full, V;  VPUNPCKHQDQ "vpunpckhqdq" 1 1 G1 0x6d Rvm, Both Full, V;
    VPSHUFB "vpshufb" 1 2 G0 0x00 Rvm, Both Full, V;  VPSHUFD "vpshufd" 1 1 G0 0x70 Rmi, Both Full, V;
    VPSHUFLW "vpshuflw" 3 1 G0 0x70 Rmi, Both Full, V;  VPSHUFHW "vpshufhw" 2 1 G0 0x70 Rmi, Both Full, V;
    VSHUFPS "vshufps" 0 1 G0 0xc6 Rvmi, Both Full, V;  VSHUFPD "vshufpd" 1 1 G1 0xc6 Rvmi, Both Full, V;
    VUNPCKLPS "vunpcklps" 0 1 G0 0x14 Rvm, Both Full, V;
    VPALIGNR "vpalignr" 1 3 G0 0x0f Rvmi, Both Full, V;  VPBLENDW "vpblendw" 1 3 G0 0x0e Rvmi, Vex Full, V;
    VPBLENDD "vpblendd" 1 3 W0 0x02 Rvmi, Vex Full, V;  VBLENDPS "vblendps" 1 3 G0 0x0c Rvmi, Vex Full, V;
    VPBLENDVB "vpblendvb" 1 3 W0 0x4c Rvmr, Vex Full, V;  VBLENDVPS "vblendvps" 1 3 W0 0x4a Rvmr, Vex Full, V;
    VBLENDVPD "vblendvpd" 1 3 W0 0x4b Rvmr, Vex Full, V;  VINSERTPS "vinsertps" 1 3 G0 0x21 Rvmi, Both Fix(4), V;
    VPBROADCASTB "vpbroadcastb" 1 2 W0 0x78 Rm, Both Fix(1), V;  VPBROADCASTW "vpbroadcastw" 1 2 W0 0x79 Rm, Both Fix(2), V;
    VPBROADCASTD "vpbroadcastd" 1 2 W0 0x58 Rm, Both Fix(4), V;  VPBROADCASTQ "vpbroadcastq" 1 2 X1 0x59 Rm, Both Fix(8), V;
    VPINSRB "vpinsrb" 1 3 G0 0x20 Rvmi, Both Fix(1), RmG;  VPINSRW "vpinsrw" 1 1 G0 0xc4 Rvmi, Both Fix(2), RmG;
    VPINSRD "vpinsrd" 1 3 W0 0x22 Rvmi, Both Fix(4), RmG;  VPINSRQ "vpinsrq" 1 3 W1 0x22 Rvmi, Both Fix(8), RmG;
    VPEXTRB "vpextrb" 1 3 G0 0x14 Mri, Both Fix(1), RmG;  VPEXTRW "vpextrw" 1 3 G0 0x15 Mri, Both Fix(2), RmG;
    VPEXTRD "vpextrd" 1 3 W0 0x16 Mri, Both Fix(4), RmG;  VPEXTRQ "vpextrq" 1 3 W1 0x16 Mri, Both Fix(8), RmG;
    VPMOVSXBW "vpmovsxbw" 1 2 G0 0x20 Rm, Both Half, V;  VPMOVSXWD "vpmovsxwd" 1 2 G0 0x23 Rm, Both Half, V;
    VPMOVSXDQ "vpmovsxdq" 1 2 W0 0x25 Rm, Both Half, V;  VPMOVZXBW "vpmovzxbw" 1 2 G0 0x30 Rm, Both Half, V;
    VPMOVZXWD "vpmovzxwd" 1 2 G0 0x33 Rm, Both Half, V;  VPMOVZXDQ "vpmovzxdq" 1 2 W0 0x35 Rm, Both Half, V;
    VPMOVWB "vpmovwb" 2 2 W0 0x30 Mr, Evex Half, V;  VPMOVDW "vpmovdw" 2 2 W0 0x33 Mr, Evex Half, V;  VPMOVQD "vpmovqd" 2 2 W0 0x35 Mr, Evex Half, V;
    VPHADDW "vphaddw" 1 2 G0 0x01 Rvm, Vex Full, V;  VPHADDD "vphaddd" 1 2 G0 0x02 Rvm, Vex Full, V;
    VHADDPS "vhaddps" 3 1 G0 0x7c Rvm, Vex Full, V;  VHADDPD "vhaddpd" 1 1 G0 0x7c Rvm, Vex Full, V;
    VPERM2I128 "vperm2i128" 1 3 W0 0x46 Rvmi, Vex Full, V;  VPERMQ "vpermq" 1 3 W1 0x00 Rmi, Both Full, V;
    VEXTRACTI128 "vextracti128" 1 3 W0 0x39 Mri, Vex Full, V;  VINSERTI128 "vinserti128" 1 3 W0 0x38 Rvmi, Vex Full, V;
    VPERMB "vpermb" 1 2 W0 0x8d Rvm, Evex Full, V;  VPERMI2B "vpermi2b" 1 2 W0 0x75 Rvm, Evex Full, V;  VPERMT2B "vpermt2b" 1 2 W0 0x7d Rvm, Evex Full, V;
    VPOPCNTB "vpopcntb" 1 2 W0 0x54 Rm, Evex Full, V;  VPLZCNTD "vplzcntd" 1 2 W0 0x44 Rm, Evex Full, V;
    VPDPBUSD "vpdpbusd" 1 2 W0 0x50 Rvm, Evex Full, V;
    VGF2P8AFFINEQB "vgf2p8affineqb" 1 3 W1 0xce Rvmi, Both Full, V;
    VAESENC "vaesenc" 1 2 G0 0xdc Rvm, Vex Full, V;  VAESENCLAST "vaesenclast" 1 2 G0 0xdd Rvm, Vex Full, V;
    VAESDEC "vaesdec" 1 2 G0 0xde Rvm, Vex Full, V;  VAESDECLAST "vaesdeclast" 1 2 G0 0xdf Rvm, Vex Full, V;
    VAESIMC "vaesimc" 1 2 G0 0xdb Rm, Vex Full, V;  VPCLMULQDQ "vpclmulqdq" 1 3 G0 0x44 Rvmi, Vex Full, V;
}
