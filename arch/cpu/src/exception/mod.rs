//! Exceptions: what is taken, how its syndrome looks, and how EL1 is entered and left.

mod take;

use crate::mmu::Fault;

/// Exception classes (ESR_EL1.EC).
pub mod ec {
    /// Unknown reason: undefined instructions.
    pub const UNKNOWN: u8 = 0x00;
    /// Trapped WFI or WFE.
    pub const WFX: u8 = 0x01;
    /// Access to FP or SIMD trapped by CPACR_EL1.FPEN.
    pub const FP: u8 = 0x07;
    /// Illegal execution state.
    pub const ILLEGAL_STATE: u8 = 0x0e;
    /// SVC.
    pub const SVC: u8 = 0x15;
    /// HVC.
    pub const HVC: u8 = 0x16;
    /// SMC.
    pub const SMC: u8 = 0x17;
    /// Trapped MSR, MRS or system instruction.
    pub const SYS: u8 = 0x18;
    /// Instruction abort from a lower EL.
    pub const INSTRUCTION_ABORT_LOWER: u8 = 0x20;
    /// Instruction abort from the same EL.
    pub const INSTRUCTION_ABORT_SAME: u8 = 0x21;
    /// PC alignment.
    pub const PC_ALIGNMENT: u8 = 0x22;
    /// Data abort from a lower EL.
    pub const DATA_ABORT_LOWER: u8 = 0x24;
    /// Data abort from the same EL.
    pub const DATA_ABORT_SAME: u8 = 0x25;
    /// SP alignment.
    pub const SP_ALIGNMENT: u8 = 0x26;
    /// SError.
    pub const SERROR: u8 = 0x2f;
    /// Breakpoint from a lower EL.
    pub const BREAKPOINT_LOWER: u8 = 0x30;
    /// Breakpoint from the same EL.
    pub const BREAKPOINT_SAME: u8 = 0x31;
    /// Software step from a lower EL.
    pub const STEP_LOWER: u8 = 0x32;
    /// Software step from the same EL.
    pub const STEP_SAME: u8 = 0x33;
    /// Watchpoint from a lower EL.
    pub const WATCHPOINT_LOWER: u8 = 0x34;
    /// Watchpoint from the same EL.
    pub const WATCHPOINT_SAME: u8 = 0x35;
    /// BRK.
    pub const BRK: u8 = 0x3c;
}

/// Syndrome of a synchronous exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syndrome {
    /// ESR_EL1.EC, see [`ec`]. For classes with a "lower EL" and a "same EL" value: the "lower EL" one; entry picks.
    pub ec: u8,
    /// ESR_EL1.ISS.
    pub iss: u32,
    /// FAR_EL1, when the class sets it.
    pub far: Option<u64>,
    /// The preferred return address is the next instruction (SVC, HVC).
    pub next: bool,
}

impl Syndrome {
    /// An undefined instruction.
    pub const UNDEFINED: Syndrome = Syndrome { ec: ec::UNKNOWN, iss: 0, far: None, next: false };

    /// A class with an ISS and nothing else.
    pub const fn new(ec: u8, iss: u32) -> Syndrome {
        Syndrome { ec, iss, far: None, next: false }
    }

    /// SVC #imm.
    pub const fn svc(imm: u16) -> Syndrome {
        Syndrome { ec: ec::SVC, iss: imm as u32, far: None, next: true }
    }

    /// BRK #imm.
    pub const fn brk(imm: u16) -> Syndrome {
        Syndrome::new(ec::BRK, imm as u32)
    }

    /// Data abort at `va`. `write`: WnR; `cm`: cache maintenance or address translation instruction.
    pub const fn data_abort(fault: Fault, write: bool, cm: bool, va: u64) -> Syndrome {
        // ISV is only for aborts taken to EL2; S1PTW only with stage 2; FnV 0.
        let iss = fault.status() as u32 | (write as u32) << 6 | (cm as u32) << 8;
        Syndrome { ec: ec::DATA_ABORT_LOWER, iss, far: Some(va), next: false }
    }

    /// Instruction abort at `va`.
    pub const fn instruction_abort(fault: Fault, va: u64) -> Syndrome {
        Syndrome { ec: ec::INSTRUCTION_ABORT_LOWER, iss: fault.status() as u32, far: Some(va), next: false }
    }

    /// A misaligned PC.
    pub const fn pc_alignment(va: u64) -> Syndrome {
        Syndrome { ec: ec::PC_ALIGNMENT, iss: 0, far: Some(va), next: false }
    }

    /// Watchpoint hit by an access to `va`.
    pub const fn watchpoint(write: bool, cm: bool, va: u64) -> Syndrome {
        Syndrome {
            ec: ec::WATCHPOINT_LOWER,
            iss: 0x22 | (write as u32) << 6 | (cm as u32) << 8,
            far: Some(va),
            next: false,
        }
    }
}

/// An exception to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// Synchronous.
    Sync(Syndrome),
    /// IRQ.
    Irq,
    /// FIQ.
    Fiq,
    /// SError interrupt with its ISS.
    SError(u32),
}

/// What was taken, for reports and traces. Generated code writes it too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// PC of the interrupted or faulting instruction, before entry.
    pub pc: u64,
    /// Preferred return address.
    pub elr: u64,
    /// The saved PSTATE.
    pub spsr: u64,
    /// ESR_EL1 (of the last synchronous exception for interrupts).
    pub esr: u64,
    /// FAR_EL1 as it is after entry.
    pub far: u64,
    /// Offset into the vector table.
    pub vector: u16,
    /// Counter value.
    pub when: u64,
}

/// The last exceptions of one PE.
#[derive(Debug, Clone)]
pub struct Ring {
    records: [Record; Ring::LEN],
    count: u64,
}

impl Ring {
    /// How many are kept.
    pub const LEN: usize = 64;
    /// Offset of the records, for generated code.
    pub const RECORDS: usize = std::mem::offset_of!(Ring, records);
    /// Offset of the count; the next record goes to this modulo [`Ring::LEN`].
    pub const COUNT: usize = std::mem::offset_of!(Ring, count);

    pub(crate) fn new() -> Ring {
        Ring { records: [Record::default(); Ring::LEN], count: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, record: Record) {
        self.records[(self.count as usize) % Ring::LEN] = record;
        self.count += 1;
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        let len = Ring::LEN as u64;
        (self.count.saturating_sub(len)..self.count).map(|i| &self.records[(i as usize) % Ring::LEN])
    }

    /// Exceptions since the start.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.vector & 0x180 {
            0 => "sync",
            0x80 => "irq",
            0x100 => "fiq",
            _ => "serror",
        };
        write!(
            f,
            "{what:6} pc {:#018x} elr {:#018x} spsr {:#010x} esr {:#010x} (ec {:#04x} iss {:#x}) far {:#018x} vector {:#x} at {}",
            self.pc,
            self.elr,
            self.spsr,
            self.esr,
            self.esr >> 26 & 0x3f,
            self.esr & 0x1ff_ffff,
            self.far,
            self.vector,
            self.when
        )
    }
}

#[cfg(test)]
mod tests;
