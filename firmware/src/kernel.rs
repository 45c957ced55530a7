//! Kernels: recognised by content, unwrapped, parsed. See `docs/design/boot.md`.

mod error;
mod image;
mod sniff;

pub use error::KernelError;
pub use image::{ImageHeader, PageSize};
pub use sniff::Format;

use crate::place::Placement;

/// How much a kernel file may make us do. The defaults take every real kernel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Greatest size in bytes of the file and of each unwrapped form of it.
    pub max_size: u64,
    /// Greatest number of wrappings (compression, zboot, uImage) around the kernel.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_size: 1 << 30, max_depth: 4 }
    }
}

/// What stands inside all wrappings.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// The arm64 Linux boot image (Linux, `Documentation/arch/arm64/booting.rst`, section 4).
    Image,
    /// An AArch64 ELF program: `vmlinux` or a bare-metal program.
    Elf,
}

/// A kernel, unwrapped and checked, not yet placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The wrappings that were taken off, outermost first: `"zboot"`, `"zstd"`, ...
    pub wrapping: Vec<&'static str>,
    /// What the headers say.
    pub layout: Layout,
    /// The unwrapped file.
    pub bytes: Vec<u8>,
}

/// What a kernel's own headers say about where it wants to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A Linux `Image`.
    Image(ImageHeader),
}

/// Some bytes of the kernel and where they go: what the machine copies into guest memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Load<'a> {
    /// Guest physical address of the first byte.
    pub address: u64,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Number of zero bytes that follow them (BSS). Memory of a fresh machine is zero already; a reset needs it.
    pub zeros: u64,
}

impl Kernel {
    /// What stands inside all wrappings.
    pub fn kind(&self) -> KernelKind {
        match self.layout {
            Layout::Image(_) => KernelKind::Image,
        }
    }

    /// The pieces of the kernel and where they go.
    pub fn loads(&self, placement: &Placement) -> Vec<Load<'_>> {
        match &self.layout {
            Layout::Image(header) => vec![Load {
                address: placement.kernel.start,
                bytes: &self.bytes,
                zeros: header.image_size.saturating_sub(self.bytes.len() as u64),
            }],
        }
    }
}

/// Recognises a kernel by its contents, takes off its wrappings and checks its headers.
///
/// # Errors
/// [`KernelError`] says what was found instead, what was expected and which option is meant for such a file.
pub fn parse_kernel(bytes: Vec<u8>, limits: &Limits) -> Result<Kernel, KernelError> {
    check_size(&bytes, limits)?;
    let wrapping = Vec::new();
    match sniff::sniff(&bytes) {
        Format::Image => {
            let header = ImageHeader::parse(&bytes)?;
            Ok(Kernel { wrapping, layout: Layout::Image(header), bytes })
        }
        format => Err(KernelError::NotAKernel { found: format, wrapping }),
    }
}

fn check_size(bytes: &[u8], limits: &Limits) -> Result<(), KernelError> {
    let size = bytes.len() as u64;
    if size == 0 {
        return Err(KernelError::Empty);
    }
    if size > limits.max_size {
        return Err(KernelError::TooLarge { size, limit: limits.max_size });
    }
    Ok(())
}
