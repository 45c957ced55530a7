//! Integer data processing: sums, logic, constants, selection here; the rest in files of its own.

mod bits;
mod multiply;

use isa::insn::{CondSelectOp, Extend, Insn, LogicalOp, MoveWideOp, Shift as ArmShift, Size};

use crate::asm::{Alu, Gpr, Lock, Mem, Rm, Section, Shift, Sz, Unary};
use crate::t1::builder::Builder;
use crate::t1::flags::{Op2, Polarity, Recipe, RecipeOp, from_nzcv};
use crate::t1::regs::{SP, ZR, or_sp, pin};

const RAX: Gpr = Gpr::RAX;
const RCX: Gpr = Gpr::RCX;
const RDX: Gpr = Gpr::RDX;

/// Lower one instruction of this family; false if it has no lowering.
pub fn lower(b: &mut Builder<'_>, insn: &Insn) -> bool {
    match *insn {
        Insn::PcRel { rd, page, offset } => {
            b.begin(&[rd], false);
            if rd != ZR {
                let target = if page { offset } else { i64::from(b.pc_offset()) + offset };
                let d = b.d(rd, RAX);
                b.pc_plus(d, target);
                b.set(rd, d);
            }
        }
        Insn::AddSubImm { sf, sub, setflags, rd, rn, imm } => add_sub_imm(b, sf, sub, setflags, rd, or_sp(rn), imm),
        Insn::AddSubShifted { sf, sub, setflags, shift, amount, rd, rn, rm } => {
            add_sub_shifted(b, Sz::dq(sf), sub, setflags, (shift, amount), rd, rn, rm);
        }
        Insn::AddSubExtended { sf, sub, setflags, extend, shift, rd, rn, rm } => {
            add_sub_extended(b, Sz::dq(sf), sub, setflags, (extend, shift), rd, or_sp(rn), rm);
        }
        Insn::AddSubCarry { sf, sub, setflags, rd, rn, rm } => add_sub_carry(b, Sz::dq(sf), sub, setflags, rd, rn, rm),
        Insn::LogicalImm { sf, op, setflags, rd, rn, imm } => {
            logical_imm(b, Sz::dq(sf), op, setflags, if setflags { rd } else { or_sp(rd) }, rn, imm);
        }
        Insn::LogicalShifted { sf, op, invert, setflags, shift, amount, rd, rn, rm } => {
            logical_shifted(b, Sz::dq(sf), op, invert, setflags, (shift, amount), rd, rn, rm);
        }
        Insn::MoveWide { sf, op, rd, shift, imm } => move_wide(b, sf, op, rd, shift, imm),
        Insn::Bitfield { sf, op, rd, rn, immr, imms } => bits::bitfield(b, sf, op, rd, rn, immr, imms),
        Insn::Extract { sf, rd, rn, rm, lsb } => bits::extract(b, Sz::dq(sf), rd, rn, rm, lsb),
        Insn::DataProc1 { sf, op, rd, rn } => return bits::data1(b, sf, op, rd, rn),
        Insn::DataProc2 { sf, op, rd, rn, rm } => bits::data2(b, Sz::dq(sf), op, rd, rn, rm),
        Insn::Crc32 { castagnoli: true, size, rd, rn, rm } => {
            b.begin(&[rd], false);
            b.load_w(RAX, rn);
            let m = b.r(rm, RCX);
            let sz = match size {
                Size::B => Sz::B,
                Size::H => Sz::H,
                Size::W => Sz::D,
                _ => Sz::Q,
            };
            b.a.crc32(sz, RAX, m);
            b.set(rd, RAX);
        }
        Insn::MulAdd { sf, sub, rd, rn, rm, ra } => multiply::mul_add(b, Sz::dq(sf), sub, rd, rn, rm, ra),
        Insn::MulAddLong { signed, sub, rd, rn, rm, ra } => multiply::mul_add_long(b, signed, sub, rd, rn, rm, ra),
        Insn::MulHigh { signed, rd, rn, rm } => multiply::mul_high(b, signed, rd, rn, rm),
        Insn::CondSelect { sf, op, cond, rd, rn, rm } => cond_select(b, Sz::dq(sf), op, cond, rd, rn, rm),
        Insn::CondCompareReg { sf, sub, cond, nzcv, rn, rm } => {
            cond_compare(b, Sz::dq(sf), sub, cond, nzcv, rn, Op2::Reg(rm));
        }
        Insn::CondCompareImm { sf, sub, cond, nzcv, rn, imm } => {
            cond_compare(b, Sz::dq(sf), sub, cond, nzcv, rn, Op2::Imm(i32::from(imm)));
        }
        _ => return false,
    }
    true
}

