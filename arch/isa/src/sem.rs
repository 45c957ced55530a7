//! What each instruction means, written once over the trait [`Sem`].
//!
//! A meaning function reads registers, combines values by primitives, accesses memory and writes registers. It branches on decoded
//! fields only, never on values: where the architecture chooses by value there is a primitive ([`SemInt::select`], [`Sem::branch_if`]).
//! So the same text serves engines whose values are numbers (the interpreter: [`PlainValues`] and [`ValueVec`] give it every value
//! primitive), and engines whose values are names of nodes or nothing at all (an optimizer's IR, analyses of effects).
//!
//! Order inside a function is the architecture's: everything that can stop the instruction ([`SemTypes::Stop`]: a fault, a trap) comes
//! before the first register write, so that a stopped instruction has changed no register.

mod alu;
mod atomic;
mod branch;
mod dispatch;
mod fp;
mod int;
mod memory;
mod simd;
mod system;

pub use crate::value::int::BinaryOp;
pub use dispatch::execute;
pub use fp::{SemFp, ValueFp};
pub use int::{PlainValues, SemInt};
pub use simd::{SemVec, ValueVec};

use crate::insn::Reg;
use crate::operand::{AtomicOp, BarrierDomain, BarrierTypes, BranchKind, PstateField, Size, SysEnc};

/// The values of an engine. `Copy`: numbers, or names of nodes.
pub trait SemTypes {
    /// 64 bits: a general-purpose register, an address.
    type X: Copy;
    /// 128 bits: a SIMD&FP register.
    type V: Copy;
    /// One bit: the outcome of a condition.
    type C: Copy;
    /// The four flags NZCV. As a number: N, Z, C, V in bits 31 to 28, zeros below.
    type F: Copy;
    /// Why an instruction was not completed.
    type Stop;
}

/// What follows an instruction that completed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The next instruction: the engine adds 4 to the PC.
    Next,
    /// The primitive that ended the instruction has set the PC: a branch, an exception return.
    Branch,
}

/// What a load or store is besides its address.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// Size of the access, B to X.
    pub size: Size,
    /// Privilege and order.
    pub kind: AccessKind,
}

/// Privilege and order of a load or store.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum AccessKind {
    /// Current privilege, no order, any alignment (unless SCTLR_ELx.A checks it).
    Normal,
    /// LDTR, STTR: with the privilege of EL0 when executed at EL1; no order.
    Unprivileged,
    /// Load-acquire (LDAR, LDLAR). Aligned to its size.
    Acquire,
    /// Load-acquire RCpc (LDAPR, LDAPUR): may pass an earlier store-release. Aligned to its size.
    AcquirePc,
    /// Store-release (STLR, STLLR, STLUR). Aligned to its size.
    Release,
}

impl Access {
    /// A plain access of `size`.
    #[inline(always)]
    #[must_use]
    pub const fn normal(size: Size) -> Access {
        Access { size, kind: AccessKind::Normal }
    }
}

/// Order of an atomic read-modify-write or compare-and-swap.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The read is a load-acquire.
    pub acquire: bool,
    /// The write is a store-release.
    pub release: bool,
}

/// Primitives of the base instruction set that touch the state of the PE, its memory or the rest of the system. Those on values are
/// in [`SemInt`], those of floating point and Advanced SIMD in [`SemFp`] and [`SemVec`].
///
/// Unless said otherwise a register number 31 is ZR (reads as zero, writes vanish), and an instruction sees the PC of itself.
pub trait Sem: SemInt + SemFp + SemVec {
    // ---- registers ------------------------------------------------------------------------------------------------------------
    /// Reads X0 to X30, or zero for 31.
    fn x(&mut self, r: Reg) -> Self::X;
    /// Writes X0 to X30; 31: nothing.
    fn set_x(&mut self, r: Reg, value: Self::X);
    /// Reads X0 to X30, or the current SP for 31.
    fn x_sp(&mut self, r: Reg) -> Self::X;
    /// Writes X0 to X30, or the current SP for 31.
    fn set_x_sp(&mut self, r: Reg, value: Self::X);
    /// Address of the instruction.
    fn pc(&mut self) -> Self::X;
    /// Reads PSTATE.NZCV.
    fn nzcv(&mut self) -> Self::F;
    /// Writes PSTATE.NZCV.
    fn set_nzcv(&mut self, flags: Self::F);

