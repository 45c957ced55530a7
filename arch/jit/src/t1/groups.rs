//! Groups: neighbouring accesses at one base register share one check of the page they lie on.
//!
//! The first member checks the bytes from the lowest to the highest that the group accesses, and leaves the host address of its base in RDX; the others only access. Where
//! no page can be entered for all of it (a page crossing, a device, a fault, a misaligned SP) the code goes to a *detour* behind the fragment: the same instructions once more, each with a
//! check of its own, and back behind the group. Between the members stand instructions that leave RDX and the base alone, and conditional branches, behind which what is
//! checked may never be accessed. Nothing in a group can fault, call or poll, so no TLB maintenance comes in between.
//!
//! If there is a store among the members the page is checked for writing, which implies reading here. A store behind a branch does not make a group of loads one
//! for writing: the guest's tables would be asked for a right (and might note a write) that nobody uses.

use isa::insn::{AddrMode, BitfieldOp, DataOp2, Insn};

use crate::asm::{Alu, Cc, Gpr, Label, Mem, Section, Sz};
use crate::optimisations::Optimisation;

use super::analysis::direct_branch;
use super::builder::Builder;
use super::flags::Flags;
use super::regs::{SP, ZR, or_sp};

/// Most bytes from the lowest to the highest that a group accesses.
const SPAN: i64 = 256;
/// Most instructions of a group.
const LENGTH: usize = 12;

/// A group being emitted.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    first: usize,
    /// Index of the last member.
    pub last: usize,
    /// Lowest byte accessed, from the base before the group.
    low: i64,
    /// Bytes from there to the highest.
    span: i64,
    write: bool,
    /// What write-back has added to the base so far.
    moved: i64,
    detour: Label,
    /// Bound behind the group, where the detour comes back.
    pub end: Label,
}

/// What is known at a place of the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    flags: Flags,
    sp_aligned: bool,
    zero_above: [u32; 2],
}

impl Known {
    /// True if code that takes `other` for granted may follow.
    fn covers(&self, other: &Known) -> bool {
        self.flags == other.flags
            && (self.sp_aligned || !other.sp_aligned)
            && self.zero_above.iter().zip(other.zero_above).all(|(here, there)| there & !here == 0)
    }
}

/// The same instructions with a check each.
#[derive(Debug)]
pub struct Detour {
    /// Where it begins.
    pub label: Label,
    /// Where it ends.
    end: Label,
    /// First instruction.
    pub first: usize,
    /// Last instruction.
    pub last: usize,
    flags: Flags,
    /// What the code behind the group takes for granted.
    behind: Known,
    sp_aligned: bool,
    zero_above: [u32; 2],
}

/// One access of a group.
struct Member {
    write: bool,
    base: u8,
    /// From the base before the instruction.
    offset: i64,
    bytes: i64,
    /// What write-back adds.
    step: i64,
    /// It loads its own base: the last of its group.
    ends: bool,
}

fn member(insn: &Insn, vectors: bool) -> Option<Member> {
    let (write, mode, rn, offset, bytes, loads): (bool, AddrMode, u8, i64, u32, [u8; 2]) = match *insn {
        Insn::LoadImm { size, unpriv: false, mode, rt, rn, offset, .. } => {
            (false, mode, rn, offset, size.bytes(), [rt, rt])
        }
        Insn::StoreImm { size, unpriv: false, mode, rn, offset, .. } => {
            (true, mode, rn, offset, size.bytes(), [31, 31])
        }
        Insn::LoadPair { size, mode, rt, rt2, rn, offset, .. } => {
            (false, mode, rn, offset.into(), 2 * size.bytes(), [rt, rt2])
        }
        Insn::StorePair { size, mode, rn, offset, .. } => (true, mode, rn, offset.into(), 2 * size.bytes(), [31, 31]),
        Insn::SimdLoadImm { width, mode, rn, offset, .. } if vectors => {
            (false, mode, rn, offset.into(), width.bytes(), [31, 31])
        }
        Insn::SimdStoreImm { width, mode, rn, offset, .. } if vectors => {
            (true, mode, rn, offset.into(), width.bytes(), [31, 31])
        }
        Insn::SimdLoadPair { width, mode, rn, offset, .. } if vectors => {
            (false, mode, rn, offset.into(), 2 * width.bytes(), [31, 31])
        }
        Insn::SimdStorePair { width, mode, rn, offset, .. } if vectors => {
            (true, mode, rn, offset.into(), 2 * width.bytes(), [31, 31])
        }
        _ => return None,
    };
    let own = rn != 31 && loads.contains(&rn);
    // A load into its own base with write-back is the interpreter's.
    if own && mode != AddrMode::Offset {
        return None;
    }
    Some(Member {
        write,
        base: or_sp(rn),
        offset: if mode == AddrMode::PostIndex { 0 } else { offset },
        bytes: bytes.into(),
        step: if mode == AddrMode::Offset { 0 } else { offset },
        ends: own,
    })
}

