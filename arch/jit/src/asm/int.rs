//! Integer instructions: legacy and REX encodings, BMI1/2, CRC32, locked operations.

use super::bytes::Bytes;
use super::{Asm, Cc, Gpr, Mem, Rm, Sz};

/// The eight operations that share one encoding pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Alu {
    /// Add.
    Add = 0,
    /// Or.
    Or = 1,
    /// Add with carry.
    Adc = 2,
    /// Subtract with borrow.
    Sbb = 3,
    /// And.
    And = 4,
    /// Subtract.
    Sub = 5,
    /// Exclusive or.
    Xor = 6,
    /// Compare.
    Cmp = 7,
}

/// Shifts and rotates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Shift {
    /// Rotate left.
    Rol = 0,
    /// Rotate right.
    Ror = 1,
    /// Shift left.
    Shl = 4,
    /// Logical shift right.
    Shr = 5,
    /// Arithmetic shift right.
    Sar = 7,
}

/// Group-3 operations on one operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Unary {
    /// Invert.
    Not = 2,
    /// Negate.
    Neg = 3,
    /// Unsigned multiply of RAX into RDX:RAX.
    Mul = 4,
    /// Signed multiply of RAX into RDX:RAX.
    Imul = 5,
    /// Unsigned divide of RDX:RAX.
    Div = 6,
    /// Signed divide of RDX:RAX.
    Idiv = 7,
}

/// Whether an instruction gets the LOCK prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lock {
    /// Plain.
    No,
    /// Atomic.
    Yes,
}

/// Opcode map and mandatory prefix of an integer instruction.
#[derive(Clone, Copy)]
struct Enc {
    /// 0, 0x66, 0xf2 or 0xf3.
    pfx: u8,
    /// 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A.
    map: u8,
    op: u8,
}

const fn one(op: u8) -> Enc {
    Enc { pfx: 0, map: 0, op }
}
const fn two(op: u8) -> Enc {
    Enc { pfx: 0, map: 1, op }
}

impl Asm {
    pub(super) fn modrm_only(&mut self, reg: u8, rm: &Rm) {
        let mut o = Bytes::default();
        o.modrm(reg, rm, 1);
        self.put(o);
    }

    /// REX bits X and B (bits 1 and 0) that the operand needs.
    #[inline]
    pub(super) fn xb(rm: &Rm) -> u8 {
        match rm {
            Rm::Reg(r) => r >> 3 & 1,
            Rm::Mem(m) => m.index.map_or(0, |(i, _)| i.0 >> 3 << 1) | m.base.0 >> 3,
        }
    }

    /// One legacy-encoded instruction. The operand comes by reference: by value its displacement would lie across two registers, and putting it together again
    /// waits for the store buffer. `byte_regs`: register operands are 8 bits wide, so that 4..=7 need a REX to mean SPL..DIL.
    fn legacy(&mut self, lock: Lock, sz: Sz, e: Enc, reg: u8, rm: &Rm, byte_regs: (bool, bool)) {
        let mut o = Bytes::default();
        if lock == Lock::Yes {
            o.push(0xf0);
        }
        if sz == Sz::H {
            o.push(0x66);
        }
        if e.pfx != 0 {
            o.push(e.pfx);
        }
        let mut rex = (u8::from(sz == Sz::Q) << 3) | (reg >> 3) << 2 | Self::xb(rm);
        let high = |r: u8| (4..8).contains(&r);
        if byte_regs.0 && high(reg) || byte_regs.1 && matches!(rm, Rm::Reg(r) if high(*r)) {
            rex |= 0x40;
        }
        if rex != 0 {
            o.push(0x40 | rex);
        }
        match e.map {
            1 => o.push(0x0f),
            2 => {
                o.push(0x0f);
                o.push(0x38);
            }
            3 => {
                o.push(0x0f);
                o.push(0x3a);
            }
            _ => {}
        }
        o.push(e.op);
        o.modrm(reg, rm, 1);
        self.put(o);
    }

    fn plain(&mut self, sz: Sz, e: Enc, reg: u8, rm: impl Into<Rm>) {
        self.legacy(Lock::No, sz, e, reg, &rm.into(), (false, false));
    }

    #[inline]
    fn imm(&mut self, sz: Sz, imm: i32) {
        match sz {
            Sz::B => self.byte(imm.to_le_bytes()[0]),
            Sz::H => self.bytes(&imm.to_le_bytes()[..2]),
            Sz::D | Sz::Q => self.dword(imm.cast_unsigned()),
        }
    }

