//! Operands that are dense where floating point goes wrong.

use isa::value::softfloat::FpSize;

/// SplitMix64: small, fast, and the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Zeros, denormals, the edges of each binade that matters to rounding, overflow and conversion to integers, infinities, and NaNs of
/// both kinds with payloads; every one with both signs.
pub fn special_values(size: FpSize) -> Vec<u64> {
    let f = size.fraction_bits();
    let one = (size.bias() as u64) << f;
    let scaled = |exp: i32, frac: u64| (((size.bias() + exp) as u64) << f) + frac;
    let nan = size.infinity(false);
    let quiet = 1 << (f - 1);
    let mut values = vec![
        0,
        1,
        2,
        quiet - 1,
        quiet,
        quiet | 1,
        quiet >> 1,
        (1 << f) - 1,
        1 << f,
        (1 << f) + 1,
        2 << f,
        one - 1,
        one,
        one + 1,
        scaled(-1, 0),
        scaled(-1, 1),
        scaled(0, quiet),
        scaled(0, quiet + 1),
        scaled(1, 0),
        scaled(1, quiet / 2),
        scaled(1, quiet),
        scaled(-2, quiet),
        size.max_normal(false),
        size.max_normal(false) - 1,
        scaled(size.bias(), 0),
        scaled(size.bias() - 1, 1),
        nan,
        nan | 1,
        nan | (quiet - 1),
        nan | quiet,
        nan | quiet | 5,
        nan | ((1 << f) - 1),
    ];
    // Where integers of 16, 32 and 64 bits, and the other formats, end.
    for exp in
        [15i32, 16, 31, 32, 52, 53, 62, 63, 64, -14, -15, -24, -25, -126, -127, -149, -150, 127, 128, 24, 23, 10, 11]
    {
        if exp.abs() < size.bias() {
            values.extend([
                scaled(exp, 0),
                scaled(exp, 0) - 1,
                scaled(exp, 1),
                scaled(exp, quiet),
                scaled(exp, quiet >> 1),
            ]);
        }
    }
    let negative: Vec<u64> = values.iter().map(|v| v | size.sign_bit()).collect();
    values.extend(negative);
    values
}

/// Draws operands of every size.
pub struct Operands {
    special: [Vec<u64>; 3],
}

impl Operands {
    pub fn new() -> Operands {
        Operands { special: [FpSize::Half, FpSize::Single, FpSize::Double].map(special_values) }
    }

    /// One element: special, special with a disturbed fraction, a number of moderate size, a small integer, or random bits.
    fn element(&self, size: FpSize, random: &mut Random) -> u64 {
        let special = &self.special[size as usize - 1];
        let value = special[random.below(special.len())];
        let bits = random.next();
        match random.below(16) {
            0..=9 => value,
            10 | 11 => value ^ (bits & size.fraction_mask()),
            12 | 13 => {
                let exp = (size.bias() as u64 - 5 + bits % 10) << size.fraction_bits();
                exp | bits & (size.fraction_mask() | size.sign_bit())
            }
            14 => bits >> 48 & 0x3ff, // as an integer: small
            _ => bits & size.mask(),
        }
    }

    /// A vector register full of elements of `size`.
    pub fn vector(&self, size: FpSize, random: &mut Random) -> u128 {
        let lanes = 128 / size.bits();
        (0..lanes).fold(0, |v, lane| v | u128::from(self.element(size, random)) << (lane * size.bits()))
    }

    /// A general-purpose register: integers around the limits of their sizes and of the precision of the formats.
    pub fn integer(&self, random: &mut Random) -> u64 {
        let edge = 1u64 << random.below(64);
        let bits = random.next();
        match random.below(8) {
            0 => 0,
            1 => edge,
            2 => edge.wrapping_sub(1),
            3 => edge.wrapping_neg(),
            4 => edge | 1,
            5 => bits >> random.below(64),
            6 => bits | 0xffff_ffff_0000_0000,
            _ => bits,
        }
    }
}
