//! An engine without values: it only notes what an instruction may read, write and do. That it can exist shows that the meaning
//! functions choose by decoded fields and never by values; that it tells the truth is checked against executions.

use isa::fp::{FpBinOp, FpMulAddOp, FpRelation, FpRounding, FpShape, FpSize, FpUnOp, IntFormat};
use isa::insn::{Insn, Reg};
use isa::operand::{
    AluUn, AtomicOp, BarrierDomain, BarrierTypes, BranchKind, Cond, Extend, LoadExt, PstateField, Shift, Size, SysEnc,
};
use isa::sem::{self, Access, BinaryOp, Flow, Order, Sem, SemFp, SemInt, SemTypes, SemVec};
use isa::simd::{
    AesOp, ESize, ShaOp, VecAcrossOp, VecBinOp, VecLongOp, VecNarrowOp, VecPairLongOp, VecPermuteOp, VecShiftOp,
    VecShiftRegOp, VecTernOp, VecUnOp, VecWidth,
};
use isa::{Encoding, Features};

use super::generate::{Kind, Random, arrange, word};
use super::machine::Machine;
use super::oracle::Registers;

/// Bits 0 to 30: X0 to X30.
pub const SP: u64 = 1 << 31;
pub const NZCV: u64 = 1 << 32;

/// What an instruction may do.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Effects {
    pub reads: u64,
    pub writes: u64,
    pub v_reads: u32,
    pub v_writes: u32,
    pub loads: bool,
    pub stores: bool,
    pub may_stop: bool,
    pub branches: bool,
    pub system: bool,
}

impl Effects {
    pub fn of(insn: &Insn) -> Effects {
        let mut effects = Effects::default();
        match sem::execute(&mut effects, insn) {
            Ok(flow) => effects.branches |= flow == Flow::Branch,
            Err(()) => effects.may_stop = true,
        }
        effects
    }

    fn load(&mut self) {
        (self.loads, self.may_stop) = (true, true);
    }
    fn store(&mut self) {
        (self.stores, self.may_stop) = (true, true);
    }
    fn system(&mut self) {
        (self.system, self.may_stop) = (true, true);
    }
}

impl SemTypes for Effects {
    type X = ();
    type V = ();
    type C = ();
    type F = ();
    type Stop = ();
}

/// Primitives that compute and do nothing else.
macro_rules! pure {
    ($($name:ident($($ty:ty),*)),* $(,)?) => { $(fn $name(&mut self, $(_: $ty),*) {})* };
}
/// The same with two results.
macro_rules! pure_pair {
    ($($name:ident($($ty:ty),*)),* $(,)?) => { $(fn $name(&mut self, $(_: $ty),*) -> ((), ()) { ((), ()) })* };
}
/// Primitives that do `$what` and may stop.
macro_rules! does {
    ($what:ident -> $ret:ty = $value:expr; $($name:ident($($ty:ty),*)),* $(,)?) => {
        $(fn $name(&mut self, $(_: $ty),*) -> Result<$ret, ()> { self.$what(); Ok($value) })*
    };
}

impl SemInt for Effects {
    pure!(
        x_const(u64),
        flags_const(u8),
        binary(BinaryOp, bool, (), ()),
        unary(AluUn, bool, ()),
        shift(Shift, bool, (), u8),
        extend(Extend, u8, ()),
        extract(bool, (), (), u8),
        crc32(bool, Size, (), ()),
        logic_flags(bool, ()),
        flags_to_x(()),
        flags_from_x(()),
        condition((), Cond),
        is_zero(bool, ()),
        bit((), u8),
        not(()),
        select((), (), ()),
        select_flags((), (), ()),
    );
    pure_pair!(add_flags(bool, (), ()), sub_flags(bool, (), ()), add_carry(bool, (), (), ()));
}

impl SemFp for Effects {
    pure!(
        fp_un(FpUnOp, FpShape, ()),
        fp_bin(FpBinOp, FpShape, (), ()),
        fp_pairwise(FpBinOp, FpShape, (), ()),
        fp_reduce(FpBinOp, FpShape, ()),
        fp_mul_add(FpMulAddOp, FpShape, (), (), ()),
        fp_broadcast(FpShape, (), u8),
        fp_splat(FpShape, u64),
        fp_round_to_int(Option<FpRounding>, bool, FpShape, ()),
        fp_compare_mask(FpRelation, FpShape, (), ()),
        fp_compare(FpSize, bool, (), ()),
        fp_cond_compare(FpSize, bool, (), u8, (), ()),
        fp_convert(FpSize, FpSize, ()),
        fp_widen(FpSize, bool, ()),
        fp_narrow(FpSize, bool, u8, ()),
        fp_to_int(FpShape, IntFormat, FpRounding, ()),
        int_to_fp(FpShape, IntFormat, ()),
        fp_to_x(FpSize, IntFormat, FpRounding, ()),
        x_to_fp(FpSize, IntFormat, ()),
        fp_bits_to_x(FpSize, bool, ()),
        x_to_fp_bits(FpSize, ()),
        v_concat((), ()),
        v_select((), (), ()),
    );
    pure_pair!(fp_javascript_convert(()));
}

