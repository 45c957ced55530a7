//! Known Arm results for the special values, and the host's hardware as a second opinion where both follow IEEE-754.

use super::*;
use proptest::prelude::*;

const RN: Fpcr = Fpcr(0);
const RP: Fpcr = Fpcr(1 << 22);
const RM: Fpcr = Fpcr(2 << 22);
const RZ: Fpcr = Fpcr(3 << 22);
const S: FpSize = FpSize::Single;
const D: FpSize = FpSize::Double;
const H: FpSize = FpSize::Half;

/// Runs one operation from clear flags.
fn run(op: impl FnOnce(&mut u32) -> u64) -> (u64, u32) {
    let mut flags = 0;
    let value = op(&mut flags);
    (value, flags)
}

fn d(x: f64) -> u64 {
    x.to_bits()
}

fn s(x: f32) -> u64 {
    u64::from(x.to_bits())
}

const QNAN: u64 = 0x7ff8_0000_0000_1234;
const SNAN: u64 = 0xfff0_0000_0000_5678;
const SNAN_QUIETED: u64 = 0xfff8_0000_0000_5678;
const DEFAULT: u64 = 0x7ff8_0000_0000_0000;
const INF: u64 = 0x7ff0_0000_0000_0000;
const NEG: u64 = 1 << 63;

#[test]
fn nan_rules() {
    assert_eq!(
        run(|f| add(D, QNAN, SNAN, RN, f)),
        (SNAN_QUIETED, IOC),
        "a signalling NaN wins over an earlier quiet one"
    );
    assert_eq!(run(|f| add(D, QNAN, QNAN | NEG, RN, f)), (QNAN, 0), "the first of two quiet NaNs wins");
    assert_eq!(run(|f| sub(D, d(1.0), QNAN, RN, f)), (QNAN, 0), "subtraction leaves a NaN's sign");
    assert_eq!(run(|f| nmul(D, d(1.0), QNAN, RN, f)), (QNAN | NEG, 0), "FNMUL inverts a NaN's sign");
    assert_eq!(run(|f| abd(D, QNAN | NEG, d(1.0), RN, f)), (QNAN, 0), "FABD clears a NaN's sign");
    assert_eq!(run(|f| add(D, QNAN, SNAN, Fpcr(Fpcr::DN), f)), (DEFAULT, IOC));
    assert_eq!(run(|f| add(D, INF, INF | NEG, RN, f)), (DEFAULT, IOC));
    assert_eq!(run(|f| sub(D, INF, INF, RN, f)), (DEFAULT, IOC));
    assert_eq!(run(|f| mul(D, INF, 0, RN, f)), (DEFAULT, IOC));
    assert_eq!(run(|f| mulx(D, INF, NEG, RN, f)), (d(-2.0), 0));
    assert_eq!(run(|f| div(D, 0, NEG, RN, f)), (DEFAULT, IOC));
    assert_eq!(run(|f| div(D, d(3.0), NEG, RN, f)), (INF | NEG, DZC));
    assert_eq!(run(|f| sqrt(D, d(-1.0), RN, f)), (DEFAULT, IOC));
    assert_eq!(run(|f| sqrt(D, NEG, RN, f)), (NEG, 0));
}

#[test]
fn fused_nan_priority() {
    assert_eq!(run(|f| mul_add(D, QNAN, INF, 0, RN, f)), (DEFAULT, IOC), "infinity times zero beats a quiet addend");
    assert_eq!(run(|f| mul_add(D, SNAN, INF, 0, RN, f)), (SNAN_QUIETED, IOC));
    assert_eq!(run(|f| mul_add(D, QNAN, QNAN | NEG, SNAN, RN, f)), (SNAN_QUIETED, IOC));
    assert_eq!(run(|f| mul_add(D, QNAN, QNAN | NEG, d(1.0), RN, f)), (QNAN, 0), "the addend comes first");
    assert_eq!(
        run(|f| recip_step(D, QNAN, d(1.0), RN, f)),
        (QNAN | NEG, 0),
        "the first operand is negated as a NaN too"
    );
    assert_eq!(run(|f| recip_step(D, INF, 0, RN, f)), (d(2.0), 0));
    assert_eq!(run(|f| rsqrt_step(S, s(f32::INFINITY), 0, RN, f)), (s(1.5), 0));
    assert_eq!(run(|f| rsqrt_step(D, d(1.0), d(1.0), RN, f)), (d(1.0), 0));
}

