//! Every form, every register, every class of displacement, against iced-x86's decoder.

use iced_x86::{Decoder, DecoderOptions, EncodingKind, Instruction, OpKind, Register};

use super::vec::{Form, Has, Regs};
use super::*;

const DISPS: [i32; 9] = [0, 1, -1, 16, 127, -128, 128, 4096, -0x1234_5678];

fn mems() -> Vec<Mem> {
    let mut v = Vec::new();
    for base in 0..16 {
        for disp in DISPS {
            v.push(Mem::b(Gpr(base), disp));
        }
        for index in (0..16).filter(|i| *i != 4) {
            v.push(Mem::bi(Gpr(base), Gpr(index), (base + index) & 3, DISPS[(base as usize * 3 + index as usize) % 9]));
        }
    }
    v
}

fn decode(asm: &mut Asm) -> Instruction {
    let (hot, _) = asm.finish(0x10_0000, 0).expect("no labels");
    let mut d = Decoder::with_ip(64, hot, 0x10_0000, DecoderOptions::NONE);
    let i = d.decode();
    assert!(!i.is_invalid(), "invalid: {hot:02x?}");
    assert_eq!(i.len(), hot.len(), "length of {hot:02x?} = {i}");
    i
}

fn gpr(sz: Sz, n: u8) -> Register {
    let base = match sz {
        Sz::B => {
            const LOW: [Register; 8] = [
                Register::AL,
                Register::CL,
                Register::DL,
                Register::BL,
                Register::SPL,
                Register::BPL,
                Register::SIL,
                Register::DIL,
            ];
            return if n < 8 { LOW[n as usize] } else { Register::R8L + u32::from(n - 8) };
        }
        Sz::H => Register::AX,
        Sz::D => Register::EAX,
        Sz::Q => Register::RAX,
    };
    base + u32::from(n)
}

#[track_caller]
fn check_mem(i: &Instruction, m: Mem) {
    assert_eq!(i.memory_base(), gpr(Sz::Q, m.base.0), "{i}");
    match m.index {
        Some((r, s)) => {
            assert_eq!(i.memory_index(), gpr(Sz::Q, r.0), "{i}");
            assert_eq!(i.memory_index_scale(), 1 << s, "{i}");
        }
        None => assert_eq!(i.memory_index(), Register::None, "{i}"),
    }
    assert_eq!(i.memory_displacement64() as i64, i64::from(m.disp), "{i}");
}

#[track_caller]
fn check(asm: &mut Asm, name: &str, operands: &[Operand]) {
    let i = decode(asm);
    assert_eq!(format!("{:?}", i.mnemonic()).to_lowercase(), name, "{i}");
    assert_eq!(i.op_count() as usize, operands.len(), "{i}");
    for (n, o) in operands.iter().enumerate() {
        let n = n as u32;
        match *o {
            Operand::Reg(r) => assert_eq!((i.op_kind(n), i.op_register(n)), (OpKind::Register, r), "{i} operand {n}"),
            Operand::Mem(m) => {
                assert_eq!(i.op_kind(n), OpKind::Memory, "{i}");
                check_mem(&i, m);
            }
            Operand::Imm(v) => assert_eq!(i.immediate(n), v, "{i} operand {n}"),
        }
    }
}

#[derive(Clone, Copy)]
enum Operand {
    Reg(Register),
    Mem(Mem),
    Imm(u64),
}
use Operand::{Imm, Mem as M, Reg};

const SIZES: [Sz; 4] = [Sz::B, Sz::H, Sz::D, Sz::Q];
const WIDE: [Sz; 2] = [Sz::D, Sz::Q];
const ALU: [(Alu, &str); 8] = [
    (Alu::Add, "add"),
    (Alu::Or, "or"),
    (Alu::Adc, "adc"),
    (Alu::Sbb, "sbb"),
    (Alu::And, "and"),
    (Alu::Sub, "sub"),
    (Alu::Xor, "xor"),
    (Alu::Cmp, "cmp"),
];
const SHIFTS: [(Shift, &str); 5] =
    [(Shift::Rol, "rol"), (Shift::Ror, "ror"), (Shift::Shl, "shl"), (Shift::Shr, "shr"), (Shift::Sar, "sar")];

