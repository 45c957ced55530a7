//! Why a file cannot be the kernel of this machine.

use super::Format;

/// Why a file cannot be the kernel: what was found, what was expected, what helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The file has no bytes.
    #[error("The kernel file is empty; expected an arm64 kernel: give one with --kernel")]
    Empty,
    /// The file, or an unwrapped form of it, is larger than the limit.
    #[error("The kernel is {size} bytes or more, over the limit of {limit} bytes: is this the right file?")]
    TooLarge {
        /// Bytes found so far.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The file is something else.
    #[error("The kernel file is {}{}: {}", .found.describe(), inside(.wrapping), .found.advice())]
    NotAKernel {
        /// What it is.
        found: Format,
        /// The wrappings around it, outermost first.
        wrapping: Vec<&'static str>,
    },
    /// The file ends too early.
    #[error("The {what} is cut off after {size} bytes of at least {expected}: download or copy it again")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// Bytes there.
        size: u64,
        /// Bytes needed.
        expected: u64,
    },
    /// Compressed data that cannot be unpacked.
    #[error(
        "The {what} data of the kernel is cut off or damaged, {after} bytes could be unpacked: {reason}; download or copy it again"
    )]
    Damaged {
        /// Which compression.
        what: &'static str,
        /// Bytes unpacked before.
        after: usize,
        /// What the decoder says.
        reason: String,
    },
    /// More wrappings than a real kernel has.
    #[error("The kernel file has more than {limit} wrappings ({}): no real kernel has; is this the right file?", .wrapping.join(", "))]
    TooDeep {
        /// The wrappings that were taken off, outermost first.
        wrapping: Vec<&'static str>,
        /// Wrappings allowed.
        limit: usize,
    },
    /// A U-Boot image for another machine.
    #[error(
        "The kernel is a U-Boot image for machine type {machine}; this machine runs arm64 guests (type 22): give the kernel built for arm64"
    )]
    ForeignUImage {
        /// `ih_arch`.
        machine: u8,
    },
    /// An ELF file that this machine cannot run.
    #[error(
        "The kernel is {found}; expected an AArch64 ELF program (64 bits, little endian, executable, with its own memory layout): {advice}"
    )]
    ForeignElf {
        /// What it is.
        found: String,
        /// What helps.
        advice: &'static str,
    },
    /// Numbers in an ELF header that make no sense.
    #[error("The ELF headers of the kernel are damaged: {0}; copy the file again")]
    BadElf(String),
    /// A big-endian kernel.
    #[error(
        "The {what} is built for big-endian mode, which this machine does not offer: build it with CONFIG_CPU_LITTLE_ENDIAN=y"
    )]
    BigEndian {
        /// Which kind of kernel.
        what: &'static str,
    },
    /// Numbers in the `Image` header that no kernel has.
    #[error(
        "The arm64 Image header is damaged: text_offset {text_offset:#x} (below 2 MiB and a multiple of 4 KiB expected), \
         image_size {image_size:#x}: download or copy the file again"
    )]
    BadImageHeader {
        /// Distance from a 2 MiB aligned base.
        text_offset: u64,
        /// Size with BSS.
        image_size: u64,
    },
}

impl KernelError {
    /// The same error, for a file inside these wrappings.
    pub(super) fn inside(self, outer: &[&'static str]) -> KernelError {
        match self {
            KernelError::NotAKernel { found, .. } => KernelError::NotAKernel { found, wrapping: outer.to_vec() },
            other => other,
        }
    }
}

/// " inside gzip inside zboot" for the wrappings around a file, innermost first.
fn inside(wrapping: &[&str]) -> String {
    wrapping.iter().rev().map(|outer| format!(" inside {outer}")).collect()
}