#[test]
fn flush_to_zero() {
    let fz = Fpcr(Fpcr::FZ);
    let tiny = 1; // the smallest double denormal
    assert_eq!(run(|f| add(D, tiny, tiny, RN, f)), (2, 0));
    assert_eq!(run(|f| add(D, tiny, NEG | tiny, fz, f)), (0, IDC));
    assert_eq!(run(|f| mul(D, d(f64::MIN_POSITIVE), d(0.5), fz, f)), (0, UFC), "a flushed result is not inexact");
    assert_eq!(run(|f| mul(D, d(f64::MIN_POSITIVE), d(-0.3), RN, f)).1, UFC | IXC);
    assert_eq!(
        run(|f| mul(D, d(f64::MIN_POSITIVE), d(-0.5), RN, f)),
        (NEG | 1 << 51, 0),
        "exact and tiny: no underflow"
    );
    // Rounds up to the smallest normal: tiny before rounding, so UFC without FZ and a flush with it.
    let below = d(1.0) - 1;
    assert_eq!(run(|f| mul(D, d(f64::MIN_POSITIVE), below, RN, f)), (d(f64::MIN_POSITIVE), UFC | IXC));
    assert_eq!(run(|f| mul(D, d(f64::MIN_POSITIVE), below, fz, f)), (0, UFC));
    for fpcr in [RN, fz] {
        let mut flags = IXC; // invites the host path, which must decline
        let value = mul(D, d(f64::MIN_POSITIVE), below, fpcr, &mut flags);
        assert_eq!((value, flags), (if fpcr.fz() { 0 } else { d(f64::MIN_POSITIVE) }, UFC | IXC));
    }
    assert_eq!(run(|f| mul_add(D, tiny, QNAN, tiny, fz, f)), (QNAN, IDC), "inputs are flushed before the NaN rules");
    assert_eq!(run(|f| convert(H, S, 1, RN.rounding(), fz, f)), (s(5.960_464_5e-8), 0), "halves are never flushed");
    assert_eq!(run(|f| convert(S, H, s(5.960_464_5e-8), RN.rounding(), fz, f)), (1, 0));
    assert_eq!(run(|f| u64::from(compare(D, tiny, 0, false, fz, f))), (0b0110, IDC));
    assert_eq!(run(|f| round_to_int(D, tiny, FpRounding::PosInf, true, fz, f)), (0, IDC));
}

#[test]
fn overflow_by_rounding_mode() {
    let big = d(f64::MAX);
    for (fpcr, pos, neg) in [(RN, INF, INF), (RP, INF, INF - 1), (RM, INF - 1, INF), (RZ, INF - 1, INF - 1)] {
        assert_eq!(run(|f| add(D, big, big, fpcr, f)), (pos, OFC | IXC));
        assert_eq!(run(|f| add(D, big | NEG, big | NEG, fpcr, f)), (neg | NEG, OFC | IXC));
    }
    assert_eq!(run(|f| sub(D, d(1.5), d(1.5), RM, f)), (NEG, 0), "a cancellation is -0 towards minus infinity");
}

#[test]
fn max_and_min() {
    assert_eq!(run(|f| max(D, NEG, 0, RN, f)), (0, 0));
    assert_eq!(run(|f| max(D, NEG, d(-5.0), RN, f)), (NEG, 0));
    assert_eq!(run(|f| min(D, 0, NEG, RN, f)), (NEG, 0));
    assert_eq!(run(|f| min(D, 0, d(5.0), RN, f)), (0, 0));
    assert_eq!(run(|f| max(D, QNAN, d(1.0), RN, f)), (QNAN, 0));
    assert_eq!(run(|f| max_num(D, QNAN, d(1.0), RN, f)), (d(1.0), 0));
    assert_eq!(run(|f| min_num(D, d(-1.0), QNAN, RN, f)), (d(-1.0), 0));
    assert_eq!(run(|f| max_num(D, QNAN, QNAN | NEG, RN, f)), (QNAN, 0));
    assert_eq!(run(|f| max_num(D, SNAN, d(1.0), RN, f)), (SNAN_QUIETED, IOC));
    assert_eq!(run(|f| min_num(D, QNAN, SNAN, RN, f)), (SNAN_QUIETED, IOC));
}

#[test]
fn comparisons() {
    assert_eq!(run(|f| u64::from(compare(D, QNAN, 0, false, RN, f))), (0b0011, 0));
    assert_eq!(run(|f| u64::from(compare(D, QNAN, 0, true, RN, f))), (0b0011, IOC));
    assert_eq!(run(|f| u64::from(compare(D, SNAN, 0, false, RN, f))), (0b0011, IOC));
    assert_eq!(run(|f| compare_mask(D, FpRelation::Equal, QNAN, QNAN, RN, f)), (0, 0));
    assert_eq!(run(|f| compare_mask(D, FpRelation::Greater, QNAN, QNAN, RN, f)), (0, IOC));
    assert_eq!(run(|f| compare_mask(S, FpRelation::AbsGreater, s(-2.0), s(1.0), RN, f)), (0xffff_ffff, 0));
    assert_eq!(run(|f| compare_mask(S, FpRelation::GreaterEqual, 1 << 31, 0, RN, f)), (0xffff_ffff, 0), "-0 >= +0");
}

