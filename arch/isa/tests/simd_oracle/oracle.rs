//! `runner.c`, built for arm64 and run under `qemu-aarch64`.

use super::machine::WINDOW;
use super::runner::{Runner, word64};

/// What an instruction may read and write. `x[1]` is an offset into the window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registers {
    pub v: [u128; 32],
    pub x: [u64; 8],
    pub fpsr: u64,
}

const REGISTER_BYTES: usize = 32 * 16 + 8 * 8 + 8;

pub struct Oracle(Runner);

impl Oracle {
    pub fn start() -> Result<Oracle, String> {
        Runner::start("simd_oracle/runner.c", "max").map(Oracle)
    }

    /// Runs one instruction; gives the registers and the memory window after it.
    pub fn run(&mut self, word: u32, seed: u32, registers: &Registers) -> Result<(Registers, Vec<u8>), String> {
        let mut request = Vec::with_capacity(8 + REGISTER_BYTES);
        request.extend(word.to_le_bytes());
        request.extend(seed.to_le_bytes());
        registers.v.iter().for_each(|v| request.extend(v.to_le_bytes()));
        registers.x.iter().for_each(|x| request.extend(x.to_le_bytes()));
        request.extend(registers.fpsr.to_le_bytes());
        let reply = self.0.ask(word, &request, REGISTER_BYTES + WINDOW)?;
        let (head, window) = reply.split_at(REGISTER_BYTES);
        let output = Registers {
            v: std::array::from_fn(|i| u128::from(word64(head, 16 * i + 8)) << 64 | u128::from(word64(head, 16 * i))),
            x: std::array::from_fn(|i| word64(head, 512 + 8 * i)),
            fpsr: word64(head, 576),
        };
        Ok((output, window.to_vec()))
    }
}
