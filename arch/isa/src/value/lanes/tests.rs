//! Each lane operation against a second formulation: one element at a time, in unbounded integers, as the Arm pseudocode says it.

use super::*;
use proptest::prelude::*;

const SIZES: [ESize; 4] = [ESize::B, ESize::H, ESize::S, ESize::D];

fn signed(es: ESize, v: u64) -> i128 {
    let bits = es.bits();
    i128::from((v << (64 - bits)).cast_signed() >> (64 - bits))
}

fn sat(es: ESize, is_signed: bool, v: i128, qc: &mut bool) -> u64 {
    let (min, max) = if is_signed {
        (-(1i128 << (es.bits() - 1)), (1 << (es.bits() - 1)) - 1)
    } else {
        (0, (1i128 << es.bits()) - 1)
    };
    if v < min || v > max {
        *qc = true;
    }
    v.clamp(min, max) as u64
}

/// Applies `f` to each element below `width`.
fn naive(es: ESize, width: VecWidth, mut f: impl FnMut(u32) -> u64) -> u128 {
    (0..width.bytes() / es.bytes()).fold(0, |v, i| with_element(es, v, i, f(i)))
}

fn ones(condition: bool) -> u64 {
    if condition { u64::MAX } else { 0 }
}

const BINARY: [VecBinOp; 41] = {
    use VecBinOp::*;
    [
        And, Bic, Orr, Orn, Eor, Add, Sub, Mul, Pmul, Cmeq, Cmge, Cmgt, Cmhi, Cmhs, Cmtst, Smax, Smin, Umax, Umin,
        Sabd, Uabd, Shadd, Uhadd, Srhadd, Urhadd, Shsub, Uhsub, Sqadd, Uqadd, Sqsub, Uqsub, Suqadd, Usqadd, Sqdmulh,
        Sqrdmulh, Addp, Smaxp, Sminp, Umaxp, Uminp, Addp,
    ]
};

fn naive_binary(op: VecBinOp, es: ESize, x: u64, y: u64, qc: &mut bool) -> u64 {
    use VecBinOp::*;
    let (sx, sy) = (signed(es, x), signed(es, y));
    let (ux, uy) = (i128::from(x), i128::from(y));
    let bits = es.bits();
    match op {
        And => x & y,
        Bic => x & !y,
        Orr => x | y,
        Orn => x | !y,
        Eor => x ^ y,
        Add | Addp => (ux + uy) as u64,
        Sub => (ux - uy) as u64,
        Mul => x.wrapping_mul(y),
        Pmul => (0..8).filter(|i| y >> i & 1 == 1).fold(0, |p, i| p ^ x << i),
        Cmeq => ones(x == y),
        Cmge => ones(sx >= sy),
        Cmgt => ones(sx > sy),
        Cmhi => ones(x > y),
        Cmhs => ones(x >= y),
        Cmtst => ones(x & y != 0),
        Smax | Smaxp => sx.max(sy) as u64,
        Smin | Sminp => sx.min(sy) as u64,
        Umax | Umaxp => x.max(y),
        Umin | Uminp => x.min(y),
        Sabd => (sx - sy).unsigned_abs() as u64,
        Uabd => (ux - uy).unsigned_abs() as u64,
        Shadd => ((sx + sy) >> 1) as u64,
        Uhadd => ((ux + uy) >> 1) as u64,
        Srhadd => ((sx + sy + 1) >> 1) as u64,
        Urhadd => ((ux + uy + 1) >> 1) as u64,
        Shsub => ((sx - sy) >> 1) as u64,
        Uhsub => ((ux - uy) >> 1) as u64,
        Sqadd => sat(es, true, sx + sy, qc),
        Uqadd => sat(es, false, ux + uy, qc),
        Sqsub => sat(es, true, sx - sy, qc),
        Uqsub => sat(es, false, ux - uy, qc),
        Suqadd => sat(es, true, sx + uy, qc),
        Usqadd => sat(es, false, ux + sy, qc),
        Sqdmulh => sat(es, true, (2 * sx * sy) >> bits, qc),
        Sqrdmulh => sat(es, true, (2 * sx * sy + (1 << (bits - 1))) >> bits, qc),
    }
}