/// `d = a + disp` without touching flags; 32-bit results are zero-extended.
fn lea_add(b: &mut Builder<'_>, sz: Sz, d: Gpr, a: Gpr, disp: i32) {
    if disp == 0 {
        if d != a || sz == Sz::D {
            b.a.mov(sz, d, a);
        }
    } else {
        b.a.lea(sz, d, Mem::b(a, disp));
    }
}

fn add_sub_imm(b: &mut Builder<'_>, sf: bool, sub: bool, setflags: bool, rd: u8, rn: u8, imm: u32) {
    let sz = Sz::dq(sf);
    let imm = imm.cast_signed();
    if !setflags {
        let rd = or_sp(rd);
        let aligned = b.sp_aligned && rn == SP && imm % 16 == 0;
        if let Some(m) = b.in_place(sz, rd, rn)
            && b.eflags_free()
        {
            b.begin(&[rd], true);
            return b.a.alu_imm(if sub { Alu::Sub } else { Alu::Add }, sz, m, imm);
        }
        b.begin(&[rd], false);
        let n = b.r(rn, RAX);
        let d = b.d(rd, RAX);
        lea_add(b, sz, d, n, if sub { -imm } else { imm });
        b.set(rd, d);
        if rd == SP {
            b.sp_aligned = aligned;
        }
        return;
    }
    let recipe = Recipe { op: if sub { RecipeOp::Cmp } else { RecipeOp::Cmn }, sz, a: rn, b: Op2::Imm(imm) };
    b.begin_def();
    if rd == ZR {
        return b.flags_by(recipe);
    }
    let op = if sub { Alu::Sub } else { Alu::Add };
    if let Some(m) = b.in_place(sz, rd, rn) {
        b.a.alu_imm(op, sz, m, imm);
    } else {
        let d = b.d(rd, RAX);
        b.load_low(sz, d, rn);
        b.a.alu_imm(op, sz, d, imm);
        b.set(rd, d);
    }
    b.flags_in_host(if sub { Polarity::Sub } else { Polarity::Add });
    if rd != rn {
        b.flags.recipe = Some(recipe);
    }
}

/// The shifted register in a scratch register or as it is. `to` is written if a shift is needed.
fn shifted(b: &mut Builder<'_>, sz: Sz, (shift, amount): (ArmShift, u8), rm: u8, to: Gpr) -> Rm {
    if amount == 0 {
        return b.rm(rm, to);
    }
    if shift == ArmShift::Ror {
        let src = b.rm(rm, to);
        b.a.rorx(sz, to, src, amount);
        return to.into();
    }
    b.load_sz(sz, to, rm);
    let op = match shift {
        ArmShift::Lsl => Shift::Shl,
        ArmShift::Lsr => Shift::Shr,
        _ => Shift::Sar,
    };
    b.a.shift_imm(op, sz, to, amount);
    to.into()
}