#[test]
fn integers() {
    let int = |bits, unsigned| IntFormat { bits, unsigned, fraction_bits: 0 };
    let cases = [
        (d(2.5), int(32, false), FpRounding::TieEven, 2, IXC),
        (d(2.5), int(32, false), FpRounding::TieAway, 3, IXC),
        (d(-2.5), int(32, false), FpRounding::TieAway, 0xffff_fffd, IXC),
        (d(-0.5), int(32, true), FpRounding::Zero, 0, IXC),
        (d(-1.0), int(32, true), FpRounding::Zero, 0, IOC),
        (d(4_294_967_295.5), int(32, true), FpRounding::TieEven, 0xffff_ffff, IOC),
        (d(-2_147_483_648.5), int(32, false), FpRounding::Zero, 0x8000_0000, IXC),
        (d(9.3e18), int(64, false), FpRounding::Zero, i64::MAX as u64, IOC),
        (d(1.8e19), int(64, true), FpRounding::Zero, 18_000_000_000_000_000_000, 0),
        (INF | NEG, int(64, false), FpRounding::Zero, 1 << 63, IOC),
        (QNAN, int(64, false), FpRounding::Zero, 0, IOC),
        (d(0.75), IntFormat { bits: 64, unsigned: true, fraction_bits: 64 }, FpRounding::Zero, 3 << 62, 0),
    ];
    for (a, format, rounding, value, flags) in cases {
        assert_eq!(run(|f| to_int(D, a, format, rounding, RN, f)), (value, flags), "{a:#x} {format:?} {rounding:?}");
    }
    assert_eq!(
        run(|f| from_int(S, u64::MAX, int(64, true), FpRounding::TieEven, RN, f)),
        (s(18_446_744_073_709_551_616.0), IXC)
    );
    assert_eq!(run(|f| from_int(D, 0x8000_0000, int(32, false), FpRounding::TieEven, RN, f)), (d(-2_147_483_648.0), 0));
    assert_eq!(run(|f| round_to_int(D, d(-0.25), FpRounding::TieEven, true, RN, f)), (NEG, IXC));
    assert_eq!(run(|f| round_to_int(D, d(0.5), FpRounding::TieAway, false, RN, f)), (d(1.0), 0));
}

#[test]
fn javascript() {
    let run = |a, fpcr| {
        let mut flags = 0;
        let r = convert_javascript(a, fpcr, &mut flags);
        (r.0, r.1, flags)
    };
    assert_eq!(run(d(3.0), RN), (3, true, 0));
    assert_eq!(run(NEG, RN), (0, false, 0), "-0 is not exact to JavaScript");
    assert_eq!(run(d(-1.5), RN), (u32::MAX, false, IXC));
    assert_eq!(run(d(4_294_967_298.0), RN), (2, false, IOC));
    assert_eq!(run(d(-2_147_483_648.0), RN), (0x8000_0000, true, 0));
    assert_eq!(run(d(-2_147_483_648.5), RN), (0x8000_0000, false, IXC));
    assert_eq!(run(d(2_147_483_648.0), RN), (0x8000_0000, false, IOC));
    assert_eq!(run(INF, RN), (0, false, IOC));
    assert_eq!(run(1, Fpcr(Fpcr::FZ)), (0, false, IDC));
    assert_eq!(run(1, RN), (0, false, IXC));
}

#[test]
fn half_precision() {
    let ahp = Fpcr(Fpcr::AHP);
    let rn = FpRounding::TieEven;
    assert_eq!(run(|f| convert(S, H, s(65520.0), rn, RN, f)), (0x7c00, OFC | IXC));
    assert_eq!(
        run(|f| convert(S, H, s(65520.0), rn, ahp, f)),
        (0x7c00, IXC),
        "65536 is a number in the alternative format"
    );
    assert_eq!(run(|f| convert(S, H, s(1e9), rn, ahp, f)), (0x7fff, IOC));
    assert_eq!(run(|f| convert(S, H, s(-f32::INFINITY), rn, ahp, f)), (0xffff, IOC));
    assert_eq!(run(|f| convert(D, H, QNAN | NEG, rn, ahp, f)), (0x8000, IOC));
    assert_eq!(run(|f| convert(H, D, 0x7fff, rn, ahp, f)), (d(131_008.0), 0));
    assert_eq!(run(|f| convert(H, S, 0xfc01, rn, RN, f)), (0xffc0_2000, IOC));
    assert_eq!(run(|f| convert(D, S, d(1.0) + 1, FpRounding::Odd, RN, f)), (s(1.0) + 1, IXC));
    assert_eq!(run(|f| convert(D, S, d(1e300), FpRounding::Odd, RN, f)), (s(f32::MAX), OFC | IXC));
}