fn one(f: impl FnOnce(&mut Asm)) -> Asm {
    let mut a = Asm::new();
    f(&mut a);
    a
}

#[test]
fn two_register_forms() {
    for d in 0..16u8 {
        for s in 0..16u8 {
            let (gd, gs) = (Gpr(d), Gpr(s));
            for z in SIZES {
                let (rd, rs) = (gpr(z, d), gpr(z, s));
                for (op, name) in ALU {
                    check(&mut one(|a| a.alu(op, z, gd, gs)), name, &[Reg(rd), Reg(rs)]);
                }
                check(&mut one(|a| a.test(z, gd, gs)), "test", &[Reg(rd), Reg(rs)]);
                let to = if z == Sz::Q { Sz::Q } else { Sz::D };
                check(&mut one(|a| a.crc32(z, gd, gs)), "crc32", &[Reg(gpr(to, d)), Reg(rs)]);
            }
            for z in WIDE {
                let (rd, rs) = (gpr(z, d), gpr(z, s));
                check(&mut one(|a| a.mov(z, gd, gs)), "mov", &[Reg(rd), Reg(rs)]);
                check(&mut one(|a| a.imul(z, gd, gs)), "imul", &[Reg(rd), Reg(rs)]);
                check(&mut one(|a| a.lzcnt(z, gd, gs)), "lzcnt", &[Reg(rd), Reg(rs)]);
                check(&mut one(|a| a.tzcnt(z, gd, gs)), "tzcnt", &[Reg(rd), Reg(rs)]);
                check(&mut one(|a| a.popcnt(z, gd, gs)), "popcnt", &[Reg(rd), Reg(rs)]);
                check(&mut one(|a| a.shrd(z, gd, gs, 7)), "shrd", &[Reg(rd), Reg(rs), Imm(7)]);
                check(&mut one(|a| a.rorx(z, gd, gs, 9)), "rorx", &[Reg(rd), Reg(rs), Imm(9)]);
                check(&mut one(|a| a.movsx(Sz::B, z, gd, gs)), "movsx", &[Reg(rd), Reg(gpr(Sz::B, s))]);
                check(&mut one(|a| a.movsx(Sz::H, z, gd, gs)), "movsx", &[Reg(rd), Reg(gpr(Sz::H, s))]);
                for cc in Cc::ALL {
                    let i = decode(&mut one(|a| a.cmov(cc, z, gd, gs)));
                    assert_eq!((i.op0_register(), i.op1_register()), (rd, rs));
                    assert_eq!(i.condition_code() as u8, iced_cc(cc), "{i}");
                }
                for t in [Gpr(3), Gpr(12)] {
                    let rt = gpr(z, t.0);
                    check(&mut one(|a| a.andn(z, gd, gs, t)), "andn", &[Reg(rd), Reg(rs), Reg(rt)]);
                    check(&mut one(|a| a.mulx(z, gd, gs, t)), "mulx", &[Reg(rd), Reg(rs), Reg(rt)]);
                    check(&mut one(|a| a.pext(z, gd, gs, t)), "pext", &[Reg(rd), Reg(rs), Reg(rt)]);
                    check(&mut one(|a| a.pdep(z, gd, gs, t)), "pdep", &[Reg(rd), Reg(rs), Reg(rt)]);
                    check(&mut one(|a| a.bextr(z, gd, gs, t)), "bextr", &[Reg(rd), Reg(rs), Reg(rt)]);
                    check(&mut one(|a| a.bzhi(z, gd, gs, t)), "bzhi", &[Reg(rd), Reg(rs), Reg(rt)]);
                    for (op, name) in &SHIFTS[2..] {
                        let name = format!("{name}x");
                        check(&mut one(|a| a.shiftx(*op, z, gd, gs, t)), &name, &[Reg(rd), Reg(rs), Reg(rt)]);
                    }
                }
            }
            check(&mut one(|a| a.movzx(Sz::B, gd, gs)), "movzx", &[Reg(gpr(Sz::D, d)), Reg(gpr(Sz::B, s))]);
            check(&mut one(|a| a.movzx(Sz::H, gd, gs)), "movzx", &[Reg(gpr(Sz::D, d)), Reg(gpr(Sz::H, s))]);
            check(&mut one(|a| a.movsx(Sz::D, Sz::Q, gd, gs)), "movsxd", &[Reg(gpr(Sz::Q, d)), Reg(gpr(Sz::D, s))]);
        }
    }
}

