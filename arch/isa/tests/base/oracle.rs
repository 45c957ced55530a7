//! `runner.c`, built for arm64 and run under `qemu-aarch64`.

use super::machine::{Machine, SIZE};
use super::runner::{Runner, word64};

/// Registers and where the instruction went, in the layout of the runner.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    pub x: [u64; 16],
    pub x30: u64,
    pub sp: u64,
    pub nzcv: u64,
    pub taken: u64,
}

const REGISTER_BYTES: usize = 20 * 8;

pub struct Oracle(Runner);

impl Oracle {
    pub fn start() -> Result<Oracle, String> {
        Runner::start("base/runner.c", "max,pauth=off").map(Oracle)
    }

    /// Runs `prefix`, then `word`; gives the registers and the memory window after them.
    pub fn run(&mut self, prefix: u32, word: u32, seed: u64, r: &Registers) -> Result<(Registers, Vec<u8>), String> {
        let mut request = Vec::with_capacity(16 + REGISTER_BYTES);
        request.extend(prefix.to_le_bytes());
        request.extend(word.to_le_bytes());
        request.extend(seed.to_le_bytes());
        r.x.iter().chain([&r.x30, &r.sp, &r.nzcv, &r.taken]).for_each(|x| request.extend(x.to_le_bytes()));
        let reply = self.0.ask(word, &request, REGISTER_BYTES + SIZE)?;
        let (head, window) = reply.split_at(REGISTER_BYTES);
        let at = |i: usize| word64(head, 8 * i);
        let after = Registers { x: std::array::from_fn(at), x30: at(16), sp: at(17), nzcv: at(18), taken: at(19) };
        Ok((after, window.to_vec()))
    }
}

impl Machine {
    /// What the runner reports.
    pub fn registers(&self) -> Registers {
        Registers {
            x: std::array::from_fn(|i| self.x[i]),
            x30: self.x[30],
            sp: self.sp,
            nzcv: self.nzcv.into(),
            taken: u64::from(self.next_pc != super::machine::CODE + 8),
        }
    }
}
