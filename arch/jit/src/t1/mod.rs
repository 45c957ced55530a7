//! Tier 1: one pass over a superblock, no intermediate representation, registers pinned for good.
//!
//! A unit begins at an entry point and goes on to the end of its page, at most [`MAX_INSNS`] instructions. Conditional branches leave it by side
//! exits or go on inside it (forward and backward); it ends at an unconditional transfer that nothing inside jumps over, or at an
//! instruction after which the machine state may be another. Decode, analyse, emit: see `analysis` and `lower`.

pub mod analysis;
pub mod builder;
mod exits;
pub mod flags;
mod fp_flags;
#[cfg(test)]
mod golden;
pub mod groups;
mod kept;
pub mod lower;
pub mod mem;
pub mod pure;
pub mod regs;

use isa::Features;
use isa::insn::Insn;

use crate::asm::{Asm, Label};
use crate::host::HostFeatures;
use crate::machine::lockstep::{Shape, stands_alone};
use crate::optimisations::{Optimisation, Optimisations};
use crate::thunks::Thunks;

use analysis::{InsnInfo, analyse, direct_branch, ends_flow};
use builder::{Builder, ExitSpec, Ids, Mode};
use flags::Flags;
use lower::system::ends_fragment;

/// Most instructions of one unit.
pub const MAX_INSNS: usize = 64;

/// The reusable buffers of the translator.
#[derive(Default, Debug)]
pub struct Translator {
    /// The emitted code of the last unit.
    pub asm: Asm,
    /// Its direct exits.
    pub exits: Vec<ExitSpec>,
    insns: Vec<Insn>,
    info: Vec<InsnInfo>,
    labels: Vec<Option<Label>>,
    /// The next unit is treated as if a group disagreed.
    #[cfg(test)]
    pub disagree: bool,
}

/// What surrounds a unit.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Instruction words from the entry to the end of the page.
    pub words: &'a [u32],
    /// Offset of the entry in the page.
    pub start: u32,
    /// A number that pages are told apart by, for the choice of slots.
    pub slot_base: u32,
    /// State specialised for.
    pub mode: Mode,
    /// Instruction set offered.
    pub features: Features,
    /// Shared code.
    pub thunks: &'a Thunks,
    /// Number that the first exit will have.
    pub first_exit: u32,
    /// Identification registers.
    pub ids: Ids,
    /// Host extensions.
    pub host: HostFeatures,
    /// What to do for speed.
    pub optimise: Optimisations,
    /// Count executed instructions.
    pub count: bool,
    /// For a lockstep run: units that can be compared.
    pub lockstep: bool,
    /// Translate EOR (shifted register) as ORR: for proofs that a fault is found.
    pub seeded_fault: bool,
}

/// Facts about a unit whose code is in [`Translator::asm`].
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// Guest instructions.
    pub insns: u32,
    /// Interpreter calls on the hot path.
    pub interp_calls: u32,
    /// NZCV at the entry is not read.
    pub flags_dead: bool,
    /// It was emitted again without groups of accesses, as one of them and its detour disagreed.
    pub ungrouped: bool,
}

impl Translator {
    fn decode(&mut self, request: &Request<'_>) {
        let words = request.words;
        self.insns.clear();
        let mut reach = 0usize;
        for (i, word) in words.iter().take(MAX_INSNS).enumerate() {
            let mut insn = isa::decode(*word, request.features);
            if request.seeded_fault {
                insn = with_a_fault(insn);
            }
            let alone = request.lockstep && stands_alone(&insn);
            if alone && i > 0 {
                break;
            }
            self.insns.push(insn);
            if alone {
                break;
            }
            if let Some((offset, _)) = direct_branch(&insn)
                && let Ok(t) = usize::try_from(i as i64 + offset / 4)
                && t > i
                && t < words.len().min(MAX_INSNS)
            {
                reach = reach.max(t);
            }
            if (ends_flow(&insn) || ends_fragment(&insn)) && reach <= i {
                break;
            }
        }
    }