/// `rd = rn op src` by a two-operand instruction, with `src` possibly in RCX and possibly equal to the destination.
/// EFLAGS are those of the operation.
fn two_operand(b: &mut Builder<'_>, op: Alu, sz: Sz, rd: u8, rn: u8, src: Rm) {
    if let Some(m) = b.in_place(sz, rd, rn) {
        let by = match src {
            Rm::Reg(r) => Gpr(r),
            Rm::Mem(from) => {
                b.a.load(sz, RCX, from);
                RCX
            }
        };
        return b.a.alu_mr(Lock::No, op, sz, m, by);
    }
    let commutes = matches!(op, Alu::Add | Alu::Adc | Alu::And | Alu::Or | Alu::Xor);
    if commutes
        && rn != ZR
        && let Some(m) = b.in_place(sz, rd, rd)
        && src == Rm::Mem(m)
    {
        let by = b.r(rn, RCX);
        return b.a.alu_mr(Lock::No, op, sz, m, by);
    }
    let pinned = pin(rd);
    let overlaps = pinned.is_some_and(|d| src == Rm::Reg(d.0)) && pin(rn) != pinned;
    let d = if overlaps { RAX } else { pinned.unwrap_or(RAX) };
    b.load_low(sz, d, rn);
    b.a.alu(op, sz, d, src);
    b.set(rd, d);
}

fn add_sub_shifted(
    b: &mut Builder<'_>,
    sz: Sz,
    sub: bool,
    setflags: bool,
    shift: (ArmShift, u8),
    rd: u8,
    rn: u8,
    rm: u8,
) {
    let op = if sub { Alu::Sub } else { Alu::Add };
    let polarity = if sub { Polarity::Sub } else { Polarity::Add };
    if setflags {
        b.begin_def();
        let recipe = (shift.1 == 0).then_some(Recipe {
            op: if sub { RecipeOp::Cmp } else { RecipeOp::Cmn },
            sz,
            a: rn,
            b: Op2::Reg(rm),
        });
        if rd == ZR
            && let Some(r) = recipe
        {
            return b.flags_by(r);
        }
        let src = shifted(b, sz, shift, rm, RCX);
        if rd == ZR && sub {
            let n = b.r(rn, RAX);
            b.a.alu(Alu::Cmp, sz, n, src);
        } else {
            two_operand(b, op, sz, rd, rn, src);
        }
        b.flags_in_host(polarity);
        if rd != rn && rd != rm {
            b.flags.recipe = recipe;
        }
        return;
    }
    let by_lea = !sub && shift.0 == ArmShift::Lsl && shift.1 <= 3 && rm != ZR && rn != ZR;
    b.begin(&[rd], !(by_lea || shift.1 == 0 && (rn == ZR || rm == ZR) && !sub));
    if by_lea {
        let n = b.r(rn, RAX);
        let m = b.r(rm, RCX);
        let d = b.d(rd, RAX);
        // Without a scale either register may be the base: RBP and R13 cost a displacement byte there.
        b.a.lea(sz, d, Mem::bi(n, m, shift.1, 0));
        return b.set(rd, d);
    }
    if sub && rn == ZR {
        // NEG.
        let src = shifted(b, sz, shift, rm, RCX);
        match src {
            Rm::Reg(r) => b.a.mov(sz, RAX, Gpr(r)),
            Rm::Mem(m) => b.a.load(sz, RAX, m),
        }
        b.a.unary(Unary::Neg, sz, RAX);
        return b.set(rd, RAX);
    }
    let src = shifted(b, sz, shift, rm, RCX);
    if rn == ZR || rm == ZR {
        // Addition or subtraction of zero: a move.
        let d = b.d(rd, RAX);
        if rm == ZR {
            b.load_sz(sz, d, rn);
        } else {
            match src {
                Rm::Reg(r) => b.a.mov(sz, d, Gpr(r)),
                Rm::Mem(m) => b.a.load(sz, d, m),
            }
        }
        return b.set(rd, d);
    }
    two_operand(b, op, sz, rd, rn, src);
}

/// The extended register in `to` (64 bits), before its shift.
pub fn extended(b: &mut Builder<'_>, extend: Extend, rm: u8, to: Gpr) -> Gpr {
    let src = b.rm(rm, to);
    match extend {
        Extend::Uxtb => b.a.movzx(Sz::B, to, src),
        Extend::Uxth => b.a.movzx(Sz::H, to, src),
        Extend::Uxtw => match src {
            Rm::Reg(r) => b.a.mov(Sz::D, to, Gpr(r)),
            Rm::Mem(m) => b.a.load(Sz::D, to, m),
        },
        Extend::Sxtb => b.a.movsx(Sz::B, Sz::Q, to, src),
        Extend::Sxth => b.a.movsx(Sz::H, Sz::Q, to, src),
        Extend::Sxtw => b.a.movsx(Sz::D, Sz::Q, to, src),
        Extend::Uxtx | Extend::Sxtx => match src {
            Rm::Reg(r) => return Gpr(r),
            Rm::Mem(m) => b.a.load(Sz::Q, to, m),
        },
    }
    to
}