    // ---- moves

    /// `mov dst, src` between registers (32 or 64 bits).
    pub fn mov(&mut self, sz: Sz, dst: Gpr, src: Gpr) {
        self.plain(sz, one(0x8b), dst.0, src);
    }

    /// `mov dst, [mem]` (32 or 64 bits).
    pub fn load(&mut self, sz: Sz, dst: Gpr, mem: Mem) {
        self.plain(sz, one(0x8b), dst.0, mem);
    }

    /// `mov [mem], src` of any width.
    pub fn store(&mut self, sz: Sz, mem: Mem, src: Gpr) {
        if sz == Sz::B {
            self.legacy(Lock::No, sz, one(0x88), src.0, &mem.into(), (true, false));
        } else {
            self.plain(sz, one(0x89), src.0, mem);
        }
    }

    /// `mov [mem], imm` (sign-extended to 64 bits).
    pub fn store_imm(&mut self, sz: Sz, mem: Mem, imm: i32) {
        self.plain(sz, one(if sz == Sz::B { 0xc6 } else { 0xc7 }), 0, mem);
        self.imm(sz, imm);
    }

    /// Load a constant by the shortest instruction that leaves the flags alone.
    pub fn mov_imm(&mut self, dst: Gpr, imm: u64) {
        if let Ok(v) = u32::try_from(imm) {
            if dst.0 >= 8 {
                self.byte(0x41);
            }
            self.byte(0xb8 | dst.0 & 7);
            self.dword(v);
        } else if let Ok(v) = i32::try_from(imm.cast_signed()) {
            self.plain(Sz::Q, one(0xc7), 0, dst);
            self.dword(v.cast_unsigned());
        } else {
            self.bytes(&[0x48 | dst.0 >> 3, 0xb8 | dst.0 & 7]);
            self.qword(imm);
        }
    }

    /// `xor dst, dst`: zero, clobbering the flags.
    pub fn zero(&mut self, dst: Gpr) {
        self.alu(Alu::Xor, Sz::D, dst, dst);
    }

    /// Zero-extend a byte or halfword to 64 bits.
    pub fn movzx(&mut self, from: Sz, dst: Gpr, src: impl Into<Rm>) {
        debug_assert!(matches!(from, Sz::B | Sz::H));
        let byte = from == Sz::B;
        self.legacy(Lock::No, Sz::D, two(if byte { 0xb6 } else { 0xb7 }), dst.0, &src.into(), (false, byte));
    }

    /// Sign-extend `from` (B, H or D) to `to` (D or Q).
    pub fn movsx(&mut self, from: Sz, to: Sz, dst: Gpr, src: impl Into<Rm>) {
        let e = match from {
            Sz::B => two(0xbe),
            Sz::H => two(0xbf),
            _ => one(0x63),
        };
        self.legacy(Lock::No, to, e, dst.0, &src.into(), (false, from == Sz::B));
    }

    /// `lea dst, [mem]`.
    pub fn lea(&mut self, sz: Sz, dst: Gpr, mem: Mem) {
        self.plain(sz, one(0x8d), dst.0, mem);
    }

    /// `cmovcc dst, src`.
    pub fn cmov(&mut self, cc: Cc, sz: Sz, dst: Gpr, src: impl Into<Rm>) {
        self.plain(sz, two(0x40 | cc as u8), dst.0, src);
    }

    /// `setcc` of a byte register or byte in memory.
    pub fn setcc(&mut self, cc: Cc, dst: impl Into<Rm>) {
        self.legacy(Lock::No, Sz::D, two(0x90 | cc as u8), 0, &dst.into(), (false, true));
    }

    /// `bswap dst` (32 or 64 bits).
    pub fn bswap(&mut self, sz: Sz, dst: Gpr) {
        let rex = u8::from(sz == Sz::Q) << 3 | dst.0 >> 3;
        if rex != 0 {
            self.byte(0x40 | rex);
        }
        self.bytes(&[0x0f, 0xc8 | dst.0 & 7]);
    }

    /// `xchg [mem], reg`: atomic.
    pub fn xchg(&mut self, sz: Sz, mem: Mem, reg: Gpr) {
        let b = sz == Sz::B;
        self.legacy(Lock::No, sz, one(if b { 0x86 } else { 0x87 }), reg.0, &mem.into(), (b, false));
    }

    /// `push reg`.
    pub fn push(&mut self, r: Gpr) {
        if r.0 >= 8 {
            self.byte(0x41);
        }
        self.byte(0x50 | r.0 & 7);
    }

