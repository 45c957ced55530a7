//! Random blocks: every encoding of the table that a program at EL0 may execute, with operands that keep memory accesses
//! inside the data window and branches inside the block.

use super::block::{Block, DATA, DATA_MIDDLE, State};

/// xorshift64*: small, seedable, the same everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator; any seed will do.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `end - 1`; `end` is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        // The bias of a 64-bit remainder by a small number is of no consequence here.
        (self.word() % end as u64) as usize
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// One encoding as the generator needs it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Name in the table.
    pub name: &'static str,
    /// Bits that are fixed.
    pub mask: u32,
    /// Their values.
    pub value: u32,
}

/// What has to stand around an instruction so that a block may execute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Plain,
    /// A base register in the window.
    Memory,
    /// A base register, and the other half of the exclusive pair.
    Exclusive,
    /// A target after the next instruction.
    Branch,
    /// A target register.
    BranchRegister,
    /// Not from a random block: system registers, exceptions, literal loads.
    Excluded,
}

fn bits(word: u32, high: u32, low: u32) -> u32 {
    word >> low & ((1 << (high - low + 1)) - 1)
}

fn kind(word: u32) -> Kind {
    match bits(word, 28, 25) {
        0b1010 | 0b1011 => match bits(word, 31, 29) {
            0b000 | 0b100 | 0b001 | 0b101 => Kind::Branch,
            0b010 => Kind::Branch,
            // Unconditional branch (register) but ERET and DRPS.
            0b110 if bits(word, 25, 25) == 1 && bits(word, 24, 23) == 0b00 => Kind::BranchRegister,
            0b110 if bits(word, 31, 22) == 0b11_0101_0100 => system_kind(word),
            _ => Kind::Excluded,
        },
        low if low & 0b0101 == 0b0100 => memory_kind(word),
        0 => Kind::Excluded, // UDF
        _ => Kind::Plain,
    }
}

fn system_kind(word: u32) -> Kind {
    match (bits(word, 21, 19), bits(word, 18, 16), bits(word, 15, 12), bits(word, 4, 0)) {
        // Hints: WFE, WFI and their kin may sleep, YIELD and the rest do nothing.
        (0, 3, 2, 31) if matches!(bits(word, 11, 5), 2 | 3) => Kind::Excluded,
        (0, 3, 2 | 3, 31) => Kind::Plain,
        // CFINV, XAFLAG, AXFLAG.
        (0, 0, 4, 31) if bits(word, 11, 8) == 0 && bits(word, 7, 5) < 3 => Kind::Plain,
        _ => Kind::Excluded,
    }
}

fn memory_kind(word: u32) -> Kind {
    let (size_class, v, op23_24) = (bits(word, 29, 28), bits(word, 26, 26), bits(word, 24, 23));
    if size_class == 0b01
        && op23_24 < 2
        && bits(word, 21, 21) == 0
        && bits(word, 24, 24) == 0
        && v == 0
        && bits(word, 29, 27) == 0b011
    {
        return Kind::Excluded; // LDR (literal)
    }
    if bits(word, 29, 27) == 0b011 && bits(word, 25, 24) == 0b00 {
        return Kind::Excluded; // LDR (literal), general and SIMD&FP
    }
    if bits(word, 29, 24) == 0b00_1000
        && bits(word, 23, 23) == 0
        && (bits(word, 21, 21) == 0 || bits(word, 31, 31) == 1)
    {
        return Kind::Exclusive;
    }
    Kind::Memory
}

/// Values that find mistakes at edges.
const INTERESTING: [u64; 16] = [
    0,
    1,
    2,
    u64::MAX,
    u64::MAX - 1,
    1 << 63,
    (1 << 63) - 1,
    0x8000_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0xffff_ffff_8000_0000,
    0x0101_0101_0101_0101,
    0x5555_5555_5555_5555,
    0x8080_8080_8080_8080,
    0x0123_4567_89ab_cdef,
];

