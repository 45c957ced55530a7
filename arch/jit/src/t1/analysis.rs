//! What one pass over the decoded instructions of a fragment finds before anything is emitted: who reads the flags, who is branched to.

use isa::insn::Insn;

/// Facts about one instruction of a fragment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InsnInfo {
    /// NZCV before it is read by it or by something behind it.
    pub flags_live_in: bool,
    /// NZCV behind it is read by something behind it.
    pub flags_live_out: bool,
    /// A branch inside the fragment goes here.
    pub is_target: bool,
    /// A branch from behind (a loop) goes here.
    pub is_loop_head: bool,
}

/// The system register NZCV.
const NZCV: u16 = isa::insn::SysEnc::new(3, 3, 4, 2, 0).0;

/// What an instruction does with NZCV: (reads, defines all of it).
#[must_use]
pub fn flag_use(insn: &Insn) -> (bool, bool) {
    match *insn {
        Insn::AddSubImm { setflags, .. }
        | Insn::AddSubShifted { setflags, .. }
        | Insn::AddSubExtended { setflags, .. }
        | Insn::LogicalImm { setflags, .. }
        | Insn::LogicalShifted { setflags, .. } => (false, setflags),
        Insn::AddSubCarry { setflags, .. } => (true, setflags),
        Insn::CondSelect { cond, .. } => (!cond.always(), false),
        Insn::FpCondSelect { cond, .. } => (!cond.always(), false),
        Insn::FpCompare { .. } => (false, true),
        Insn::BranchCond { .. } => (true, false),
        Insn::FpCondCompare { .. } | Insn::CondCompareReg { .. } | Insn::CondCompareImm { .. } => (true, true),
        Insn::PcRel { .. }
        | Insn::MoveWide { .. }
        | Insn::Bitfield { .. }
        | Insn::Extract { .. }
        | Insn::DataProc1 { .. }
        | Insn::DataProc2 { .. }
        | Insn::Crc32 { .. }
        | Insn::MulAdd { .. }
        | Insn::MulAddLong { .. }
        | Insn::MulHigh { .. }
        | Insn::CompareBranch { .. }
        | Insn::TestBranch { .. }
        | Insn::Branch { .. }
        | Insn::LoadImm { .. }
        | Insn::StoreImm { .. }
        | Insn::LoadReg { .. }
        | Insn::StoreReg { .. }
        | Insn::LoadLiteral { .. }
        | Insn::LoadPair { .. }
        | Insn::StorePair { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::AtomicRmw { .. }
        | Insn::CompareSwap { .. }
        | Insn::CompareSwapPair { .. }
        | Insn::LoadExclusive { .. }
        | Insn::LoadExclusivePair { .. }
        | Insn::StoreExclusive { .. }
        | Insn::StoreExclusivePair { .. }
        | Insn::FpBin { .. }
        | Insn::FpBinElement { .. }
        | Insn::FpPairwise { .. }
        | Insn::FpReduce { .. }
        | Insn::FpMulAdd { .. }
        | Insn::FpMulAddElement { .. }
        | Insn::FpUn { .. }
        | Insn::FpRoundToInt { .. }
        | Insn::FpImmediate { .. }
        | Insn::FpConvert { .. }
        | Insn::FpWiden { .. }
        | Insn::FpNarrow { .. }
        | Insn::FpCompareMask { .. }
        | Insn::FpCompareMaskZero { .. }
        | Insn::FpToGpr { .. }
        | Insn::GprToFp { .. }
        | Insn::FpToIntLanes { .. }
        | Insn::IntToFpLanes { .. }
        | Insn::FpMoveToGpr { .. }
        | Insn::FpMoveFromGpr { .. }
        | Insn::VecBin { .. }
        | Insn::VecBinElem { .. }
        | Insn::VecBinAcc { .. }
        | Insn::VecTern { .. }
        | Insn::VecTernElem { .. }
        | Insn::VecUn { .. }
        | Insn::VecShiftReg { .. }
        | Insn::VecShift { .. }
        | Insn::VecShiftAcc { .. }
        | Insn::VecShiftInsert { .. }
        | Insn::VecPairLong { .. }
        | Insn::VecNarrow { .. }
        | Insn::VecWiden { .. }
        | Insn::VecLong { .. }
        | Insn::VecLongElem { .. }
        | Insn::VecWide { .. }
        | Insn::VecHighNarrow { .. }
        | Insn::VecAcross { .. }
        | Insn::VecPermute { .. }
        | Insn::VecExtract { .. }
        | Insn::VecTable { .. }
        | Insn::VecDupElem { .. }
        | Insn::VecDupGeneral { .. }
        | Insn::VecInsElem { .. }
        | Insn::VecInsGeneral { .. }
        | Insn::VecToGeneral { .. }
        | Insn::VecImm { .. }
        | Insn::CryptoAes { .. }
        | Insn::CryptoSha { .. }
        | Insn::SimdLoadImm { .. }
        | Insn::SimdStoreImm { .. }
        | Insn::SimdLoadReg { .. }
        | Insn::SimdStoreReg { .. }
        | Insn::SimdLoadLiteral { .. }
        | Insn::SimdLoadPair { .. }
        | Insn::SimdStorePair { .. }
        | Insn::VecLoadMultiple { .. }
        | Insn::VecStoreMultiple { .. }
        | Insn::VecLoadSingle { .. }
        | Insn::VecStoreSingle { .. }
        | Insn::VecLoadReplicate { .. }
        | Insn::Clrex
        | Insn::Nop
        | Insn::Yield
        | Insn::Esb
        | Insn::Sb
        | Insn::Isb
        | Insn::Dsb { .. }
        | Insn::Sys { .. }
        | Insn::MsrImm { .. }
        | Insn::Dmb { .. } => (false, false),
        Insn::Mrs { enc, .. } => (enc.0 == NZCV, false),
        Insn::Msr { enc, .. } => (false, enc.0 == NZCV),
        // Everything else may be executed by the interpreter, which reads the stored flags.
        _ => (true, false),
    }
}

/// The vector registers that an instruction may write, a bit each.
#[must_use]
pub fn vectors_written(insn: &Insn) -> u32 {
    match *insn {
        Insn::FpBin { rd, .. }
        | Insn::FpBinElement { rd, .. }
        | Insn::FpPairwise { rd, .. }
        | Insn::FpReduce { rd, .. }
        | Insn::FpMulAdd { rd, .. }
        | Insn::FpMulAddElement { rd, .. }
        | Insn::FpUn { rd, .. }
        | Insn::FpRoundToInt { rd, .. }
        | Insn::FpImmediate { rd, .. }
        | Insn::FpConvert { rd, .. }
        | Insn::FpWiden { rd, .. }
        | Insn::FpNarrow { rd, .. }
        | Insn::FpCompareMask { rd, .. }
        | Insn::FpCompareMaskZero { rd, .. }
        | Insn::FpCondSelect { rd, .. }
        | Insn::GprToFp { rd, .. }
        | Insn::FpToIntLanes { rd, .. }
        | Insn::IntToFpLanes { rd, .. }
        | Insn::FpMoveFromGpr { rd, .. }
        | Insn::VecBin { rd, .. }
        | Insn::VecUn { rd, .. }
        | Insn::VecShift { rd, .. }
        | Insn::VecImm { rd, .. }
        | Insn::VecTern { rd, .. }
        | Insn::VecPermute { rd, .. }
        | Insn::VecExtract { rd, .. }
        | Insn::VecDupElem { rd, .. }
        | Insn::VecDupGeneral { rd, .. }
        | Insn::VecInsElem { rd, .. }
        | Insn::VecInsGeneral { rd, .. }
        | Insn::VecAcross { rd, .. }
        | Insn::SimdLoadImm { rt: rd, .. }
        | Insn::SimdLoadReg { rt: rd, .. }
        | Insn::SimdLoadLiteral { rt: rd, .. } => 1 << (rd & 31),
        Insn::SimdLoadPair { rt, rt2, .. } => 1 << (rt & 31) | 1 << (rt2 & 31),
        Insn::FpCompare { .. }
        | Insn::FpCondCompare { .. }
        | Insn::FpToGpr { .. }
        | Insn::FpMoveToGpr { .. }
        | Insn::SimdStoreImm { .. }
        | Insn::SimdStoreReg { .. }
        | Insn::SimdStorePair { .. }
        | Insn::VecToGeneral { .. }
        | Insn::AddSubImm { .. }
        | Insn::AddSubShifted { .. }
        | Insn::AddSubExtended { .. }
        | Insn::AddSubCarry { .. }
        | Insn::LogicalImm { .. }
        | Insn::LogicalShifted { .. }
        | Insn::PcRel { .. }
        | Insn::MoveWide { .. }
        | Insn::Bitfield { .. }
        | Insn::Extract { .. }
        | Insn::DataProc1 { .. }
        | Insn::DataProc2 { .. }
        | Insn::MulAdd { .. }
        | Insn::MulAddLong { .. }
        | Insn::MulHigh { .. }
        | Insn::CondSelect { .. }
        | Insn::CondCompareReg { .. }
        | Insn::CondCompareImm { .. }
        | Insn::CompareBranch { .. }
        | Insn::TestBranch { .. }
        | Insn::Branch { .. }
        | Insn::BranchCond { .. }
        | Insn::LoadImm { .. }
        | Insn::StoreImm { .. }
        | Insn::LoadReg { .. }
        | Insn::StoreReg { .. }
        | Insn::LoadLiteral { .. }
        | Insn::LoadPair { .. }
        | Insn::StorePair { .. }
        | Insn::Mrs { .. }
        | Insn::Msr { .. }
        | Insn::Nop => 0,
        _ => u32::MAX,
    }
}

/// Byte offset of a direct branch and whether the next instruction can follow it; `None` if it is no direct branch.
#[must_use]
pub fn direct_branch(insn: &Insn) -> Option<(i64, bool)> {
    match *insn {
        Insn::Branch { offset, link } => Some((offset, false)).filter(|_| !link),
        Insn::BranchCond { offset, cond } => Some((offset, !cond.always())),
        Insn::CompareBranch { offset, .. } | Insn::TestBranch { offset, .. } => Some((offset, true)),
        _ => None,
    }
}

/// True if control never reaches the instruction behind this one inside the fragment.
#[must_use]
pub fn ends_flow(insn: &Insn) -> bool {
    matches!(insn, Insn::Branch { .. } | Insn::BranchReg { .. } | Insn::Eret)
        || matches!(insn, Insn::BranchCond { cond, .. } if cond.always())
}

/// Fill `info` for `insns`.
pub fn analyse(insns: &[Insn], info: &mut Vec<InsnInfo>) {
    info.clear();
    info.resize(insns.len(), InsnInfo::default());
    let target_of = |i: usize, offset: i64| -> Option<usize> {
        let t = usize::try_from(i64::try_from(i).ok()? + offset / 4).ok()?;
        (t < insns.len()).then_some(t)
    };
    let mut loops = false;
    for (i, insn) in insns.iter().enumerate() {
        if let Some((offset, _)) = direct_branch(insn)
            && let Some(t) = target_of(i, offset)
        {
            info[t].is_target = true;
            if t <= i {
                info[t].is_loop_head = true;
                loops = true;
            }
        }
    }
    // Backward liveness of NZCV; exits of the fragment read it. Twice if there are loops: the second pass knows the heads.
    for _ in 0..if loops { 3 } else { 1 } {
        let mut next_live = true;
        for i in (0..insns.len()).rev() {
            let insn = &insns[i];
            let (reads, defines) = flag_use(insn);
            let mut out = if ends_flow(insn) { false } else { next_live };
            if let Some((offset, _)) = direct_branch(insn) {
                out |= match target_of(i, offset) {
                    // Until the head is known (first pass) a loop is taken to keep what it does not read.
                    Some(t) => info[t].flags_live_in,
                    None => true,
                };
            } else if ends_flow(insn) {
                out = true;
            }
            info[i].flags_live_out = out;
            info[i].flags_live_in = reads || out && !defines;
            next_live = info[i].flags_live_in;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isa::insn::Cond;

    #[test]
    fn flags_of_a_counting_loop_are_dead_at_its_head() {
        let body = [
            Insn::AddSubImm { sf: true, sub: true, setflags: true, rd: 0, rn: 0, imm: 1 },
            Insn::BranchCond { cond: Cond::Ne, offset: -4 },
            Insn::AddSubImm { sf: true, sub: true, setflags: true, rd: 31, rn: 0, imm: 1 },
        ];
        let mut info = Vec::new();
        analyse(&body, &mut info);
        assert!(info[0].is_loop_head && !info[0].flags_live_in && info[0].flags_live_out);
        assert!(!info[1].flags_live_out, "redefined behind, dead at the head");
        assert!(info[2].flags_live_out, "the fragment's end reads them");
    }
}
