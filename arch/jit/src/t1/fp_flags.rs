//! NZCV of floating-point compares: kept in EFLAGS as VUCOMIS leaves them, in the order of operands that the first consumer wants.
//!
//! VUCOMIS says unordered by ZF = PF = CF = 1, so half of the A64 conditions have one host condition for `n, m` and the other half for
//! `m, n`. A compare can be done again as long as its operands are intact: it sets no flag in MXCSR that it did not set the first time.

use isa::insn::{Cond, Insn};

use crate::asm::{Cc, Gpr, Section, Sz, VLen, Xmm, ops};

use super::builder::Builder;
use super::flags::{Flags, FpCompareRecipe, FpOrder};

/// Which order of operands has one host condition for `cond`; `None` if both do.
fn order_for(cond: Cond) -> Option<FpOrder> {
    match cond {
        Cond::Cs | Cond::Cc | Cond::Mi | Cond::Pl | Cond::Hi | Cond::Ls => Some(FpOrder::Swapped),
        Cond::Ge | Cond::Lt | Cond::Gt | Cond::Le => Some(FpOrder::Straight),
        _ => None,
    }
}

/// Predicate of VCMPS that holds for operands `n, m` if `cond` holds after FCMP of them; quiet.
#[must_use]
pub fn compare_predicate(cond: Cond) -> u8 {
    match cond {
        Cond::Eq => 0x00,
        Cond::Ne => 0x04,
        Cond::Cs | Cond::Pl => 0x15,
        Cond::Cc | Cond::Mi => 0x11,
        Cond::Vs => 0x03,
        Cond::Vc => 0x07,
        Cond::Hi => 0x16,
        Cond::Ls => 0x12,
        Cond::Ge => 0x1d,
        Cond::Lt => 0x19,
        Cond::Gt => 0x1e,
        Cond::Le => 0x1a,
        Cond::Al | Cond::Nv => 0x0f,
    }
}