/// Doubles: zeros, subnormals, the edges of the normal range, halves, integers, infinities, quiet and signalling NaNs.
const DOUBLES: [u64; 24] = [
    0,
    1 << 63,
    1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0xfff8_0000_0000_1234,
    0x7ff0_0000_0000_0001,
    0xfff4_0000_0000_5678,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x3fe0_0000_0000_0000,
    0x3fe0_0000_0000_0001,
    0x4330_0000_0000_0001,
    0x43e0_0000_0000_0000,
    0xc3e0_0000_0000_0000,
    0x41df_ffff_ffc0_0000,
    0x36a0_0000_0000_0000,
    0x3810_0000_0000_0000,
    0x47ef_ffff_e000_0000,
    0x4008_0000_0000_0000,
];

/// The same in single precision.
const SINGLES: [u32; 20] = [
    0,
    1 << 31,
    1,
    0x007f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc0_1234,
    0x7f80_0001,
    0xffa0_5678,
    0x3f80_0000,
    0xbf80_0000,
    0x3f00_0000,
    0x3f00_0001,
    0x4b00_0001,
    0x4f00_0000,
    0xdf00_0000,
    0x477f_e000,
];

fn register_value(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => rng.word(),
        1 => rng.pick(&INTERESTING),
        2 => rng.word() & 0xff,
        _ => rng.pick(&INTERESTING).wrapping_add(rng.word() & 3),
    }
}

fn vector_half(rng: &mut Rng) -> u64 {
    match rng.below(6) {
        0 => rng.word(),
        1 => rng.pick(&DOUBLES),
        2 => u64::from(rng.pick(&SINGLES)) | u64::from(rng.pick(&SINGLES)) << 32,
        // Exponents near each other, so that additions do not just return one operand.
        3 => (rng.word() & 0x800f_ffff_ffff_ffff) | (0x3fe + (rng.word() & 3)) << 52,
        4 => {
            let single = |raw: u64| (raw & 0x807f_ffff) | (0x7e + (raw >> 40 & 3)) << 23;
            single(rng.word()) | single(rng.word()) << 32
        }
        _ => rng.pick(&INTERESTING),
    }
}

/// FPCR values that user code may set: rounding modes, flush to zero, default NaN, alternative half precision.
fn fpcr_value(rng: &mut Rng) -> u64 {
    if rng.one_in(2) { 0 } else { (rng.word() & 0x1f) << 22 }
}

fn start_state(rng: &mut Rng) -> State {
    State {
        x: std::array::from_fn(|_| register_value(rng)),
        sp: DATA + DATA_MIDDLE,
        nzcv: (rng.word() & 15) << 28,
        fpcr: fpcr_value(rng),
        fpsr: if rng.one_in(4) { rng.word() & 0x0800_009f } else { 0 },
        pc: 0,
        v: std::array::from_fn(|_| u128::from(vector_half(rng)) | u128::from(vector_half(rng)) << 64),
    }
}

/// MOVZ (64-bit).
fn movz(rd: u32, imm16: u32) -> u32 {
    0xd280_0000 | imm16 << 5 | rd
}

/// Sets a register to a 32-bit constant.
fn load_constant(rd: u32, value: u32, out: &mut Vec<u32>) {
    out.push(movz(rd, value & 0xffff));
    out.push(0xf2a0_0000 | (value >> 16) << 5 | rd); // MOVK, LSL #16
}

/// A unit: instructions that only make sense together; a smaller block leaves out whole units.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Which candidate it executes.
    pub candidate: usize,
    /// Its words.
    pub words: Vec<u32>,
}

/// Makes blocks.
#[derive(Debug)]
pub struct Generator {
    candidates: Vec<Candidate>,
    plain: Vec<usize>,
    usable: Vec<usize>,
    allocated: fn(u32) -> bool,
}

impl Generator {
    /// From the encodings of the table; `allocated` says whether a word decodes to something that is offered.
    #[must_use]
    pub fn new(candidates: Vec<Candidate>, allocated: fn(u32) -> bool) -> Generator {
        let with = |wanted: fn(Kind) -> bool| -> Vec<usize> {
            (0..candidates.len()).filter(|&index| wanted(kind(candidates[index].value))).collect()
        };
        let plain = with(|kind| kind == Kind::Plain);
        let usable = with(|kind| kind != Kind::Excluded);
        Generator { candidates, plain, usable, allocated }
    }