fn iced_cc(cc: Cc) -> u8 {
    cc as u8 + 1
}

#[test]
fn one_register_forms() {
    for d in 0..16u8 {
        let g = Gpr(d);
        for z in SIZES {
            let r = gpr(z, d);
            for (op, name) in ALU {
                for imm in [0, 1, -1, 127, -128] {
                    let i = decode(&mut one(|a| a.alu_imm(op, z, g, imm)));
                    assert_eq!(format!("{:?}", i.mnemonic()).to_lowercase(), name);
                    assert_eq!(i.op0_register(), r, "{i}");
                    assert_eq!(i.immediate(1) as i8 as i32, imm, "{i}");
                }
                if matches!(z, Sz::D | Sz::Q) {
                    for imm in [128, -129, 0x1234_5678, i32::MIN] {
                        let i = decode(&mut one(|a| a.alu_imm(op, z, g, imm)));
                        assert_eq!((i.op0_register(), i.immediate(1) as i32), (r, imm), "{i}");
                    }
                }
            }
            for (op, name) in SHIFTS {
                check(&mut one(|a| a.shift_imm(op, z, g, 5)), name, &[Reg(r), Imm(5)]);
                check(&mut one(|a| a.shift_cl(op, z, g)), name, &[Reg(r), Reg(Register::CL)]);
            }
            for (op, name) in [
                (Unary::Not, "not"),
                (Unary::Neg, "neg"),
                (Unary::Mul, "mul"),
                (Unary::Imul, "imul"),
                (Unary::Div, "div"),
                (Unary::Idiv, "idiv"),
            ] {
                check(&mut one(|a| a.unary(op, z, g)), name, &[Reg(r)]);
            }
            check(&mut one(|a| a.inc_dec(false, z, g)), "inc", &[Reg(r)]);
            check(&mut one(|a| a.inc_dec(true, z, g)), "dec", &[Reg(r)]);
            let imm = if z == Sz::B { 0x12 } else { 0x1234 };
            check(&mut one(|a| a.test_imm(z, g, imm)), "test", &[Reg(r), Imm(imm as u64)]);
        }
        for z in WIDE {
            check(&mut one(|a| a.bswap(z, g)), "bswap", &[Reg(gpr(z, d))]);
            for (n, name) in [(4, "bt"), (5, "bts"), (6, "btr"), (7, "btc")] {
                check(&mut one(|a| a.bit_imm(n, z, g, 3)), name, &[Reg(gpr(z, d)), Imm(3)]);
            }
        }
        check(&mut one(|a| a.push(g)), "push", &[Reg(gpr(Sz::Q, d))]);
        check(&mut one(|a| a.pop(g)), "pop", &[Reg(gpr(Sz::Q, d))]);
        check(&mut one(|a| a.jmp_rm(g)), "jmp", &[Reg(gpr(Sz::Q, d))]);
        check(&mut one(|a| a.call_rm(g)), "call", &[Reg(gpr(Sz::Q, d))]);
        for imm in [0, 1, 0x7fff_ffff, 0x8000_0000, u64::MAX, 0xffff_ffff_8000_0000, 0x1234_5678_9abc_def0] {
            let i = decode(&mut one(|a| a.mov_imm(g, imm)));
            let full = i.op0_register().full_register();
            assert_eq!((full, i.immediate(1)), (gpr(Sz::Q, d), imm), "{i}");
        }
        for cc in Cc::ALL {
            let i = decode(&mut one(|a| a.setcc(cc, g)));
            assert_eq!((i.op0_register(), i.condition_code() as u8), (gpr(Sz::B, d), iced_cc(cc)));
        }
        for k in 1..8 {
            check(&mut one(|a| a.kmov_from_gpr(k, g)), "kmovd", &[Reg(Register::K0 + k as u32), Reg(gpr(Sz::D, d))]);
            check(&mut one(|a| a.kmov_to_gpr(g, k)), "kmovd", &[Reg(gpr(Sz::D, d)), Reg(Register::K0 + k as u32)]);
        }
    }
}