#[test]
fn estimates() {
    assert_eq!(run(|f| recip_estimate(S, s(1.0), RN, f)), (0x3f7f_8000, 0));
    assert_eq!(run(|f| rsqrt_estimate(S, s(1.0), RN, f)), (0x3f7f_8000, 0));
    assert_eq!(run(|f| rsqrt_estimate(S, s(2.0), RN, f)), (0x3f34_8000, 0));
    assert_eq!(run(|f| recip_estimate(D, 1, RN, f)), (INF, OFC | IXC));
    assert_eq!(run(|f| recip_estimate(D, 1, RZ, f)), (INF - 1, OFC | IXC));
    assert_eq!(run(|f| recip_estimate(D, 0, RN, f)), (INF, DZC));
    assert_eq!(run(|f| recip_estimate(D, d(f64::MAX), Fpcr(Fpcr::FZ), f)), (0, UFC));
    assert_eq!(run(|f| recip_exponent(D, d(1.0), RN, f)), (0x400 << 52, 0));
    assert_eq!(run(|f| recip_exponent(D, NEG | 5, RN, f)), (NEG | 0x7fe << 52, 0));
    assert_eq!(unsigned_recip_estimate(0x8000_0000), 0xff80_0000);
    assert_eq!(unsigned_recip_estimate(0x7fff_ffff), u32::MAX);
    assert_eq!(unsigned_rsqrt_estimate(0x4000_0000), 0xff80_0000);
}

/// Bit patterns that are dense where floating point is interesting.
fn double() -> impl Strategy<Value = u64> {
    let edge = prop_oneof![Just(0u64), Just(1), Just((1 << 52) - 1), Just(1 << 51)];
    let exponent =
        prop_oneof![Just(0u64), Just(1), Just(2), 1018u64..1030, Just(2045), Just(2046), Just(2047), 0u64..2048];
    prop_oneof![
        any::<u64>(),
        (any::<bool>(), exponent, prop_oneof![edge, any::<u64>()])
            .prop_map(|(sign, exp, frac)| { u64::from(sign) << 63 | exp << 52 | frac & ((1 << 52) - 1) })
    ]
}

fn single() -> impl Strategy<Value = u32> {
    double().prop_map(|x| ((x >> 63) << 31 | (x >> 52 & 0xff) << 23 | x >> 7 & 0x7f_ffff | x & 1) as u32)
}

/// The host's result of the same operation, with its NaNs taken for equal: their bits are Arm's own.
fn same(size: FpSize, ours: u64, host: u64) -> bool {
    let nan = |x: u64| x & !size.sign_bit() > size.infinity(false);
    ours == host || (nan(ours) && nan(host))
}

