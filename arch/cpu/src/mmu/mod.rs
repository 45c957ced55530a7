//! Stage 1 translation of the EL1&0 regime: walker, translation caches, maintenance, address translation instructions.
//!
//! Caching rules (docs/design/mmu.md): entries are 4 KiB views tagged with VA page and ASID (or global); a write of TTBR or ASID flushes nothing; controls that
//! entries depend on (TCR, SCTLR, MAIR) flush the PE's own caches when they change, which the architecture allows at any time.

mod at;
mod cache;
mod maintenance;
pub mod walk;

pub use cache::{BlockFilter, FastEntry, Tlb};
pub use maintenance::{TlbiKind, TlbiOp};
pub use walk::{Attributes, Controls, Walk};

/// What an access wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// Data read.
    Read,
    /// Data write (and read-modify-write).
    Write,
    /// Instruction fetch.
    Execute,
}

/// Why a translation or an access failed; levels are those of the fault status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An output address or table address beyond the physical address size, at this level (0: TTBR).
    AddressSize(u8),
    /// No valid descriptor.
    Translation(u8),
    /// Access flag clear.
    AccessFlag(u8),
    /// Permission.
    Permission(u8),
    /// No device or RAM answered the access.
    External,
    /// No RAM under a table, at this level of the walk.
    ExternalOnWalk(u8),
    /// Alignment.
    Alignment,
    /// Exclusive or atomic access to memory that does not support it (Device).
    UnsupportedAtomic,
}

impl Fault {
    /// The fault status code (DFSC, IFSC), Arm ARM ESR_EL1.
    pub const fn status(self) -> u8 {
        match self {
            Fault::AddressSize(level) => level,
            Fault::Translation(level) => 0b000_100 | level,
            Fault::AccessFlag(level) => 0b001_000 | level,
            Fault::Permission(level) => 0b001_100 | level,
            Fault::External => 0b010_000,
            Fault::ExternalOnWalk(level) => 0b010_100 | level,
            Fault::Alignment => 0b100_001,
            Fault::UnsupportedAtomic => 0b110_101,
        }
    }
}

/// Who accesses: the privilege that permissions are checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privilege {
    /// As EL1 (false: as EL0, also LDTR and STTR from EL1).
    pub el1: bool,
    /// PSTATE.PAN applies.
    pub pan: bool,
}

/// Result of a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the very byte.
    pub pa: u64,
    /// Memory attributes.
    pub attributes: Attributes,
    /// For the permission checks of `privilege`: readable now.
    pub readable: bool,
    /// Writable now, dirty state included: a later write needs no walk.
    pub writable: bool,
    /// Executable now.
    pub executable: bool,
    /// Valid for every ASID.
    pub global: bool,
    /// log2 of the bytes of the mapping (block or page; 12 at least).
    pub block_shift: u8,
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