#[test]
fn memory_forms() {
    for m in mems() {
        for d in 0..16u8 {
            let g = Gpr(d);
            for z in SIZES {
                let r = gpr(z, d);
                check(&mut one(|a| a.store(z, m, g)), "mov", &[M(m), Reg(r)]);
                check(&mut one(|a| a.alu(Alu::Cmp, z, g, m)), "cmp", &[Reg(r), M(m)]);
                let i = decode(&mut one(|a| a.alu_mr(Lock::Yes, Alu::Or, z, m, g)));
                assert!(i.has_lock_prefix());
                check_mem(&i, m);
                check(&mut one(|a| a.alu_mr(Lock::No, Alu::Xor, z, m, g)), "xor", &[M(m), Reg(r)]);
                check(&mut one(|a| a.xchg(z, m, g)), "xchg", &[M(m), Reg(r)]);
                check(&mut one(|a| a.xadd(z, m, g)), "xadd", &[M(m), Reg(r)]);
                check(&mut one(|a| a.cmpxchg(z, m, g)), "cmpxchg", &[M(m), Reg(r)]);
                check(&mut one(|a| a.test(z, m, g)), "test", &[M(m), Reg(r)]);
            }
            for z in WIDE {
                let r = gpr(z, d);
                check(&mut one(|a| a.load(z, g, m)), "mov", &[Reg(r), M(m)]);
                check(&mut one(|a| a.lea(z, g, m)), "lea", &[Reg(r), M(m)]);
                check(&mut one(|a| a.movsx(Sz::B, z, g, m)), "movsx", &[Reg(r), M(m)]);
                check(&mut one(|a| a.movsx(Sz::H, z, g, m)), "movsx", &[Reg(r), M(m)]);
                check(&mut one(|a| a.imul(z, g, m)), "imul", &[Reg(r), M(m)]);
                check(&mut one(|a| a.shiftx(Shift::Shr, z, g, m, Gpr::RCX)), "shrx", &[Reg(r), M(m), Reg(gpr(z, 1))]);
            }
            check(&mut one(|a| a.movzx(Sz::B, g, m)), "movzx", &[Reg(gpr(Sz::D, d)), M(m)]);
            check(&mut one(|a| a.movzx(Sz::H, g, m)), "movzx", &[Reg(gpr(Sz::D, d)), M(m)]);
            check(&mut one(|a| a.movsx(Sz::D, Sz::Q, g, m)), "movsxd", &[Reg(gpr(Sz::Q, d)), M(m)]);
        }
        for z in SIZES {
            check(&mut one(|a| a.alu_imm(Alu::Add, z, m, 5)), "add", &[M(m), Imm(5)]);
            let i = decode(&mut one(|a| a.store_imm(z, m, -2)));
            check_mem(&i, m);
            assert_eq!(i.immediate(1) as i8, -2);
        }
        check(&mut one(|a| a.alu_imm(Alu::Sub, Sz::Q, m, 0x12345)), "sub", &[M(m), Imm(0x12345)]);
        check(&mut one(|a| a.cmpxchg16b(m)), "cmpxchg16b", &[M(m)]);
        check(&mut one(|a| a.jmp_rm(m)), "jmp", &[M(m)]);
        check(&mut one(|a| a.call_rm(m)), "call", &[M(m)]);
        check(&mut one(|a| a.ldmxcsr(m)), "ldmxcsr", &[M(m)]);
        check(&mut one(|a| a.stmxcsr(m)), "stmxcsr", &[M(m)]);
    }
}

#[test]
fn plain_bytes() {
    for (f, name) in [
        (Asm::ret as fn(&mut Asm), "ret"),
        (Asm::lahf, "lahf"),
        (Asm::sahf, "sahf"),
        (Asm::cmc, "cmc"),
        (Asm::clc, "clc"),
        (Asm::stc, "stc"),
        (Asm::rdtsc, "rdtsc"),
        (Asm::lfence, "lfence"),
        (Asm::pause, "pause"),
        (Asm::ud2, "ud2"),
        (Asm::vzeroupper, "vzeroupper"),
    ] {
        check(&mut one(f), name, &[]);
    }
    for n in 1..=9 {
        assert_eq!(decode(&mut one(|a| a.nop(n))).len(), n as usize);
    }
    check(&mut one(|a| a.sign_rdx(Sz::D)), "cdq", &[]);
    check(&mut one(|a| a.sign_rdx(Sz::Q)), "cqo", &[]);
}

