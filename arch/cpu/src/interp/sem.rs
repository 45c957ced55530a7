//! The PE as an engine whose values are numbers: `isa`'s meaning functions run directly on it.

use std::sync::atomic::{Ordering, fence};

use isa::insn::Reg;
use isa::operand::{AtomicOp, BarrierDomain, BarrierTypes, BranchKind, PstateField, Size, SysEnc};
use isa::sem::{Access, AccessKind, Flow, Order, PlainValues, Sem, SemTypes};

use crate::exception::{Syndrome, ec};
use crate::hostmem::Rmw;
use crate::outside::Conduit;
use crate::shared::req;
use crate::sysreg::Slot;
use crate::vcpu::{Trap, Vcpu};

const SCTLR_SA: u64 = 1 << 3;
const SCTLR_SA0: u64 = 1 << 4;

impl SemTypes for Vcpu {
    type X = u64;
    type V = u128;
    type C = bool;
    type F = u32;
    type Stop = Trap;
}

impl PlainValues for Vcpu {}

#[inline(always)]
fn bytes(size: Size) -> u64 {
    u64::from(size.bytes())
}

impl From<AtomicOp> for Rmw {
    #[inline]
    fn from(op: AtomicOp) -> Rmw {
        match op {
            AtomicOp::Add => Rmw::Add,
            AtomicOp::Clr => Rmw::Clear,
            AtomicOp::Eor => Rmw::Eor,
            AtomicOp::Set => Rmw::Set,
            AtomicOp::Smax => Rmw::SignedMax,
            AtomicOp::Smin => Rmw::SignedMin,
            AtomicOp::Umax => Rmw::UnsignedMax,
            AtomicOp::Umin => Rmw::UnsignedMin,
            // The decoder makes no other value.
            _ => Rmw::Swap,
        }
    }
}

impl Vcpu {
    /// AArch64.BranchAddr: with TBI the tag is replaced by the sign extension of bit 55.
    #[inline(always)]
    fn branch_address(&self, target: u64) -> u64 {
        if matches!(target >> 55, 0 | 0x1ff) { target } else { self.tagged_branch_address(target) }
    }

    #[cold]
    fn tagged_branch_address(&self, target: u64) -> u64 {
        let tbi = self.arch.sys(Slot::TCR_EL1) >> (37 + (target >> 55 & 1)) & 1 != 0;
        if tbi { ((target << 8) as i64 >> 8) as u64 } else { target }
    }
}

impl Sem for Vcpu {
    #[inline(always)]
    fn x(&mut self, r: Reg) -> u64 {
        if r < 31 { self.arch.x[usize::from(r)] } else { 0 }
    }
    #[inline(always)]
    fn set_x(&mut self, r: Reg, value: u64) {
        if r < 31 {
            self.arch.x[usize::from(r)] = value;
        }
    }
    #[inline(always)]
    fn x_sp(&mut self, r: Reg) -> u64 {
        if r < 31 { self.arch.x[usize::from(r)] } else { self.arch.sp }
    }
    #[inline(always)]
    fn set_x_sp(&mut self, r: Reg, value: u64) {
        if r < 31 {
            self.arch.x[usize::from(r)] = value;
        } else {
            self.arch.sp = value;
        }
    }
    #[inline(always)]
    fn pc(&mut self) -> u64 {
        self.arch.pc
    }
    #[inline(always)]
    fn nzcv(&mut self) -> u32 {
        self.arch.nzcv
    }
    #[inline(always)]
    fn set_nzcv(&mut self, flags: u32) {
        self.arch.nzcv = flags;
    }