    /// `pop reg`.
    pub fn pop(&mut self, r: Gpr) {
        if r.0 >= 8 {
            self.byte(0x41);
        }
        self.byte(0x58 | r.0 & 7);
    }

    // ---- arithmetic

    /// `op dst, src` with a register or memory source.
    pub fn alu(&mut self, op: Alu, sz: Sz, dst: Gpr, src: impl Into<Rm>) {
        let b = sz == Sz::B;
        self.legacy(Lock::No, sz, one((op as u8) << 3 | if b { 2 } else { 3 }), dst.0, &src.into(), (b, b));
    }

    /// `op [mem], src`.
    pub fn alu_mr(&mut self, lock: Lock, op: Alu, sz: Sz, mem: Mem, src: Gpr) {
        let b = sz == Sz::B;
        self.legacy(lock, sz, one((op as u8) << 3 | u8::from(!b)), src.0, &mem.into(), (b, false));
    }

    /// `op dst, imm` on a register or memory; the immediate is sign-extended.
    pub fn alu_imm(&mut self, op: Alu, sz: Sz, dst: impl Into<Rm>, imm: i32) {
        let dst = dst.into();
        let b = sz == Sz::B;
        if b {
            self.legacy(Lock::No, sz, one(0x80), op as u8, &dst, (false, true));
            self.imm(Sz::B, imm);
        } else if let Ok(i) = i8::try_from(imm) {
            self.plain(sz, one(0x83), op as u8, dst);
            self.byte(i.cast_unsigned());
        } else if dst == Rm::Reg(0) && sz != Sz::H {
            if sz == Sz::Q {
                self.byte(0x48);
            }
            self.byte((op as u8) << 3 | 5);
            self.imm(sz, imm);
        } else {
            self.plain(sz, one(0x81), op as u8, dst);
            self.imm(sz, imm);
        }
    }

    /// `test a, b`.
    pub fn test(&mut self, sz: Sz, a: impl Into<Rm>, b: Gpr) {
        let byte = sz == Sz::B;
        self.legacy(Lock::No, sz, one(if byte { 0x84 } else { 0x85 }), b.0, &a.into(), (byte, byte));
    }

    /// `test a, imm`.
    pub fn test_imm(&mut self, sz: Sz, a: impl Into<Rm>, imm: i32) {
        let byte = sz == Sz::B;
        self.legacy(Lock::No, sz, one(if byte { 0xf6 } else { 0xf7 }), 0, &a.into(), (false, byte));
        self.imm(sz, imm);
    }

    /// `imul dst, src`.
    pub fn imul(&mut self, sz: Sz, dst: Gpr, src: impl Into<Rm>) {
        self.plain(sz, two(0xaf), dst.0, src);
    }

    /// Not, negate, multiply and divide of one operand.
    pub fn unary(&mut self, op: Unary, sz: Sz, dst: impl Into<Rm>) {
        self.legacy(
            Lock::No,
            sz,
            one(if sz == Sz::B { 0xf6 } else { 0xf7 }),
            op as u8,
            &dst.into(),
            (false, sz == Sz::B),
        );
    }

    /// Increment (`dec` false) or decrement; CF is kept.
    pub fn inc_dec(&mut self, dec: bool, sz: Sz, dst: impl Into<Rm>) {
        self.legacy(
            Lock::No,
            sz,
            one(if sz == Sz::B { 0xfe } else { 0xff }),
            u8::from(dec),
            &dst.into(),
            (false, sz == Sz::B),
        );
    }

    /// `cdq` or `cqo`: sign of RAX into RDX.
    pub fn sign_rdx(&mut self, sz: Sz) {
        if sz == Sz::Q {
            self.byte(0x48);
        }
        self.byte(0x99);
    }

    // ---- shifts and bits

    /// `op dst, imm`.
    pub fn shift_imm(&mut self, op: Shift, sz: Sz, dst: impl Into<Rm>, n: u8) {
        self.legacy(
            Lock::No,
            sz,
            one(if sz == Sz::B { 0xc0 } else { 0xc1 }),
            op as u8,
            &dst.into(),
            (false, sz == Sz::B),
        );
        self.byte(n);
    }

    /// `op dst, cl`.
    pub fn shift_cl(&mut self, op: Shift, sz: Sz, dst: Gpr) {
        self.legacy(
            Lock::No,
            sz,
            one(if sz == Sz::B { 0xd2 } else { 0xd3 }),
            op as u8,
            &dst.into(),
            (false, sz == Sz::B),
        );
    }

