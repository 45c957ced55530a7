//! Loads and stores, of general-purpose and of SIMD&FP registers.

use super::operands::{address, arrangement, indexed_address, letter, list, r, r_sp, scalar};
use super::{Line, Text};
use crate::insn::{AddrMode, Insn, LoadExt, Reg, Size};
use crate::simd::VecWidth;

pub(super) fn text(line: &Line) -> Option<Text> {
    single(line)
        .or_else(|| ordered(line))
        .or_else(|| prefetch(line))
        .or_else(|| simd(line))
        .or_else(|| structures(line))
}

/// `b` and `h`; words and doublewords are told apart by the register.
fn suffix(size: Size) -> &'static str {
    match size {
        Size::B => "b",
        Size::H => "h",
        _ => "",
    }
}

/// `b`, `h`, `sb`, `sh`, `sw`.
fn load_suffix(size: Size, ext: LoadExt) -> &'static str {
    match (size, ext) {
        (_, LoadExt::Zero) => suffix(size),
        (Size::B, _) => "sb",
        (Size::H, _) => "sh",
        _ => "sw",
    }
}

/// Is the register that is loaded 64 bits wide?
fn is_x(size: Size, ext: LoadExt) -> bool {
    ext == LoadExt::SignTo64 || size == Size::X
}

fn single(line: &Line) -> Option<Text> {
    // The table names the addressing mode after the mnemonic of the family.
    let verb = |root: &str| match () {
        () if line.is_form("unscaled") => format!("{root}ur"),
        () if line.is_form("unpriv") => format!("{root}tr"),
        () => format!("{root}r"),
    };
    Some(match line.insn {
        Insn::LoadImm { size, ext, mode, rt, rn, offset, .. } => {
            (verb("ld") + load_suffix(size, ext), format!("{}, {}", r(is_x(size, ext), rt), address(rn, mode, offset)))
        }
        Insn::StoreImm { size, mode, rt, rn, offset, .. } => {
            (verb("st") + suffix(size), format!("{}, {}", r(size == Size::X, rt), address(rn, mode, offset)))
        }
        Insn::LoadReg { size, ext, extend, shift, rt, rn, rm } => (
            "ldr".to_owned() + load_suffix(size, ext),
            format!("{}, {}", r(is_x(size, ext), rt), indexed_address(rn, rm, extend, line.field("s") != 0, shift)),
        ),
        Insn::StoreReg { size, extend, shift, rt, rn, rm } => (
            "str".to_owned() + suffix(size),
            format!("{}, {}", r(size == Size::X, rt), indexed_address(rn, rm, extend, line.field("s") != 0, shift)),
        ),
        Insn::LoadLiteral { size, ext, rt, offset } => (
            "ldr".to_owned() + load_suffix(size, ext),
            format!("{}, 0x{:x}", r(is_x(size, ext), rt), line.pc.wrapping_add_signed(offset)),
        ),
        Insn::LoadPair { size, ext, mode, rt, rt2, rn, offset } => {
            let wide = is_x(size, ext);
            (pair_verb(line), format!("{}, {}, {}", r(wide, rt), r(wide, rt2), address(rn, mode, offset.into())))
        }
        Insn::StorePair { size, mode, rt, rt2, rn, offset } => {
            let wide = size == Size::X;
            (pair_verb(line), format!("{}, {}, {}", r(wide, rt), r(wide, rt2), address(rn, mode, offset.into())))
        }
        _ => return None,
    })
}

fn pair_verb(line: &Line) -> String {
    match line.mnemonic().as_str() {
        "ldp" if line.is_form("np") => "ldnp".to_owned(),
        "stp" if line.is_form("np") => "stnp".to_owned(),
        other => other.to_owned(),
    }
}

/// `a` and `l` of the atomic operations.
fn ordering(acquire: bool, release: bool) -> &'static str {
    match (acquire, release) {
        (true, true) => "al",
        (true, false) => "a",
        (false, true) => "l",
        (false, false) => "",
    }
}

fn ordered(line: &Line) -> Option<Text> {
    let base = |rn: Reg| format!("[{}]", r_sp(true, rn));
    let mnemonic = line.mnemonic();
    Some(match line.insn {
        Insn::LoadAcquire { size, ext, rt, rn, offset, .. } => (
            mnemonic.trim_end_matches('s').to_owned() + load_suffix(size, ext),
            format!("{}, {}", r(is_x(size, ext), rt), address(rn, AddrMode::Offset, offset.into())),
        ),
        Insn::StoreRelease { size, rt, rn, offset } => (
            mnemonic + suffix(size),
            format!("{}, {}", r(size == Size::X, rt), address(rn, AddrMode::Offset, offset.into())),
        ),
        Insn::LoadExclusive { size, rt, rn, .. } => {
            (mnemonic + suffix(size), format!("{}, {}", r(size == Size::X, rt), base(rn)))
        }
        Insn::StoreExclusive { size, rs, rt, rn, .. } => {
            (mnemonic + suffix(size), format!("{}, {}, {}", r(false, rs), r(size == Size::X, rt), base(rn)))
        }
        Insn::LoadExclusivePair { size, rt, rt2, rn, .. } => {
            let wide = size == Size::X;
            (mnemonic, format!("{}, {}, {}", r(wide, rt), r(wide, rt2), base(rn)))
        }
        Insn::StoreExclusivePair { size, rs, rt, rt2, rn, .. } => {
            let wide = size == Size::X;
            (mnemonic, format!("{}, {}, {}, {}", r(false, rs), r(wide, rt), r(wide, rt2), base(rn)))
        }
        Insn::AtomicRmw { size, acquire, release, rs, rt, rn, .. }
        | Insn::CompareSwap { size, acquire, release, rs, rt, rn } => {
            let wide = size == Size::X;
            (
                mnemonic + ordering(acquire, release) + suffix(size),
                format!("{}, {}, {}", r(wide, rs), r(wide, rt), base(rn)),
            )
        }
        Insn::CompareSwapPair { size, acquire, release, rs, rt, rn } => {
            let wide = size == Size::X;
            let pair = |first: Reg| format!("{}, {}", r(wide, first), r(wide, first + 1));
            (mnemonic + ordering(acquire, release), format!("{}, {}, {}", pair(rs), pair(rt), base(rn)))
        }
        _ => return None,
    })
}

