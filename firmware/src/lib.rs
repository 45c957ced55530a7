//! All that happens before the first instruction of the kernel: kernel formats, placement, the device tree.
//!
//! Everything that enters here is hostile: kernels, initrds and device trees come from anywhere. Nothing in this crate
//! panics on their contents, and no size read from a file is allocated before it is checked against a limit.
//!
//! The way of a kernel: [`parse_kernel`] recognises the file by its contents and unwraps it, [`place`] decides where it,
//! the initrd and the device tree go, [`build_fdt`] (or [`patch_fdt`] for a tree of the user's) describes the board, and
//! [`Kernel::loads`] says which bytes go where.
#![forbid(unsafe_code)]

mod bytes;
pub mod fdt;
pub mod file;
pub mod initrd;
pub mod kernel;
pub mod place;

pub use fdt::{BoardDescription, FdtError, FdtPatch, build_fdt, patch_fdt};
pub use file::{FileError, read_file};
pub use initrd::{InitrdError, check_initrd};
pub use kernel::{Kernel, KernelError, KernelKind, Limits, parse_image_head, parse_kernel};
pub use place::{Placement, PlacementError, place};