/// The class of register that operand position `n` (0 = reg, 1 = vvvv, 2 = rm) has in `op`.
fn vreg(op: &Vop, len: VLen, n: u8, r: u8) -> Register {
    let wide = matches!(op.wide, super::vec::Wide::W1);
    let g = |r: u8| gpr(if wide { Sz::Q } else { Sz::D }, r & 15);
    match (op.regs, n) {
        (Regs::RegG, 0) | (Regs::RmG, 2) => g(r),
        (Regs::RegK, 0) => Register::K0 + u32::from(r & 7),
        _ => {
            let base = match len {
                VLen::L128 => Register::XMM0,
                VLen::L256 => Register::YMM0,
                VLen::L512 => Register::ZMM0,
            };
            base + u32::from(r)
        }
    }
}

fn emit(op: &Vop, a: &mut Asm, reg: u8, v: u8, rm: Rm) -> Vec<Operand> {
    let len = VLen::L128;
    let of = |n: u8, r: u8| Reg(vreg(op, len, n, r));
    let o = match rm {
        Rm::Reg(r) => of(2, r),
        Rm::Mem(m) => M(m),
    };
    match op.form {
        Form::Rvm => {
            a.v3(*op, len, Xmm(reg), Xmm(v), rm);
            vec![of(0, reg), of(1, v), o]
        }
        Form::Rvmi => {
            a.v3i(*op, len, Xmm(reg), Xmm(v), rm, 9);
            vec![of(0, reg), of(1, v), o, Imm(9)]
        }
        Form::Rvmr => {
            a.v4(*op, len, Xmm(reg), Xmm(v), rm, Xmm(11));
            vec![of(0, reg), of(1, v), o, Reg(Register::XMM11)]
        }
        Form::Rm => {
            a.v2(*op, len, Xmm(reg), rm);
            vec![of(0, reg), o]
        }
        Form::Rmi => {
            a.v2i(*op, len, Xmm(reg), rm, 9);
            vec![of(0, reg), o, Imm(9)]
        }
        Form::Mr => {
            a.vst(*op, len, rm, Xmm(reg));
            vec![o, of(0, reg)]
        }
        Form::Mri => {
            a.vsti(*op, len, rm, Xmm(reg), 3);
            vec![o, of(0, reg), Imm(3)]
        }
        Form::Vmi(_) => {
            let Rm::Reg(r) = rm else { return Vec::new() };
            a.vshift(*op, len, Xmm(v), Xmm(r), 3);
            vec![of(1, v), o, Imm(3)]
        }
    }
}

#[test]
fn vector_forms() {
    let mems = mems();
    for op in ops::ALL {
        // Forms that exist at 256 bits only, or between memory and register only.
        if matches!(op.name, "vpermq" | "vperm2i128" | "vextracti128" | "vinserti128") {
            continue;
        }
        let top = if op.has == Has::Vex { 16 } else { 32 };
        let gpr_max = |n: u8, regs: Regs| match (n, regs) {
            (0, Regs::RegG) | (2, Regs::RmG) => 16,
            (0, Regs::RegK) => 8,
            _ => top,
        };
        let memory_only =
            matches!(op.name, "vmovhps") || (matches!(op.name, "vmovss" | "vmovsd") && op.form != Form::Rvm);
        let register_only = matches!(op.name, "vmovlhps" | "vmovhlps" | "vmovmskps" | "vmovmskpd" | "vpmovmskb")
            || (matches!(op.name, "vmovss" | "vmovsd") && op.form == Form::Rvm);
        for reg in 0..gpr_max(0, op.regs) {
            if !memory_only {
                for rm in 0..gpr_max(2, op.regs) {
                    let v = (reg * 5 + rm * 3 + 1) % top;
                    let mut a = Asm::new();
                    let expect = emit(op, &mut a, reg, v, Rm::Reg(rm));
                    check_vector(op, &mut a, &expect);
                }
            }
            if !register_only && !matches!(op.form, Form::Vmi(_)) {
                for (n, m) in mems.iter().enumerate().filter(|(n, _)| n % 5 == reg as usize % 5) {
                    let v = (n as u8).wrapping_add(reg) % top;
                    let mut a = Asm::new();
                    let expect = emit(op, &mut a, reg, v, Rm::Mem(*m));
                    check_vector(op, &mut a, &expect);
                }
            }
        }
    }
}