fn prefetch(line: &Line) -> Option<Text> {
    if !line.row.name.starts_with("PRF") {
        return None;
    }
    let operation = line.field("prfop");
    let name = match (operation >> 3, operation >> 1 & 3) {
        (kind @ 0..=2, level @ 0..=2) => {
            let kind = ["pld", "pli", "pst"][kind as usize & 3];
            format!("{kind}l{}{}", level + 1, if operation & 1 == 0 { "keep" } else { "strm" })
        }
        _ => format!("#0x{operation:02x}"),
    };
    let rn = line.field("rn") as Reg;
    let place = match line.row.name {
        "PRFM_lit" => {
            format!("0x{:x}", line.pc.wrapping_add_signed(crate::operand::branch_offset(line.field("imm19"), 19)))
        }
        "PRFM_imm" => address(rn, AddrMode::Offset, i64::from(line.field("imm12")) << 3),
        "PRFUM" => address(rn, AddrMode::Offset, crate::operand::sext(line.field("imm9"), 9)),
        _ => {
            let extend = crate::insn::Extend::from_field(line.field("option"));
            indexed_address(rn, line.field("rm") as Reg, extend, line.field("s") != 0, 3)
        }
    };
    Some((line.mnemonic(), format!("{name}, {place}")))
}

fn simd(line: &Line) -> Option<Text> {
    let operands = match line.insn {
        Insn::SimdLoadImm { width, mode, rt, rn, offset } | Insn::SimdStoreImm { width, mode, rt, rn, offset } => {
            format!("{}, {}", scalar(width as u32, rt), address(rn, mode, offset.into()))
        }
        Insn::SimdLoadReg { width, extend, shift, rt, rn, rm }
        | Insn::SimdStoreReg { width, extend, shift, rt, rn, rm } => {
            let scaled = line.field("s") != 0;
            format!("{}, {}", scalar(width as u32, rt), indexed_address(rn, rm, extend, scaled, shift))
        }
        Insn::SimdLoadLiteral { width, rt, offset } => {
            format!("{}, 0x{:x}", scalar(width as u32, rt), line.pc.wrapping_add_signed(offset.into()))
        }
        Insn::SimdLoadPair { width, mode, rt, rt2, rn, offset }
        | Insn::SimdStorePair { width, mode, rt, rt2, rn, offset } => {
            let width = width as u32;
            format!("{}, {}, {}", scalar(width, rt), scalar(width, rt2), address(rn, mode, offset.into()))
        }
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}

/// The base of a structure load or store; `bytes` is what a post-index without a register adds.
fn structure_address(rn: Reg, rm: Reg, post: bool, bytes: u32) -> String {
    let base = r_sp(true, rn);
    match (post, rm) {
        (false, _) => format!("[{base}]"),
        (true, 31) => format!("[{base}], #{bytes}"),
        (true, _) => format!("[{base}], {}", r(true, rm)),
    }
}

fn structures(line: &Line) -> Option<Text> {
    let operands = match line.insn {
        Insn::VecLoadMultiple { es, width, registers, post, rt, rn, rm, .. }
        | Insn::VecStoreMultiple { es, width, registers, post, rt, rn, rm, .. } => {
            let bytes = u32::from(registers) * width.bytes();
            let names = list(rt, registers, &arrangement(es as u32, width as u32));
            format!("{names}, {}", structure_address(rn, rm, post, bytes))
        }
        Insn::VecLoadSingle { es, index, structure, post, rt, rn, rm }
        | Insn::VecStoreSingle { es, index, structure, post, rt, rn, rm } => {
            let bytes = u32::from(structure) * es.bytes();
            let names = list(rt, structure, &letter(es as u32).to_string());
            format!("{names}[{index}], {}", structure_address(rn, rm, post, bytes))
        }
        Insn::VecLoadReplicate { es, width, structure, post, rt, rn, rm } => {
            let bytes = u32::from(structure) * es.bytes();
            let width: VecWidth = width;
            let names = list(rt, structure, &arrangement(es as u32, width as u32));
            format!("{names}, {}", structure_address(rn, rm, post, bytes))
        }
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}