/// Whether the operation says "inexact" exactly when rounding down and up differ.
fn inexact_agrees(op: impl Fn(Fpcr, &mut u32) -> u64) -> bool {
    let (down, flags) = run(|f| op(RM, f));
    let (up, _) = run(|f| op(RP, f));
    // An exact zero sum is the one exact result that depends on the mode.
    let differ = down != up && !(down | up).trailing_zeros().eq(&63);
    flags & IOC != 0 || differ == (flags & IXC != 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn doubles_agree_with_the_host(a in double(), b in double(), c in double(), start in prop_oneof![Just(0), Just(IXC)]) {
        let (x, y, z) = (f64::from_bits(a), f64::from_bits(b), f64::from_bits(c));
        let mut flags = start;
        prop_assert!(same(D, add(D, a, b, RN, &mut flags), (x + y).to_bits()));
        prop_assert!(same(D, sub(D, a, b, RN, &mut flags), (x - y).to_bits()));
        let mut flags = start;
        prop_assert!(same(D, mul(D, a, b, RN, &mut flags), (x * y).to_bits()));
        let mut flags = start;
        prop_assert!(same(D, div(D, a, b, RN, &mut flags), (x / y).to_bits()));
        let mut flags = start;
        prop_assert!(same(D, sqrt(D, a, RN, &mut flags), x.sqrt().to_bits()));
        let mut flags = start;
        prop_assert!(same(D, mul_add(D, c, a, b, RN, &mut flags), x.mul_add(y, z).to_bits()));
        prop_assert!(same(D, convert(S, D, a >> 32, FpRounding::TieEven, RN, &mut flags), f64::from(f32::from_bits((a >> 32) as u32)).to_bits()));
        prop_assert!(same(S, convert(D, S, a, FpRounding::TieEven, RN, &mut flags), u64::from((x as f32).to_bits())));
        let int = IntFormat { bits: 64, unsigned: false, fraction_bits: 0 };
        prop_assert_eq!(to_int(D, a, int, FpRounding::Zero, RN, &mut flags), (x as i64) as u64);
        prop_assert_eq!(to_int(D, a, IntFormat { unsigned: true, ..int }, FpRounding::Zero, RN, &mut flags), x as u64);
        prop_assert_eq!(from_int(D, a, int, FpRounding::TieEven, RN, &mut flags), (a as i64 as f64).to_bits());
        prop_assert_eq!(from_int(S, a, IntFormat { unsigned: true, ..int }, FpRounding::TieEven, RN, &mut flags), s(a as f32));
        prop_assert!(same(D, round_to_int(D, a, FpRounding::TieEven, true, RN, &mut flags), x.round_ties_even().to_bits()));
        prop_assert!(same(D, round_to_int(D, a, FpRounding::TieAway, true, RN, &mut flags), x.round().to_bits()));
        prop_assert!(same(D, round_to_int(D, a, FpRounding::NegInf, true, RN, &mut flags), x.floor().to_bits()));
        prop_assert_eq!(compare(D, a, b, false, RN, &mut flags), match x.partial_cmp(&y) {
            None => 3,
            Some(std::cmp::Ordering::Less) => 8,
            Some(std::cmp::Ordering::Equal) => 6,
            Some(std::cmp::Ordering::Greater) => 2,
        });
    }

    #[test]
    fn singles_agree_with_the_host(a in single(), b in single(), c in single(), start in prop_oneof![Just(0), Just(IXC)]) {
        let (x, y, z) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
        let (a, b, c) = (u64::from(a), u64::from(b), u64::from(c));
        let mut flags = start;
        prop_assert!(same(S, add(S, a, b, RN, &mut flags), s(x + y)));
        let mut flags = start;
        prop_assert!(same(S, sub(S, a, b, RN, &mut flags), s(x - y)));
        let mut flags = start;
        prop_assert!(same(S, mul(S, a, b, RN, &mut flags), s(x * y)));
        let mut flags = start;
        prop_assert!(same(S, div(S, a, b, RN, &mut flags), s(x / y)));
        let mut flags = start;
        prop_assert!(same(S, sqrt(S, a, RN, &mut flags), s(x.sqrt())));
        let mut flags = start;
        prop_assert!(same(S, mul_add(S, c, a, b, RN, &mut flags), s(x.mul_add(y, z))));
    }

    /// The host paths and the exact ones are interchangeable, value and flags, whatever the modes.
    #[test]
    fn host_paths_equal_exact_paths(a in double(), b in double(), c in double(), mode in 0u32..16) {
        let fpcr = Fpcr(mode << 22);
        let check = |op: &dyn Fn(&mut u32) -> u64| {
            let (exact, exact_flags) = run(op);
            let mut flags = IXC;
            let fast = op(&mut flags);
            exact == fast && exact_flags | IXC == flags
        };
        prop_assert!(check(&|f| add(D, a, b, fpcr, f)));
        prop_assert!(check(&|f| mul(D, a, b, fpcr, f)));
        prop_assert!(check(&|f| div(D, a, b, fpcr, f)));
        prop_assert!(check(&|f| sqrt(D, a, fpcr, f)));
        prop_assert!(check(&|f| mul_add(D, c, a, b, fpcr, f)));
    }

    #[test]
    fn inexact_means_that_directed_roundings_differ(a in double(), b in double(), c in double()) {
        prop_assert!(inexact_agrees(|m, f| add(D, a, b, m, f)));
        prop_assert!(inexact_agrees(|m, f| mul(D, a, b, m, f)));
        prop_assert!(inexact_agrees(|m, f| div(D, a, b, m, f)));
        prop_assert!(inexact_agrees(|m, f| sqrt(D, a, m, f)));
        prop_assert!(inexact_agrees(|m, f| mul_add(D, c, a, b, m, f)));
        prop_assert!(inexact_agrees(|m, f| convert(D, S, a, m.rounding(), m, f)));
        prop_assert!(inexact_agrees(|m, f| convert(D, H, a, m.rounding(), m, f)));
    }
}