/// The register that an instruction writes (31: none) if it may stand between the members of a group: its code leaves RDX alone, cannot fault and calls nothing.
fn between(insn: &Insn) -> Option<u8> {
    match *insn {
        Insn::Nop
        | Insn::CondCompareReg { .. }
        | Insn::CondCompareImm { .. }
        | Insn::CompareBranch { .. }
        | Insn::TestBranch { .. } => Some(ZR),
        Insn::BranchCond { cond, .. } if !cond.always() => Some(ZR),
        Insn::AddSubImm { setflags, rd, .. }
        | Insn::AddSubExtended { setflags, rd, .. }
        | Insn::LogicalImm { setflags, rd, .. } => Some(if setflags { rd } else { or_sp(rd) }),
        Insn::AddSubShifted { rd, .. }
        | Insn::LogicalShifted { rd, .. }
        | Insn::MoveWide { rd, .. }
        | Insn::CondSelect { rd, .. }
        | Insn::Extract { rd, .. }
        | Insn::Bitfield { op: BitfieldOp::Signed | BitfieldOp::Unsigned, rd, .. }
        | Insn::DataProc2 { op: DataOp2::Lslv | DataOp2::Lsrv | DataOp2::Asrv, rd, .. } => Some(rd),
        _ => None,
    }
}

/// The accesses that begin a group, as they are found.
struct Reach {
    low: i64,
    high: i64,
    moved: i64,
    write: bool,
    /// A branch was passed.
    branched: bool,
}

impl Reach {
    /// Takes `m` in if it may be a member.
    fn take(&mut self, m: &Member) -> bool {
        let at = self.moved + m.offset;
        let (low, high) = (self.low.min(at), self.high.max(at + m.bytes));
        if high - low > SPAN || m.write && !self.write && self.branched {
            return false;
        }
        (self.low, self.high) = (low, high);
        self.write |= m.write;
        self.moved += m.step;
        true
    }
}