    /// All encodings.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Indices of the encodings that blocks execute.
    #[must_use]
    pub fn usable(&self) -> &[usize] {
        &self.usable
    }

    /// A random word of an encoding that is allocated and not excluded, if one is found soon.
    fn word_of(&self, candidate: usize, rng: &mut Rng) -> Option<u32> {
        let Candidate { mask, value, .. } = self.candidates[candidate];
        (0..200).find_map(|_| {
            let word = value | (rng.word() as u32 & !mask);
            ((self.allocated)(word) && kind(word) != Kind::Excluded).then_some(word)
        })
    }

    fn plain_word(&self, rng: &mut Rng) -> u32 {
        let candidate = rng.pick(&self.plain);
        self.word_of(candidate, rng).filter(|&word| kind(word) == Kind::Plain).unwrap_or(0xd503_201f)
    }

    /// A unit that executes the encoding, `None` when no word of it may be executed.
    pub fn unit(&self, candidate: usize, rng: &mut Rng) -> Option<Unit> {
        let word = self.word_of(candidate, rng)?;
        let words = match kind(word) {
            Kind::Plain => vec![word],
            Kind::Memory => memory_unit(word, rng),
            Kind::Exclusive => exclusive_unit(word, rng),
            Kind::Branch => vec![over_one(word), self.plain_word(rng)],
            Kind::BranchRegister => {
                let rn = rng.below(30) as u32;
                let jump = word & !(31 << 5) | rn << 5;
                // ADR to the instruction after the next but one.
                vec![0x1000_0000 | 3 << 5 | rn, jump, self.plain_word(rng)]
            }
            Kind::Excluded => return None,
        };
        words.iter().all(|&word| (self.allocated)(word)).then_some(Unit { candidate, words })
    }

    /// A block of `length` units, the first of them of the encoding `first`.
    pub fn units(&self, first: usize, length: usize, rng: &mut Rng) -> Vec<Unit> {
        let mut units: Vec<Unit> = self.unit(first, rng).into_iter().collect();
        while units.len() < length {
            let candidate = if rng.one_in(3) { first } else { rng.pick(&self.usable) };
            units.extend(self.unit(candidate, rng));
            if rng.one_in(8) {
                units.extend(status_unit(rng, first));
            }
            if rng.one_in(FAULT_EACH) {
                units.push(fault_unit(rng, first));
            }
        }
        units
    }

    /// The block that these units make.
    #[must_use]
    pub fn block(units: &[Unit], seed: u64) -> Block {
        let mut rng = Rng::new(seed);
        let start = start_state(&mut rng);
        // CLREX: what an earlier block reserved does not count.
        let mut words = vec![0xd503_3f5f];
        words.extend(units.iter().flat_map(|unit| &unit.words));
        Block { words, start, window_seed: 1 + seed % 7 }
    }
}

/// One unit in this many faults, so that the state at an exception is compared too.
const FAULT_EACH: usize = 150;

/// An access that faults: the page at address 0.
fn fault_unit(rng: &mut Rng, candidate: usize) -> Unit {
    let (base, rt) = (rng.below(31) as u32, rng.below(32) as u32);
    let access = rng.pick(&[0xf940_0000, 0xf900_0000, 0xb940_0000, 0x3900_0000, 0x3dc0_0000, 0x3d80_0000, 0xc85f_7c00]);
    Unit { candidate, words: vec![movz(base, (rng.word() & 0xff0) as u32), access | base << 5 | rt] }
}

/// Reads or writes NZCV, FPSR or FPCR.
fn status_unit(rng: &mut Rng, candidate: usize) -> Option<Unit> {
    let rt = rng.below(31) as u32;
    let words = match rng.below(5) {
        0 => vec![0xd53b_4200 | rt],              // MRS NZCV
        1 => vec![0xd51b_4200 | rt],              // MSR NZCV
        2 => vec![0xd53b_4420 | rt],              // MRS FPSR
        3 => vec![movz(rt, 0), 0xd51b_4420 | rt], // MSR FPSR
        _ => {
            let value = fpcr_value(rng) as u32;
            vec![movz(rt, 0), 0xf2a0_0000 | (value >> 16) << 5 | rt, 0xd51b_4400 | rt]
        }
    };
    Some(Unit { candidate, words })
}