impl Builder<'_> {
    /// The order of operands that the next reader of the flags wants.
    fn wanted_order(&self) -> FpOrder {
        for insn in self.insns.iter().skip(self.i + 1).take(8) {
            match *insn {
                Insn::BranchCond { cond, .. }
                | Insn::CondSelect { cond, .. }
                | Insn::CondCompareReg { cond, .. }
                | Insn::CondCompareImm { cond, .. }
                | Insn::FpCondCompare { cond, .. } => return order_for(cond).unwrap_or(FpOrder::Straight),
                _ => {}
            }
        }
        FpOrder::Straight
    }

    /// Do the compare `r` in the given order. `signal`: quiet NaNs are an invalid operation too. Uses xmm2 and xmm3.
    fn emit_fp_compare(&mut self, r: FpCompareRecipe, order: FpOrder, signal: bool) {
        let load = if r.double { ops::VMOVSD_LD } else { ops::VMOVSS_LD };
        let mut operand = |reg: Option<u8>, scratch: Xmm| {
            match reg.map(|v| (v, self.pin_v(v))) {
                Some((_, Some(x))) => return x,
                Some((v, None)) => self.a.v2(load, VLen::L128, scratch, super::regs::home_v(v)),
                None => self.a.vzero(scratch),
            }
            scratch
        };
        let n = operand(Some(r.n), Xmm(2));
        let m = operand(r.m, Xmm(3));
        let op = match (r.double, signal) {
            (true, false) => ops::VUCOMISD,
            (true, true) => ops::VCOMISD,
            (false, false) => ops::VUCOMISS,
            (false, true) => ops::VCOMISS,
        };
        let (first, second) = if order == FpOrder::Straight { (n, m) } else { (m, n) };
        self.a.v2(op, VLen::L128, first, second);
    }

    /// FCMP, FCMPE: the flags are now in EFLAGS.
    pub fn fp_compare(&mut self, r: FpCompareRecipe, signal: bool) {
        let order = self.wanted_order();
        self.begin_def();
        self.emit_fp_compare(r, order, signal);
        self.flags = Flags { fp: Some(r), fp_host: Some(order), env: false, ..Flags::STORED };
    }

    /// If the flags are those of a floating-point compare: EAX = NZCV in the environment's format, EFLAGS in `flags.fp_host`'s format.
    pub fn fp_flags_to_rax(&mut self) -> bool {
        let order = match (self.flags.fp_host, self.flags.fp) {
            (Some(order), _) => order,
            (None, Some(r)) => {
                self.emit_fp_compare(r, FpOrder::Straight, false);
                self.flags.fp_host = Some(FpOrder::Straight);
                FpOrder::Straight
            }
            (None, None) => return false,
        };
        self.a.call_abs(self.thunks.fp_flags[order as usize]);
        true
    }

    /// Host condition for `cond` if the flags are those of a floating-point compare and there is one.
    pub fn fp_cond(&mut self, cond: Cond) -> Option<Cc> {
        let order = order_for(cond);
        if self.flags.fp_host.is_none() || order.is_some() && order != self.flags.fp_host {
            let order = order.unwrap_or(FpOrder::Straight);
            let r = self.flags.fp?;
            self.emit_fp_compare(r, order, false);
            self.flags.fp_host = Some(order);
        }
        Some(match cond {
            Cond::Eq | Cond::Ne => {
                self.unordered_is_unequal();
                if cond == Cond::Eq { Cc::E } else { Cc::Ne }
            }
            Cond::Vs => Cc::P,
            Cond::Vc => Cc::Np,
            // Swapped: above = less, below = greater or unordered.
            Cond::Cc | Cond::Mi => Cc::A,
            Cond::Cs | Cond::Pl => Cc::Be,
            Cond::Hi => Cc::B,
            Cond::Ls => Cc::Ae,
            // Straight: above = greater, below = less or unordered.
            Cond::Ge => Cc::Ae,
            Cond::Lt => Cc::B,
            Cond::Gt => Cc::A,
            Cond::Le | Cond::Al | Cond::Nv => Cc::Be,
        })
    }

    /// Clear ZF if the compare in EFLAGS was unordered; EFLAGS then hold nothing but ZF.
    fn unordered_is_unequal(&mut self) {
        if self.flags.fp.is_none() && self.flags_live_out() {
            self.store_flags();
        }
        let (cold, back) = (self.a.label(), self.a.label());
        self.a.jcc(Cc::P, cold);
        self.a.bind(back);
        let old = self.a.switch(Section::Cold);
        self.a.bind(cold);
        self.a.test(Sz::Q, Gpr::RSP, Gpr::RSP);
        self.a.jmp(back);
        self.a.switch(old);
        self.flags.fp_host = None;
    }

    /// Before an instruction is lowered: what it writes (a bit for each vector register), and no compare whose operands it overwrites
    /// is relied on any more.
    pub fn before_writes(&mut self, insn: &Insn) -> u32 {
        self.zero_above_new = [0; 2];
        let written = super::analysis::vectors_written(insn);
        if !matches!(insn, Insn::FpCondSelect { .. }) {
            self.forget_compare_of(written);
        }
        written
    }

    /// Keep the flags of a floating-point compare safe, if a register of `written` is an operand of it.
    pub fn forget_compare_of(&mut self, written: u32) {
        let Some(r) = self.flags.fp else { return };
        if (1 << r.n | r.m.map_or(0, |m| 1u32 << m)) & written == 0 {
            return;
        }
        let live = self.info.get(self.i).is_none_or(|i| i.flags_live_in);
        if live && self.flags.fp_host.is_none() {
            self.store_flags();
            self.flags.fp_host = None;
        }
        self.flags.fp = None;
    }

    /// After an instruction: what is known of the vector registers that it wrote.
    pub fn after_writes(&mut self, written: u32) {
        for (known, new) in self.zero_above.iter_mut().zip(self.zero_above_new) {
            *known = *known & !written | new;
        }
    }
}
