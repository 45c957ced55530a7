//! Random words of an encoding and registers for them, such that they run on the small machine and under the runner.

use isa::decode::Field;
use isa::{Encoding, Features, Insn};

use super::machine::{CODE, WINDOW};
use super::oracle::Registers;

/// A small generator of random numbers; the seed makes a failure repeatable.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    /// A value on which arithmetic goes wrong, or any.
    fn operand(&mut self) -> u64 {
        let any = self.next();
        let word = match self.below(12) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => 1 << 63,
            4 => i64::MAX as u64,
            5 => 1 << self.below(64),
            6 => u64::MAX << self.below(64),
            7 => u64::MAX >> self.below(64),
            8 => 1 << 31,
            9 => self.below(70),
            _ => any,
        };
        // Garbage above a word that is interesting in 32 bits.
        if self.below(4) == 0 { word & 0xffff_ffff | any << 32 } else { word }
    }
}

/// What the test has to arrange for an instruction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Registers alone.
    Plain,
    /// A branch by an offset.
    Branch,
    /// A branch to a register.
    BranchRegister,
    /// A literal in the code page.
    Literal,
    /// A base register with an immediate or nothing.
    Memory,
    /// The same, and the access must be aligned.
    Aligned,
    /// An aligned store-exclusive.
    StoreExclusive,
    /// A base register and an index register.
    Indexed,
}

fn kind(insn: &Insn) -> Option<Kind> {
    Some(match insn {
        Insn::PcRel { .. }
        | Insn::AddSubImm { .. }
        | Insn::LogicalImm { .. }
        | Insn::MoveWide { .. }
        | Insn::Bitfield { .. }
        | Insn::Extract { .. }
        | Insn::AddSubShifted { .. }
        | Insn::AddSubExtended { .. }
        | Insn::AddSubCarry { .. }
        | Insn::LogicalShifted { .. }
        | Insn::DataProc1 { .. }
        | Insn::DataProc2 { .. }
        | Insn::Crc32 { .. }
        | Insn::MulAdd { .. }
        | Insn::MulAddLong { .. }
        | Insn::MulHigh { .. }
        | Insn::CondSelect { .. }
        | Insn::CondCompareReg { .. }
        | Insn::CondCompareImm { .. }
        | Insn::FlagManip { .. }
        | Insn::Nop
        | Insn::Clrex
        | Insn::Dsb { .. }
        | Insn::Dmb { .. }
        | Insn::Isb
        | Insn::Sb => Kind::Plain,
        Insn::Branch { .. } | Insn::BranchCond { .. } | Insn::CompareBranch { .. } | Insn::TestBranch { .. } => {
            Kind::Branch
        }
        Insn::BranchReg { .. } => Kind::BranchRegister,
        Insn::LoadLiteral { .. } => Kind::Literal,
        Insn::LoadImm { .. } | Insn::StoreImm { .. } | Insn::LoadPair { .. } | Insn::StorePair { .. } => Kind::Memory,
        Insn::LoadReg { .. } | Insn::StoreReg { .. } => Kind::Indexed,
        Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::LoadExclusive { .. }
        | Insn::LoadExclusivePair { .. }
        | Insn::AtomicRmw { .. }
        | Insn::CompareSwap { .. }
        | Insn::CompareSwapPair { .. } => Kind::Aligned,
        Insn::StoreExclusive { .. } | Insn::StoreExclusivePair { .. } => Kind::StoreExclusive,
        _ => return None,
    })
}

fn get(word: u32, field: &Field) -> u32 {
    word >> field.low & ((1u32 << field.width) - 1)
}

fn set(word: u32, field: &Field, value: u32) -> u32 {
    let mask = ((1u64 << field.width) - 1) as u32;
    word & !(mask << field.low) | (value & mask) << field.low
}

