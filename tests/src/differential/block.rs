//! A block of instructions with the state that it starts from, and the state that it leaves.

/// Where blocks run: the same virtual address in the reference and in the machine under test.
pub const CODE: u64 = 0x2000_0400;
/// The memory that a block may touch.
pub const DATA: u64 = 0x1000_0000;
/// Length of that memory in bytes.
pub const DATA_LEN: usize = 0x2_8000;
/// Accesses with a base register aim at this offset, so that every displacement stays inside.
pub const DATA_MIDDLE: u64 = 0x8000;

/// The registers that a block starts from or leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// X0 to X30.
    pub x: [u64; 31],
    /// SP.
    pub sp: u64,
    /// N, Z, C, V in bits 31 to 28.
    pub nzcv: u64,
    /// FPCR.
    pub fpcr: u64,
    /// FPSR.
    pub fpsr: u64,
    /// Where execution stopped.
    pub pc: u64,
    /// V0 to V31.
    pub v: [u128; 32],
}

/// Length of a state in the runner's records.
const STATE_BYTES: usize = 36 * 8 + 32 * 16;

impl State {
    fn to_bytes(&self, out: &mut Vec<u8>) {
        for value in self.x.iter().chain([&self.sp, &self.nzcv, &self.fpcr, &self.fpsr, &self.pc]) {
            out.extend(value.to_le_bytes());
        }
        for value in &self.v {
            out.extend(value.to_le_bytes());
        }
    }

    fn from_bytes(bytes: &[u8; STATE_BYTES]) -> State {
        let word = |index: usize| u64::from_le_bytes(bytes[index * 8..][..8].try_into().expect("eight bytes"));
        State {
            x: std::array::from_fn(word),
            sp: word(31),
            nzcv: word(32),
            fpcr: word(33),
            fpsr: word(34),
            pc: word(35),
            v: std::array::from_fn(|n| {
                u128::from_le_bytes(bytes[288 + n * 16..][..16].try_into().expect("sixteen bytes"))
            }),
        }
    }
}

/// Instructions and what they start from.
#[derive(Clone, Debug)]
pub struct Block {
    /// The instruction words, executed from [`CODE`] to their end.
    pub words: Vec<u32>,
    /// The registers at the start; `pc` is not used.
    pub start: State,
    /// The data window is filled from this; never 0.
    pub window_seed: u64,
}

/// Why a block stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It did not.
    None,
    /// UNDEFINED: SIGILL.
    Illegal,
    /// An abort other than for alignment: SIGSEGV.
    Fault,
    /// Alignment of an access, of PC or of SP: SIGBUS.
    Alignment,
    /// BRK: SIGTRAP.
    Trap,
    /// A signal of another number.
    Other(u64),
}

/// What a block left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it stopped.
    pub signal: Signal,
    /// Hash of the data window.
    pub window_hash: u64,
    /// The registers.
    pub end: State,
}

/// Fills a data window: xorshift64 from `seed`.
pub fn fill(window: &mut [u8], seed: u64) {
    let mut state = seed;
    for chunk in window.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes());
    }
}

/// The hash of a data window, as the runner computes it.
#[must_use]
pub fn hash(window: &[u8]) -> u64 {
    window.chunks_exact(8).fold(0xcbf2_9ce4_8422_2325, |h: u64, chunk| {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        (h ^ word).wrapping_mul(0x0100_0000_01b3).wrapping_add(h >> 32)
    })
}

/// A request record of the runner.
#[must_use]
pub fn request(block: &Block) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + STATE_BYTES + block.words.len() * 4);
    let words = u32::try_from(block.words.len()).expect("a block is short");
    out.extend(words.to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    out.extend(block.window_seed.to_le_bytes());
    block.start.to_bytes(&mut out);
    out.extend(block.words.iter().flat_map(|word| word.to_le_bytes()));
    out
}

/// Length of a reply record.
pub const REPLY_BYTES: usize = 16 + STATE_BYTES;

/// Reads a reply record of the runner.
#[must_use]
pub fn reply(bytes: &[u8; REPLY_BYTES]) -> Outcome {
    let word = |at: usize| u64::from_le_bytes(bytes[at..][..8].try_into().expect("eight bytes"));
    let signal = match word(0) {
        0 => Signal::None,
        4 => Signal::Illegal,
        5 => Signal::Trap,
        7 => Signal::Alignment,
        11 => Signal::Fault,
        other => Signal::Other(other),
    };
    let state = bytes[16..].try_into().expect("a state");
    Outcome { signal, window_hash: word(8), end: State::from_bytes(state) }
}
