//! Choices inside the floating-point classes: operations, shapes and rounding, shared by the decoder, the meaning functions, the
//! interpreter and translators.

pub use crate::value::softfloat::{FpRelation, FpRounding, FpSize, Fpcr, IntFormat};

/// Which elements of a vector register a floating-point operation works on. The rest of the destination becomes zero.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct FpShape {
    /// Format of each element.
    pub size: FpSize,
    /// Number of elements from the lowest: 1 (scalar), 2 or 4 (of singles only).
    pub lanes: u8,
}

impl FpShape {
    /// Scalar single.
    pub const S: FpShape = FpShape { size: FpSize::Single, lanes: 1 };
    /// Scalar double.
    pub const D: FpShape = FpShape { size: FpSize::Double, lanes: 1 };
    /// Two singles.
    pub const S2: FpShape = FpShape { size: FpSize::Single, lanes: 2 };
    /// Four singles.
    pub const S4: FpShape = FpShape { size: FpSize::Single, lanes: 4 };
    /// Two doubles.
    pub const D2: FpShape = FpShape { size: FpSize::Double, lanes: 2 };

    /// A scalar of the size that the field `sz` selects.
    pub const fn scalar(sz: bool) -> FpShape {
        if sz { Self::D } else { Self::S }
    }

    /// The pair that a scalar pairwise operation reduces.
    pub const fn pair(sz: bool) -> FpShape {
        if sz { Self::D2 } else { Self::S2 }
    }

    /// The vector that the fields `Q` and `sz` select; `sz` = 1 with `Q` = 0 is reserved and must have been refused.
    pub const fn vector(q: bool, sz: bool) -> FpShape {
        match (q, sz) {
            (_, true) => Self::D2,
            (false, _) => Self::S2,
            _ => Self::S4,
        }
    }

    /// The arrangement specifier of assembly text; empty for scalars.
    pub const fn specifier(self) -> &'static str {
        match (self.size, self.lanes) {
            (FpSize::Single, 2) => "2s",
            (FpSize::Single, 4) => "4s",
            (FpSize::Double, 2) => "2d",
            _ => "",
        }
    }
}

/// Operations on two operands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FpBinOp {
    /// FADD.
    Add,
    /// FSUB.
    Sub,
    /// FMUL.
    Mul,
    /// FNMUL: the negated product, NaNs included.
    NegMul,
    /// FDIV.
    Div,
    /// FMAX: NaNs propagate.
    Max,
    /// FMIN: NaNs propagate.
    Min,
    /// FMAXNM: numbers win over quiet NaNs.
    MaxNum,
    /// FMINNM: numbers win over quiet NaNs.
    MinNum,
    /// FMULX: infinity times zero is two.
    MulX,
    /// FABD: absolute difference.
    AbsDiff,
    /// FRECPS: 2 - a * b, fused.
    RecipStep,
    /// FRSQRTS: (3 - a * b) / 2, fused.
    RsqrtStep,
}

/// Operations on one operand.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FpUnOp {
    /// FMOV (register).
    Move,
    /// FABS.
    Abs,
    /// FNEG.
    Neg,
    /// FSQRT.
    Sqrt,
    /// FRECPE.
    RecipEstimate,
    /// FRSQRTE.
    RsqrtEstimate,
    /// FRECPX.
    RecipExponent,
    /// URECPE: of unsigned 32-bit fixed point; no flags.
    UnsignedRecipEstimate,
    /// URSQRTE: of unsigned 32-bit fixed point; no flags.
    UnsignedRsqrtEstimate,
}

/// The fused multiply-add family: signs are changed on operands, before the NaN rules.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FpMulAddOp {
    /// FMADD, FMLA: addend + a * b.
    MulAdd,
    /// FMSUB, FMLS: addend + (-a) * b.
    MulSub,
    /// FNMADD: (-addend) + (-a) * b.
    NegMulAdd,
    /// FNMSUB: (-addend) + a * b.
    NegMulSub,
}

impl FpMulAddOp {
    /// Whether the first factor is negated.
    pub const fn negates_product(self) -> bool {
        matches!(self, FpMulAddOp::MulSub | FpMulAddOp::NegMulAdd)
    }

    /// Whether the addend is negated.
    pub const fn negates_addend(self) -> bool {
        matches!(self, FpMulAddOp::NegMulAdd | FpMulAddOp::NegMulSub)
    }
}

/// `VFPExpandImm`: the value of an 8-bit floating-point immediate in `size`.
pub const fn expand_immediate(size: FpSize, imm8: u8) -> u64 {
    let f = size.fraction_bits();
    let sign = (imm8 >> 7) as u64;
    // The exponent NOT(b):b..b:cd is the bias, less 3 (b = 1) or plus 1 (b = 0), plus cd.
    let base = if imm8 & 0x40 != 0 { size.bias() - 3 } else { size.bias() + 1 };
    let exp = (base + (imm8 >> 4 & 3) as i32) as u64;
    sign << (size.bits() - 1) | exp << f | ((imm8 & 15) as u64) << (f - 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn immediates() {
        assert_eq!(expand_immediate(FpSize::Double, 0x70), 1f64.to_bits());
        assert_eq!(expand_immediate(FpSize::Single, 0x00), u64::from(2f32.to_bits()));
        assert_eq!(expand_immediate(FpSize::Double, 0x3f), 31f64.to_bits());
        assert_eq!(expand_immediate(FpSize::Double, 0xc0), (-0.125f64).to_bits());
        assert_eq!(expand_immediate(FpSize::Single, 0xff), u64::from((-1.9375f32).to_bits()));
    }
}
