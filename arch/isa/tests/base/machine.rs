//! The smallest engine that can execute the base instructions: registers, a page of code and a window of memory.

use isa::fp::Fpcr;
use isa::insn::{Insn, Reg};
use isa::operand::{AtomicOp, BarrierDomain, BarrierTypes, BranchKind, PstateField, Size, SysEnc};
use isa::sem::{self, Access, AccessKind, Flow, Order, PlainValues, Sem, SemTypes, ValueFp, ValueVec};
use isa::simd::VecWidth;
use isa::value::int;

/// Address of the code page.
pub const CODE: u64 = 0x20_0000_0000;
/// Address of the memory window.
pub const WINDOW: u64 = 0x10_0000_0000;
/// Bytes of each.
pub const SIZE: usize = 4096;

/// Why an instruction did not complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// UNDEFINED.
    Undefined,
    /// Access to this address outside of memory.
    Fault(u64),
    /// An access that must be aligned was not.
    Alignment(u64),
    /// SP was not aligned.
    SpAlignment,
    /// A call of another Exception level or of a debugger: name and immediate.
    Call(&'static str, u16),
}

/// What an instruction asked of the system, for tests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Barrier(&'static str, Option<(BarrierDomain, BarrierTypes)>),
    Hint(&'static str),
    Wait(&'static str, Option<u64>),
    Msr(SysEnc, Reg, u64),
    MsrImm(PstateField, u8),
    Sys(SysEnc, Reg, u64),
    Branch(BranchKind),
    Load(Access),
    Store(Access),
}

pub struct Machine {
    pub x: [u64; 31],
    pub sp: u64,
    pub nzcv: u32,
    pub pc: u64,
    /// Where the last instruction went.
    pub next_pc: u64,
    pub code: Vec<u8>,
    pub window: Vec<u8>,
    pub events: Vec<Event>,
    /// What MRS and SYSL give.
    pub system: u64,
    monitor: Option<(u64, u32, u128)>,
    fpsr: u32,
}

impl Machine {
    /// Memory is filled from the seed as the runner does it. PC is at the start of the code.
    pub fn new(seed: u64) -> Machine {
        let mut state = seed;
        let mut fill = |bytes: usize| -> Vec<u8> {
            let step = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            (0..bytes).map(step).collect()
        };
        let window = fill(SIZE);
        let mut code = vec![0; 256];
        code.extend(fill(SIZE - 256));
        Machine {
            x: [0; 31],
            sp: WINDOW + 2048,
            nzcv: 0,
            pc: CODE,
            next_pc: CODE,
            code,
            window,
            events: Vec::new(),
            system: 0,
            monitor: None,
            fpsr: 0,
        }
    }

    /// Executes one instruction and moves the PC.
    pub fn execute(&mut self, insn: &Insn) -> Result<(), Stop> {
        self.next_pc = self.pc.wrapping_add(4);
        let flow = sem::execute(self, insn)?;
        assert!(flow == Flow::Branch || self.next_pc == self.pc.wrapping_add(4), "PC set, but Flow::Next");
        self.pc = self.next_pc;
        Ok(())
    }

    fn place(&mut self, address: u64, bytes: u32) -> Result<&mut [u8], Stop> {
        let memory = if address >= CODE { &mut self.code } else { &mut self.window };
        let start = (address % CODE).checked_sub(if address >= CODE { 0 } else { WINDOW });
        start
            .and_then(|start| usize::try_from(start).ok())
            .and_then(|start| memory.get_mut(start..start.checked_add(bytes as usize)?))
            .ok_or(Stop::Fault(address))
    }

    pub fn read(&mut self, address: u64, bytes: u32) -> Result<u128, Stop> {
        Ok(self.place(address, bytes)?.iter().rev().fold(0, |v, &b| v << 8 | u128::from(b)))
    }

    pub fn write(&mut self, address: u64, bytes: u32, value: u128) -> Result<(), Stop> {
        self.place(address, bytes)?.copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
        Ok(())
    }

    fn aligned(address: u64, bytes: u32) -> Result<(), Stop> {
        if address & u64::from(bytes - 1) == 0 { Ok(()) } else { Err(Stop::Alignment(address)) }
    }

    fn read_exclusive(&mut self, address: u64, bytes: u32) -> Result<u128, Stop> {
        Self::aligned(address, bytes)?;
        let value = self.read(address, bytes)?;
        self.monitor = Some((address, bytes, value));
        Ok(value)
    }

    fn write_exclusive(&mut self, address: u64, bytes: u32, value: u128) -> Result<bool, Stop> {
        Self::aligned(address, bytes)?;
        let old = self.read(address, bytes)?;
        let stored = self.monitor.take() == Some((address, bytes, old));
        if stored {
            self.write(address, bytes, value)?;
        }
        Ok(stored)
    }
}

impl SemTypes for Machine {
    type X = u64;
    type V = u128;
    type C = bool;
    type F = u32;
    type Stop = Stop;
}

impl PlainValues for Machine {}

impl ValueVec for Machine {
    fn check_fp_enabled(&mut self) -> Result<(), Stop> {
        Err(Stop::Call("fp", 0))
    }
    fn v(&mut self, _: Reg) -> u128 {
        0
    }
    fn set_v(&mut self, _: Reg, _: u128) {}
    fn vec_load(&mut self, _: u64, _: VecWidth, _: VecWidth) -> Result<u128, Stop> {
        Ok(0)
    }
    fn vec_store(&mut self, _: u64, _: VecWidth, _: VecWidth, _: u128) -> Result<(), Stop> {
        Ok(())
    }
    fn set_saturated(&mut self) {}
}

impl ValueFp for Machine {
    fn fp_control(&mut self) -> (Fpcr, &mut u32) {
        (Fpcr(0), &mut self.fpsr)
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
    fn x_sp(&mut self, r: Reg) -> u64 {
        self.x.get(usize::from(r)).copied().unwrap_or(self.sp)
    }
    fn set_x_sp(&mut self, r: Reg, value: u64) {
        *self.x.get_mut(usize::from(r)).unwrap_or(&mut self.sp) = value;
    }
    fn pc(&mut self) -> u64 {
        self.pc
    }
    fn nzcv(&mut self) -> u32 {
        self.nzcv
    }
    fn set_nzcv(&mut self, flags: u32) {
        assert_eq!(flags & 0x0fff_ffff, 0, "bits below NZCV");
        self.nzcv = flags;
    }

    fn branch(&mut self, target: u64, kind: BranchKind) -> Flow {
        self.events.push(Event::Branch(kind));
        self.next_pc = target;
        Flow::Branch
    }
    fn branch_relative(&mut self, offset: i64, kind: BranchKind) -> Flow {
        self.branch(self.pc.wrapping_add_signed(offset), kind)
    }
    fn branch_if(&mut self, taken: bool, offset: i64) -> Flow {
        if taken { self.branch_relative(offset, BranchKind::Jump) } else { Flow::Next }
    }
    fn eret(&mut self) -> Result<Flow, Stop> {
        Err(Stop::Call("eret", 0))
    }
    fn svc(&mut self, imm: u16) -> Result<Flow, Stop> {
        Err(Stop::Call("svc", imm))
    }
    fn hvc(&mut self, imm: u16) -> Result<Flow, Stop> {
        Err(Stop::Call("hvc", imm))
    }
    fn smc(&mut self, imm: u16) -> Result<Flow, Stop> {
        Err(Stop::Call("smc", imm))
    }
    fn brk(&mut self, imm: u16) -> Result<Flow, Stop> {
        Err(Stop::Call("brk", imm))
    }
    fn hlt(&mut self, imm: u16) -> Result<Flow, Stop> {
        Err(Stop::Call("hlt", imm))
    }
    fn undefined(&mut self) -> Stop {
        Stop::Undefined
    }

    fn check_sp_alignment(&mut self) -> Result<(), Stop> {
        if self.sp & 15 == 0 { Ok(()) } else { Err(Stop::SpAlignment) }
    }
    fn load(&mut self, address: u64, access: Access) -> Result<u64, Stop> {
        self.events.push(Event::Load(access));
        if matches!(access.kind, AccessKind::Acquire | AccessKind::AcquirePc) {
            Self::aligned(address, access.size.bytes())?;
        }
        self.read(address, access.size.bytes()).map(|v| v as u64)
    }
    fn store(&mut self, address: u64, access: Access, value: u64) -> Result<(), Stop> {
        self.events.push(Event::Store(access));
        if access.kind == AccessKind::Release {
            Self::aligned(address, access.size.bytes())?;
        }
        self.write(address, access.size.bytes(), value.into())
    }
    fn atomic_rmw(&mut self, address: u64, size: Size, op: AtomicOp, _: Order, operand: u64) -> Result<u64, Stop> {
        Self::aligned(address, size.bytes())?;
        let old = self.read(address, size.bytes())? as u64;
        self.write(address, size.bytes(), int::atomic(op, size, old, operand).into())?;
        Ok(old)
    }
    fn compare_and_swap(&mut self, address: u64, size: Size, _: Order, expected: u64, new: u64) -> Result<u64, Stop> {
        Self::aligned(address, size.bytes())?;
        let old = self.read(address, size.bytes())? as u64;
        if old == int::truncate_to(size, expected) {
            self.write(address, size.bytes(), new.into())?;
        }
        Ok(old)
    }
    fn compare_and_swap_pair(
        &mut self,
        address: u64,
        _: Order,
        expected: (u64, u64),
        new: (u64, u64),
    ) -> Result<(u64, u64), Stop> {
        Self::aligned(address, 16)?;
        let old = self.read(address, 16)?;
        if old == both(expected) {
            self.write(address, 16, both(new))?;
        }
        Ok((old as u64, (old >> 64) as u64))
    }
    fn load_exclusive(&mut self, address: u64, size: Size, _: bool) -> Result<u64, Stop> {
        self.read_exclusive(address, size.bytes()).map(|v| v as u64)
    }
    fn store_exclusive(&mut self, address: u64, size: Size, _: bool, value: u64) -> Result<bool, Stop> {
        self.write_exclusive(address, size.bytes(), value.into())
    }
    fn load_exclusive_pair(&mut self, address: u64, _: bool) -> Result<(u64, u64), Stop> {
        self.read_exclusive(address, 16).map(|v| (v as u64, (v >> 64) as u64))
    }
    fn store_exclusive_pair(&mut self, address: u64, _: bool, low: u64, high: u64) -> Result<bool, Stop> {
        self.write_exclusive(address, 16, both((low, high)))
    }
    fn clrex(&mut self) {
        self.monitor = None;
    }

    fn dmb(&mut self, domain: BarrierDomain, types: BarrierTypes) {
        self.events.push(Event::Barrier("dmb", Some((domain, types))));
    }
    fn dsb(&mut self, domain: BarrierDomain, types: BarrierTypes) {
        self.events.push(Event::Barrier("dsb", Some((domain, types))));
    }
    fn isb(&mut self) {
        self.events.push(Event::Barrier("isb", None));
    }
    fn sb(&mut self) {
        self.events.push(Event::Barrier("sb", None));
    }
    fn mrs(&mut self, _: SysEnc, _: Reg) -> Result<u64, Stop> {
        Ok(self.system)
    }
    fn msr(&mut self, enc: SysEnc, rt: Reg, value: u64) -> Result<(), Stop> {
        self.events.push(Event::Msr(enc, rt, value));
        Ok(())
    }
    fn msr_imm(&mut self, field: PstateField, imm: u8) -> Result<(), Stop> {
        self.events.push(Event::MsrImm(field, imm));
        Ok(())
    }
    fn sys(&mut self, enc: SysEnc, rt: Reg, value: u64) -> Result<(), Stop> {
        self.events.push(Event::Sys(enc, rt, value));
        Ok(())
    }
    fn sysl(&mut self, _: SysEnc, _: Reg) -> Result<u64, Stop> {
        Ok(self.system)
    }
    fn wfi(&mut self, limit: Option<u64>) -> Result<(), Stop> {
        self.events.push(Event::Wait("wfi", limit));
        Ok(())
    }
    fn wfe(&mut self, limit: Option<u64>) -> Result<(), Stop> {
        self.events.push(Event::Wait("wfe", limit));
        Ok(())
    }
    fn sev(&mut self) {
        self.events.push(Event::Hint("sev"));
    }
    fn sevl(&mut self) {
        self.events.push(Event::Hint("sevl"));
    }
    fn yield_(&mut self) {
        self.events.push(Event::Hint("yield"));
    }
    fn esb(&mut self) -> Result<(), Stop> {
        self.events.push(Event::Hint("esb"));
        Ok(())
    }
}

fn both((low, high): (u64, u64)) -> u128 {
    u128::from(low) | u128::from(high) << 64
}