    // ---- flow -----------------------------------------------------------------------------------------------------------------
    /// Branches to a computed address. The engine removes an address tag (TCR_ELx.TBI) as `AArch64.BranchAddr` does; a misaligned
    /// target faults when it is fetched from.
    fn branch(&mut self, target: Self::X, kind: BranchKind) -> Flow;
    /// Branches to the address of the instruction plus `offset` bytes.
    fn branch_relative(&mut self, offset: i64, kind: BranchKind) -> Flow;
    /// Branches to the address of the instruction plus `offset` bytes when `taken`, else goes on.
    fn branch_if(&mut self, taken: Self::C, offset: i64) -> Flow;
    /// ERET: PC and PSTATE from ELR and SPSR; UNDEFINED at EL0.
    fn eret(&mut self) -> Result<Flow, Self::Stop>;
    /// SVC: supervisor call. Its preferred return address is the next instruction.
    fn svc(&mut self, imm: u16) -> Result<Flow, Self::Stop>;
    /// HVC: hypervisor call. Its preferred return address is the next instruction; UNDEFINED at EL0 or where not offered.
    fn hvc(&mut self, imm: u16) -> Result<Flow, Self::Stop>;
    /// SMC: secure monitor call, as HVC.
    fn smc(&mut self, imm: u16) -> Result<Flow, Self::Stop>;
    /// BRK: breakpoint exception. Its preferred return address is the instruction itself.
    fn brk(&mut self, imm: u16) -> Result<Flow, Self::Stop>;
    /// HLT: halting debug; UNDEFINED when that is disabled.
    fn hlt(&mut self, imm: u16) -> Result<Flow, Self::Stop>;
    /// The instruction is UNDEFINED.
    fn undefined(&mut self) -> Self::Stop;

    // ---- memory ---------------------------------------------------------------------------------------------------------------
    /// A load or store whose base register is SP: SP must be a multiple of 16 when SCTLR_ELx.SA (or SA0) checks it.
    fn check_sp_alignment(&mut self) -> Result<(), Self::Stop>;
    /// Loads `access.size`, zero-extended to 64 bits.
    fn load(&mut self, address: Self::X, access: Access) -> Result<Self::X, Self::Stop>;
    /// Stores the low `access.size` of `value`.
    fn store(&mut self, address: Self::X, access: Access, value: Self::X) -> Result<(), Self::Stop>;
    /// LDP: two adjacent elements, W or X, each zero-extended. Each is single-copy atomic by itself.
    #[inline(always)]
    fn load_pair(&mut self, address: Self::X, size: Size) -> Result<(Self::X, Self::X), Self::Stop> {
        let first = self.load(address, Access::normal(size))?;
        let step = self.x_const(size.bytes().into());
        let second = self.add(address, step);
        Ok((first, self.load(second, Access::normal(size))?))
    }
    /// STP: two adjacent elements, W or X. When the second faults the first may or may not have been written.
    #[inline(always)]
    fn store_pair(&mut self, address: Self::X, size: Size, first: Self::X, second: Self::X) -> Result<(), Self::Stop> {
        self.store(address, Access::normal(size), first)?;
        let step = self.x_const(size.bytes().into());
        let above = self.add(address, step);
        self.store(above, Access::normal(size), second)
    }

