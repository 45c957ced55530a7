//! The flattened device tree: built for our board, or a user's tree brought up to date. See `docs/design/device-tree.md`.

mod board;
mod build;
mod patch;
mod reader;
#[cfg(test)]
mod tests;

pub use board::{
    BoardDescription, Conduit, CpuDescription, GicDescription, PcieDescription, Peripheral, Region, Trigger,
    VirtioSlot, mpidr_of,
};
pub use build::build_fdt;
pub use patch::{FdtPatch, patch_fdt};

/// Why a device tree cannot be made or brought up to date.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FdtError {
    /// A text for the tree has a NUL byte, which ends a string there.
    #[error("The {what} has a NUL byte at position {position}, which a device tree cannot hold: remove it")]
    NulInText {
        /// Which text.
        what: &'static str,
        /// Index of the NUL byte.
        position: usize,
    },
    /// The board has no CPU or no memory.
    #[error("A board needs at least one {0}")]
    Missing(&'static str),
    /// The tree got larger than the boot protocol allows.
    #[error("The device tree has {found} bytes, over the {limit} that arm64 Linux takes: shorten --append")]
    TooLarge {
        /// Bytes of the tree.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A file that is no flattened device tree.
    #[error(
        "The device tree file is {found}; expected a flattened device tree (.dtb): compile sources with dtc -O dtb and give the result with --dtb"
    )]
    NotATree {
        /// What it is.
        found: String,
    },
    /// The file ends before the tree does.
    #[error("The device tree file is cut off after {size} bytes of at least {expected}: copy it again")]
    Truncated {
        /// Bytes there.
        size: usize,
        /// Bytes needed.
        expected: usize,
    },
    /// A version that this machine cannot read.
    #[error(
        "The device tree has version {version} (readable as {compatible}); expected 17: compile it with a newer dtc"
    )]
    Version {
        /// `version` of the header.
        version: u32,
        /// `last_comp_version` of the header.
        compatible: u32,
    },
    /// A part of the tree that cannot be.
    #[error("The device tree is damaged in its {what} at offset {offset:#x}: compile or copy it again")]
    BadTree {
        /// Which part.
        what: &'static str,
        /// Offset in the file for the header's parts, in the structure block for its tokens.
        offset: usize,
    },
    /// Memory beyond what one cell can tell.
    #[error(
        "The device tree of --dtb has 32-bit cells for memory, which cannot tell {address:#x}: set #address-cells and #size-cells of its root to 2, or give less --memory"
    )]
    MemoryTooHigh {
        /// Address or size that does not fit.
        address: u64,
    },
    /// The writer refused.
    #[error("The device tree cannot be written: {0}")]
    Writer(String),
}

impl From<vm_fdt::Error> for FdtError {
    fn from(error: vm_fdt::Error) -> Self {
        FdtError::Writer(error.to_string())
    }
}