fn add_sub_extended(b: &mut Builder<'_>, sz: Sz, sub: bool, setflags: bool, ext: (Extend, u8), rd: u8, rn: u8, rm: u8) {
    let rd = if setflags { rd } else { or_sp(rd) };
    if setflags {
        b.begin_def();
    } else {
        b.begin(&[rd], true);
        if rd == SP {
            b.sp_aligned = false;
        }
    }
    let mut m = extended(b, ext.0, rm, RCX);
    if !setflags && !sub && ext.1 <= 3 && rm != ZR {
        let n = b.r(rn, RAX);
        let d = b.d(rd, RAX);
        b.a.lea(sz, d, Mem::bi(n, m, ext.1, 0));
        return b.set(rd, d);
    }
    if ext.1 != 0 {
        b.a.mov(Sz::Q, RCX, m);
        b.a.shift_imm(Shift::Shl, Sz::Q, RCX, ext.1);
        m = RCX;
    }
    two_operand(b, if sub { Alu::Sub } else { Alu::Add }, sz, rd, rn, m.into());
    if setflags {
        b.flags_in_host(if sub { Polarity::Sub } else { Polarity::Add });
    }
}

fn add_sub_carry(b: &mut Builder<'_>, sz: Sz, sub: bool, setflags: bool, rd: u8, rn: u8, rm: u8) {
    let want = if sub { Polarity::Sub } else { Polarity::Add };
    if !setflags {
        if b.flags_live_out() {
            b.store_flags();
        }
        b.need_polarity(want);
        b.flags.host = None;
        if b.flags.recipe.is_some_and(|r| r.a == rd || r.b == Op2::Reg(rd)) {
            b.flags.recipe = None;
        }
    } else {
        b.need_polarity(want);
    }
    let op = if sub { Alu::Sbb } else { Alu::Adc };
    if rm == ZR {
        by_immediate(b, op, sz, rd, rn, 0);
    } else {
        let src = b.rm(rm, RCX);
        two_operand(b, op, sz, rd, rn, src);
    }
    if setflags {
        b.flags_in_host(want);
    }
}

fn fits(sz: Sz, imm: u64) -> Option<i32> {
    if sz == Sz::D {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        return Some((imm as u32).cast_signed());
    }
    i32::try_from(imm.cast_signed()).ok()
}

/// `rd = rn op imm`.
fn by_immediate(b: &mut Builder<'_>, op: Alu, sz: Sz, rd: u8, rn: u8, imm: i32) {
    if let Some(m) = b.in_place(sz, rd, rn) {
        return b.a.alu_imm(op, sz, m, imm);
    }
    let d = b.d(rd, RAX);
    b.load_low(sz, d, rn);
    b.a.alu_imm(op, sz, d, imm);
    b.set(rd, d);
}