    /// `shrd dst, src, n`: the low bits of `src` enter `dst` from above.
    pub fn shrd(&mut self, sz: Sz, dst: Gpr, src: Gpr, n: u8) {
        self.plain(sz, two(0xac), src.0, dst);
        self.byte(n);
    }

    /// `bt` (4), `bts` (5), `btr` (6) or `btc` (7) with an immediate bit number.
    pub fn bit_imm(&mut self, op: u8, sz: Sz, dst: impl Into<Rm>, n: u8) {
        self.plain(sz, two(0xba), op, dst);
        self.byte(n);
    }

    /// `lzcnt dst, src`.
    pub fn lzcnt(&mut self, sz: Sz, dst: Gpr, src: impl Into<Rm>) {
        self.plain(sz, Enc { pfx: 0xf3, map: 1, op: 0xbd }, dst.0, src);
    }

    /// `tzcnt dst, src`.
    pub fn tzcnt(&mut self, sz: Sz, dst: Gpr, src: impl Into<Rm>) {
        self.plain(sz, Enc { pfx: 0xf3, map: 1, op: 0xbc }, dst.0, src);
    }

    /// `popcnt dst, src`.
    pub fn popcnt(&mut self, sz: Sz, dst: Gpr, src: impl Into<Rm>) {
        self.plain(sz, Enc { pfx: 0xf3, map: 1, op: 0xb8 }, dst.0, src);
    }

    /// `crc32 dst, src` (Castagnoli); `sz` is the width of the source.
    pub fn crc32(&mut self, sz: Sz, dst: Gpr, src: Gpr) {
        let b = sz == Sz::B;
        self.legacy(
            Lock::No,
            sz,
            Enc { pfx: 0xf2, map: 2, op: if b { 0xf0 } else { 0xf1 } },
            dst.0,
            &src.into(),
            (false, b),
        );
    }

    /// VEX-encoded integer instruction of map 0F38 or 0F3A.
    fn vex_int(&mut self, map: u8, pp: u8, sz: Sz, op: u8, reg: u8, vvvv: u8, rm: &Rm) {
        let xb = Self::xb(rm);
        let mut o = Bytes::default();
        o.push(0xc4);
        o.push((!(reg >> 3) & 1) << 7 | (!(xb >> 1) & 1) << 6 | (!xb & 1) << 5 | map);
        o.push(u8::from(sz == Sz::Q) << 7 | (!vvvv & 15) << 3 | pp);
        o.push(op);
        o.modrm(reg, rm, 1);
        self.put(o);
    }

    /// `shlx`/`shrx`/`sarx dst, src, count`: flags untouched, count modulo the width. `Rol`/`Ror` do not exist.
    pub fn shiftx(&mut self, op: Shift, sz: Sz, dst: Gpr, src: impl Into<Rm>, count: Gpr) {
        let pp = match op {
            Shift::Shl => 1,
            Shift::Shr => 3,
            _ => 2,
        };
        self.vex_int(2, pp, sz, 0xf7, dst.0, count.0, &src.into());
    }

    /// `rorx dst, src, n`: flags untouched.
    pub fn rorx(&mut self, sz: Sz, dst: Gpr, src: impl Into<Rm>, n: u8) {
        self.vex_int(3, 3, sz, 0xf0, dst.0, 0, &src.into());
        self.byte(n);
    }

    /// `andn dst, not, src`: `!not & src`, flags of the result with CF = OF = 0.
    pub fn andn(&mut self, sz: Sz, dst: Gpr, not: Gpr, src: impl Into<Rm>) {
        self.vex_int(2, 0, sz, 0xf2, dst.0, not.0, &src.into());
    }

    /// `mulx hi, lo, src`: RDX * src, flags untouched.
    pub fn mulx(&mut self, sz: Sz, hi: Gpr, lo: Gpr, src: impl Into<Rm>) {
        self.vex_int(2, 3, sz, 0xf6, hi.0, lo.0, &src.into());
    }

    /// `pext dst, src, mask`: gather the bits of `src` that `mask` selects.
    pub fn pext(&mut self, sz: Sz, dst: Gpr, src: Gpr, mask: impl Into<Rm>) {
        self.vex_int(2, 2, sz, 0xf5, dst.0, src.0, &mask.into());
    }