#[track_caller]
fn check_vector(op: &Vop, a: &mut Asm, expect: &[Operand]) {
    let i = decode(a);
    // The EVEX forms of bitwise logic have an element size in their names.
    let logic = matches!(op.name, "vpand" | "vpandn" | "vpor" | "vpxor") && i.encoding() == EncodingKind::EVEX;
    let name = if logic { format!("{}d", op.name) } else { op.name.to_owned() };
    assert_eq!(format!("{:?}", i.mnemonic()).to_lowercase(), name, "{i}");
    assert_eq!(i.op_count() as usize, expect.len(), "{i}");
    for (n, o) in expect.iter().enumerate() {
        match *o {
            // The disassembler sizes general registers of byte and word forms in its own way.
            Reg(r) if r.is_gpr() => assert_eq!(i.op_register(n as u32).full_register(), r.full_register(), "{i}"),
            // Widening and narrowing forms name halves of the same register file.
            Reg(r) => assert_eq!(i.op_register(n as u32), r, "{i} operand {n}"),
            M(m) => check_mem(&i, m),
            Imm(v) => assert_eq!(i.immediate(n as u32), v, "{i}"),
        }
    }
}

/// The text of all instructions emitted by `f`.
fn text(f: impl FnOnce(&mut Asm)) -> Vec<String> {
    let mut a = one(f);
    let (hot, _) = a.finish(0x1000, 0x2000).expect("no branches");
    Decoder::with_ip(64, hot, 0x1000, DecoderOptions::NONE).into_iter().map(|i| i.to_string()).collect()
}

#[test]
fn what_has_no_evex_form_reaches_the_upper_registers_by_way_of_two_others() {
    let l = VLen::L128;
    let all = text(|a| a.v3(ops::VPHADDW, l, Xmm(20), Xmm(21), Xmm(22)));
    let want = ["vmovaps xmm15,xmm22", "vmovaps xmm14,xmm21", "vphaddw xmm14,xmm14,xmm15", "vmovaps xmm20,xmm14"];
    assert_eq!(all, want);
    let source = text(|a| a.v2(ops::VPTEST, l, Xmm(20), Xmm(3)));
    assert_eq!(source, ["vmovaps xmm14,xmm20", "vptest xmm14,xmm3"]);
    let blend = text(|a| a.v4(ops::VPBLENDVB, l, Xmm(2), Xmm(31), Xmm(1), Xmm(3)));
    assert_eq!(blend, ["vmovaps xmm14,xmm31", "vpblendvb xmm2,xmm14,xmm1,xmm3"]);
    let immediate = text(|a| a.v3i(ops::VPBLENDW, l, Xmm(16), Xmm(1), Mem::b(Gpr::R15, 16), 2));
    assert_eq!(immediate, ["vpblendw xmm14,xmm1,[r15+10h],2", "vmovaps xmm16,xmm14"]);
    let gpr = text(|a| a.v2_gpr(ops::VPMOVMSKB, l, Gpr::RCX, Xmm(30)));
    assert_eq!(gpr, ["vmovaps xmm15,xmm30", "vpmovmskb ecx,xmm15"]);
    let sha = text(|a| a.sha(0xcc, Xmm(1), Xmm(17)));
    assert_eq!(sha, ["vmovaps xmm14,xmm17", "sha256msg1 xmm1,xmm14"]);
}

#[test]
fn masks_and_rounding() {
    for k in 1..8u8 {
        for z in [false, true] {
            let mut a = Asm::new();
            a.v3_ext(ops::VPADDD, VLen::L128, Xmm(20), Xmm(3), Xmm(31), Masking { k, zero: z }, None);
            let i = decode(&mut a);
            assert_eq!((i.op_mask(), i.zeroing_masking()), (Register::K0 + u32::from(k), z), "{i}");
        }
    }
    for (r, want) in [
        (Rounding::Nearest, iced_x86::RoundingControl::RoundToNearest),
        (Rounding::Down, iced_x86::RoundingControl::RoundDown),
        (Rounding::Up, iced_x86::RoundingControl::RoundUp),
        (Rounding::Zero, iced_x86::RoundingControl::RoundTowardZero),
    ] {
        let mut a = Asm::new();
        a.v3_ext(ops::VADDSD, VLen::L128, Xmm(1), Xmm(2), Xmm(17), Masking::default(), Some(r));
        assert_eq!(decode(&mut a).rounding_control(), want);
    }
}