    #[inline(always)]
    fn branch(&mut self, target: u64, _kind: BranchKind) -> Flow {
        self.arch.pc = self.branch_address(target);
        Flow::Branch
    }
    #[inline(always)]
    fn branch_relative(&mut self, offset: i64, _kind: BranchKind) -> Flow {
        self.arch.pc = self.arch.pc.wrapping_add_signed(offset);
        Flow::Branch
    }
    #[inline(always)]
    fn branch_if(&mut self, taken: bool, offset: i64) -> Flow {
        if taken {
            self.arch.pc = self.arch.pc.wrapping_add_signed(offset);
            Flow::Branch
        } else {
            Flow::Next
        }
    }
    fn eret(&mut self) -> Result<Flow, Trap> {
        if self.arch.el == 0 {
            return Err(self.raise(Syndrome::UNDEFINED));
        }
        Vcpu::eret(self);
        Ok(Flow::Branch)
    }
    fn svc(&mut self, imm: u16) -> Result<Flow, Trap> {
        Err(self.raise(Syndrome::svc(imm)))
    }
    fn hvc(&mut self, imm: u16) -> Result<Flow, Trap> {
        self.smccc(Conduit::Hvc, imm)?;
        Ok(Flow::Next)
    }
    fn smc(&mut self, imm: u16) -> Result<Flow, Trap> {
        self.smccc(Conduit::Smc, imm)?;
        Ok(Flow::Next)
    }
    fn brk(&mut self, imm: u16) -> Result<Flow, Trap> {
        Err(self.raise(Syndrome::brk(imm)))
    }
    fn hlt(&mut self, _imm: u16) -> Result<Flow, Trap> {
        Err(self.raise(Syndrome::UNDEFINED))
    }
    #[cold]
    fn undefined(&mut self) -> Trap {
        self.raise(Syndrome::UNDEFINED)
    }

    #[inline(always)]
    fn check_sp_alignment(&mut self) -> Result<(), Trap> {
        if self.arch.sp & 15 == 0 {
            return Ok(());
        }
        let bit = if self.arch.el == 0 { SCTLR_SA0 } else { SCTLR_SA };
        if self.arch.sys(Slot::SCTLR_EL1) & bit == 0 {
            return Ok(());
        }
        Err(self.raise(Syndrome::new(ec::SP_ALIGNMENT, 0)))
    }
    #[inline(always)]
    fn load(&mut self, address: u64, access: Access) -> Result<u64, Trap> {
        let size = bytes(access.size);
        match access.kind {
            AccessKind::Normal => self.read(address, size),
            AccessKind::Unprivileged => self.load_unprivileged(address, size),
            AccessKind::Acquire | AccessKind::AcquirePc | AccessKind::Release => self.load_acquire(address, size),
        }
    }
    #[inline(always)]
    fn store(&mut self, address: u64, access: Access, value: u64) -> Result<(), Trap> {
        let size = bytes(access.size);
        match access.kind {
            AccessKind::Normal => self.write(address, size, value),
            AccessKind::Unprivileged => self.store_unprivileged(address, size, value),
            AccessKind::Acquire | AccessKind::AcquirePc | AccessKind::Release => {
                self.store_release(address, size, value)
            }
        }
    }

    fn atomic_rmw(&mut self, address: u64, size: Size, op: AtomicOp, _order: Order, operand: u64) -> Result<u64, Trap> {
        Vcpu::atomic_rmw(self, address, bytes(size), op.into(), operand)
    }
    fn compare_and_swap(
        &mut self,
        address: u64,
        size: Size,
        _order: Order,
        expected: u64,
        new: u64,
    ) -> Result<u64, Trap> {
        Vcpu::compare_and_swap(self, address, bytes(size), expected, new)
    }
    fn compare_and_swap_pair(
        &mut self,
        address: u64,
        _order: Order,
        expected: (u64, u64),
        new: (u64, u64),
    ) -> Result<(u64, u64), Trap> {
        let wide = |(low, high): (u64, u64)| u128::from(low) | u128::from(high) << 64;
        let old = self.compare_and_swap128(address, wide(expected), wide(new))?;
        Ok((old as u64, (old >> 64) as u64))
    }
    fn load_exclusive(&mut self, address: u64, size: Size, _acquire: bool) -> Result<u64, Trap> {
        Ok(Vcpu::load_exclusive(self, address, bytes(size))? as u64)
    }
    fn store_exclusive(&mut self, address: u64, size: Size, _release: bool, value: u64) -> Result<bool, Trap> {
        Vcpu::store_exclusive(self, address, bytes(size), value.into())
    }
    fn load_exclusive_pair(&mut self, address: u64, _acquire: bool) -> Result<(u64, u64), Trap> {
        let value = Vcpu::load_exclusive(self, address, 16)?;
        Ok((value as u64, (value >> 64) as u64))
    }
    fn store_exclusive_pair(&mut self, address: u64, _release: bool, low: u64, high: u64) -> Result<bool, Trap> {
        Vcpu::store_exclusive(self, address, 16, u128::from(low) | u128::from(high) << 64)
    }
    fn clrex(&mut self) {
        self.arch.exclusive.size = 0;
    }

