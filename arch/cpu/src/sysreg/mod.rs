//! System registers: one table of rows says for each encoding who may access it, where it is stored, which bits exist and what a write causes.

mod access;
mod maintenance;
mod special;
mod table;

pub use isa::operand::SysEnc;
pub use maintenance::ZVA_BYTES;
pub use special::{FPCR_MASK, FPSR_MASK, Special};
pub use table::{ROWS, SLOT_COUNT, Slot, find};

/// May the register be read, written or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rw {
    /// MRS only.
    Ro,
    /// MSR only.
    Wo,
    /// Both.
    Rw,
}

/// What decides whether EL0 may access the register, and whether a refused access is UNDEFINED or trapped to EL1 with EC 0x18.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum El0 {
    /// UNDEFINED at EL0.
    No,
    /// Always.
    Free,
    /// Reads always, writes UNDEFINED (TPIDRRO_EL0).
    ReadOnly,
    /// SCTLR_EL1.UCT, else trapped.
    Uct,
    /// SCTLR_EL1.UMA, else trapped.
    Uma,
    /// SCTLR_EL1.TSCXT clear, else trapped.
    Scxt,
    /// CNTKCTL_EL1.EL0PCTEN.
    PhysicalCounter,
    /// CNTKCTL_EL1.EL0VCTEN.
    VirtualCounter,
    /// Either of the counter bits (CNTFRQ_EL0).
    AnyCounter,
    /// CNTKCTL_EL1.EL0PTEN.
    PhysicalTimer,
    /// CNTKCTL_EL1.EL0VTEN.
    VirtualTimer,
    /// PMUSERENR_EL0.EN.
    Pmu,
    /// PMUSERENR_EL0.EN, or SW.
    PmuSw,
    /// PMUSERENR_EL0.EN, or ER for reads and writes of PMSELR_EL0 and for reads of event counters.
    PmuEr,
    /// PMUSERENR_EL0.EN, or CR for reads.
    PmuCr,
    /// MDSCR_EL1.TDCC clear, else trapped.
    Tdcc,
    /// CPACR_EL1.FPEN, else EC 0x07.
    Fp,
}

/// Where the value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Plain storage.
    Slot(Slot),
    /// A word of the ID space.
    Id(u8),
    /// A constant.
    Const(u64),
    /// A function.
    Special(Special),
}

/// What a changed value causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Translation regime controls that TLB entries may hold: all of this PE's caches of translations go.
    Translation,
    /// The current address space (TTBR0, TTBR1): the context is looked up anew, nothing is flushed.
    Context,
    /// Debug controls.
    Debug,
    /// CPACR: traps of FP.
    Traps,
}

/// Who holds the register when the machine runs on KVM (for saved state that both engines read).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvmOwner {
    /// The kernel, through KVM_SET_ONE_REG.
    OneReg,
    /// The kernel's GIC device.
    Vgic,
    /// Fixed by the machine's configuration; compared, not loaded.
    Config,
    /// Has no state of its own.
    None,
}

/// One register.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name in the Arm ARM.
    pub name: &'static str,
    /// Encoding.
    pub enc: SysEnc,
    /// Access from EL1.
    pub rw: Rw,
    /// Access from EL0.
    pub el0: El0,
    /// Storage.
    pub via: Via,
    /// Writable bits.
    pub mask: u64,
    /// Bits that read as one.
    pub res1: u64,
    /// Value after reset (without `res1`).
    pub reset: u64,
    /// What a changed value causes.
    pub effect: Effect,
    /// Under KVM.
    pub kvm: KvmOwner,
}

#[cfg(test)]
mod tests;