impl SemVec for Effects {
    fn check_fp_enabled(&mut self) -> Result<(), ()> {
        self.may_stop = true;
        Ok(())
    }
    fn v(&mut self, r: Reg) {
        self.v_reads |= 1 << r;
    }
    fn set_v(&mut self, r: Reg, (): ()) {
        self.v_writes |= 1 << r;
    }
    does!(load -> () = (); vec_load((), VecWidth, VecWidth));
    does!(store -> () = (); vec_store((), VecWidth, VecWidth, ()));
    pure!(
        vec_const(u128),
        vec_truncate(VecWidth, ()),
        vec_high(()),
        vec_concat((), ()),
        vec_from_x(ESize, ()),
        vec_element(ESize, (), u8, LoadExt),
        vec_with_element(ESize, (), u8, ()),
        vec_duplicate(ESize, VecWidth, ()),
        vec_binary(VecBinOp, ESize, VecWidth, (), ()),
        vec_ternary(VecTernOp, ESize, VecWidth, (), (), ()),
        vec_unary(VecUnOp, ESize, VecWidth, ()),
        vec_shift(VecShiftOp, ESize, VecWidth, (), u8),
        vec_shift_insert(bool, ESize, VecWidth, (), (), u8),
        vec_shift_register(VecShiftRegOp, ESize, VecWidth, (), ()),
        vec_pair_long(VecPairLongOp, ESize, VecWidth, ()),
        vec_across(VecAcrossOp, ESize, VecWidth, ()),
        vec_narrow(VecNarrowOp, ESize, bool, bool, u8, ()),
        vec_widen(bool, ESize, ()),
        vec_long(VecLongOp, ESize, VecWidth, (), ()),
        vec_permute(VecPermuteOp, ESize, VecWidth, (), ()),
        vec_extract(VecWidth, (), (), u8),
        vec_table(&[()], (), ()),
        aes(AesOp, (), ()),
        sha(ShaOp, (), (), ()),
    );
}

impl Sem for Effects {
    fn x(&mut self, r: Reg) {
        if r < 31 {
            self.reads |= 1 << r;
        }
    }
    fn set_x(&mut self, r: Reg, (): ()) {
        if r < 31 {
            self.writes |= 1 << r;
        }
    }
    fn x_sp(&mut self, r: Reg) {
        self.reads |= 1 << r;
    }
    fn set_x_sp(&mut self, r: Reg, (): ()) {
        self.writes |= 1 << r;
    }
    fn pc(&mut self) {}
    fn nzcv(&mut self) {
        self.reads |= NZCV;
    }
    fn set_nzcv(&mut self, (): ()) {
        self.writes |= NZCV;
    }
    fn branch(&mut self, (): (), _: BranchKind) -> Flow {
        Flow::Branch
    }
    fn branch_relative(&mut self, _: i64, _: BranchKind) -> Flow {
        Flow::Branch
    }
    fn branch_if(&mut self, (): (), _: i64) -> Flow {
        Flow::Branch
    }
    fn eret(&mut self) -> Result<Flow, ()> {
        self.system();
        Ok(Flow::Branch)
    }
    does!(system -> Flow = Flow::Branch; svc(u16), hvc(u16), smc(u16), brk(u16), hlt(u16));
    fn undefined(&mut self) {}
    fn check_sp_alignment(&mut self) -> Result<(), ()> {
        (self.reads, self.may_stop) = (self.reads | SP, true);
        Ok(())
    }
    does!(load -> () = (); load((), Access), load_exclusive((), Size, bool));
    does!(load -> ((), ()) = ((), ()); load_exclusive_pair((), bool));
    does!(store -> () = (); store((), Access, ()), store_exclusive((), Size, bool, ()), store_exclusive_pair((), bool, (), ()));
    fn atomic_rmw(&mut self, (): (), _: Size, _: AtomicOp, _: Order, (): ()) -> Result<(), ()> {
        self.load();
        self.store();
        Ok(())
    }
    fn compare_and_swap(&mut self, (): (), _: Size, _: Order, (): (), (): ()) -> Result<(), ()> {
        self.load();
        self.store();
        Ok(())
    }
    fn compare_and_swap_pair(&mut self, (): (), _: Order, _: ((), ()), _: ((), ())) -> Result<((), ()), ()> {
        self.load();
        self.store();
        Ok(((), ()))
    }
    fn clrex(&mut self) {}
    fn dmb(&mut self, _: BarrierDomain, _: BarrierTypes) {}
    fn dsb(&mut self, _: BarrierDomain, _: BarrierTypes) {}
    fn isb(&mut self) {}
    fn sb(&mut self) {}
    does!(system -> () = ();
        mrs(SysEnc, Reg), msr(SysEnc, Reg, ()), msr_imm(PstateField, u8), sys(SysEnc, Reg, ()), sysl(SysEnc, Reg),
        wfi(Option<()>), wfe(Option<()>), esb());
    fn sev(&mut self) {}
    fn sevl(&mut self) {}
    fn yield_(&mut self) {}
}