    /// What a lockstep run has to know of the last unit.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape::of(&self.insns, &self.info, self.asm.len_of(crate::asm::Section::Hot))
    }

    /// Translate one unit into [`Translator::asm`].
    pub fn translate(&mut self, request: &Request<'_>) -> Unit {
        self.decode(request);
        let (unit, agree) = self.attempt(request);
        if agree && !self.disagree_once() {
            return unit;
        }
        let optimise = request.optimise.with(Optimisation::AccessGroups, false);
        let (unit, _) = self.attempt(&Request { optimise, ..*request });
        Unit { ungrouped: true, ..unit }
    }

    #[cfg(test)]
    fn disagree_once(&mut self) -> bool {
        std::mem::take(&mut self.disagree)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the form that tests have")]
    fn disagree_once(&mut self) -> bool {
        false
    }

    /// Analyse and emit what was decoded; false if a group of accesses and its detour disagree, so that the code is not to be used.
    fn attempt(&mut self, request: &Request<'_>) -> (Unit, bool) {
        analyse(&self.insns, request.mode, request.optimise, &mut self.info);
        self.asm.clear();
        self.exits.clear();
        self.labels.clear();
        for info in &self.info {
            let label = info.is_target.then(|| self.asm.label());
            self.labels.push(label);
        }
        let insns = std::mem::take(&mut self.insns);
        let mut b = Builder {
            a: &mut self.asm,
            insns: &insns,
            info: &self.info,
            labels: &self.labels,
            i: 0,
            start: request.start,
            slot_base: request.slot_base,
            mode: request.mode,
            flags: Flags::STORED,
            sp_aligned: false,
            zero_above: [0; 2],
            zero_above_new: [0; 2],
            kept: kept::Kept::default(),
            thunks: request.thunks,
            exits: &mut self.exits,
            first_exit: request.first_exit,
            resume: None,
            retry: None,
            interp: None,
            ended: false,
            ids: request.ids,
            host: request.host,
            optimise: request.optimise,
            counted: request.count.then_some(0),
            group: None,
            groups_agree: true,
            detours: Vec::new(),
            lockstep: request.lockstep,
            interp_calls: 0,
        };
        emit(&mut b);
        let unit = Unit {
            insns: u32::try_from(insns.len()).unwrap_or(0),
            interp_calls: b.interp_calls,
            flags_dead: self.info.first().is_some_and(|i| !i.flags_live_in),
            ungrouped: false,
        };
        let agree = b.groups_agree;
        self.insns = insns;
        (unit, agree)
    }
}

/// True if tier 1 has code for this instruction word at EL0 on this host, rather than a call of the interpreter.
#[must_use]
pub fn has_lowering(word: u32, features: Features) -> bool {
    let request = Request {
        words: &[word, 0xd503_201f],
        start: 0,
        slot_base: 0,
        mode: Mode { mmu: true, ..Mode::default() },
        features,
        thunks: &Thunks::default(),
        first_exit: 0,
        ids: Ids::default(),
        host: crate::detect().unwrap_or_default(),
        optimise: Optimisations::ALL,
        count: false,
        lockstep: false,
        seeded_fault: false,
    };
    Translator::default().translate(&request).interp_calls == 0
}

fn with_a_fault(insn: Insn) -> Insn {
    use isa::insn::LogicalOp;
    match insn {
        Insn::LogicalShifted { sf, op: LogicalOp::Eor, setflags, invert, shift, rd, rn, rm, amount } => {
            Insn::LogicalShifted { sf, op: LogicalOp::Orr, setflags, invert, shift, rd, rn, rm, amount }
        }
        other => other,
    }
}

fn emit(b: &mut Builder<'_>) {
    while b.i < b.insns.len() {
        if let Some(label) = b.labels.get(b.i).copied().flatten() {
            if b.ended {
                b.flags = Flags::STORED;
                b.sp_aligned = false;
                b.ended = false;
            } else {
                b.join(b.i);
                b.count_to(b.i);
            }
            b.counted = b.counted.map(|_| b.i);
            b.zero_above = [0; 2];
            b.kept = kept::Kept::default();
            b.a.bind(label);
            if b.info[b.i].is_loop_head {
                b.loop_head_poll();
            }
        }
        if b.ended || b.info[b.i].dead {
            b.i += 1;
            continue;
        }
        b.begin_group();
        emit_one(b);
        b.step_group();
        b.i += 1;
    }
    if !b.ended {
        let end = i64::from(b.start) + 4 * b.insns.len() as i64;
        b.i -= 1;
        b.fall_through(end);
    }
    for detour in std::mem::take(&mut b.detours) {
        b.kept = kept::Kept::default();
        b.begin_detour(&detour);
        b.i = detour.first;
        while b.i <= detour.last {
            if !b.info[b.i].dead {
                emit_one(b);
            }
            b.i += 1;
        }
        b.end_detour(&detour);
    }
}

/// The current instruction, alone or with those behind it that are fused with it.
fn emit_one(b: &mut Builder<'_>) {
    b.resume = None;
    b.retry = None;
    b.interp = None;
    let insn = b.insns[b.i];
    let written = b.before_writes(&insn);
    let lowered = lower::lower(b, &insn);
    if !lowered {
        if ends_fragment(&insn) || insn == Insn::Isb {
            b.interp_end();
        } else {
            b.interp_call();
        }
    }
    if let Some(resume) = b.resume {
        b.a.bind(resume);
    }
    b.after_writes(written);
    b.keep_behind(&insn, lowered);
    if !b.ended && !b.optimise.has(Optimisation::FlagFusion) {
        b.store_flags();
        b.flags = Flags::STORED;
    }
}