    /// `pdep dst, src, mask`: scatter the low bits of `src` to where `mask` says.
    pub fn pdep(&mut self, sz: Sz, dst: Gpr, src: Gpr, mask: impl Into<Rm>) {
        self.vex_int(2, 3, sz, 0xf5, dst.0, src.0, &mask.into());
    }

    /// `bextr dst, src, control`: field extraction, control = start | length << 8.
    pub fn bextr(&mut self, sz: Sz, dst: Gpr, src: impl Into<Rm>, control: Gpr) {
        self.vex_int(2, 0, sz, 0xf7, dst.0, control.0, &src.into());
    }

    /// `bzhi dst, src, n`: clear the bits from position `n` up.
    pub fn bzhi(&mut self, sz: Sz, dst: Gpr, src: impl Into<Rm>, n: Gpr) {
        self.vex_int(2, 0, sz, 0xf5, dst.0, n.0, &src.into());
    }

    // ---- atomics

    /// `lock xadd [mem], reg`.
    pub fn xadd(&mut self, sz: Sz, mem: Mem, reg: Gpr) {
        let b = sz == Sz::B;
        self.legacy(Lock::Yes, sz, two(if b { 0xc0 } else { 0xc1 }), reg.0, &mem.into(), (b, false));
    }

    /// `lock cmpxchg [mem], reg` against RAX.
    pub fn cmpxchg(&mut self, sz: Sz, mem: Mem, reg: Gpr) {
        let b = sz == Sz::B;
        self.legacy(Lock::Yes, sz, two(if b { 0xb0 } else { 0xb1 }), reg.0, &mem.into(), (b, false));
    }

    /// `lock cmpxchg16b [mem]` of RDX:RAX against RCX:RBX.
    pub fn cmpxchg16b(&mut self, mem: Mem) {
        self.legacy(Lock::Yes, Sz::Q, two(0xc7), 1, &mem.into(), (false, false));
    }

    // ---- control

    /// `jmp` to the address in a register or in memory.
    pub fn jmp_rm(&mut self, target: impl Into<Rm>) {
        self.plain(Sz::D, one(0xff), 4, target);
    }

    /// `call` the address in a register or in memory.
    pub fn call_rm(&mut self, target: impl Into<Rm>) {
        self.plain(Sz::D, one(0xff), 2, target);
    }

    /// `ret`.
    pub fn ret(&mut self) {
        self.byte(0xc3);
    }

    /// `lahf`: SF ZF AF PF CF into AH.
    pub fn lahf(&mut self) {
        self.byte(0x9f);
    }

    /// `sahf`: AH into SF ZF AF PF CF.
    pub fn sahf(&mut self) {
        self.byte(0x9e);
    }

    /// `cmc`: invert CF.
    pub fn cmc(&mut self) {
        self.byte(0xf5);
    }

    /// `clc`: CF = 0.
    pub fn clc(&mut self) {
        self.byte(0xf8);
    }

    /// `stc`: CF = 1.
    pub fn stc(&mut self) {
        self.byte(0xf9);
    }

    /// `rdtsc`: time stamp into EDX:EAX.
    pub fn rdtsc(&mut self) {
        self.bytes(&[0x0f, 0x31]);
    }

    /// `lfence`: nothing behind it begins before everything in front of it is complete.
    pub fn lfence(&mut self) {
        self.bytes(&[0x0f, 0xae, 0xe8]);
    }

    /// `pause`.
    pub fn pause(&mut self) {
        self.bytes(&[0xf3, 0x90]);
    }

    /// `ud2`: raises an invalid-opcode signal; stands where control must not come.
    pub fn ud2(&mut self) {
        self.bytes(&[0x0f, 0x0b]);
    }

    /// `ldmxcsr [mem]`.
    pub fn ldmxcsr(&mut self, mem: Mem) {
        self.plain(Sz::D, two(0xae), 2, mem);
    }

    /// `stmxcsr [mem]`.
    pub fn stmxcsr(&mut self, mem: Mem) {
        self.plain(Sz::D, two(0xae), 3, mem);
    }

    /// `n` bytes of padding that execute as few instructions as possible.
    pub fn nop(&mut self, n: u32) {
        const NOPS: [u128; 10] =
            [0, 0x90, 0x9066, 0x1f0f, 0x0040_1f0f, 0x0044_1f0f, 0x441f_0f66, 0x0080_1f0f, 0x0084_1f0f, 0x841f_0f66];
        let mut left = n as usize;
        while left > 0 {
            let step = left.min(9);
            self.put_word(NOPS[step], step);
            left -= step;
        }
    }
}