fn effects(word: u32) -> Effects {
    Effects::of(&isa::decode(word, Features::ALL))
}

#[test]
fn effects_of_known_instructions() {
    let add = Effects { reads: 0b110, writes: 1, ..Effects::default() };
    assert_eq!(effects(0x8b02_0020), add); // add x0, x1, x2
    let stp = Effects { reads: SP | 0b11, writes: SP, stores: true, may_stop: true, ..Effects::default() };
    assert_eq!(effects(0xa9bf_07e0), stp); // stp x0, x1, [sp, #-16]!
    let ccmp = Effects { reads: NZCV | 0b110, writes: NZCV, ..Effects::default() };
    assert_eq!(effects(0xfa42_102f), ccmp);
    let bl = Effects { writes: 1 << 30, branches: true, ..Effects::default() };
    assert_eq!(effects(0x9400_0010), bl);
    let fmadd = Effects { v_reads: 0b1110, v_writes: 1, may_stop: true, ..Effects::default() };
    assert_eq!(effects(0x1f42_0c20), fmadd); // fmadd d0, d1, d2, d3
    let mla = Effects { v_reads: 0b111, v_writes: 1, may_stop: true, ..Effects::default() };
    assert_eq!(effects(0x4ea2_9420), mla); // mla v0.4s, v1.4s, v2.4s
}

/// Every row of the table, floating point and SIMD too, means something.
#[test]
fn every_encoding_has_a_meaning() {
    let mut random = Random(7);
    for encoding in Encoding::all() {
        let row = encoding.row();
        let words = (0..200).map(|_| row.value | random.next() as u32 & !row.mask);
        let mut meant = 0;
        for word in words.filter(|&word| isa::encoding(word) == Some(encoding)) {
            let insn = isa::decode(word, Features::ALL);
            let undefined = matches!(insn, Insn::Undefined | Insn::Udf { .. } | Insn::Dcps { .. });
            let mut effects = Effects::default();
            let result = sem::execute(&mut effects, &insn);
            assert_eq!(result.is_err(), undefined, "{encoding:?} {word:#010x} {insn:?}");
            meant += 1;
        }
        assert!(meant > 0, "no word of {encoding:?} was found");
    }
}

/// Everything about a machine that an instruction can change.
fn outcome(insns: [&Insn; 2], seed: u64, before: &Registers) -> (Registers, Vec<u8>, u64) {
    let mut m = Machine::new(seed);
    m.x[..16].copy_from_slice(&before.x);
    (m.x[30], m.sp, m.nzcv) = (before.x30, before.sp, before.nzcv as u32);
    for insn in insns {
        assert_eq!(m.execute(insn), Ok(()), "{insn:?}");
    }
    (m.registers(), m.window, m.pc)
}

fn changed(before: &Registers, after: &Registers) -> u64 {
    let x = (0..16).fold(0, |bits, i| bits | u64::from(before.x[i] != after.x[i]) << i);
    let bit = |changed: bool, bit: u64| if changed { bit } else { 0 };
    x | bit(before.x30 != after.x30, 1 << 30) | bit(before.sp != after.sp, SP) | bit(before.nzcv != after.nzcv, NZCV)
}

/// What is not said to be written stays; what is not said to be read makes no difference.
#[test]
fn effects_are_those_of_executions() {
    let mut random = Random(3);
    let nop = isa::decode(0xd503_201f, Features::ALL);
    let mut rows = 0;
    for encoding in Encoding::all() {
        let mut seen = false;
        for _ in 0..60 {
            let Some((word, insn, kind)) = word(encoding, &mut random) else { continue };
            seen = true;
            let (_, before) = arrange(encoding, word, kind, &mut random);
            let (effects, seed) = (Effects::of(&insn), random.next());
            let (after, window, pc) = outcome([&nop, &insn], seed, &before);
            assert_eq!(changed(&before, &after) & !effects.writes, 0, "{insn:?}: {effects:x?}");
            assert!(effects.stores || window == Machine::new(seed).window, "{insn:?} writes memory");
            assert!(effects.branches || pc == super::machine::CODE + 8, "{insn:?} branches");
            assert_eq!(effects.branches, matches!(kind, Kind::Branch | Kind::BranchRegister), "{insn:?}");
            for bit in (0..16).chain([30, 31, 32]).filter(|bit| effects.reads >> bit & 1 == 0) {
                let mut other = before.clone();
                let noise = random.next();
                match bit {
                    30 => other.x30 = noise,
                    31 => other.sp = noise,
                    32 => other.nzcv = noise & 0xf000_0000,
                    i => other.x[i] = noise,
                }
                let (after2, window2, pc2) = outcome([&nop, &insn], seed, &other);
                assert_eq!((window2, pc2), (window.clone(), pc), "{insn:?} reads {bit}");
                let untouched = changed(&before, &other) & !effects.writes;
                assert_eq!(changed(&after, &after2) & !untouched, 0, "{insn:?} reads {bit}");
            }
        }
        rows += usize::from(seen);
    }
    assert!(rows > 150, "only {rows} rows were executed");
}
