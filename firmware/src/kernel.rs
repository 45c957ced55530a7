//! Kernels: recognised by content, unwrapped, parsed. See `docs/design/boot.md`.

mod elf;
mod error;
mod image;
mod sniff;
mod unwrap;

pub use elf::{ElfProgram, ElfSegment};
pub use error::KernelError;
pub use image::{ImageHeader, PageSize};
pub use sniff::Format;
pub(crate) use sniff::sniff;
pub(crate) use unwrap::peek;

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
    /// The unwrapped file, without what was not read.
    pub bytes: Vec<u8>,
    /// Bytes of the file behind `bytes` that were not read, see [`parse_image_head`].
    pub unread: u64,
}

/// What a kernel's own headers say about where it wants to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A Linux `Image`.
    Image(ImageHeader),
    /// An ELF program.
    Elf(ElfProgram),
}

/// Some bytes of the kernel and where they go: what the machine copies into guest memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Load<'a> {
    /// Guest physical address of the first byte.
    pub address: u64,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Number of bytes that follow in the file, where `bytes` end in it.
    pub unread: u64,
    /// Number of zero bytes that follow them (BSS). Memory of a fresh machine is zero already; a reset needs it.
    pub zeros: u64,
}

impl Kernel {
    /// What stands inside all wrappings.
    pub fn kind(&self) -> KernelKind {
        match self.layout {
            Layout::Image(_) => KernelKind::Image,
            Layout::Elf(_) => KernelKind::Elf,
        }
    }

    /// The pieces of the kernel and where they go.
    pub fn loads(&self, placement: &Placement) -> Vec<Load<'_>> {
        match &self.layout {
            Layout::Image(header) => vec![Load {
                address: placement.kernel.start,
                bytes: &self.bytes,
                unread: self.unread,
                zeros: header.image_size.saturating_sub(self.bytes.len() as u64 + self.unread),
            }],
            Layout::Elf(program) => program.loads(&self.bytes, placement.elf_slide),
        }
    }
}

/// Recognises a kernel by its contents, takes off its wrappings and checks its headers.
///
/// # Errors
/// [`KernelError`] says what was found instead, what was expected and which option is meant for such a file.
pub fn parse_kernel(bytes: Vec<u8>, limits: &Limits) -> Result<Kernel, KernelError> {
    let mut wrapping = Vec::new();
    let mut bytes = bytes;
    loop {
        check_size(&bytes, limits)?;
        let format = sniff(&bytes);
        let layout = match format {
            Format::Image => Layout::Image(ImageHeader::parse(&bytes)?),
            Format::Elf => Layout::Elf(ElfProgram::parse(&bytes)?),
            _ => {
                let name = unwrap::name(format)
                    .ok_or(KernelError::NotAKernel { found: format, wrapping: wrapping.clone() })?;
                if wrapping.len() >= limits.max_depth {
                    return Err(KernelError::TooDeep { wrapping, limit: limits.max_depth });
                }
                wrapping.push(name);
                bytes = unwrap::unwrap(format, &bytes, limits).map_err(|error| error.inside(&wrapping))?;
                continue;
            }
        };
        return Ok(Kernel { wrapping, layout, bytes, unread: 0 });
    }
}

/// The `Image` of which `head` are the first bytes of `length`: so it need not be read before it is known where it goes. `None`: something else, or something
/// wrong with it, which only [`parse_kernel`] of the whole can tell.
pub fn parse_image_head(head: Vec<u8>, length: u64, limits: &Limits) -> Option<Kernel> {
    let unread = length.checked_sub(head.len() as u64)?;
    if length > limits.max_size || sniff(&head) != Format::Image {
        return None;
    }
    let header = ImageHeader::parse_head(&head, length).ok()?;
    Some(Kernel { wrapping: Vec::new(), layout: Layout::Image(header), bytes: head, unread })
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

#[cfg(test)]
pub(crate) mod tests;