fn legal_binary(op: VecBinOp, es: ESize) -> bool {
    match op {
        VecBinOp::Pmul => es == ESize::B,
        VecBinOp::Sqdmulh | VecBinOp::Sqrdmulh => matches!(es, ESize::H | ESize::S),
        _ => true,
    }
}

/// Vectors in which extreme elements are frequent.
fn vector() -> impl Strategy<Value = u128> {
    let byte =
        prop_oneof![3 => any::<u8>(), 1 => Just(0u8), 1 => Just(0xff), 1 => Just(0x80), 1 => Just(0x7f), 1 => Just(1)];
    let special =
        prop_oneof![Just(0u128), Just(u128::MAX), Just(0x8000_0000_0000_0000_8000_0000_0000_0000), Just(0x7fff << 112)];
    let repeated = (any::<u64>(), 0usize..4).prop_map(|(v, es)| duplicate(SIZES[es], v));
    let extremes = (0usize..4, any::<u16>()).prop_map(|(es, pick)| {
        let es = SIZES[es];
        (0..16 / es.bytes()).fold(0, |v, i| {
            let top = 1u64 << (es.bits() - 1);
            with_element(es, v, i, [top, top - 1, u64::MAX, 1][usize::from(pick >> (2 * (i & 7)) & 3)])
        })
    });
    prop_oneof![4 => prop::array::uniform16(byte).prop_map(u128::from_le_bytes), 1 => special, 1 => repeated, 2 => extremes]
}

fn width(es: ESize) -> impl Strategy<Value = VecWidth> {
    prop_oneof![Just(es.scalar()), Just(VecWidth::D8), Just(VecWidth::Q16)]
}

