//! Lane-wise operations on 128-bit vector values: the arithmetic of AdvSIMD integer instructions.
//!
//! A vector is a `u128` whose byte 0 is the least significant one. Every operation takes the width that the instruction works on
//! ([`VecWidth`]); what lies above the width is ignored in the inputs and zero in the result, as the architecture wants it of a write to
//! a register by a narrower name. Operations that can saturate take `qc`, which they set (and never clear) when a lane saturated.
//!
//! Each operation is named by an op enum. The enums are the vocabulary that decoder, interpreter, IR builder and translator share.

mod binary;
mod long;
mod narrow;
mod permute;
mod shift;
mod ternary;
mod unary;

#[cfg(test)]
mod tests;

pub use binary::{VecBinOp, binary};
pub use long::{VecLongOp, clmul64, long, widen};
pub use narrow::{VecNarrowOp, narrow};
pub use permute::{VecPermuteOp, extract, permute, table};
pub use shift::{VecShiftOp, VecShiftRegOp, shift, shift_insert, shift_register};
pub use ternary::{VecTernOp, ternary};
pub use unary::{VecAcrossOp, VecPairLongOp, VecUnOp, across, pair_long, unary};

/// The size of one element (lane) of a vector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum ESize {
    /// 8 bits.
    B = 0,
    /// 16 bits.
    H = 1,
    /// 32 bits.
    S = 2,
    /// 64 bits.
    D = 3,
}

impl ESize {
    /// The element size of a two-bit `size` field; only the low two bits are looked at.
    pub const fn from_field(size: u32) -> ESize {
        match size & 3 {
            0 => ESize::B,
            1 => ESize::H,
            2 => ESize::S,
            _ => ESize::D,
        }
    }

    /// Bits of an element: 8, 16, 32 or 64.
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// Bytes of an element: 1, 2, 4 or 8.
    pub const fn bytes(self) -> u32 {
        1 << self as u32
    }

    /// The element size of twice as many bits; 64 bits stay 64 bits.
    pub const fn wider(self) -> ESize {
        ESize::from_field(if self as u32 == 3 { 3 } else { self as u32 + 1 })
    }

    /// The element size of half as many bits; 8 bits stay 8 bits.
    pub const fn narrower(self) -> ESize {
        ESize::from_field((self as u32).saturating_sub(1))
    }

    /// The register width of exactly one element: what the scalar form of an instruction works on.
    pub const fn scalar(self) -> VecWidth {
        match self {
            ESize::B => VecWidth::B1,
            ESize::H => VecWidth::H2,
            ESize::S => VecWidth::S4,
            ESize::D => VecWidth::D8,
        }
    }
}

/// How many bytes of a vector register an instruction works on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum VecWidth {
    /// One byte: `Bn`.
    B1 = 0,
    /// Two bytes: `Hn`.
    H2 = 1,
    /// Four bytes: `Sn`.
    S4 = 2,
    /// Eight bytes: `Dn`, or a 64-bit vector.
    D8 = 3,
    /// Sixteen bytes: `Qn`, or a 128-bit vector.
    Q16 = 4,
}

impl VecWidth {
    /// Bytes: 1, 2, 4, 8 or 16.
    pub const fn bytes(self) -> u32 {
        1 << self as u32
    }

    /// A value with ones in all bits of this width.
    pub const fn mask(self) -> u128 {
        match self {
            VecWidth::B1 => 0xff,
            VecWidth::H2 => 0xffff,
            VecWidth::S4 => 0xffff_ffff,
            VecWidth::D8 => 0xffff_ffff_ffff_ffff,
            VecWidth::Q16 => u128::MAX,
        }
    }

    /// The low bytes of `v` that belong to this width, the rest zero.
    #[inline]
    pub const fn truncate(self, v: u128) -> u128 {
        v & self.mask()
    }
}

/// A number type that a vector can be cut into; `N` lanes make 128 bits.
pub(crate) trait Lane<const N: usize>: Copy {
    fn split(v: u128) -> [Self; N];
    fn join(lanes: [Self; N]) -> u128;
}

macro_rules! lane {
    ($($t:ty, $n:literal);*) => { $(
        impl Lane<$n> for $t {
            #[inline(always)]
            fn split(v: u128) -> [$t; $n] {
                let mut lanes: [$t; $n] = zerocopy::transmute!(v.to_le());
                for lane in &mut lanes {
                    *lane = <$t>::from_le(*lane);
                }
                lanes
            }
            #[inline(always)]
            fn join(mut lanes: [$t; $n]) -> u128 {
                for lane in &mut lanes {
                    *lane = lane.to_le();
                }
                u128::from_le(zerocopy::transmute!(lanes))
            }
        }
    )* };
}
lane!(u8, 16; i8, 16; u16, 8; i16, 8; u32, 4; i32, 4; u64, 2; i64, 2);

/// Applies `f` to each lane.
#[inline(always)]
pub(crate) fn map1<T: Lane<N>, const N: usize>(a: u128, f: impl Fn(T) -> T) -> u128 {
    let mut lanes = T::split(a);
    if N > MANY {
        each1(&mut lanes, f);
        return T::join(lanes);
    }
    T::join(lanes.map(f))
}

