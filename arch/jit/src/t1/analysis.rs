//! What one pass over the decoded instructions of a fragment finds before anything is emitted: who reads the flags, who is branched to.

use isa::insn::{Cond, Insn};

use crate::optimisations::{Optimisation, Optimisations};

use super::builder::Mode;
use super::pure::{EVERYTHING, Effect, pure_effect};

/// A set of condition flags, in the order of the register NZCV: N is 8, V is 1.
pub type Nzcv = u8;

/// All condition flags.
pub const ALL_FLAGS: Nzcv = 15;
/// Only C.
pub const ONLY_C: Nzcv = 2;

/// Facts about one instruction of a fragment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InsnInfo {
    /// NZCV before it is read by it or by something behind it.
    pub flags_live_in: bool,
    /// NZCV behind it is read by something behind it.
    pub flags_live_out: bool,
    /// Which of NZCV are read before they are written, in front of it.
    pub flags_in: Nzcv,
    /// The same behind it.
    pub flags_out: Nzcv,
    /// A branch inside the fragment goes here.
    pub is_target: bool,
    /// A branch from behind (a loop) goes here.
    pub is_loop_head: bool,
    /// Nothing can see what it computes: no code is made for it.
    pub dead: bool,
    /// What [`flag_use`] says of it.
    flag_use: (Nzcv, bool),
    /// What [`pure_effect`] says of it.
    effect: Option<Effect>,
    /// Index of the instruction that it branches to, if that is inside.
    target: Option<u8>,
}

/// The system register NZCV.
const NZCV: u16 = isa::insn::SysEnc::new(3, 3, 4, 2, 0).0;

/// The flags that a condition looks at.
#[must_use]
pub fn flags_of(cond: Cond) -> Nzcv {
    match cond {
        Cond::Eq | Cond::Ne => 4,
        Cond::Cs | Cond::Cc => ONLY_C,
        Cond::Mi | Cond::Pl => 8,
        Cond::Vs | Cond::Vc => 1,
        Cond::Hi | Cond::Ls => 6,
        Cond::Ge | Cond::Lt => 9,
        Cond::Gt | Cond::Le => 13,
        Cond::Al | Cond::Nv => 0,
    }
}

/// What an instruction does with NZCV: (what it reads, defines all of it).
#[must_use]
pub fn flag_use(insn: &Insn) -> (Nzcv, bool) {
    let (reads, defines) = match *insn {
        Insn::AddSubCarry { setflags, .. } => return (ONLY_C, setflags),
        Insn::CondSelect { cond, .. } | Insn::FpCondSelect { cond, .. } => return (flags_of(cond), false),
        Insn::BranchCond { cond, .. } => return (flags_of(cond), false),
        Insn::FpCondCompare { cond, .. } | Insn::CondCompareReg { cond, .. } | Insn::CondCompareImm { cond, .. } => {
            return (flags_of(cond), true);
        }
        _ => reads_all(insn),
    };
    (if reads { ALL_FLAGS } else { 0 }, defines)
}

