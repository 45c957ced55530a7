//! What scratch registers still hold from instructions before: a multiplier in RDX, the state of SHA-256 in xmm2 and xmm3.
//!
//! Multiplications of long numbers take one factor again and again, with additions in between; rounds of SHA-256 go on from the state that the last ones left.
//! Nothing is promised across labels, accesses to memory or calls: only instructions that are known to leave these registers alone hand them on.

use isa::insn::{BitfieldOp, Insn, ShaOp, VecBinOp};

use crate::asm::Gpr;
use crate::optimisations::Optimisation;

use super::builder::Builder;
use super::regs::ZR;

/// What scratch registers hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// RDX = this general register.
    pub multiplier: Option<u8>,
    /// xmm2 = ABEF and xmm3 = CDGH of the state whose ABCD and EFGH are these vector registers.
    pub sha256: Option<(u8, u8)>,
}

/// The general register that an instruction writes, if its code leaves RDX alone.
fn leaves_rdx(insn: &Insn) -> Option<u8> {
    match *insn {
        Insn::Nop | Insn::CondCompareReg { .. } | Insn::CondCompareImm { .. } => Some(ZR),
        Insn::AddSubImm { setflags: true, rd, .. }
        | Insn::AddSubShifted { rd, .. }
        | Insn::AddSubCarry { rd, .. }
        | Insn::LogicalShifted { rd, .. }
        | Insn::MoveWide { rd, .. }
        | Insn::CondSelect { rd, .. }
        | Insn::Extract { rd, .. }
        | Insn::MulAdd { rd, .. }
        | Insn::MulHigh { signed: false, rd, .. }
        | Insn::Bitfield { op: BitfieldOp::Signed | BitfieldOp::Unsigned, rd, .. } => Some(rd),
        // Number 31 is SP, which is never kept.
        Insn::AddSubImm { setflags: false, rd, .. } | Insn::LogicalImm { rd, .. } => Some(rd),
        _ => None,
    }
}

/// The vector register that an instruction writes, if its code leaves xmm2 and xmm3 alone.
fn leaves_state(insn: &Insn) -> Option<u8> {
    match *insn {
        Insn::CryptoSha { op: ShaOp::Sha256su0 | ShaOp::Sha256su1, rd, .. }
        | Insn::VecBin { op: VecBinOp::Add | VecBinOp::Orr, rd, .. } => Some(rd),
        _ => None,
    }
}

impl Builder<'_> {
    /// The factor that RDX does not hold, of `n` and `m`: RDX holds the other one then. May use RCX.
    pub fn factors(&mut self, n: u8, m: u8) -> u8 {
        match self.kept.multiplier {
            Some(held) if held == n => return m,
            Some(held) if held == m => return n,
            _ => {}
        }
        let (held, other) =
            if self.optimise.has(Optimisation::KeptScratch) && self.multiplied_next(m, n) { (m, n) } else { (n, m) };
        self.load_x(Gpr::RDX, held);
        let keeps = self.optimise.has(Optimisation::KeptScratch) && held != ZR && self.counted.is_none();
        // What RDX held before is gone in any case.
        self.kept.multiplier = keeps.then_some(held);
        other
    }

    /// True if the next multiplication has `a` as a factor, and not `b`.
    fn multiplied_next(&self, a: u8, b: u8) -> bool {
        let mut behind = self.insns.iter().skip(self.i + 1).take(8);
        behind
            .find_map(|insn| match *insn {
                Insn::MulAdd { rn, rm, .. } | Insn::MulHigh { signed: false, rn, rm, .. } => Some([rn, rm]),
                _ => None,
            })
            .is_some_and(|factors| factors.contains(&a) && !factors.contains(&b))
    }

    /// After `insn` was lowered: what is still held. `lowered`: by code of its own, all of which was passed.
    pub fn keep_behind(&mut self, insn: &Insn, lowered: bool) {
        if self.kept == Kept::default() {
            return;
        }
        let straight = lowered && self.resume.is_none();
        let own = |op: ShaOp| matches!(op, ShaOp::Sha256h | ShaOp::Sha256h2);
        self.kept.sha256 = self.kept.sha256.filter(|(abcd, efgh)| {
            straight
                && (matches!(*insn, Insn::CryptoSha { op, .. } if own(op))
                    || leaves_state(insn).is_some_and(|rd| rd != *abcd && rd != *efgh))
        });
        self.kept.multiplier =
            self.kept.multiplier.filter(|held| straight && leaves_rdx(insn).is_some_and(|rd| rd != *held));
    }
}
