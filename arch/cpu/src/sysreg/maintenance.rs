//! SYS and SYSL: cache maintenance, TLB maintenance, address translation, prediction restriction.

use super::access::trap_iss;
use super::{Slot, SysEnc};
use crate::exception::{Syndrome, ec};
use crate::mmu::AccessKind;
use crate::vcpu::{Trap, Vcpu};

const SCTLR_ENRCTX: u64 = 1 << 10;
const SCTLR_DZE: u64 = 1 << 14;
const SCTLR_UCI: u64 = 1 << 26;
/// IC IVAU.
const IC_IVAU: SysEnc = SysEnc::new(1, 3, 7, 5, 1);
/// DC ZVA block: DCZID_EL0.BS = 4, in bytes.
pub const ZVA_BYTES: u64 = 64;

impl Vcpu {
    /// SYS.
    ///
    /// # Errors
    /// UNDEFINED, trapped, or a fault of the address.
    pub fn sys(&mut self, enc: SysEnc, rt: u8, value: u64) -> Result<(), Trap> {
        match (enc.op1(), enc.crn()) {
            (3, 7) => self.sys_el0(enc, rt, value),
            (0, 7) if self.arch.el != 0 => self.sys_el1(enc, value),
            (0, 8) if self.arch.el != 0 && self.tlbi(enc, value) => Ok(()),
            _ if self.arch.el == 0 => Err(self.raise(Syndrome::UNDEFINED)),
            _ => Err(self.unimplemented_system(enc)),
        }
    }

    /// TLB maintenance or IC IVAU at EL1, for an engine that executes code of its own: SYS without what traps. False: this is neither, or its address does not
    /// translate; nothing was done then.
    pub fn maintain(&mut self, enc: SysEnc, value: u64) -> bool {
        if self.arch.el == 0 {
            return false;
        }
        if enc != IC_IVAU {
            return enc.crn() == 8 && self.tlbi(enc, value);
        }
        let Ok(t) = self.translate(value, AccessKind::Read, self.privilege()) else { return false };
        self.invalidate_code_at(t.pa);
        true
    }

    /// SYSL: none exists here.
    ///
    /// # Errors
    /// UNDEFINED.
    pub fn sysl(&mut self, enc: SysEnc, _rt: u8) -> Result<u64, Trap> {
        Err(self.unimplemented_system(enc))
    }

    fn sys_el1(&mut self, enc: SysEnc, value: u64) -> Result<(), Trap> {
        match (enc.crm(), enc.op2()) {
            // IC IALLUIS, IC IALLU.
            (1, 0) | (5, 0) => {
                self.vm.code.invalidate_all();
                self.code_dropped();
                Ok(())
            }
            // DC IVAC needs write permission; DC ISW, CSW, CISW act on sets that do not exist.
            (6, 1) => self.cache_by_va(value, AccessKind::Write),
            (6, 2) | (10, 2) | (14, 2) => Ok(()),
            (8 | 9, _) if self.address_translate(enc, value) => Ok(()),
            _ => Err(self.unimplemented_system(enc)),
        }
    }

    fn sys_el0(&mut self, enc: SysEnc, rt: u8, value: u64) -> Result<(), Trap> {
        let gate = match (enc.crm(), enc.op2()) {
            // IC IVAU; DC CVAC, CVAU, CVAP, CVADP, CIVAC.
            (5, 1) | (10..=14, 1) if enc.crm() != 0 => SCTLR_UCI,
            (4, 1) => SCTLR_DZE,
            // CFP RCTX, DVP RCTX, CPP RCTX.
            (3, 4 | 5 | 7) => SCTLR_ENRCTX,
            _ => return Err(self.unimplemented_system(enc)),
        };
        if self.arch.el == 0 && self.arch.sys(Slot::SCTLR_EL1) & gate == 0 {
            return Err(self.raise(Syndrome::new(ec::SYS, trap_iss(enc, rt, false))));
        }
        match (enc.crm(), enc.op2()) {
            (4, 1) => self.zero_block(value),
            (3, _) => Ok(()),
            (5, _) => {
                let translated = self.translate(value, AccessKind::Read, self.privilege());
                match translated {
                    Ok(t) => {
                        self.invalidate_code_at(t.pa);
                        Ok(())
                    }
                    Err(fault) => Err(self.raise(Syndrome::data_abort(fault, true, true, value))),
                }
            }
            _ => self.cache_by_va(value, AccessKind::Read),
        }
    }

    /// DC by VA: nothing to clean, but the address must translate. Faults are reported as writes with CM set.
    fn cache_by_va(&mut self, va: u64, kind: AccessKind) -> Result<(), Trap> {
        match self.translate(va, kind, self.privilege()) {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.raise(Syndrome::data_abort(fault, true, true, va))),
        }
    }

    /// Code of the page of this physical address is stale.
    pub(crate) fn invalidate_code_at(&mut self, pa: u64) {
        if let Some(page) = self.vm.ram.page_index(pa)
            && self.vm.code.invalidate_page(page)
        {
            self.code_dropped();
        }
    }
}