fn sized() -> impl Strategy<Value = (ESize, VecWidth)> {
    (0usize..4).prop_flat_map(|es| width(SIZES[es]).prop_map(move |w| (SIZES[es], w)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn binary_agrees_with_its_pseudocode((es, width) in sized(), a in vector(), b in vector()) {
        for op in BINARY.into_iter().filter(|&op| legal_binary(op, es)) {
            if op.pairwise() && width < VecWidth::D8 { continue; }
            let (mut qc, mut expected_qc) = (false, false);
            let got = binary(op, es, width, a, b, &mut qc);
            let count = width.bytes() / es.bytes();
            let pair = |i: u32| if i < count { element(es, a, i) } else { element(es, b, i - count) };
            let expected = naive(es, width, |i| {
                let (x, y) = if op.pairwise() { (pair(2 * i), pair(2 * i + 1)) } else { (element(es, a, i), element(es, b, i)) };
                naive_binary(op, es, x, y, &mut expected_qc)
            });
            prop_assert_eq!((got, qc), (expected, expected_qc), "{:?} {:?} {:?} {:x} {:x}", op, es, width, a, b);
        }
    }

    #[test]
    fn ternary_agrees_with_its_pseudocode((es, width) in sized(), d in vector(), a in vector(), b in vector()) {
        use VecTernOp::*;
        for op in [Mla, Mls, Saba, Uaba, Sqrdmlah, Sqrdmlsh, Bsl, Bit, Bif, Sdot, Udot] {
            if op.saturates() && !matches!(es, ESize::H | ESize::S) || matches!(op, Sdot | Udot) && es != ESize::S { continue; }
            let (mut qc, mut expected_qc) = (false, false);
            let got = ternary(op, es, width, d, a, b, &mut qc);
            let expected = naive(es, width, |i| {
                let (z, x, y) = (element(es, d, i), element(es, a, i), element(es, b, i));
                let (sz, sx, sy) = (signed(es, z), signed(es, x), signed(es, y));
                let round = 1i128 << (es.bits() - 1);
                let bytes = |is_signed: bool| (0..4).map(|j| {
                    let (p, q) = (x >> (8 * j) & 0xff, y >> (8 * j) & 0xff);
                    if is_signed { signed(ESize::B, p) * signed(ESize::B, q) } else { i128::from(p * q) }
                }).sum::<i128>();
                match op {
                    Mla => z.wrapping_add(x.wrapping_mul(y)),
                    Mls => z.wrapping_sub(x.wrapping_mul(y)),
                    Saba => z.wrapping_add((sx - sy).unsigned_abs() as u64),
                    Uaba => z.wrapping_add(x.abs_diff(y)),
                    Sqrdmlah => sat(es, true, ((sz << es.bits()) + 2 * sx * sy + round) >> es.bits(), &mut expected_qc),
                    Sqrdmlsh => sat(es, true, ((sz << es.bits()) - 2 * sx * sy + round) >> es.bits(), &mut expected_qc),
                    Bsl => y ^ ((y ^ x) & z),
                    Bit => z ^ ((z ^ x) & y),
                    Bif => z ^ ((z ^ x) & !y),
                    Sdot => (sz + bytes(true)) as u64,
                    Udot => (i128::from(z) + bytes(false)) as u64,
                }
            });
            prop_assert_eq!((got, qc), (expected, expected_qc), "{:?} {:?} {:?} {:x} {:x} {:x}", op, es, width, d, a, b);
        }
    }

    #[test]
    fn unary_agrees_with_its_pseudocode((es, width) in sized(), a in vector()) {
        use VecUnOp::*;
        for op in [Abs, Neg, Sqabs, Sqneg, Not, Cls, Clz, CmeqZero, CmgeZero, CmgtZero, CmleZero, CmltZero] {
            let (mut qc, mut expected_qc) = (false, false);
            let got = unary(op, es, width, a, &mut qc);
            let expected = naive(es, width, |i| {
                let x = element(es, a, i);
                let s = signed(es, x);
                match op {
                    Abs => s.unsigned_abs() as u64,
                    Neg => (-s) as u64,
                    Sqabs => sat(es, true, s.abs(), &mut expected_qc),
                    Sqneg => sat(es, true, -s, &mut expected_qc),
                    Not => !x,
                    Cls => (0..es.bits() - 1).rev().take_while(|&i| x >> i & 1 == x >> (es.bits() - 1) & 1).count() as u64,
                    Clz => (0..es.bits()).rev().take_while(|&i| x >> i & 1 == 0).count() as u64,
                    CmeqZero => ones(s == 0),
                    CmgeZero => ones(s >= 0),
                    CmgtZero => ones(s > 0),
                    CmleZero => ones(s <= 0),
                    _ => ones(s < 0),
                }
            });
            prop_assert_eq!((got, qc), (expected, expected_qc), "{:?} {:?} {:?} {:x}", op, es, width, a);
        }
        for w in [VecWidth::D8, VecWidth::Q16] {
            for (op, container) in [(Rev16, 2), (Rev32, 4), (Rev64, 8)] {
                if es.bytes() >= container { continue; }
                let per = container / es.bytes();
                let expected = naive(es, w, |i| element(es, a, i / per * per + (per - 1 - i % per)));
                prop_assert_eq!(unary(op, es, w, a, &mut false), expected, "{:?} {:?} {:x}", op, es, a);
            }
            let reversed = naive(ESize::B, w, |i| (0..8).fold(0, |r, bit| r | (element(ESize::B, a, i) >> bit & 1) << (7 - bit)));
            prop_assert_eq!(unary(Rbit, ESize::B, w, a, &mut false), reversed);
            let counted = naive(ESize::B, w, |i| (0..8).map(|bit| element(ESize::B, a, i) >> bit & 1).sum());
            prop_assert_eq!(unary(Cnt, ESize::B, w, a, &mut false), counted);
        }
    }

    #[test]
    fn shifts_agree_with_their_pseudocode((es, width) in sized(), d in vector(), a in vector(), n in 0u32..64) {
        use VecShiftOp::*;
        for op in [Shl, Sshr, Ushr, Srshr, Urshr, Sqshl, Uqshl, Sqshlu] {
            let count = if op.left() { n % es.bits() } else { n % es.bits() + 1 };
            let (mut qc, mut expected_qc) = (false, false);
            let got = shift(op, es, width, a, count, &mut qc);
            let expected = naive(es, width, |i| {
                let u = i128::from(element(es, a, i));
                let s = signed(es, u as u64);
                let round = 1i128 << (count.max(1) - 1);
                match op {
                    Shl => (u << count) as u64,
                    Sshr => (s >> count) as u64,
                    Ushr => (u >> count) as u64,
                    Srshr => ((s + round) >> count) as u64,
                    Urshr => ((u + round) >> count) as u64,
                    Sqshl => sat(es, true, s << count, &mut expected_qc),
                    Uqshl => sat(es, false, u << count, &mut expected_qc),
                    Sqshlu => sat(es, false, s << count, &mut expected_qc),
                }
            });
            prop_assert_eq!((got, qc), (expected, expected_qc), "{:?} {:?} {:?} {:x} by {}", op, es, width, a, count);
        }
        let element_ones = u128::from(u64::MAX >> (64 - es.bits()));
        let (left, right) = (n % es.bits(), n % es.bits() + 1);
        let sli = naive(es, width, |i| {
            let mask = element_ones << left;
            ((u128::from(element(es, d, i)) & !mask) | u128::from(element(es, a, i)) << left) as u64
        });
        prop_assert_eq!(shift_insert(true, es, width, d, a, left), sli);
        let sri = naive(es, width, |i| {
            let mask = element_ones >> right;
            ((u128::from(element(es, d, i)) & !mask) | u128::from(element(es, a, i)) >> right) as u64
        });
        prop_assert_eq!(shift_insert(false, es, width, d, a, right), sri);
    }

    #[test]
    fn register_shifts_agree_with_their_pseudocode((es, width) in sized(), a in vector(), b in vector(), narrow_counts in any::<bool>()) {
        use VecShiftRegOp::*;
        // Half of the time all counts lie near the element's size, where the edges are.
        let b = if narrow_counts {
            map1::<u8, _>(b, |count| ((count as i8) % (es.bits() as i8 + 3)) as u8)
        } else { b };
        for op in [Sshl, Ushl, Srshl, Urshl, Sqshl, Uqshl, Sqrshl, Uqrshl] {
            let (mut qc, mut expected_qc) = (false, false);
            let got = shift_register(op, es, width, a, b, &mut qc);
            let expected = naive(es, width, |i| {
                let count = i32::from(element(es, b, i) as i8);
                let x = element(es, a, i);
                let x = if op.signed() { signed(es, x) } else { i128::from(x) };
                // Unbounded: a value of 64 bits shifted by up to 127 does not fit i128, so that the multiplication is checked.
                let exact = if count >= 0 {
                    if op.saturates() {
                        1i128.checked_shl(count as u32).filter(|f| *f > 0).and_then(|f| x.checked_mul(f)).unwrap_or(i128::MAX * x.signum())
                    } else if count >= 64 { 0 } else { x << count }
                } else {
                    if op.rounds() && count < -100 { return 0; }
                    let round = if op.rounds() { 1i128 << (-count - 1) } else { 0 };
                    (x + round) >> (-count).min(127)
                };
                if op.saturates() { sat(es, op.signed(), exact, &mut expected_qc) } else { exact as u64 }
            });
            prop_assert_eq!((got, qc), (expected, expected_qc), "{:?} {:?} {:?} {:x} by {:x}", op, es, width, a, b);
        }
    }

    #[test]
    fn narrowing_agrees_with_its_pseudocode(es in 0usize..3, a in vector(), n in 0u32..=32, scalar in any::<bool>(), round in any::<bool>()) {
        let es = SIZES[es];
        let count = n % (es.bits() + 1);
        let wide = es.wider();
        for op in [VecNarrowOp::Truncate, VecNarrowOp::Signed, VecNarrowOp::Unsigned, VecNarrowOp::SignedToUnsigned] {
            let (mut qc, mut expected_qc) = (false, false);
            let got = narrow(op, es, scalar, round, count, a, &mut qc);
            let width = if scalar { es.scalar() } else { VecWidth::D8 };
            let expected = naive(es, width, |i| {
                let x = element(wide, a, i);
                let half = if round && count > 0 { 1i128 << (count - 1) } else { 0 };
                let (s, u) = ((signed(wide, x) + half) >> count, (i128::from(x) + half) >> count);
                match op {
                    VecNarrowOp::Truncate => u as u64,
                    VecNarrowOp::Signed => sat(es, true, s, &mut expected_qc),
                    VecNarrowOp::Unsigned => sat(es, false, u, &mut expected_qc),
                    VecNarrowOp::SignedToUnsigned => sat(es, false, s, &mut expected_qc),
                }
            });
            prop_assert_eq!((got, qc), (expected, expected_qc), "{:?} {:?} {:x} by {} {}", op, es, a, count, scalar);
        }
    }

    #[test]
    fn long_operations_agree_with_their_pseudocode(es in 0usize..3, a in any::<u64>(), b in any::<u64>(), va in vector(), scalar in any::<bool>()) {
        use VecLongOp::*;
        let (es, a) = (SIZES[es], if scalar { a } else { va as u64 });
        for b in [b, a] {
            for op in [Saddl, Uaddl, Ssubl, Usubl, Sabdl, Uabdl, Smull, Umull, Pmull, Sqdmull] {
                if op == Pmull && es != ESize::B || op == Sqdmull && es == ESize::B { continue; }
                let wide = es.wider();
                let width = if scalar { wide.scalar() } else { VecWidth::Q16 };
                let (mut qc, mut expected_qc) = (false, false);
                let got = long(op, es, width, a, b, &mut qc);
                let expected = naive(wide, width, |i| {
                    let (x, y) = (element(es, a.into(), i), element(es, b.into(), i));
                    let (sx, sy) = (signed(es, x), signed(es, y));
                    match op {
                        Saddl => (sx + sy) as u64,
                        Uaddl => x + y,
                        Ssubl => (sx - sy) as u64,
                        Usubl => x.wrapping_sub(y),
                        Sabdl => (sx - sy).unsigned_abs() as u64,
                        Uabdl => x.abs_diff(y),
                        Smull => (sx * sy) as u64,
                        Umull => x * y,
                        Pmull => (0..8).filter(|i| y >> i & 1 == 1).fold(0, |p, i| p ^ x << i),
                        Sqdmull => sat(wide, true, 2 * sx * sy, &mut expected_qc),
                    }
                });
                prop_assert_eq!((got, qc), (expected, expected_qc), "{:?} {:?} {:?} {:x} {:x}", op, es, width, a, b);
            }
        }
        let product = (0..64).filter(|i| b >> i & 1 == 1).fold(0u128, |p, i| p ^ u128::from(a) << i);
        prop_assert_eq!(clmul64(a, b), product);
        prop_assert_eq!(long(Pmull, ESize::D, VecWidth::Q16, a, b, &mut false), product);
    }

    #[test]
    fn reductions_agree_with_their_pseudocode(es in 0usize..3, a in vector(), q in any::<bool>()) {
        use VecAcrossOp::*;
        let (es, width) = (SIZES[es], if q { VecWidth::Q16 } else { VecWidth::D8 });
        let lanes: Vec<u64> = (0..width.bytes() / es.bytes()).map(|i| element(es, a, i)).collect();
        for op in [Addv, Saddlv, Uaddlv, Smaxv, Sminv, Umaxv, Uminv] {
            let s = || lanes.iter().map(|&x| signed(es, x));
            let expected = match op {
                Addv | Uaddlv => lanes.iter().sum::<u64>(),
                Saddlv => s().sum::<i128>() as u64,
                Smaxv => s().max().unwrap() as u64,
                Sminv => s().min().unwrap() as u64,
                Umaxv => *lanes.iter().max().unwrap(),
                Uminv => *lanes.iter().min().unwrap(),
            };
            prop_assert_eq!(across(op, es, width, a), with_element(op.result(es), 0, 0, expected), "{:?} {:?} {:?} {:x}", op, es, width, a);
        }
        for (op, is_signed) in [(VecPairLongOp::Saddlp, true), (VecPairLongOp::Uaddlp, false)] {
            let expected = naive(es.wider(), width, |i| {
                let (x, y) = (lanes[2 * i as usize], lanes[2 * i as usize + 1]);
                if is_signed { (signed(es, x) + signed(es, y)) as u64 } else { x + y }
            });
            prop_assert_eq!(pair_long(op, es, width, a), expected);
        }
    }

    #[test]
    fn permutations_agree_with_their_pseudocode(es in 0usize..4, a in vector(), b in vector(), q in any::<bool>(), at in 0u32..16) {
        use VecPermuteOp::*;
        let (es, width) = (SIZES[es], if q { VecWidth::Q16 } else { VecWidth::D8 });
        let count = width.bytes() / es.bytes();
        let both = |i: u32| if i < count { element(es, a, i) } else { element(es, b, i - count) };
        let alternate = |i: u32, at: u32| if i.is_multiple_of(2) { element(es, a, at) } else { element(es, b, at) };
        if es != ESize::D || q {
            for op in [Uzp1, Uzp2, Trn1, Trn2, Zip1, Zip2] {
                let part = u32::from(matches!(op, Uzp2 | Trn2 | Zip2));
                let expected = naive(es, width, |i| match op {
                    Uzp1 | Uzp2 => both(2 * i + part),
                    Trn1 | Trn2 => alternate(i, i / 2 * 2 + part),
                    Zip1 | Zip2 => alternate(i, i / 2 + part * count / 2),
                });
                prop_assert_eq!(permute(op, es, width, a, b), expected, "{:?} {:?} {:?} {:x} {:x}", op, es, width, a, b);
            }
        }
        let index = at % width.bytes();
        let concatenated = |i: u32| if i < width.bytes() { element(ESize::B, a, i) } else { element(ESize::B, b, i - width.bytes()) };
        prop_assert_eq!(extract(width, a, b, index), naive(ESize::B, width, |i| concatenated(i + index)));
    }

    #[test]
    fn table_look_up_agrees_with_its_pseudocode(registers in prop::collection::vec(vector(), 1..=4), index in vector(), outside in vector()) {
        let expected = naive(ESize::B, VecWidth::Q16, |i| {
            let at = element(ESize::B, index, i) as usize;
            match registers.get(at / 16) {
                Some(register) => element(ESize::B, *register, at as u32 % 16),
                None => element(ESize::B, outside, i),
            }
        });
        prop_assert_eq!(table(&registers, index, outside), expected);
    }
}

/// Values from the table of `AdvSIMDExpandImm` and from what an assembler makes of `movi` and `fmov`.
#[test]
fn immediates_expand_as_the_manual_says() {
    for (op, cmode, imm8, expected) in [
        (0, 0b0000, 0xab, 0x0000_00ab_0000_00ab_u64),
        (0, 0b0010, 0xab, 0x0000_ab00_0000_ab00),
        (0, 0b0100, 0xab, 0x00ab_0000_00ab_0000),
        (1, 0b0110, 0xab, 0xab00_0000_ab00_0000),
        (0, 0b1000, 0xab, 0x00ab_00ab_00ab_00ab),
        (0, 0b1010, 0xab, 0xab00_ab00_ab00_ab00),
        (0, 0b1100, 0xab, 0x0000_abff_0000_abff),
        (0, 0b1101, 0xab, 0x00ab_ffff_00ab_ffff),
        (0, 0b1110, 0xab, 0xabab_abab_abab_abab),
        (1, 0b1110, 0xa5, 0xff00_ff00_00ff_00ff),
        (0, 0b1111, 0x70, 0x3f80_0000_3f80_0000),
        (1, 0b1111, 0x70, 0x3ff0_0000_0000_0000),
        (0, 0b1111, 0x80, 0xc000_0000_c000_0000),
        (1, 0b1111, 0x80, 0xc000_0000_0000_0000),
    ] {
        assert_eq!(expand_imm(op, cmode, imm8), expected, "op {op} cmode {cmode:04b} imm8 {imm8:#x}");
    }
}