/// Applies `f` to each pair of lanes at the same place.
#[inline(always)]
pub(crate) fn map2<T: Lane<N>, const N: usize>(a: u128, b: u128, f: impl Fn(T, T) -> T) -> u128 {
    let (mut lanes, others) = (T::split(a), T::split(b));
    if N > MANY {
        each2(&mut lanes, &others, f);
        return T::join(lanes);
    }
    T::join(core::array::from_fn(|i| f(lanes[i], others[i])))
}

/// Above this number of lanes a loop in a function of its own, on memory, is quicker: that is what the vectorizer turns into one
/// operation on all lanes. Inlined, the arrays are taken apart into scalars, and many of those cost more to put together again.
const MANY: usize = 4;

#[inline(never)]
fn each1<T: Copy, const N: usize>(lanes: &mut [T; N], f: impl Fn(T) -> T) {
    for lane in lanes {
        *lane = f(*lane);
    }
}

#[inline(never)]
fn each2<T: Copy, const N: usize>(lanes: &mut [T; N], others: &[T; N], f: impl Fn(T, T) -> T) {
    for (lane, other) in lanes.iter_mut().zip(others) {
        *lane = f(*lane, *other);
    }
}

/// Evaluates an expression with the name `$t` standing for the unsigned number type of an element size.
macro_rules! by_unsigned {
    ($es:expr, $t:ident => $e:expr) => {
        match $es {
            $crate::value::lanes::ESize::B => {
                type $t = u8;
                $e
            }
            $crate::value::lanes::ESize::H => {
                type $t = u16;
                $e
            }
            $crate::value::lanes::ESize::S => {
                type $t = u32;
                $e
            }
            $crate::value::lanes::ESize::D => {
                type $t = u64;
                $e
            }
        }
    };
}

/// Evaluates an expression with the name `$t` standing for the signed number type of an element size.
macro_rules! by_signed {
    ($es:expr, $t:ident => $e:expr) => {
        match $es {
            $crate::value::lanes::ESize::B => {
                type $t = i8;
                $e
            }
            $crate::value::lanes::ESize::H => {
                type $t = i16;
                $e
            }
            $crate::value::lanes::ESize::S => {
                type $t = i32;
                $e
            }
            $crate::value::lanes::ESize::D => {
                type $t = i64;
                $e
            }
        }
    };
}
pub(crate) use {by_signed, by_unsigned};

/// Repeats the low element of `v` over all 128 bits: `DUP (element)` of element 0.
#[inline]
pub fn duplicate(es: ESize, v: u64) -> u128 {
    let half = match es {
        ESize::B => (v & 0xff).wrapping_mul(0x0101_0101_0101_0101),
        ESize::H => (v & 0xffff).wrapping_mul(0x0001_0001_0001_0001),
        ESize::S => (v & 0xffff_ffff).wrapping_mul(0x0000_0001_0000_0001),
        ESize::D => v,
    };
    u128::from(half) << 64 | u128::from(half)
}

/// Element `index` of `v`, zero-extended. An index past the last element wraps around.
#[inline]
pub fn element(es: ESize, v: u128, index: u32) -> u64 {
    let shifted = (v >> ((index * es.bits()) & 127)) as u64;
    shifted & es.scalar().mask() as u64
}

/// `v` with element `index` replaced by the low bits of `value`. An index past the last element wraps around.
#[inline]
pub fn with_element(es: ESize, v: u128, index: u32, value: u64) -> u128 {
    let at = (index * es.bits()) & 127;
    let mask = es.scalar().mask();
    (v & !(mask << at)) | ((u128::from(value) & mask) << at)
}

/// The constant of MOVI, MVNI, ORR and BIC (vector, immediate): `AdvSIMDExpandImm` of the Arm ARM, 64 bits.
///
/// `cmode` 0b1111 with `op` set (FMOV of a double) is included. `op` inverts only where the architecture's table says so (the MVNI
/// forms are inverted by the instruction, not here).
pub const fn expand_imm(op: u32, cmode: u32, imm8: u32) -> u64 {
    let imm = (imm8 & 0xff) as u64;
    match (cmode >> 1) & 7 {
        0 => imm << 32 | imm,
        1 => imm << 40 | imm << 8,
        2 => imm << 48 | imm << 16,
        3 => imm << 56 | imm << 24,
        4 => imm.wrapping_mul(0x0001_0001_0001_0001),
        5 => (imm << 8).wrapping_mul(0x0001_0001_0001_0001),
        6 if cmode & 1 == 0 => {
            let v = imm << 8 | 0xff;
            v << 32 | v
        }
        6 => {
            let v = imm << 16 | 0xffff;
            v << 32 | v
        }
        _ if cmode & 1 == 0 && op & 1 == 0 => imm.wrapping_mul(0x0101_0101_0101_0101),
        _ if cmode & 1 == 0 => {
            let mut v = 0;
            let mut i = 0;
            while i < 8 {
                if imm >> i & 1 == 1 {
                    v |= 0xff << (8 * i);
                }
                i += 1;
            }
            v
        }
        _ => {
            let (sign, exp, frac) = (imm >> 7, imm >> 6 & 1, imm & 0x3f);
            if op & 1 == 0 {
                let v = sign << 31 | (exp ^ 1) << 30 | (exp * 0x1f) << 25 | frac << 19;
                v << 32 | v
            } else {
                sign << 63 | (exp ^ 1) << 62 | (exp * 0xff) << 54 | frac << 48
            }
        }
    }
}
