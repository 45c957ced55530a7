//! Floating point and Advanced SIMD.

use super::operands::{condition, element, lanes, letter, list, r, scalar, vector};
use super::{Line, Text};
use crate::fp::{FpShape, FpSize, expand_immediate};
use crate::insn::{Insn, Reg};
use crate::simd::{ESize, ShaOp, VecTernOp, VecWidth};

/// log2 of the bytes of a 64-bit and of a 128-bit vector.
const HALF: u32 = VecWidth::D8 as u32;
const FULL: u32 = VecWidth::Q16 as u32;

/// A register of a floating-point shape.
fn shaped(shape: FpShape, number: Reg) -> String {
    match shape.lanes {
        1 => scalar(shape.size as u32, number),
        _ => format!("v{number}.{}", shape.specifier()),
    }
}

fn shaped2(shape: FpShape, rd: Reg, rn: Reg) -> String {
    format!("{}, {}", shaped(shape, rd), shaped(shape, rn))
}

fn shaped3(shape: FpShape, rd: Reg, rn: Reg, rm: Reg) -> String {
    format!("{}, {}", shaped2(shape, rd, rn), shaped(shape, rm))
}

/// The number of fraction bits with its comma; nothing for integers.
fn fraction(bits: u8) -> String {
    if bits == 0 { String::new() } else { format!(", #{bits}") }
}

