//! System registers and instructions, hints, barriers, exception generation.

use super::{Flow, Sem};
use crate::insn::Insn;

/// Executes an instruction of these classes; `None` when it is none.
#[inline(always)]
pub(super) fn execute<S: Sem>(s: &mut S, insn: &Insn) -> Option<Result<Flow, S::Stop>> {
    let completed = match *insn {
        // DCPS is UNDEFINED outside Debug state, which the guest cannot enter.
        Insn::Undefined | Insn::Udf { .. } | Insn::Dcps { .. } => Err(s.undefined()),
        Insn::Svc { imm } => return Some(s.svc(imm)),
        Insn::Hvc { imm } => return Some(s.hvc(imm)),
        Insn::Smc { imm } => return Some(s.smc(imm)),
        Insn::Brk { imm } => return Some(s.brk(imm)),
        Insn::Hlt { imm } => return Some(s.hlt(imm)),
        Insn::Eret => return Some(s.eret()),
        Insn::Mrs { enc, rt } => s.mrs(enc, rt).map(|value| s.set_x(rt, value)),
        Insn::Msr { enc, rt } => {
            let value = s.x(rt);
            s.msr(enc, rt, value)
        }
        Insn::MsrImm { field, imm } => s.msr_imm(field, imm),
        Insn::Sys { enc, rt } => {
            let value = s.x(rt);
            s.sys(enc, rt, value)
        }
        Insn::Sysl { enc, rt } => s.sysl(enc, rt).map(|value| s.set_x(rt, value)),
        Insn::Wfi => s.wfi(None),
        Insn::Wfe => s.wfe(None),
        Insn::Wfit { rt } => {
            let limit = s.x(rt);
            s.wfi(Some(limit))
        }
        Insn::Wfet { rt } => {
            let limit = s.x(rt);
            s.wfe(Some(limit))
        }
        Insn::Esb => s.esb(),
        Insn::Yield => {
            s.yield_();
            Ok(())
        }
        Insn::Sev => {
            s.sev();
            Ok(())
        }
        Insn::Sevl => {
            s.sevl();
            Ok(())
        }
        Insn::Clrex => {
            s.clrex();
            Ok(())
        }
        Insn::Dsb { domain, types } => {
            s.dsb(domain, types);
            Ok(())
        }
        Insn::Dmb { domain, types } => {
            s.dmb(domain, types);
            Ok(())
        }
        Insn::Isb => {
            s.isb();
            Ok(())
        }
        Insn::Sb => {
            s.sb();
            Ok(())
        }
        _ => return None,
    };
    Some(completed.map(|()| Flow::Next))
}