/// A direct branch with its offset set to "over the next instruction".
fn over_one(word: u32) -> u32 {
    if bits(word, 30, 26) == 0b00101 {
        word & !0x03ff_ffff | 2 // B, BL
    } else if bits(word, 30, 25) == 0b01_1011 {
        word & !(0x3fff << 5) | 2 << 5 // TBZ, TBNZ
    } else {
        word & !(0x7_ffff << 5) | 2 << 5 // CBZ, CBNZ, B.cond
    }
}

/// A base register that is no other operand; 31 is SP.
fn free_register(word: u32, rng: &mut Rng) -> u32 {
    let used = [bits(word, 4, 0), bits(word, 14, 10), bits(word, 20, 16)];
    loop {
        let register = rng.below(32) as u32;
        // The registers after Rt and Rs are the second ones of CASP.
        if !used.iter().any(|&operand| operand == register || (operand + 1) & 31 == register) {
            return register;
        }
    }
}

fn set_base(base: u32, address: u64, out: &mut Vec<u32>) {
    if base == 31 {
        load_constant(16, address as u32, out);
        out.push(0x9100_0000 | 16 << 5 | 31); // MOV SP, X16
    } else {
        load_constant(base, address as u32, out);
    }
}

/// True for accesses that must be aligned: atomics, acquire and release, exclusives.
fn must_align(word: u32) -> bool {
    let group = bits(word, 29, 24);
    group == 0b00_1000
        || group == 0b01_1001
        || (group == 0b11_1000 && bits(word, 21, 21) == 1 && bits(word, 11, 10) == 0)
}

fn memory_unit(word: u32, rng: &mut Rng) -> Vec<u32> {
    let mut words = Vec::new();
    let base = free_register(word, rng);
    let mut word = word & !(31 << 5) | base << 5;
    let offset = rng.word() & 0xfff;
    let aligned = base == 31 || must_align(word) || rng.one_in(2);
    let address = DATA + DATA_MIDDLE + if aligned { offset & !15 } else { offset };
    if must_align(word) && bits(word, 29, 24) == 0b01_1001 {
        word &= !(0x1f << 12 | 1 << 20); // LDAPUR, STLUR: a small multiple of the size
        word &= !(0xf << 12);
    }
    let index = bits(word, 20, 16);
    let register_offset =
        bits(word, 29, 24) & 0b11_1011 == 0b11_1000 && bits(word, 21, 21) == 1 && bits(word, 11, 10) == 0b10;
    let structure_post_index = bits(word, 29, 24) & 0b11_1110 == 0b00_1100 && bits(word, 23, 23) == 1;
    if (register_offset || structure_post_index) && index != 31 {
        words.push(movz(index, (rng.word() & 0xff) as u32));
    }
    set_base(base, address, &mut words);
    words.push(word);
    words
}

/// The load-exclusive and the store-exclusive of one size, to one address.
fn exclusive_unit(word: u32, rng: &mut Rng) -> Vec<u32> {
    let base = loop {
        let register = free_register(word, rng);
        if register != 31 {
            break register;
        }
    };
    let with_base = word & !(31 << 5) | base << 5;
    let load = with_base | 1 << 22;
    // The status register is neither base nor data: its field of a load is all ones.
    let data = [bits(word, 4, 0), bits(word, 14, 10), base];
    let status = loop {
        let register = rng.below(31) as u32;
        if !data.contains(&register) {
            break register;
        }
    };
    let store = with_base & !(1 << 22 | 31 << 16) | status << 16;
    let mut words = Vec::new();
    set_base(base, DATA + DATA_MIDDLE + (rng.word() & 0xff0), &mut words);
    // LDXP with both destinations the same is CONSTRAINED UNPREDICTABLE; its second one is not the base either.
    let load = if bits(load, 21, 21) == 1 && bits(load, 4, 0) == bits(load, 14, 10) {
        let second = (0..).find(|&register| register != bits(load, 4, 0) && register != base).unwrap_or(0);
        load & !(31 << 10) | second << 10
    } else {
        load
    };
    words.push(load | 31 << 16);
    if !rng.one_in(4) {
        words.push(store);
    }
    words
}
