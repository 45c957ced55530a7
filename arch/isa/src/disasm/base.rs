//! Base instructions other than loads and stores.

use super::operands::{condition, extend_name, r, r_sp, shifted};
use super::{Line, Text};
use crate::insn::{BranchKind, Extend, FlagOp, Insn, PstateField, Reg, Size};

pub(super) fn text(line: &Line) -> Option<Text> {
    immediate(line).or_else(|| register(line)).or_else(|| branch(line)).or_else(|| system(line))
}

fn target(line: &Line, offset: i64) -> String {
    format!("0x{:x}", line.pc.wrapping_add_signed(offset))
}

fn immediate(line: &Line) -> Option<Text> {
    let operands = match line.insn {
        Insn::PcRel { rd, page, offset } => {
            let base = if page { line.pc & !0xfff } else { line.pc };
            format!("{}, 0x{:x}", r(true, rd), base.wrapping_add_signed(offset))
        }
        Insn::AddSubImm { sf, setflags, rd, rn, .. } => {
            let shift = if line.field("sh") != 0 { ", lsl #12" } else { "" };
            format!("{}, {}, #0x{:x}{shift}", destination(sf, setflags, rd), r_sp(sf, rn), line.field("imm12"))
        }
        Insn::LogicalImm { sf, setflags, rd, rn, imm, .. } => {
            format!("{}, {}, #0x{imm:x}", destination(sf, setflags, rd), r(sf, rn))
        }
        Insn::MoveWide { sf, rd, shift, imm, .. } => {
            format!("{}, #0x{imm:x}{}", r(sf, rd), shifted(crate::insn::Shift::Lsl, shift))
        }
        Insn::Bitfield { sf, rd, rn, immr, imms, .. } => format!("{}, {}, #{immr}, #{imms}", r(sf, rd), r(sf, rn)),
        Insn::Extract { sf, rd, rn, rm, lsb } => format!("{}, {}, {}, #{lsb}", r(sf, rd), r(sf, rn), r(sf, rm)),
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}

/// SP when the flags are not set.
fn destination(sf: bool, setflags: bool, rd: Reg) -> String {
    if setflags { r(sf, rd) } else { r_sp(sf, rd) }
}

fn three(sf: bool, rd: Reg, rn: Reg, rm: Reg) -> String {
    format!("{}, {}, {}", r(sf, rd), r(sf, rn), r(sf, rm))
}

fn register(line: &Line) -> Option<Text> {
    let operands = match line.insn {
        Insn::AddSubShifted { sf, shift, amount, rd, rn, rm, .. }
        | Insn::LogicalShifted { sf, shift, amount, rd, rn, rm, .. } => {
            format!("{}{}", three(sf, rd, rn, rm), shifted(shift, amount))
        }
        Insn::AddSubExtended { sf, setflags, extend, shift, rd, rn, rm, .. } => {
            let wide = sf && matches!(extend, Extend::Uxtx | Extend::Sxtx);
            // The extension that does nothing is printed as a shift where only it can make SP an operand.
            let natural = extend == if sf { Extend::Uxtx } else { Extend::Uxtw };
            let extension = match (natural && (rn == 31 || (rd == 31 && !setflags)), shift) {
                (true, 0) => String::new(),
                (true, _) => format!(", lsl #{shift}"),
                (false, 0) => format!(", {}", extend_name(extend)),
                (false, _) => format!(", {} #{shift}", extend_name(extend)),
            };
            format!("{}, {}, {}{extension}", destination(sf, setflags, rd), r_sp(sf, rn), r(wide, rm))
        }
        Insn::AddSubCarry { sf, rd, rn, rm, .. } | Insn::DataProc2 { sf, rd, rn, rm, .. } => three(sf, rd, rn, rm),
        Insn::DataProc1 { sf, rd, rn, .. } => format!("{}, {}", r(sf, rd), r(sf, rn)),
        Insn::Crc32 { size, rd, rn, rm, .. } => {
            format!("{}, {}, {}", r(false, rd), r(false, rn), r(size == Size::X, rm))
        }
        Insn::MulAdd { sf, rd, rn, rm, ra, .. } => format!("{}, {}", three(sf, rd, rn, rm), r(sf, ra)),
        Insn::MulAddLong { rd, rn, rm, ra, .. } => {
            format!("{}, {}, {}, {}", r(true, rd), r(false, rn), r(false, rm), r(true, ra))
        }
        Insn::MulHigh { rd, rn, rm, .. } => three(true, rd, rn, rm),
        Insn::CondSelect { sf, cond, rd, rn, rm, .. } => format!("{}, {}", three(sf, rd, rn, rm), condition(cond)),
        Insn::CondCompareReg { sf, cond, nzcv, rn, rm, .. } => {
            format!("{}, {}, #0x{nzcv:x}, {}", r(sf, rn), r(sf, rm), condition(cond))
        }
        Insn::CondCompareImm { sf, cond, nzcv, rn, imm, .. } => {
            format!("{}, #0x{imm:x}, #0x{nzcv:x}, {}", r(sf, rn), condition(cond))
        }
        Insn::FlagManip { op: FlagOp::Rmif, rn, rotate, mask } => format!("{}, #{rotate}, #{mask}", r(true, rn)),
        Insn::FlagManip { op: FlagOp::Setf8 | FlagOp::Setf16, rn, .. } => r(false, rn),
        Insn::FlagManip { .. } => String::new(),
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}

fn branch(line: &Line) -> Option<Text> {
    let operands = match line.insn {
        Insn::Branch { offset, .. } => target(line, offset),
        Insn::BranchCond { cond, offset } => return Some((format!("b.{}", condition(cond)), target(line, offset))),
        Insn::CompareBranch { sf, rt, offset, .. } => format!("{}, {}", r(sf, rt), target(line, offset)),
        Insn::TestBranch { bit, rt, offset, .. } => format!("{}, #{bit}, {}", r(bit >= 32, rt), target(line, offset)),
        Insn::BranchReg { kind: BranchKind::Return, rn: 30 } | Insn::Eret => String::new(),
        Insn::BranchReg { rn, .. } => r(true, rn),
        Insn::Svc { imm } | Insn::Hvc { imm } | Insn::Smc { imm } | Insn::Brk { imm } | Insn::Hlt { imm } => {
            format!("#0x{imm:x}")
        }
        Insn::Dcps { imm: 0, .. } => String::new(),
        Insn::Dcps { imm, .. } => format!("#0x{imm:x}"),
        Insn::Udf { imm } => format!("#{imm}"),
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}

/// The names of `CRm` in DSB and DMB.
const BARRIERS: [&str; 16] = [
    "#0x00", "oshld", "oshst", "osh", "#0x04", "nshld", "nshst", "nsh", "#0x08", "ishld", "ishst", "ish", "#0x0c",
    "ld", "st", "sy",
];

fn system(line: &Line) -> Option<Text> {
    let crm = line.word >> 8 & 15;
    let operands = match line.insn {
        Insn::Nop | Insn::Yield | Insn::Wfe | Insn::Wfi | Insn::Sev | Insn::Sevl | Insn::Esb
            if !line.row.name.starts_with("PRF") =>
        {
            return Some(("hint".to_owned(), format!("#0x{:x}", line.word >> 5 & 127)));
        }
        Insn::Wfet { rt } | Insn::Wfit { rt } => r(true, rt),
        Insn::Clrex | Insn::Isb if crm != 15 => format!("#0x{crm:x}"),
        Insn::Clrex | Insn::Isb | Insn::Sb => String::new(),
        Insn::Dsb { .. } | Insn::Dmb { .. } => BARRIERS[crm as usize].to_owned(),
        Insn::Mrs { enc, rt } => format!("{}, {}", r(true, rt), enc.to_string().to_ascii_lowercase()),
        Insn::Msr { enc, rt } => format!("{}, {}", enc.to_string().to_ascii_lowercase(), r(true, rt)),
        Insn::MsrImm { field, imm } => format!("{}, #0x{imm:x}", pstate_field(field)),
        Insn::Sys { enc, rt } => {
            let rt = if rt == 31 { String::new() } else { format!(", {}", r(true, rt)) };
            format!("#{}, C{}, C{}, #{}{rt}", enc.op1(), enc.crn(), enc.crm(), enc.op2())
        }
        Insn::Sysl { enc, rt } => {
            format!("{}, #{}, C{}, C{}, #{}", r(true, rt), enc.op1(), enc.crn(), enc.crm(), enc.op2())
        }
        _ => return None,
    };
    Some((line.mnemonic(), operands))
}

fn pstate_field(field: PstateField) -> &'static str {
    match field {
        PstateField::SpSel => "spsel",
        PstateField::DaifSet => "daifset",
        PstateField::DaifClr => "daifclr",
        PstateField::Uao => "uao",
        PstateField::Pan => "pan",
        PstateField::Ssbs => "ssbs",
        PstateField::Dit => "dit",
    }
}
