//! The flattened device tree: built for our board, or a user's tree brought up to date. See `docs/design/device-tree.md`.

mod board;
mod build;

pub use board::{
    BoardDescription, Conduit, CpuDescription, GicDescription, PcieDescription, Peripheral, Region, Trigger, VirtioSlot,
};
pub use build::build_fdt;

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
    /// The writer refused.
    #[error("The device tree cannot be written: {0}")]
    Writer(String),
}

impl From<vm_fdt::Error> for FdtError {
    fn from(error: vm_fdt::Error) -> Self {
        FdtError::Writer(error.to_string())
    }
}
