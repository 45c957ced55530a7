//! Nanoseconds per decoded word over the code of a real program: `decode_speed FILE`, for example an uncompressed arm64 `Image`.
//!
//! Only 4 KiB pages nearly all of whose words are allocated count, so that a kernel's data does not.

use isa::{Features, decode, disasm, encoding};
use std::process::ExitCode;
use std::time::Instant;

const PAGE_WORDS: usize = 1024;
/// Words of a page that must be allocated: zeros and jump tables are few in a page of code.
const ALLOCATED: usize = PAGE_WORDS * 98 / 100;
const ROUNDS: u32 = 30;
/// Words of one round: few enough for a round to fit into a time slice of a busy host, so that the best round is undisturbed.
const ROUND_WORDS: usize = 200_000;

fn code_pages(bytes: &[u8]) -> Vec<u32> {
    let words: Vec<u32> = bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect();
    let is_code = |page: &&[u32]| {
        // UDF has all words below 0x10000, and so takes most small numbers of data.
        page.iter().filter(|&&word| word >= 0x1_0000 && encoding(word).is_some()).count() >= ALLOCATED
    };
    words
        .as_chunks::<PAGE_WORDS>()
        .0
        .iter()
        .map(<[u32; PAGE_WORDS]>::as_slice)
        .filter(is_code)
        .flatten()
        .copied()
        .collect()
}

/// The best of some rounds, in nanoseconds per word.
fn measure(words: &[u32], mut work: impl FnMut(u32)) -> f64 {
    let pieces = words.chunks(ROUND_WORDS);
    let mut round = |words: &[u32]| {
        let begin = Instant::now();
        words.iter().for_each(|&word| work(word));
        begin.elapsed().as_secs_f64() * 1e9 / words.len() as f64
    };
    // The best of each piece, and the mean of the pieces.
    let best = |words: &[u32]| (0..ROUNDS).map(|_| round(words)).fold(f64::INFINITY, f64::min);
    let times: Vec<f64> = pieces.filter(|piece| piece.len() == ROUND_WORDS).map(best).collect();
    times.iter().sum::<f64>() / times.len().max(1) as f64
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: decode_speed FILE");
        return ExitCode::from(2);
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("decode_speed: {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let words = code_pages(&bytes);
    if words.is_empty() {
        eprintln!("decode_speed: {path}: no page of A64 code (is it compressed?)");
        return ExitCode::FAILURE;
    }
    println!("{} words of code in {} pages", words.len(), words.len() / PAGE_WORDS);
    let decoding = measure(&words, |word| {
        std::hint::black_box(decode(word, Features::ALL));
    });
    println!("decode    {decoding:6.2} ns per word");
    let some = &words[..words.len().min(ROUND_WORDS)];
    let text = measure(some, |word| {
        std::hint::black_box(disasm(word, 0));
    });
    println!("disasm    {text:6.2} ns per word");
    ExitCode::SUCCESS
}