#[test]
fn sha_forms() {
    for d in 0..16 {
        for s in 0..16 {
            let regs = [Reg(Register::XMM0 + d), Reg(Register::XMM0 + s)];
            let (xd, xs) = (Xmm(d as u8), Xmm(s as u8));
            for (opc, name) in [
                (0xc8, "sha1nexte"),
                (0xc9, "sha1msg1"),
                (0xca, "sha1msg2"),
                (0xcb, "sha256rnds2"),
                (0xcc, "sha256msg1"),
                (0xcd, "sha256msg2"),
            ] {
                let i = decode(&mut one(|a| a.sha(opc, xd, xs)));
                assert_eq!(format!("{:?}", i.mnemonic()).to_lowercase(), name);
                assert_eq!((i.op0_register(), i.op1_register()), (Register::XMM0 + d, Register::XMM0 + s));
            }
            check(&mut one(|a| a.sha1rnds4(xd, xs, 2)), "sha1rnds4", &[regs[0], regs[1], Imm(2)]);
        }
    }
}

#[test]
fn branches_and_sections() {
    let (hot_base, cold_base) = (0x7000_0000u64, 0x7100_0000u64);
    let mut a = Asm::new();
    let (top, exit, near) = (a.label(), a.label(), a.label());
    a.bind(top);
    a.alu(Alu::Add, Sz::Q, Gpr::RAX, Gpr::RBX);
    a.jcc(Cc::E, exit);
    a.jcc_short(Cc::L, near);
    a.jmp(top);
    a.bind(near);
    let p = a.jmp_patchable(exit);
    assert_eq!(p % 4, 0);
    let q = a.jcc_patchable(Cc::A, exit);
    assert_eq!(q % 4, 0);
    a.call_abs(0x7200_0000);
    a.lea_label(Gpr::R9, exit);
    a.switch(Section::Cold);
    a.ret();
    a.bind(exit);
    a.jmp(top);
    let (hot, cold) = a.finish(hot_base, cold_base).map(|(h, c)| (h.to_vec(), c.to_vec())).expect("resolves");
    let targets: Vec<(String, u64)> = Decoder::with_ip(64, &hot, hot_base, DecoderOptions::NONE)
        .into_iter()
        .filter(|i| i.op_count() > 0 && (i.op0_kind() == OpKind::NearBranch64 || i.is_ip_rel_memory_operand()))
        .map(|i| {
            let to = if i.is_ip_rel_memory_operand() { i.ip_rel_memory_address() } else { i.near_branch64() };
            (format!("{:?}", i.mnemonic()), to)
        })
        .collect();
    let exit_at = cold_base + 1;
    let near_at = hot_base + 3 + 6 + 2 + 2;
    let want = [
        ("Je", exit_at),
        ("Jl", near_at),
        ("Jmp", hot_base),
        ("Jmp", exit_at),
        ("Ja", exit_at),
        ("Call", 0x7200_0000),
        ("Lea", exit_at),
    ];
    assert_eq!(targets, want.map(|(n, t)| (n.to_string(), t)));
    let back = Decoder::with_ip(64, &cold[1..], exit_at, DecoderOptions::NONE).decode();
    assert_eq!(back.near_branch64(), hot_base);
}

#[test]
fn unbound_and_far_labels_are_errors() {
    let mut a = Asm::new();
    let l = a.label();
    a.jmp(l);
    assert_eq!(a.finish(0, 0), Err(AsmError::Unbound(0)));
    let mut a = Asm::new();
    a.jmp_abs(1 << 40);
    assert!(matches!(a.finish(0, 0), Err(AsmError::Range { .. })));
    let mut a = Asm::new();
    let l = a.label();
    a.jmp_short(l);
    a.nop(200);
    a.bind(l);
    assert!(matches!(a.finish(0, 0), Err(AsmError::Range { .. })));
}