    // ---- atomic memory --------------------------------------------------------------------------------------------------------
    // All of these must be aligned to the whole of what they access.
    /// Reads `size` (B to X), writes `op` of it and the low `size` of `operand`, as one; gives the old value, zero-extended.
    fn atomic_rmw(
        &mut self,
        address: Self::X,
        size: Size,
        op: AtomicOp,
        order: Order,
        operand: Self::X,
    ) -> Result<Self::X, Self::Stop>;
    /// Reads `size` (B to X) and, when it equals the low `size` of `expected`, writes `new`, as one; gives the old value,
    /// zero-extended. Needs permission to write in either case.
    fn compare_and_swap(
        &mut self,
        address: Self::X,
        size: Size,
        order: Order,
        expected: Self::X,
        new: Self::X,
    ) -> Result<Self::X, Self::Stop>;
    /// The same with 16 bytes as two doublewords, the one at the lower address first.
    fn compare_and_swap_pair(
        &mut self,
        address: Self::X,
        order: Order,
        expected: (Self::X, Self::X),
        new: (Self::X, Self::X),
    ) -> Result<(Self::X, Self::X), Self::Stop>;
    /// Load-exclusive of `size` (B to X), zero-extended: the local monitor now watches it.
    fn load_exclusive(&mut self, address: Self::X, size: Size, acquire: bool) -> Result<Self::X, Self::Stop>;
    /// Store-exclusive of `size` (B to X): true when it stored. The monitor is open afterwards.
    fn store_exclusive(
        &mut self,
        address: Self::X,
        size: Size,
        release: bool,
        value: Self::X,
    ) -> Result<Self::C, Self::Stop>;
    /// Load-exclusive of 16 bytes as two doublewords, the one at the lower address first.
    fn load_exclusive_pair(&mut self, address: Self::X, acquire: bool) -> Result<(Self::X, Self::X), Self::Stop>;
    /// Store-exclusive of 16 bytes as two doublewords, the one at the lower address first: true when it stored.
    fn store_exclusive_pair(
        &mut self,
        address: Self::X,
        release: bool,
        low: Self::X,
        high: Self::X,
    ) -> Result<Self::C, Self::Stop>;
    /// CLREX: opens the local monitor.
    fn clrex(&mut self);

    // ---- system ---------------------------------------------------------------------------------------------------------------
    /// DMB.
    fn dmb(&mut self, domain: BarrierDomain, types: BarrierTypes);
    /// DSB, SSBB, PSSBB: also waits for the PE's maintenance operations.
    fn dsb(&mut self, domain: BarrierDomain, types: BarrierTypes);
    /// ISB: context synchronization.
    fn isb(&mut self);
    /// SB: speculation barrier.
    fn sb(&mut self);
    /// MRS. `rt` is for the syndrome of a trap only.
    fn mrs(&mut self, enc: SysEnc, rt: Reg) -> Result<Self::X, Self::Stop>;
    /// MSR (register). `rt` is for the syndrome of a trap only.
    fn msr(&mut self, enc: SysEnc, rt: Reg, value: Self::X) -> Result<(), Self::Stop>;
    /// MSR (immediate); `imm` is 0 to 15.
    fn msr_imm(&mut self, field: PstateField, imm: u8) -> Result<(), Self::Stop>;
    /// SYS: cache, TLB and address translation operations. `rt` is for the syndrome of a trap only.
    fn sys(&mut self, enc: SysEnc, rt: Reg, value: Self::X) -> Result<(), Self::Stop>;
    /// SYSL. `rt` is for the syndrome of a trap only.
    fn sysl(&mut self, enc: SysEnc, rt: Reg) -> Result<Self::X, Self::Stop>;
    /// WFI, or WFIT with a counter value at which it ends.
    fn wfi(&mut self, limit: Option<Self::X>) -> Result<(), Self::Stop>;
    /// WFE, or WFET with a counter value at which it ends.
    fn wfe(&mut self, limit: Option<Self::X>) -> Result<(), Self::Stop>;
    /// SEV: sets the event register of every PE.
    fn sev(&mut self);
    /// SEVL: sets the event register of this PE.
    fn sevl(&mut self);
    /// YIELD: a hint that this PE spins.
    fn yield_(&mut self);
    /// ESB: synchronizes SError exceptions (no operation without FEAT_RAS).
    fn esb(&mut self) -> Result<(), Self::Stop>;
}