/// A word of the encoding with registers and offsets that the runner allows, or `None` when the guard refuses this attempt.
pub fn word(encoding: Encoding, random: &mut Random) -> Option<(u32, Insn, Kind)> {
    let row = encoding.row();
    let fields = row.fields.iter().fold(0, |bits, field| set(bits, field, u32::MAX));
    // Bits that are ignored here are (0) in system instructions and (1) elsewhere; QEMU minds some of them.
    let ignored = if row.value >> 24 == 0xd5 { 0 } else { !row.mask & !fields };
    let mut word = row.value | ignored | random.next() as u32 & fields;
    for field in row.fields {
        let register = if random.below(6) == 0 { 31 } else { random.below(16) as u32 };
        let value = match field.name {
            "rd" | "rn" | "rm" | "rt" | "rt2" | "rs" | "ra" => register,
            _ => continue,
        };
        word = set(word, field, value);
    }
    if isa::encoding(word) != Some(encoding) {
        return None;
    }
    let kind = kind(&isa::decode(word, Features::ALL))?;
    if kind == Kind::Indexed && word >> 16 & 31 == word >> 5 & 31 && word >> 16 & 31 != 31 {
        return None; // base and index cannot both be in the window
    }
    for field in row.fields {
        let old = get(word, field);
        let value = match (field.name, kind) {
            ("imm26" | "imm19" | "imm14", Kind::Branch) => 2,
            ("imm19", Kind::Literal) => 64 + old % 512,
            ("imm12", Kind::Memory) => old & 127,
            // Aligned to 16 whatever the size.
            ("imm9", Kind::Aligned) => old & !15,
            ("rn", Kind::BranchRegister) => old & 15,
            _ => old,
        };
        word = set(word, field, value);
    }
    Some((word, isa::decode(word, Features::ALL), kind))
}

fn field(encoding: Encoding, word: u32, name: &str) -> Option<usize> {
    encoding.row().fields.iter().find(|f| f.name == name).map(|f| get(word, f) as usize)
}

const NOP: u32 = 0xd503_201f;

/// Registers for the word, and an instruction to run before it.
pub fn arrange(encoding: Encoding, word: u32, kind: Kind, random: &mut Random) -> (u32, Registers) {
    let mut r = Registers {
        x: std::array::from_fn(|_| random.operand()),
        x30: random.next(),
        sp: random.operand(),
        nzcv: random.below(16) << 28,
        taken: 0,
    };
    let base = field(encoding, word, "rn").unwrap_or(31);
    let middle = WINDOW + 2048 + 16 * random.below(8);
    let address = match kind {
        Kind::Plain | Kind::Branch | Kind::Literal => return (NOP, r),
        Kind::BranchRegister => CODE + 12,
        Kind::Memory | Kind::Indexed if base != 31 => middle + random.below(16),
        _ => middle,
    };
    let index = field(encoding, word, "rm").filter(|_| kind == Kind::Indexed);
    if let Some(place) = index.and_then(|i| r.x.get_mut(i)) {
        let offset = random.below(200) as i64 - 100;
        *place = match word >> 13 & 7 {
            0b010 => offset as u64 & 0x7f | random.next() << 32,
            0b110 => offset as u64 & 0xffff_ffff | random.next() << 32,
            _ => offset as u64,
        };
    }
    *r.x.get_mut(base).unwrap_or(&mut r.sp) = address;
    if kind == Kind::Aligned && random.below(2) == 0 {
        // A compare-and-swap that succeeds needs what is in memory: a load of it comes first.
        let rs = field(encoding, word, "rs");
        if let Some(rs) = rs.filter(|&rs| rs < 15 && rs != base && rs + 1 != base) {
            let pair = isa::decode(word, Features::ALL);
            let load = match pair {
                // LDP Ws or Xs of both, LDR Xs of a single one.
                Insn::CompareSwapPair { size, .. } => {
                    let x = u32::from(size.bytes() == 8) << 31;
                    0x2940_0000 | x | (rs as u32 + 1) << 10
                }
                _ => 0xf940_0000,
            };
            return (load | (base as u32) << 5 | rs as u32, r);
        }
    }
    if kind == Kind::StoreExclusive && random.below(4) != 0 {
        // The load-exclusive of the same size (another one is CONSTRAINED UNPREDICTABLE) to X16 and X17.
        let load = word & !(31 << 16 | 31 << 10 | 31 | 1 << 15) | 1 << 22 | 31 << 16 | 17 << 10 | 16;
        return (load, r);
    }
    (NOP, r)
}