fn logical_imm(b: &mut Builder<'_>, sz: Sz, op: LogicalOp, setflags: bool, rd: u8, rn: u8, imm: u64) {
    if setflags {
        b.begin_def();
        if rd == ZR
            && let Some(i) = fits(sz, imm)
        {
            return b.flags_by(Recipe { op: RecipeOp::Test, sz, a: rn, b: Op2::Imm(i) });
        }
        if let Some(i) = fits(sz, imm) {
            by_immediate(b, Alu::And, sz, rd, rn, i);
        } else {
            b.a.mov_imm(RCX, imm);
            two_operand(b, Alu::And, sz, rd, rn, RCX.into());
        }
        return b.flags_in_host(Polarity::Add);
    }
    if rd == SP {
        b.sp_aligned = op == LogicalOp::And && imm & 15 == 0;
    }
    if op == LogicalOp::Orr && rn == ZR {
        b.begin(&[rd], false);
        return b.set_imm(rd, imm);
    }
    let zero_extend = match (op, imm) {
        (LogicalOp::And, 0xff) => Some(Sz::B),
        (LogicalOp::And, 0xffff) => Some(Sz::H),
        (LogicalOp::And, 0xffff_ffff) => Some(Sz::D),
        _ => None,
    };
    if let Some(from) = zero_extend {
        b.begin(&[rd], false);
        let d = b.d(rd, RAX);
        let src = b.rm(rn, RAX);
        match (from, src) {
            (Sz::D, _) => b.load_w(d, rn),
            _ => b.a.movzx(from, d, src),
        }
        return b.set(rd, d);
    }
    b.begin(&[rd], true);
    let alu = match op {
        LogicalOp::And | LogicalOp::Ands => Alu::And,
        LogicalOp::Orr => Alu::Or,
        LogicalOp::Eor => Alu::Xor,
    };
    if let Some(i) = fits(sz, imm) {
        by_immediate(b, alu, sz, rd, rn, i);
    } else {
        b.a.mov_imm(RCX, imm);
        two_operand(b, alu, sz, rd, rn, RCX.into());
    }
}

fn logical_shifted(
    b: &mut Builder<'_>,
    sz: Sz,
    op: LogicalOp,
    invert: bool,
    setflags: bool,
    shift: (ArmShift, u8),
    rd: u8,
    rn: u8,
    rm: u8,
) {
    if op == LogicalOp::Orr && rn == ZR && shift.1 == 0 && !setflags {
        // MOV, MVN.
        b.begin(&[rd], false);
        let d = b.d(rd, RAX);
        b.load_sz(sz, d, rm);
        if invert {
            b.a.unary(Unary::Not, sz, d);
        }
        return b.set(rd, d);
    }
    if setflags {
        b.begin_def();
        if rd == ZR && shift.1 == 0 && !invert {
            return b.flags_by(Recipe { op: RecipeOp::Test, sz, a: rn, b: Op2::Reg(rm) });
        }
    } else {
        b.begin(&[rd], true);
    }
    let src = shifted(b, sz, shift, rm, RCX);
    match (op, invert) {
        (LogicalOp::And | LogicalOp::Ands, true) => {
            let m = match src {
                Rm::Reg(r) => Gpr(r),
                Rm::Mem(m) => {
                    b.a.load(sz, RCX, m);
                    RCX
                }
            };
            let n = b.rm(rn, RAX);
            let d = b.d(rd, RAX);
            b.a.andn(sz, d, m, n);
            b.set(rd, d);
        }
        (_, true) => {
            match src {
                Rm::Reg(r) => b.a.mov(sz, RCX, Gpr(r)),
                Rm::Mem(m) => b.a.load(sz, RCX, m),
            }
            b.a.unary(Unary::Not, sz, RCX);
            two_operand(b, if op == LogicalOp::Orr { Alu::Or } else { Alu::Xor }, sz, rd, rn, RCX.into());
        }
        (_, false) => {
            let alu = match op {
                LogicalOp::And | LogicalOp::Ands => Alu::And,
                LogicalOp::Orr => Alu::Or,
                LogicalOp::Eor => Alu::Xor,
            };
            two_operand(b, alu, sz, rd, rn, src);
        }
    }
    if setflags {
        b.flags_in_host(Polarity::Add);
    }
}

