//! Asks of every 32-bit word how many lines of the table take it: exactly one, or none when it is unallocated.
//!
//! `decode_check` takes all 2^32 words, on all threads of the host; `decode_check --sample N` takes N words spread evenly. Prints the
//! words of each encoding; ends with status 1 when two lines take one word or a line takes none.

use isa::Encoding;
use isa::decode::bucket_takers;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

/// Words of one unit of work, as a power of two.
const UNIT_BITS: u32 = 20;

/// What one thread found.
#[derive(Default)]
struct Tally {
    words: BTreeMap<Encoding, u64>,
    unallocated: u64,
    /// Two encodings that take the same words: how many, and the first.
    overlaps: BTreeMap<(Encoding, Encoding), (u64, u32)>,
}

impl Tally {
    fn check(&mut self, word: u32, counts: &mut [u64]) {
        let mut takers = bucket_takers(word);
        let Some(first) = takers.next() else {
            self.unallocated += 1;
            return;
        };
        counts[first.index()] += 1;
        for other in takers {
            self.overlaps.entry((first, other)).or_insert((0, word)).0 += 1;
        }
    }

    fn merge(&mut self, other: Tally) {
        self.unallocated += other.unallocated;
        for (encoding, words) in other.words {
            *self.words.entry(encoding).or_default() += words;
        }
        for (pair, (words, first)) in other.overlaps {
            self.overlaps.entry(pair).or_insert((0, first)).0 += words;
        }
    }
}

/// Every `step`-th word of all.
fn check_all(step: u32) -> Tally {
    let next = AtomicU32::new(0);
    let work = || {
        let mut tally = Tally::default();
        let mut counts = vec![0; Encoding::all().len()];
        loop {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            if unit >> (32 - UNIT_BITS) != 0 {
                break;
            }
            // The sample takes another residue in each unit, so that it is no lattice of the low bits.
            let offset = unit.wrapping_mul(0x9e37_79b9) % step;
            for low in (offset..1 << UNIT_BITS).step_by(step as usize) {
                tally.check(unit << UNIT_BITS | low, &mut counts);
            }
        }
        tally.words = Encoding::all().map(|encoding| (encoding, counts[encoding.index()])).collect();
        tally
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Tally::default();
        for handle in handles {
            match handle.join() {
                Ok(tally) => all.merge(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let step = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => 1,
        ["--sample", count] => match count.parse::<u32>() {
            Ok(count @ 1..) => (u32::MAX / count).clamp(1, 1 << UNIT_BITS),
            _ => {
                eprintln!("decode_check: --sample {count}: expected the number of words, 1 to 4294967295");
                return ExitCode::from(2);
            }
        },
        _ => {
            eprintln!("usage: decode_check [--sample N]");
            return ExitCode::from(2);
        }
    };
    let begin = std::time::Instant::now();
    let tally = check_all(step);
    let allocated: u64 = tally.words.values().sum();
    for (encoding, words) in &tally.words {
        println!("{words:>11} {encoding:?}");
    }
    println!("{:>11} unallocated", tally.unallocated);
    println!(
        "{:>11} in all, {} encodings, {:.1} s",
        allocated + tally.unallocated,
        tally.words.len(),
        begin.elapsed().as_secs_f32()
    );
    for ((one, other), (words, first)) in &tally.overlaps {
        println!("OVERLAP {one:?} and {other:?}: {words} words, the first {first:08x}");
    }
    // A sample may miss the encodings that have but one word.
    let empty: Vec<_> =
        tally.words.iter().filter(|(_, words)| **words == 0 && step == 1).map(|(encoding, _)| encoding).collect();
    if !empty.is_empty() {
        println!("NO WORD: {empty:?}");
    }
    if tally.overlaps.is_empty() && empty.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
