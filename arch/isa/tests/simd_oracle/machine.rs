//! The smallest engine that can execute SIMD instructions: registers and a window of memory at address 0.

use isa::fp::Fpcr;
use isa::insn::{Insn, Reg};
use isa::operand::{AtomicOp, BarrierDomain, BarrierTypes, BranchKind, PstateField, Size, SysEnc};
use isa::sem::{self, Access, Flow, Order, PlainValues, Sem, SemTypes, ValueFp, ValueVec};
use isa::simd::VecWidth;

use super::oracle::Registers;

pub const WINDOW: usize = 4096;
const QC: u64 = 1 << 27;
/// Address of the instruction, for literals.
pub const PC: u64 = 1024;

/// Said when an instruction uses a primitive that none of ours should.
const FOREIGN: &str = "a primitive of another class";

pub struct Machine {
    registers: Registers,
    pub window: Vec<u8>,
}

impl Machine {
    /// Memory is filled from the seed as the runner does it.
    pub fn new(registers: &Registers, seed: u32) -> Machine {
        let mut state = seed;
        let window = (0..WINDOW)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        Machine { registers: registers.clone(), window }
    }

    pub fn registers(&self) -> Registers {
        self.registers.clone()
    }

    pub fn execute(&mut self, insn: &Insn) -> Result<(), String> {
        sem::execute(self, insn).map(|_| ())
    }

    fn place(&mut self, address: u64, width: VecWidth) -> Result<&mut [u8], String> {
        let start = usize::try_from(address).map_err(|e| e.to_string())?;
        self.window
            .get_mut(start..start.saturating_add(width.bytes() as usize))
            .ok_or(format!("access at {address:#x}"))
    }
}

impl SemTypes for Machine {
    type X = u64;
    type V = u128;
    type C = bool;
    type F = u32;
    type Stop = String;
}

impl ValueVec for Machine {
    fn check_fp_enabled(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn v(&mut self, r: Reg) -> u128 {
        self.registers.v[usize::from(r)]
    }
    fn set_v(&mut self, r: Reg, value: u128) {
        self.registers.v[usize::from(r)] = value;
    }
    fn vec_load(&mut self, address: u64, width: VecWidth, _align: VecWidth) -> Result<u128, String> {
        Ok(self.place(address, width)?.iter().rev().fold(0, |v, &b| v << 8 | u128::from(b)))
    }
    fn vec_store(&mut self, address: u64, width: VecWidth, _align: VecWidth, value: u128) -> Result<(), String> {
        let place = self.place(address, width)?;
        place.copy_from_slice(&value.to_le_bytes()[..place.len()]);
        Ok(())
    }
    fn set_saturated(&mut self) {
        self.registers.fpsr |= QC;
    }
}

impl PlainValues for Machine {}

impl ValueFp for Machine {
    fn fp_control(&mut self) -> (Fpcr, &mut u32) {
        panic!("{FOREIGN}")
    }
}

impl Sem for Machine {
    fn x(&mut self, r: Reg) -> u64 {
        self.registers.x.get(usize::from(r)).copied().unwrap_or(0)
    }
    fn set_x(&mut self, r: Reg, x: u64) {
        if let Some(place) = self.registers.x.get_mut(usize::from(r)) {
            *place = x;
        }
    }
    fn x_sp(&mut self, r: Reg) -> u64 {
        self.x(r)
    }
    fn set_x_sp(&mut self, r: Reg, x: u64) {
        self.set_x(r, x);
    }
    fn check_sp_alignment(&mut self) -> Result<(), String> {
        Ok(())
    }
    fn pc(&mut self) -> u64 {
        PC
    }