/// A value as C's `%.18e` prints it.
fn scientific(size: FpSize, imm8: u8) -> String {
    let bits = expand_immediate(size, imm8);
    let value = if size == FpSize::Double { f64::from_bits(bits) } else { f32::from_bits(bits as u32).into() };
    let text = format!("{value:.18e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |positive| ('-', positive));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Floating-point classes.
pub(super) fn float(line: &Line) -> Option<Text> {
    let operands = match line.insn {
        Insn::FpBin { shape, rd, rn, rm, .. }
        | Insn::FpPairwise { shape, rd, rn, rm, .. }
        | Insn::FpCompareMask { shape, rd, rn, rm, .. } => shaped3(shape, rd, rn, rm),
        Insn::FpBinElement { shape, rd, rn, rm, index, .. }
        | Insn::FpMulAddElement { shape, rd, rn, rm, index, .. } => {
            format!("{}, {}", shaped2(shape, rd, rn), element(shape.size as u32, rm, index))
        }
        Insn::FpReduce { shape, rd, rn, .. } => format!("{}, {}", scalar(shape.size as u32, rd), shaped(shape, rn)),
        Insn::FpMulAdd { shape, rd, rn, rm, ra, .. } if shape.lanes == 1 => {
            format!("{}, {}", shaped3(shape, rd, rn, rm), shaped(shape, ra))
        }
        Insn::FpMulAdd { shape, rd, rn, rm, .. } => shaped3(shape, rd, rn, rm),
        Insn::FpUn { shape, rd, rn, .. } | Insn::FpRoundToInt { shape, rd, rn, .. } => shaped2(shape, rd, rn),
        Insn::FpImmediate { shape, rd, imm8 } => format!("{}, #{}", shaped(shape, rd), scientific(shape.size, imm8)),
        Insn::FpCompareMaskZero { shape, rd, rn, .. } => format!("{}, #0.0", shaped2(shape, rd, rn)),
        Insn::FpCompare { size, zero: true, rn, .. } => format!("{}, #0.0", scalar(size as u32, rn)),
        Insn::FpCompare { size, rn, rm, .. } => format!("{}, {}", scalar(size as u32, rn), scalar(size as u32, rm)),
        Insn::FpCondCompare { size, cond, nzcv, rn, rm, .. } => {
            let size = size as u32;
            format!("{}, {}, #0x{nzcv:x}, {}", scalar(size, rn), scalar(size, rm), condition(cond))
        }
        Insn::FpCondSelect { size, cond, rd, rn, rm } => {
            let size = size as u32;
            format!("{}, {}, {}, {}", scalar(size, rd), scalar(size, rn), scalar(size, rm), condition(cond))
        }
        _ => return conversion(line),
    };
    Some((line.mnemonic(), operands))
}

fn conversion(line: &Line) -> Option<Text> {
    let mut mnemonic = line.mnemonic();
    let operands = match line.insn {
        Insn::FpConvert { from, to, rd, rn } => format!("{}, {}", scalar(to as u32, rd), scalar(from as u32, rn)),
        Insn::FpConvertToOdd { rd, rn } => format!("s{rd}, d{rn}"),
        Insn::FpWiden { from, upper, rd, rn } => {
            upper_half(&mut mnemonic, upper);
            let from = from as u32;
            format!("{}, {}", vector(from + 1, FULL, rd), vector(from, HALF + u32::from(upper), rn))
        }
        Insn::FpNarrow { to, upper, rd, rn, .. } => {
            upper_half(&mut mnemonic, upper);
            let to = to as u32;
            format!("{}, {}", vector(to, HALF + u32::from(upper), rd), vector(to + 1, FULL, rn))
        }
        Insn::FpToGpr { size, sf, fraction_bits, rd, rn, .. } => {
            format!("{}, {}{}", r(sf, rd), scalar(size as u32, rn), fraction(fraction_bits))
        }
        Insn::GprToFp { size, sf, fraction_bits, rd, rn, .. } => {
            format!("{}, {}{}", scalar(size as u32, rd), r(sf, rn), fraction(fraction_bits))
        }
        Insn::FpToIntLanes { shape, fraction_bits, rd, rn, .. }
        | Insn::IntToFpLanes { shape, fraction_bits, rd, rn, .. } => {
            format!("{}{}", shaped2(shape, rd, rn), fraction(fraction_bits))
        }
        Insn::FpJavaScriptConvert { rd, rn } => format!("{}, d{rn}", r(false, rd)),
        Insn::FpMoveToGpr { top: true, rd, rn, .. } => format!("{}, {}", r(true, rd), element(ESize::D as u32, rn, 1)),
        Insn::FpMoveFromGpr { top: true, rd, rn, .. } => {
            format!("{}, {}", element(ESize::D as u32, rd, 1), r(true, rn))
        }
        Insn::FpMoveToGpr { size, rd, rn, .. } => {
            format!("{}, {}", r(size == FpSize::Double, rd), scalar(size as u32, rn))
        }
        Insn::FpMoveFromGpr { size, rd, rn, .. } => {
            format!("{}, {}", scalar(size as u32, rd), r(size == FpSize::Double, rn))
        }
        _ => return None,
    };
    Some((mnemonic, operands))
}

/// The forms that read or write the upper half have a 2 at the end of their names.
fn upper_half(mnemonic: &mut String, upper: bool) {
    if upper {
        mnemonic.push('2');
    }
}

fn lanes2(es: ESize, width: VecWidth, rd: Reg, rn: Reg) -> String {
    format!("{}, {}", lanes(es, width, rd), lanes(es, width, rn))
}

fn lanes3(es: ESize, width: VecWidth, rd: Reg, rn: Reg, rm: Reg) -> String {
    format!("{}, {}", lanes2(es, width, rd, rn), lanes(es, width, rm))
}

/// Advanced SIMD integer and crypto classes.
pub(super) fn text(line: &Line) -> Option<Text> {
    same_size(line).or_else(|| mixed_sizes(line)).or_else(|| elements(line)).or_else(|| crypto(line))
}

fn same_size(line: &Line) -> Option<Text> {
    let operands = match line.insn {
        Insn::VecTern { op: VecTernOp::Sdot | VecTernOp::Udot, width, rd, rn, rm, .. } => {
            let (sums, width) = (lanes(ESize::S, width, rd), width as u32);
            format!("{sums}, {}, {}", vector(0, width, rn), vector(0, width, rm))
        }
        Insn::VecTernElem { op: VecTernOp::Sdot | VecTernOp::Udot, width, rd, rn, rm, index, .. } => {
            format!("{}, {}, v{rm}.4b[{index}]", lanes(ESize::S, width, rd), vector(0, width as u32, rn))
        }
        Insn::VecBin { es, width, rd, rn, rm, .. }
        | Insn::VecTern { es, width, rd, rn, rm, .. }
        | Insn::VecShiftReg { es, width, rd, rn, rm, .. }
        | Insn::VecPermute { es, width, rd, rn, rm, .. } => lanes3(es, width, rd, rn, rm),
        Insn::VecBinElem { es, width, rd, rn, rm, index, .. }
        | Insn::VecTernElem { es, width, rd, rn, rm, index, .. } => {
            format!("{}, {}", lanes2(es, width, rd, rn), element(es as u32, rm, index))
        }
        Insn::VecUn { es, width, rd, rn, .. } if line.is_form("zero") => format!("{}, #0", lanes2(es, width, rd, rn)),
        Insn::VecUn { es, width, rd, rn, .. } | Insn::VecBinAcc { es, width, rd, rn, .. } => lanes2(es, width, rd, rn),
        Insn::VecShift { es, width, count, rd, rn, .. }
        | Insn::VecShiftAcc { es, width, count, rd, rn, .. }
        | Insn::VecShiftInsert { es, width, count, rd, rn, .. } => format!("{}, #{count}", lanes2(es, width, rd, rn)),
        Insn::VecExtract { width, index, rd, rn, rm } => {
            format!("{}, #{index}", lanes3(ESize::B, width, rd, rn, rm))
        }
        Insn::VecTable { width, registers, rd, rn, rm, .. } => {
            let width = width as u32;
            format!("{}, {}, {}", vector(0, width, rd), list(rn, registers, "16b"), vector(0, width, rm))
        }
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}

fn mixed_sizes(line: &Line) -> Option<Text> {
    let mut mnemonic = line.mnemonic();
    let operands = match line.insn {
        Insn::VecPairLong { es, width, rd, rn, .. } => {
            let (es, width) = (es as u32, width as u32);
            format!("{}, {}", vector(es + 1, width, rd), vector(es, width, rn))
        }
        Insn::VecNarrow { es, scalar: true, count, rd, rn, .. } => {
            let es = es as u32;
            format!("{}, {}{}", scalar(es, rd), scalar(es + 1, rn), fraction(count))
        }
        Insn::VecNarrow { es, upper, count, rd, rn, .. } => {
            upper_half(&mut mnemonic, upper);
            let es = es as u32;
            format!("{}, {}{}", vector(es, HALF + u32::from(upper), rd), vector(es + 1, FULL, rn), fraction(count))
        }
        Insn::VecWiden { es, upper, count, rd, rn, .. } => {
            upper_half(&mut mnemonic, upper);
            let es = es as u32;
            format!("{}, {}, #{count}", vector(es + 1, FULL, rd), vector(es, HALF + u32::from(upper), rn))
        }
        Insn::VecLong { es, width: VecWidth::Q16, upper, rd, rn, rm, .. } => {
            upper_half(&mut mnemonic, upper);
            let (es, width) = (es as u32, HALF + u32::from(upper));
            format!("{}, {}, {}", vector(es + 1, FULL, rd), vector(es, width, rn), vector(es, width, rm))
        }
        Insn::VecLong { es, rd, rn, rm, .. } => {
            let es = es as u32;
            format!("{}, {}, {}", scalar(es + 1, rd), scalar(es, rn), scalar(es, rm))
        }
        Insn::VecLongElem { es, width: VecWidth::Q16, upper, rd, rn, rm, index, .. } => {
            upper_half(&mut mnemonic, upper);
            let (es, width) = (es as u32, HALF + u32::from(upper));
            format!("{}, {}, {}", vector(es + 1, FULL, rd), vector(es, width, rn), element(es, rm, index))
        }
        Insn::VecLongElem { es, rd, rn, rm, index, .. } => {
            let es = es as u32;
            format!("{}, {}, {}", scalar(es + 1, rd), scalar(es, rn), element(es, rm, index))
        }
        Insn::VecWide { es, upper, rd, rn, rm, .. } => {
            upper_half(&mut mnemonic, upper);
            let es = es as u32;
            let narrow = vector(es, HALF + u32::from(upper), rm);
            format!("{}, {}, {narrow}", vector(es + 1, FULL, rd), vector(es + 1, FULL, rn))
        }
        Insn::VecHighNarrow { es, upper, rd, rn, rm, .. } => {
            upper_half(&mut mnemonic, upper);
            let es = es as u32;
            let narrow = vector(es, HALF + u32::from(upper), rd);
            format!("{narrow}, {}, {}", vector(es + 1, FULL, rn), vector(es + 1, FULL, rm))
        }
        Insn::VecAcross { es, width, rd, rn, .. } => {
            let result = es as u32 + u32::from(mnemonic.ends_with("addlv"));
            format!("{}, {}", scalar(result, rd), vector(es as u32, width as u32, rn))
        }
        _ => return None,
    };
    Some((mnemonic, operands))
}

fn elements(line: &Line) -> Option<Text> {
    let operands = match line.insn {
        Insn::VecDupElem { es, width, index, rd, rn } => {
            format!("{}, {}", lanes(es, width, rd), element(es as u32, rn, index))
        }
        Insn::VecDupGeneral { es, width, rd, rn } => format!("{}, {}", lanes(es, width, rd), r(es == ESize::D, rn)),
        Insn::VecInsElem { es, to, from, rd, rn } => {
            format!("{}, {}", element(es as u32, rd, to), element(es as u32, rn, from))
        }
        Insn::VecInsGeneral { es, index, rd, rn } => {
            format!("{}, {}", element(es as u32, rd, index), r(es == ESize::D, rn))
        }
        Insn::VecToGeneral { sf, es, index, rd, rn, .. } => format!("{}, {}", r(sf, rd), element(es as u32, rn, index)),
        Insn::VecImm { width, rd, imm, .. } => {
            let (imm8, amount) = (line.field("abc") << 5 | line.field("defgh"), line.field("amount"));
            let vector_of = |es: ESize| vector(es as u32, width as u32, rd);
            let shift = if amount == 0 { String::new() } else { format!(", lsl #{}", amount * 8) };
            match () {
                () if line.is_form("32") => format!("{}, #0x{imm8:x}{shift}", vector_of(ESize::S)),
                () if line.is_form("16") => format!("{}, #0x{imm8:x}{shift}", vector_of(ESize::H)),
                () if line.is_form("msl") => format!("{}, #0x{imm8:x}, msl #{}", vector_of(ESize::S), 8 << amount),
                () if line.is_form("8") => format!("{}, #0x{imm8:x}", vector_of(ESize::B)),
                () => format!("{}, #0x{imm:x}", lanes(ESize::D, width, rd)),
            }
        }
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}

fn crypto(line: &Line) -> Option<Text> {
    let words = |number: Reg| vector(ESize::S as u32, FULL, number);
    let operands = match line.insn {
        Insn::CryptoAes { rd, rn, .. } => lanes2(ESize::B, VecWidth::Q16, rd, rn),
        Insn::CryptoSha { op, rd, rn, rm } => match op {
            ShaOp::Sha1c | ShaOp::Sha1p | ShaOp::Sha1m => format!("q{rd}, s{rn}, {}", words(rm)),
            ShaOp::Sha256h | ShaOp::Sha256h2 => format!("q{rd}, q{rn}, {}", words(rm)),
            ShaOp::Sha1h => format!("{}{rd}, {}{rn}", letter(2), letter(2)),
            ShaOp::Sha1su0 | ShaOp::Sha256su1 => format!("{}, {}, {}", words(rd), words(rn), words(rm)),
            ShaOp::Sha1su1 | ShaOp::Sha256su0 => format!("{}, {}", words(rd), words(rn)),
        },
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}