impl Builder<'_> {
    fn member_at(&self, i: usize) -> Option<Member> {
        let vectors = !self.mode.fp_trap && self.optimise.has(Optimisation::VectorCode);
        self.insns.get(i).and_then(|insn| member(insn, vectors))
    }

    /// Begin a group with the current instruction, if there is one. Call before anything of the instruction is emitted.
    pub fn begin_group(&mut self) {
        // Counting goes along one path only.
        let off = self.mode.strict || self.counted.is_some() || !self.optimise.has(Optimisation::AccessGroups);
        if self.group.is_some() || off {
            return;
        }
        let Some(leader) = self.member_at(self.i).filter(|m| !m.ends) else { return };
        let (low, high) = (leader.offset, leader.offset + leader.bytes);
        let mut reach = Reach { low, high, moved: leader.step, write: leader.write, branched: false };
        let mut last = self.i;
        for i in self.i + 1..self.insns.len().min(self.i + LENGTH) {
            if self.labels.get(i).copied().flatten().is_some() {
                break;
            }
            if self.info.get(i).is_some_and(|info| info.dead) {
                continue;
            }
            let Some(m) = self.member_at(i) else {
                let insn = &self.insns[i];
                if between(insn).is_none_or(|rd| rd == leader.base) {
                    break;
                }
                reach.branched |= direct_branch(insn).is_some();
                continue;
            };
            if m.base != leader.base || !reach.take(&m) {
                break;
            }
            last = i;
            if m.ends {
                break;
            }
        }
        if last == self.i {
            return;
        }
        let (detour, end) = (self.a.label(), self.a.label());
        self.detours.push(Detour {
            label: detour,
            end,
            first: self.i,
            last,
            flags: self.flags,
            behind: self.known(),
            sp_aligned: self.sp_aligned,
            zero_above: self.zero_above,
        });
        let Reach { low, high, write, .. } = reach;
        self.group = Some(Group { first: self.i, last, low, span: high - low, write, moved: 0, detour, end });
    }

    /// The current instruction is emitted: its write-back, and the end of the group.
    pub fn step_group(&mut self) {
        let Some(mut g) = self.group else { return };
        g.moved += self.member_at(self.i).map_or(0, |m| m.step);
        self.group = Some(g);
        if self.i == g.last {
            let known = self.known();
            if let Some(d) = self.detours.last_mut() {
                d.behind = known;
            }
            self.a.bind(g.end);
            self.group = None;
        }
    }

    /// The operand of an access in a group. The first one checks. Leaves RDX = host address of the base as it was before the group.
    pub fn grouped(&mut self, g: Group, rn: u8, offset: i64) -> Mem {
        if self.i == g.first {
            self.check_group(g, or_sp(rn));
        }
        Mem::b(Gpr::RDX, i32::try_from(g.moved + offset).unwrap_or(0))
    }

    fn check_group(&mut self, g: Group, base: u8) {
        // What the instruction's start has put away is put away: the check below changes EFLAGS.
        let flags = self.flags;
        if let Some(d) = self.detours.last_mut() {
            d.flags = flags;
        }
        let el0 = !self.mode.el1;
        let n = self.r(base, Gpr::RAX);
        if base == SP && !self.sp_aligned {
            self.a.test_imm(Sz::B, n, 15);
            self.a.jcc(Cc::Ne, g.detour);
            self.sp_aligned = true;
        }
        let low = i32::try_from(g.low).unwrap_or(0);
        if low == 0 {
            self.a.mov(Sz::Q, Gpr::RCX, n);
        } else {
            self.a.lea(Sz::Q, Gpr::RCX, Mem::b(n, low));
        }
        let span = u32::try_from(g.span).unwrap_or(1);
        let ([tag, addend], info) = self.translation(el0, g.write, span);
        self.a.alu(Alu::Sub, Sz::Q, Gpr::RCX, tag);
        self.a.alu_imm(Alu::Cmp, Sz::Q, Gpr::RCX, i32::try_from(4096 - g.span).unwrap_or(0));
        let miss = self.a.label();
        self.a.jcc(Cc::A, miss);
        self.a.load(Sz::Q, Gpr::RDX, addend);
        let back = self.a.here();
        self.a.lea(Sz::Q, Gpr::RDX, Mem::bi(n, Gpr::RDX, 0, 0));

        let old = self.a.switch(Section::Cold);
        self.a.bind(miss);
        self.a.lea(Sz::Q, Gpr::RCX, Mem::b(n, low));
        self.a.mov_imm(Gpr::RDX, u64::from(info));
        let thunk = if g.write { self.thunks.miss_write_group } else { self.thunks.miss_read_group };
        self.a.call_abs(thunk[usize::from(!el0)]);
        self.a.jcc(Cc::Ae, back);
        self.a.jmp(g.detour);
        self.a.switch(old);
    }

    /// Before the instructions of a detour: what was known before the group.
    pub fn begin_detour(&mut self, d: &Detour) {
        self.a.bind(d.label);
        self.flags = d.flags;
        self.sp_aligned = d.sp_aligned;
        self.zero_above = d.zero_above;
    }

    fn known(&self) -> Known {
        Known { flags: self.flags, sp_aligned: self.sp_aligned, zero_above: self.zero_above }
    }

    /// Behind the instructions of a detour: back behind the group, if what the code there takes for granted is so here; else the unit is not to be used.
    pub fn end_detour(&mut self, d: &Detour) {
        self.groups_agree &= self.known().covers(&d.behind);
        self.a.jmp(d.end);
    }
}

#[cfg(test)]
mod tests;