fn move_wide(b: &mut Builder<'_>, sf: bool, op: MoveWideOp, rd: u8, shift: u8, imm: u16) {
    let width = if sf { u64::MAX } else { 0xffff_ffff };
    let field = u64::from(imm) << shift;
    if op == MoveWideOp::K {
        b.begin(&[rd], true);
        let mask = !(0xffff << shift) & width;
        let sz = Sz::dq(sf);
        b.load_sz(sz, RAX, rd);
        if let Some(i) = fits(sz, mask) {
            b.a.alu_imm(Alu::And, sz, RAX, i);
        } else {
            b.a.mov_imm(RCX, mask);
            b.a.alu(Alu::And, sz, RAX, RCX);
        }
        if let Some(i) = fits(sz, field) {
            b.a.alu_imm(Alu::Or, sz, RAX, i);
        } else {
            b.a.mov_imm(RCX, field);
            b.a.alu(Alu::Or, sz, RAX, RCX);
        }
        return b.set(rd, RAX);
    }
    let mut value = if op == MoveWideOp::N { !field & width } else { field };
    // MOVZ/MOVN and the MOVKs behind it are one constant.
    while let Some(&Insn::MoveWide { sf: sf2, op: MoveWideOp::K, rd: rd2, shift, imm }) = b.peek_fusable() {
        if rd2 != rd || sf2 != sf {
            break;
        }
        value = value & !(0xffff << shift) | u64::from(imm) << shift;
        b.skip_next();
    }
    b.begin(&[rd], false);
    b.set_imm(rd, value);
}

fn cond_select(b: &mut Builder<'_>, sz: Sz, op: CondSelectOp, cond: isa::insn::Cond, rd: u8, rn: u8, rm: u8) {
    let Some(cc) = b.cond(cond) else {
        b.begin(&[rd], false);
        let d = b.d(rd, RAX);
        b.load_sz(sz, d, rn);
        return b.set(rd, d);
    };
    // From here on EFLAGS hold the condition and nothing below touches them.
    b.begin(&[rd], false);
    if rn == ZR && rm == ZR && matches!(op, CondSelectOp::Csinc | CondSelectOp::Csinv) {
        // CSET, CSETM.
        b.a.setcc(cc.not(), RAX);
        let d = b.d(rd, RAX);
        b.a.movzx(Sz::B, d, RAX);
        if op == CondSelectOp::Csinv {
            b.a.unary(Unary::Not, sz, d);
            b.a.lea(sz, d, Mem::b(d, 1));
        }
        return b.set(rd, d);
    }
    if op == CondSelectOp::Csel
        && let Some(d) = pin(rd)
    {
        // In place: one of the two is there already, or is moved there.
        let (cc, other) = if rd == rn { (cc.not(), rm) } else { (cc, rn) };
        if rd != rn && rd != rm {
            b.load_sz(sz, d, rm);
        }
        let other = b.rm(other, RCX);
        return b.a.cmov(cc, sz, d, other);
    }
    b.load_sz(sz, RAX, rm);
    match op {
        CondSelectOp::Csel => {}
        CondSelectOp::Csinc => b.a.lea(sz, RAX, Mem::b(RAX, 1)),
        CondSelectOp::Csinv => b.a.unary(Unary::Not, sz, RAX),
        CondSelectOp::Csneg => {
            b.a.unary(Unary::Not, sz, RAX);
            b.a.lea(sz, RAX, Mem::b(RAX, 1));
        }
    }
    let n = b.rm(rn, RCX);
    b.a.cmov(cc, sz, RAX, n);
    b.set(rd, RAX);
}

fn cond_compare(b: &mut Builder<'_>, sz: Sz, sub: bool, cond: isa::insn::Cond, nzcv: u8, rn: u8, op2: Op2) {
    let op = if sub { RecipeOp::Cmp } else { RecipeOp::Cmn };
    let recipe = Recipe { op, sz, a: rn, b: op2 };
    let Some(cc) = b.cond(cond) else {
        return b.flags_by(recipe);
    };
    let polarity = if sub { Polarity::Sub } else { Polarity::Add };
    let (cold, done) = (b.a.label(), b.a.label());
    b.a.jcc(cc.not(), cold);
    b.flags_by(recipe);
    b.need_flags();
    b.a.bind(done);
    let old = b.a.switch(Section::Cold);
    b.a.bind(cold);
    let mut image = from_nzcv(u32::from(nzcv) << 28);
    if polarity == Polarity::Sub {
        image ^= 1 << 8;
    }
    b.a.mov_imm(RAX, u64::from(image));
    b.a.alu_imm(Alu::Add, Sz::B, RAX, 0x7f);
    b.a.sahf();
    b.a.jmp(done);
    b.a.switch(old);
    b.flags_in_host(polarity);
}
