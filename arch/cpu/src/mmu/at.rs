//! Address translation instructions: AT S1E1R and its kin write PAR_EL1.

use super::{AccessKind, Privilege, walk};
use crate::sysreg::{Slot, SysEnc};
use crate::vcpu::Vcpu;

impl Vcpu {
    /// AT of stage 1, EL1&0. False: not one that exists here.
    pub(crate) fn address_translate(&mut self, enc: SysEnc, va: u64) -> bool {
        if enc.op1() != 0 || enc.crn() != 7 {
            return false;
        }
        let pan = self.features.pan;
        let (kind, who) = match (enc.crm(), enc.op2()) {
            (8, 0) => (AccessKind::Read, Privilege { el1: true, pan: false }),
            (8, 1) => (AccessKind::Write, Privilege { el1: true, pan: false }),
            (8, 2) => (AccessKind::Read, Privilege { el1: false, pan: false }),
            (8, 3) => (AccessKind::Write, Privilege { el1: false, pan: false }),
            (9, 0) if pan => (AccessKind::Read, Privilege { el1: true, pan: self.arch.pan != 0 }),
            (9, 1) if pan => (AccessKind::Write, Privilege { el1: true, pan: self.arch.pan != 0 }),
            _ => return false,
        };
        let controls = self.controls();
        let result = walk::walk(&self.vm.ram, &controls, va, kind, who).and_then(|w| {
            let (r, wr, _) = w.permissions(who, controls.sctlr);
            let allowed = if kind == AccessKind::Write { wr } else { r };
            if allowed { Ok(w) } else { Err(super::Fault::Permission(w.level)) }
        });
        let par = match result {
            Ok(w) => {
                // Device and non-cacheable memory reads as Outer Shareable.
                let sh = if w.attributes.is_device() || w.attributes.mair == 0x44 { 2 } else { w.attributes.sh };
                u64::from(w.attributes.mair) << 56 | w.pa & 0x0000_ffff_ffff_f000 | 1 << 11 | u64::from(sh) << 7
            }
            Err(fault) => 1 << 11 | u64::from(fault.status()) << 1 | 1,
        };
        self.arch.set_sys(Slot::PAR_EL1, par);
        true
    }
}
