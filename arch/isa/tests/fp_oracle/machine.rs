//! The smallest engine that can execute floating-point instructions: registers. Everything that these classes must not touch, memory
//! and the rest of the system, is an error.

use super::oracle::{Input, Output};
use isa::fp::Fpcr;
use isa::insn::{AtomicOp, BarrierDomain, BarrierTypes, BranchKind, Insn, PstateField, Reg, Size, SysEnc};
use isa::sem::{self, Access, Flow, Order, PlainValues, Sem, SemTypes, ValueFp, ValueVec};
use isa::simd::VecWidth;

/// Primitives that no floating-point instruction may use: those that can stop do, the others panic.
macro_rules! foreign {
    ($(fn $name:ident($($argument:ty),*) -> Result<$result:ty>;)*) => {
        $(fn $name(&mut self, $(_: $argument),*) -> Result<$result, String> {
            Err(concat!(stringify!($name), " in a floating-point instruction").to_owned())
        })*
    };
    ($(fn $name:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, $(_: $argument),*) -> $result {
            panic!(concat!(stringify!($name), " in a floating-point instruction"))
        })*
    };
}

pub struct Machine {
    v: [u128; 32],
    x: [u64; 31],
    fpcr: Fpcr,
    fpsr: u32,
    nzcv: u32,
    /// Whether floating-point instructions trap (CPACR_EL1.FPEN).
    pub trapping: bool,
}

impl Machine {
    pub fn new(input: &Input) -> Machine {
        let mut machine = Machine {
            v: [0; 32],
            x: [0; 31],
            fpcr: Fpcr(input.fpcr),
            fpsr: input.fpsr,
            nzcv: input.nzcv,
            trapping: false,
        };
        machine.v[..4].copy_from_slice(&input.v);
        machine.x[..4].copy_from_slice(&input.x);
        machine
    }

    pub fn output(&self) -> Output {
        Output { v0: self.v[0], x0: self.x[0], nzcv: self.nzcv, fpsr: self.fpsr }
    }

    /// Executes one instruction, which must be followed by the next one.
    pub fn execute(&mut self, insn: &Insn) -> Result<(), String> {
        match sem::execute(self, insn)? {
            Flow::Next => Ok(()),
            Flow::Branch => Err("a branch".to_owned()),
        }
    }
}

impl SemTypes for Machine {
    type X = u64;
    type V = u128;
    type C = bool;
    type F = u32;
    type Stop = String;
}

impl PlainValues for Machine {}

impl ValueFp for Machine {
    fn fp_control(&mut self) -> (Fpcr, &mut u32) {
        (self.fpcr, &mut self.fpsr)
    }
}

impl ValueVec for Machine {
    fn check_fp_enabled(&mut self) -> Result<(), String> {
        if self.trapping { Err("trapped".to_owned()) } else { Ok(()) }
    }
    fn v(&mut self, r: Reg) -> u128 {
        self.v[usize::from(r)]
    }
    fn set_v(&mut self, r: Reg, value: u128) {
        self.v[usize::from(r)] = value;
    }
    fn set_saturated(&mut self) {
        self.fpsr |= 1 << 27;
    }
    foreign! {
        fn vec_load(u64, VecWidth, VecWidth) -> Result<u128>;
        fn vec_store(u64, VecWidth, VecWidth, u128) -> Result<()>;
    }
}

impl Sem for Machine {
    fn x(&mut self, r: Reg) -> u64 {
        self.x.get(usize::from(r)).copied().unwrap_or(0)
    }
    fn set_x(&mut self, r: Reg, value: u64) {
        if let Some(place) = self.x.get_mut(usize::from(r)) {
            *place = value;
        }
    }
    fn nzcv(&mut self) -> u32 {
        self.nzcv
    }
    fn set_nzcv(&mut self, flags: u32) {
        self.nzcv = flags;
    }
    fn undefined(&mut self) -> String {
        "undefined".to_owned()
    }
    foreign! {
        fn eret() -> Result<Flow>;
        fn svc(u16) -> Result<Flow>;
        fn hvc(u16) -> Result<Flow>;
        fn smc(u16) -> Result<Flow>;
        fn brk(u16) -> Result<Flow>;
        fn hlt(u16) -> Result<Flow>;
        fn check_sp_alignment() -> Result<()>;
        fn load(u64, Access) -> Result<u64>;
        fn store(u64, Access, u64) -> Result<()>;
        fn atomic_rmw(u64, Size, AtomicOp, Order, u64) -> Result<u64>;
        fn compare_and_swap(u64, Size, Order, u64, u64) -> Result<u64>;
        fn compare_and_swap_pair(u64, Order, (u64, u64), (u64, u64)) -> Result<(u64, u64)>;
        fn load_exclusive(u64, Size, bool) -> Result<u64>;
        fn store_exclusive(u64, Size, bool, u64) -> Result<bool>;
        fn load_exclusive_pair(u64, bool) -> Result<(u64, u64)>;
        fn store_exclusive_pair(u64, bool, u64, u64) -> Result<bool>;
        fn mrs(SysEnc, Reg) -> Result<u64>;
        fn msr(SysEnc, Reg, u64) -> Result<()>;
        fn msr_imm(PstateField, u8) -> Result<()>;
        fn sys(SysEnc, Reg, u64) -> Result<()>;
        fn sysl(SysEnc, Reg) -> Result<u64>;
        fn wfi(Option<u64>) -> Result<()>;
        fn wfe(Option<u64>) -> Result<()>;
        fn esb() -> Result<()>;
    }
    foreign! {
        fn x_sp(Reg) -> u64;
        fn set_x_sp(Reg, u64) -> ();
        fn pc() -> u64;
        fn branch(u64, BranchKind) -> Flow;
        fn branch_relative(i64, BranchKind) -> Flow;
        fn branch_if(bool, i64) -> Flow;
        fn clrex() -> ();
        fn dmb(BarrierDomain, BarrierTypes) -> ();
        fn dsb(BarrierDomain, BarrierTypes) -> ();
        fn isb() -> ();
        fn sb() -> ();
        fn sev() -> ();
        fn sevl() -> ();
        fn yield_() -> ();
    }
}
