//! Lanes moved about: zips, transpositions, extraction and table look-ups.

use super::{ESize, Lane, VecWidth, by_unsigned};

/// A rearrangement of the lanes of two vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum VecPermuteOp {
    /// Even-numbered elements of the concatenated operands.
    Uzp1,
    /// Odd-numbered elements of the concatenated operands.
    Uzp2,
    /// Even-numbered elements of both operands in turn.
    Trn1,
    /// Odd-numbered elements of both operands in turn.
    Trn2,
    /// Lower halves interleaved.
    Zip1,
    /// Upper halves interleaved.
    Zip2,
}

/// Rearranges the elements of size `es` in the low `width` (64 or 128 bits) of `a` and `b`.
pub fn permute(op: VecPermuteOp, es: ESize, width: VecWidth, a: u128, b: u128) -> u128 {
    use VecPermuteOp::*;
    let narrow = width != VecWidth::Q16;
    let result = match op {
        Uzp1 | Uzp2 => {
            let (a, b) = if narrow {
                let joined = VecWidth::D8.truncate(a) | b << 64;
                (joined, joined)
            } else {
                (a, b)
            };
            let skip = if op == Uzp2 { es.bits() } else { 0 };
            evens(es, a >> skip, b >> skip)
        }
        Trn1 => by_unsigned!(es, T => {
            let (a, b) = (T::split(a), T::split(b));
            T::join(core::array::from_fn(|i| if i % 2 == 0 { a[i] } else { b[i - 1] }))
        }),
        Trn2 => by_unsigned!(es, T => {
            let (a, b) = (T::split(a), T::split(b));
            T::join(core::array::from_fn(|i| if i % 2 == 0 { a[i + 1] } else { b[i] }))
        }),
        Zip1 => zip(es, a, b),
        // The upper halves of 64-bit vectors are what the interleaved low 64 bits hold in their upper half.
        Zip2 if narrow => zip(es, a, b) >> 64,
        Zip2 => zip(es, a >> 64, b >> 64),
    };
    width.truncate(result)
}

/// The even-numbered elements of `a`, then those of `b`.
#[inline]
pub(super) fn evens(es: ESize, a: u128, b: u128) -> u128 {
    u128::from(evens_of(es, a)) | u128::from(evens_of(es, b)) << 64
}

/// The even-numbered elements: lanes of twice the size, truncated.
#[inline]
pub(super) fn evens_of(es: ESize, v: u128) -> u64 {
    match es {
        ESize::B => join_half(u16::split(v).map(|x| x as u8)),
        ESize::H => join_half(u32::split(v).map(|x| x as u16)),
        ESize::S => join_half(u64::split(v).map(|x| x as u32)),
        ESize::D => v as u64,
    }
}

/// Eight bytes as a number, lane 0 least significant.
#[inline(always)]
pub(super) fn join_half<T: HalfLane<N>, const N: usize>(lanes: [T; N]) -> u64 {
    T::join_half(lanes)
}

/// A number type that half a vector can be cut into.
pub(super) trait HalfLane<const N: usize>: Copy {
    fn join_half(lanes: [Self; N]) -> u64;
    fn split_half(v: u64) -> [Self; N];
}

macro_rules! half_lane {
    ($($t:ty, $n:literal);*) => { $(
        impl HalfLane<$n> for $t {
            #[inline(always)]
            fn join_half(lanes: [$t; $n]) -> u64 {
                u64::from_le(zerocopy::transmute!(lanes.map(<$t>::to_le)))
            }
            #[inline(always)]
            fn split_half(v: u64) -> [$t; $n] {
                let lanes: [$t; $n] = zerocopy::transmute!(v.to_le());
                lanes.map(<$t>::from_le)
            }
        }
    )* };
}
half_lane!(u8, 8; u16, 4; u32, 2);

/// The elements of the low 64 bits of `a` and `b` in turn.
#[inline]
fn zip(es: ESize, a: u128, b: u128) -> u128 {
    macro_rules! interleave {
        ($narrow:ty, $wide:ty) => {{
            let (a, b) = (<$narrow>::split_half(a as u64), <$narrow>::split_half(b as u64));
            let mut lanes = a.map(<$wide>::from);
            for (lane, other) in lanes.iter_mut().zip(b) {
                *lane |= <$wide>::from(other) << <$narrow>::BITS;
            }
            <$wide>::join(lanes)
        }};
    }
    match es {
        ESize::B => interleave!(u8, u16),
        ESize::H => interleave!(u16, u32),
        ESize::S => interleave!(u32, u64),
        ESize::D => u128::from(a as u64) | b << 64,
    }
}

/// EXT: the `width` bytes that begin at byte `index` of `b:a`. `index` is below the width's bytes.
pub fn extract(width: VecWidth, a: u128, b: u128, index: u32) -> u128 {
    let (bits, all) = (8 * index, 8 * width.bytes());
    if bits == 0 {
        return width.truncate(a);
    }
    if bits >= all {
        return width.truncate(b);
    }
    width.truncate(width.truncate(a) >> bits | b << (all - bits))
}

/// TBL and TBX: each byte of `index` picks a byte of the table of 1 to 4 registers; one outside the table gives the byte of `outside`
/// (zero for TBL, the old destination for TBX).
pub fn table(registers: &[u128], index: u128, outside: u128) -> u128 {
    let mut bytes = [0; 64];
    for (place, register) in bytes.chunks_exact_mut(16).zip(registers) {
        place.copy_from_slice(&register.to_le_bytes());
    }
    let limit = 16 * registers.len().min(4);
    let (index, outside) = (<u8 as Lane<16>>::split(index), <u8 as Lane<16>>::split(outside));
    u8::join(core::array::from_fn(|i| {
        let at = usize::from(index[i]);
        if at < limit { bytes[at & 63] } else { outside[i] }
    }))
}
