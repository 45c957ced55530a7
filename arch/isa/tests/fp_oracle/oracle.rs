//! Another implementation of the architecture, asked one instruction at a time: `runner.c` under `qemu-aarch64`.

use super::runner::{Runner, word64};

/// What an instruction sees: v0..v3, x0..x3, FPCR, FPSR and NZCV (in its register position).
#[derive(Copy, Clone, Debug, Default)]
pub struct Input {
    pub v: [u128; 4],
    pub x: [u64; 4],
    pub fpcr: u32,
    pub fpsr: u32,
    pub nzcv: u32,
}

/// What it may change.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub v0: u128,
    pub x0: u64,
    pub nzcv: u32,
    pub fpsr: u32,
}

const INPUT_BYTES: usize = 120;
const OUTPUT_BYTES: usize = 40;

impl Input {
    fn encode(&self, out: &mut Vec<u8>) {
        self.v.iter().for_each(|v| out.extend(v.to_le_bytes()));
        self.x.iter().for_each(|x| out.extend(x.to_le_bytes()));
        [self.fpcr, self.fpsr, self.nzcv].iter().for_each(|x| out.extend(u64::from(*x).to_le_bytes()));
    }
}

impl Output {
    fn decode(bytes: &[u8]) -> Output {
        Output {
            v0: u128::from(word64(bytes, 0)) | u128::from(word64(bytes, 8)) << 64,
            x0: word64(bytes, 16),
            nzcv: word64(bytes, 24) as u32,
            fpsr: word64(bytes, 32) as u32,
        }
    }
}

/// The running reference.
pub struct Oracle(Runner);

impl Oracle {
    /// Builds the runner and starts it. The error says what to install.
    pub fn start() -> Result<Oracle, String> {
        Runner::start("fp_oracle/runner.c", "max").map(Oracle)
    }

    /// Runs `word` on each input.
    pub fn run(&mut self, word: u32, inputs: &[Input]) -> Result<Vec<Output>, String> {
        let mut outputs = Vec::with_capacity(inputs.len());
        // The runner reads a whole batch before it answers, and the answer fits a pipe.
        for batch in inputs.chunks(1024) {
            let mut request = Vec::with_capacity(8 + batch.len() * INPUT_BYTES);
            request.extend(word.to_le_bytes());
            request.extend((batch.len() as u32).to_le_bytes());
            batch.iter().for_each(|input| input.encode(&mut request));
            let answer = self.0.ask(word, &request, batch.len() * OUTPUT_BYTES)?;
            outputs.extend(answer.chunks_exact(OUTPUT_BYTES).map(Output::decode));
        }
        Ok(outputs)
    }
}