    fn dmb(&mut self, _domain: BarrierDomain, types: BarrierTypes) {
        // Volatile accesses are not ordered for the compiler of other threads' code, the host is at least as strong as its own rules: a full
        // fence orders stores before loads; the weaker kinds need an acquire-release fence only.
        match types {
            BarrierTypes::Reads | BarrierTypes::Writes => fence(Ordering::AcqRel),
            BarrierTypes::All | BarrierTypes::Reserved => fence(Ordering::SeqCst),
        }
    }
    fn dsb(&mut self, _domain: BarrierDomain, _types: BarrierTypes) {
        fence(Ordering::SeqCst);
        self.complete_tlbi();
    }
    fn isb(&mut self) {
        self.context_synchronization();
    }
    fn sb(&mut self) {}
    fn mrs(&mut self, enc: SysEnc, rt: Reg) -> Result<u64, Trap> {
        Vcpu::mrs(self, enc, rt)
    }
    fn msr(&mut self, enc: SysEnc, rt: Reg, value: u64) -> Result<(), Trap> {
        Vcpu::msr(self, enc, rt, value)
    }
    fn msr_imm(&mut self, field: PstateField, imm: u8) -> Result<(), Trap> {
        Vcpu::msr_imm(self, field, imm)
    }
    fn sys(&mut self, enc: SysEnc, rt: Reg, value: u64) -> Result<(), Trap> {
        Vcpu::sys(self, enc, rt, value)
    }
    fn sysl(&mut self, enc: SysEnc, rt: Reg) -> Result<u64, Trap> {
        Vcpu::sysl(self, enc, rt)
    }
    fn wfi(&mut self, limit: Option<u64>) -> Result<(), Trap> {
        Vcpu::wfi(self, limit)
    }
    fn wfe(&mut self, limit: Option<u64>) -> Result<(), Trap> {
        Vcpu::wfe(self, limit)
    }
    fn sev(&mut self) {
        Vcpu::sev(self);
    }
    fn sevl(&mut self) {
        self.own_event = self.arch.event == 0;
        self.arch.event = 1;
    }
    fn yield_(&mut self) {
        self.yields = self.yields.wrapping_add(1);
        // A spinning guest on a host with fewer cores than vCPUs: let the holder run now and then.
        if self.yields.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
    }
    fn esb(&mut self) -> Result<(), Trap> {
        Ok(())
    }
}

impl Vcpu {
    /// MSR (immediate).
    ///
    /// # Errors
    /// UNDEFINED or trapped at EL0.
    pub fn msr_imm(&mut self, field: PstateField, imm: u8) -> Result<(), Trap> {
        let bits = u64::from(imm & 15) << 6;
        let on = imm & 1 != 0;
        match field {
            PstateField::DaifSet | PstateField::DaifClr => {
                let set = field == PstateField::DaifSet;
                self.check_daif_access(if set { 6 } else { 7 }, imm)?;
                let daif = u64::from(self.arch.daif);
                self.set_daif(if set { daif | bits } else { daif & !bits });
            }
            PstateField::Ssbs => self.arch.ssbs = u8::from(on),
            PstateField::Dit => self.arch.dit = u8::from(on),
            PstateField::SpSel | PstateField::Pan | PstateField::Uao if self.arch.el == 0 => {
                return Err(self.raise(Syndrome::UNDEFINED));
            }
            PstateField::SpSel => self.arch.set_el_sp(self.arch.el, imm & 1),
            PstateField::Pan => self.set_pan(on),
            // FEAT_UAO is not offered.
            PstateField::Uao => return Err(self.raise(Syndrome::UNDEFINED)),
        }
        if self.interrupt_deliverable() {
            self.shared.req().fetch_or(req::IRQ, Ordering::Relaxed);
            self.fetch_stale();
        }
        Ok(())
    }
}
