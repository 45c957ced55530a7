//! How operands look.

use crate::insn::{AddrMode, Cond, Extend, Reg, Shift};
use crate::simd::{ESize, VecWidth};

/// A general-purpose register where 31 is the zero register.
pub fn r(is64: bool, number: Reg) -> String {
    let letter = if is64 { 'x' } else { 'w' };
    if number == 31 { format!("{letter}zr") } else { format!("{letter}{number}") }
}

/// A general-purpose register where 31 is the stack pointer.
pub fn r_sp(is64: bool, number: Reg) -> String {
    match (number, is64) {
        (31, true) => "sp".to_owned(),
        (31, false) => "wsp".to_owned(),
        _ => r(is64, number),
    }
}

/// The letter of a scalar SIMD&FP register of `1 << log2` bytes.
pub fn letter(log2: u32) -> char {
    char::from(b"bhsdq"[log2.min(4) as usize])
}

/// A scalar SIMD&FP register of `1 << log2` bytes.
pub fn scalar(log2: u32, number: Reg) -> String {
    format!("{}{number}", letter(log2))
}

/// The arrangement of elements of `1 << es` bytes in `1 << width` bytes: `4s`.
pub fn arrangement(es: u32, width: u32) -> String {
    format!("{}{}", 1 << width.saturating_sub(es), letter(es))
}

/// A vector register with the arrangement of elements of `1 << es` bytes in `1 << width` bytes.
pub fn vector(es: u32, width: u32, number: Reg) -> String {
    format!("v{number}.{}", arrangement(es, width))
}

/// A scalar when one element fills the width, else a vector.
pub fn lanes(es: ESize, width: VecWidth, number: Reg) -> String {
    let (es, width) = (es as u32, width as u32);
    if es == width { scalar(es, number) } else { vector(es, width, number) }
}

/// One element of a vector register.
pub fn element(es: u32, number: Reg, index: u8) -> String {
    format!("v{number}.{}[{index}]", letter(es))
}

/// A list of consecutive vector registers, each followed by `suffix`; from three on as a range,
/// unless it goes on at register 0.
pub fn list(first: Reg, count: u8, suffix: &str) -> String {
    let name = |offset: u8| format!("v{}.{suffix}", (first + offset) & 31);
    match count {
        1 => format!("{{{}}}", name(0)),
        2 => format!("{{{}, {}}}", name(0), name(1)),
        _ if first + count <= 32 => format!("{{{}-{}}}", name(0), name(count - 1)),
        _ => format!("{{{}}}", (0..count).map(name).collect::<Vec<_>>().join(", ")),
    }
}

/// A condition.
pub fn condition(cond: Cond) -> &'static str {
    const NAMES: [&str; 16] =
        ["eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le", "al", "nv"];
    NAMES[cond as usize & 15]
}

fn shift_name(shift: Shift) -> &'static str {
    match shift {
        Shift::Lsl => "lsl",
        Shift::Lsr => "lsr",
        Shift::Asr => "asr",
        Shift::Ror => "ror",
    }
}

/// The shift of a register operand with its comma; nothing for `lsl #0`.
pub fn shifted(shift: Shift, amount: u8) -> String {
    if shift == Shift::Lsl && amount == 0 { String::new() } else { format!(", {} #{amount}", shift_name(shift)) }
}

/// The name of an extension.
pub fn extend_name(extend: Extend) -> &'static str {
    const NAMES: [&str; 8] = ["uxtb", "uxth", "uxtw", "uxtx", "sxtb", "sxth", "sxtw", "sxtx"];
    NAMES[extend as usize & 7]
}

/// Base register and immediate.
pub fn address(rn: Reg, mode: AddrMode, offset: i64) -> String {
    let base = r_sp(true, rn);
    match mode {
        AddrMode::Offset if offset == 0 => format!("[{base}]"),
        AddrMode::Offset => format!("[{base}, #{offset}]"),
        AddrMode::PreIndex => format!("[{base}, #{offset}]!"),
        AddrMode::PostIndex => format!("[{base}], #{offset}"),
    }
}

/// Base and index register; `scaled` is the encoding's S bit, of which bytes print the amount 0.
pub fn indexed_address(rn: Reg, rm: Reg, extend: Extend, scaled: bool, amount: u8) -> String {
    let base = r_sp(true, rn);
    let index = r(matches!(extend, Extend::Uxtx | Extend::Sxtx), rm);
    match (extend, scaled) {
        (Extend::Uxtx, false) => format!("[{base}, {index}]"),
        (Extend::Uxtx, true) => format!("[{base}, {index}, lsl #{amount}]"),
        (_, false) => format!("[{base}, {index}, {}]", extend_name(extend)),
        (_, true) => format!("[{base}, {index}, {} #{amount}]", extend_name(extend)),
    }
}