/// As [`flag_use`], for instructions that read all flags or none.
fn reads_all(insn: &Insn) -> (bool, bool) {
    match *insn {
        Insn::AddSubImm { setflags, .. }
        | Insn::AddSubShifted { setflags, .. }
        | Insn::AddSubExtended { setflags, .. }
        | Insn::LogicalImm { setflags, .. }
        | Insn::LogicalShifted { setflags, .. } => (false, setflags),
        Insn::FpCompare { .. } | Insn::FpJavaScriptConvert { .. } => (false, true),
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
        | Insn::FpJavaScriptConvert { .. }
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

/// The flags that an instruction of `insns`, executed from the first to the last and left behind it, reads before one defines them: translated code keeps at least
/// these when the first one faults. Reads by instructions that may turn out to be dead do not count, nor does what stands behind a branch.
#[must_use]
pub fn flags_certainly_read(insns: &[Insn]) -> Nzcv {
    let mut read = 0;
    for insn in insns {
        let (reads, defines) = flag_use(insn);
        if pure_effect(insn, Mode::default(), Optimisations::ALL).is_none() {
            read |= reads;
        }
        if defines || direct_branch(insn).is_some() {
            return read;
        }
    }
    ALL_FLAGS
}

/// Fill `info` for `insns`, which are code for `mode`.
pub fn analyse(insns: &[Insn], mode: Mode, optimise: Optimisations, info: &mut Vec<InsnInfo>) {
    info.clear();
    info.extend(insns.iter().map(|insn| InsnInfo {
        flag_use: flag_use(insn),
        effect: pure_effect(insn, mode, optimise),
        ..InsnInfo::default()
    }));
    let mut loops = false;
    if optimise.has(Optimisation::InnerBranches) {
        for (i, insn) in insns.iter().enumerate() {
            if let Some((offset, _)) = direct_branch(insn)
                && let Ok(t) = u8::try_from(i as i64 + offset / 4)
                && let Some(target) = info.get_mut(usize::from(t))
            {
                target.is_target = true;
                target.is_loop_head |= usize::from(t) <= i;
                loops |= usize::from(t) <= i;
                info[i].target = Some(t);
            }
        }
    }
    if !optimise.has(Optimisation::DeadFlags) {
        for i in info.iter_mut() {
            (i.flags_live_in, i.flags_live_out) = (true, true);
            (i.flags_in, i.flags_out) = (ALL_FLAGS, ALL_FLAGS);
        }
    }
    // Backward, until nothing changes: a loop is first taken to keep what it does not read, then its head is known. Without a loop one pass knows all.
    while backward(insns, optimise, info) && loops {}
}

/// One pass of liveness, from the last instruction to the first; true if something got live that was not before.
fn backward(insns: &[Insn], optimise: Optimisations, info: &mut [InsnInfo]) -> bool {
    let mut changed = false;
    let dead_writes = optimise.has(Optimisation::DeadWrites);
    // Exits of the fragment read everything.
    let mut flags = ALL_FLAGS;
    let mut live = EVERYTHING;
    for i in (0..insns.len().min(info.len())).rev() {
        let insn = &insns[i];
        let InsnInfo { flag_use: (reads, defines), effect, target, .. } = info[i];
        let at_target = || target.and_then(|t| info.get(usize::from(t))).map_or(ALL_FLAGS, |t| t.flags_in);
        let mut out = match direct_branch(insn) {
            Some((_, falls_through)) => at_target() | if falls_through { flags } else { 0 },
            None if ends_flow(insn) => ALL_FLAGS,
            None => flags,
        };
        out |= info[i].flags_out;
        let dead = dead_writes && effect.is_some_and(|e| e.writes & live == 0) && !(defines && out != 0);
        live = match effect {
            _ if dead => live,
            Some(e) => live & !e.writes | e.reads,
            None => EVERYTHING,
        };
        // At a label the machine may be looked at, and others come in.
        if info[i].is_target {
            live = EVERYTHING;
        }
        let kept = if defines { 0 } else { out };
        let live_in = info[i].flags_in | if dead { out } else { reads | kept };
        changed |= (live_in, out, dead) != (info[i].flags_in, info[i].flags_out, info[i].dead);
        (info[i].flags_in, info[i].flags_out) = (live_in, out);
        (info[i].flags_live_in, info[i].flags_live_out) = (live_in != 0, out != 0);
        info[i].dead = dead;
        flags = live_in;
    }
    changed
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
        analyse(&body, Mode::default(), Optimisations::ALL, &mut info);
        assert!(info[0].is_loop_head && !info[0].flags_live_in && info[0].flags_live_out);
        assert!(!info[1].flags_live_out, "redefined behind, dead at the head");
        assert!(info[2].flags_live_out, "the fragment's end reads them");
    }

    #[test]
    fn what_is_read_first_is_known_flag_by_flag() {
        let chain = |rd| Insn::AddSubCarry { sf: true, sub: false, setflags: true, rd, rn: 1, rm: 2 };
        let mut info = Vec::new();
        let body = [chain(0), load(7), chain(1), Insn::BranchCond { cond: Cond::Hi, offset: 400 }];
        analyse(&body, Mode::default(), Optimisations::ALL, &mut info);
        assert_eq!((info[0].flags_in, info[0].flags_out, info[1].flags_out), (ONLY_C, ONLY_C, ONLY_C));
        assert_eq!(info[2].flags_out, ALL_FLAGS, "the branch leaves");
        assert_eq!(flags_certainly_read(&body[1..]), 0, "the addition might be dead");
        assert_eq!(flags_certainly_read(&body[3..]), 6);
        assert_eq!(flags_certainly_read(&[load(7)]), ALL_FLAGS, "the end");
    }

    fn dead(insns: &[Insn]) -> Vec<bool> {
        let mut info = Vec::new();
        analyse(insns, Mode::default(), Optimisations::ALL, &mut info);
        info.iter().map(|i| i.dead).collect()
    }

    const fn divide(rd: u8, rn: u8) -> Insn {
        Insn::DataProc2 { sf: true, op: isa::insn::DataOp2::Udiv, rd, rn, rm: 2 }
    }

    const fn load(rt: u8) -> Insn {
        use isa::insn::{AddrMode, LoadExt, Size};
        Insn::LoadImm { size: Size::X, ext: LoadExt::Zero, unpriv: false, mode: AddrMode::Offset, rt, rn: 9, offset: 0 }
    }

    #[test]
    fn overwritten_results_are_dead_unless_somebody_can_look() {
        assert_eq!(dead(&[divide(5, 3), divide(5, 3)]), [true, false]);
        assert_eq!(dead(&[divide(5, 3), divide(6, 5), divide(5, 3)]), [false, false, false], "read in between");
        assert_eq!(dead(&[divide(5, 3), load(7), divide(5, 3)]), [false, false, false], "the load may fault");
        let leave = Insn::CompareBranch { sf: true, nonzero: true, rt: 4, offset: 400 };
        assert_eq!(dead(&[divide(5, 3), leave, divide(5, 3)]), [false, false, false], "the branch may leave");
        let skip = Insn::Branch { offset: 8, link: false };
        assert_eq!(dead(&[divide(5, 3), skip, load(7), divide(5, 3)]), [false; 4], "a label");
        assert_eq!(dead(&[divide(31, 3), divide(5, 5)]), [true, false], "the zero register");
    }

    #[test]
    fn a_dead_reader_of_flags_leaves_their_compare_dead() {
        let compare = Insn::AddSubShifted {
            sf: true,
            sub: true,
            setflags: true,
            shift: isa::insn::Shift::Lsl,
            amount: 0,
            rd: 31,
            rn: 1,
            rm: 2,
        };
        let select =
            |rd| Insn::CondSelect { sf: true, op: isa::insn::CondSelectOp::Csel, cond: Cond::Lt, rd, rn: 3, rm: 4 };
        assert_eq!(dead(&[compare, select(5), compare, select(5)]), [true, true, false, false]);
        assert_eq!(dead(&[compare, select(5), compare, select(6)]), [false; 4]);
        assert_eq!(dead(&[compare, select(5), select(5)]), [false, true, false]);
    }

    #[test]
    fn loops_within_loops_keep_what_an_outer_head_reads() {
        // Each branch goes back to the head before; only the first head reads the flags.
        let back = |to: i64, at: i64| Insn::CompareBranch { sf: true, nonzero: true, rt: 4, offset: 4 * (to - at) };
        let define = Insn::AddSubImm { sf: true, sub: true, setflags: true, rd: 31, rn: 0, imm: 1 };
        let mut body = vec![Insn::BranchCond { cond: Cond::Ne, offset: 400 }, define];
        for n in 0..6 {
            body.push(Insn::Nop);
            body.push(back(if n == 0 { 0 } else { 2 * n }, 2 * n + 3));
        }
        body.push(define);
        let mut info = Vec::new();
        analyse(&body, Mode::default(), Optimisations::ALL, &mut info);
        assert!(info[2..body.len() - 1].iter().all(|i| i.flags_live_in), "{info:?}");
        assert!(!info[1].flags_live_in && info[1].flags_live_out);
    }
}