    fn nzcv(&mut self) -> u32 {
        panic!("{FOREIGN}")
    }
    fn set_nzcv(&mut self, _: u32) {
        panic!("{FOREIGN}")
    }
    fn branch(&mut self, _: u64, _: BranchKind) -> Flow {
        panic!("{FOREIGN}")
    }
    fn branch_relative(&mut self, _: i64, _: BranchKind) -> Flow {
        panic!("{FOREIGN}")
    }
    fn branch_if(&mut self, _: bool, _: i64) -> Flow {
        panic!("{FOREIGN}")
    }
    fn eret(&mut self) -> Result<Flow, String> {
        Err(FOREIGN.into())
    }
    fn svc(&mut self, _: u16) -> Result<Flow, String> {
        Err(FOREIGN.into())
    }
    fn hvc(&mut self, _: u16) -> Result<Flow, String> {
        Err(FOREIGN.into())
    }
    fn smc(&mut self, _: u16) -> Result<Flow, String> {
        Err(FOREIGN.into())
    }
    fn brk(&mut self, _: u16) -> Result<Flow, String> {
        Err(FOREIGN.into())
    }
    fn hlt(&mut self, _: u16) -> Result<Flow, String> {
        Err(FOREIGN.into())
    }
    fn undefined(&mut self) -> String {
        FOREIGN.into()
    }
    fn load(&mut self, _: u64, _: Access) -> Result<u64, String> {
        Err(FOREIGN.into())
    }
    fn store(&mut self, _: u64, _: Access, _: u64) -> Result<(), String> {
        Err(FOREIGN.into())
    }
    fn atomic_rmw(&mut self, _: u64, _: Size, _: AtomicOp, _: Order, _: u64) -> Result<u64, String> {
        Err(FOREIGN.into())
    }
    fn compare_and_swap(&mut self, _: u64, _: Size, _: Order, _: u64, _: u64) -> Result<u64, String> {
        Err(FOREIGN.into())
    }
    fn compare_and_swap_pair(&mut self, _: u64, _: Order, _: (u64, u64), _: (u64, u64)) -> Result<(u64, u64), String> {
        Err(FOREIGN.into())
    }
    fn load_exclusive(&mut self, _: u64, _: Size, _: bool) -> Result<u64, String> {
        Err(FOREIGN.into())
    }
    fn store_exclusive(&mut self, _: u64, _: Size, _: bool, _: u64) -> Result<bool, String> {
        Err(FOREIGN.into())
    }
    fn load_exclusive_pair(&mut self, _: u64, _: bool) -> Result<(u64, u64), String> {
        Err(FOREIGN.into())
    }
    fn store_exclusive_pair(&mut self, _: u64, _: bool, _: u64, _: u64) -> Result<bool, String> {
        Err(FOREIGN.into())
    }
    fn clrex(&mut self) {
        panic!("{FOREIGN}")
    }
    fn dmb(&mut self, _: BarrierDomain, _: BarrierTypes) {
        panic!("{FOREIGN}")
    }
    fn dsb(&mut self, _: BarrierDomain, _: BarrierTypes) {
        panic!("{FOREIGN}")
    }
    fn isb(&mut self) {
        panic!("{FOREIGN}")
    }
    fn sb(&mut self) {
        panic!("{FOREIGN}")
    }
    fn mrs(&mut self, _: SysEnc, _: Reg) -> Result<u64, String> {
        Err(FOREIGN.into())
    }
    fn msr(&mut self, _: SysEnc, _: Reg, _: u64) -> Result<(), String> {
        Err(FOREIGN.into())
    }
    fn msr_imm(&mut self, _: PstateField, _: u8) -> Result<(), String> {
        Err(FOREIGN.into())
    }
    fn sys(&mut self, _: SysEnc, _: Reg, _: u64) -> Result<(), String> {
        Err(FOREIGN.into())
    }
    fn sysl(&mut self, _: SysEnc, _: Reg) -> Result<u64, String> {
        Err(FOREIGN.into())
    }
    fn wfi(&mut self, _: Option<u64>) -> Result<(), String> {
        Err(FOREIGN.into())
    }
    fn wfe(&mut self, _: Option<u64>) -> Result<(), String> {
        Err(FOREIGN.into())
    }
    fn sev(&mut self) {
        panic!("{FOREIGN}")
    }
    fn sevl(&mut self) {
        panic!("{FOREIGN}")
    }
    fn yield_(&mut self) {
        panic!("{FOREIGN}")
    }
    fn esb(&mut self) -> Result<(), String> {
        Err(FOREIGN.into())
    }
}
