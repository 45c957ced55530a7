//! Initrds: what is clearly something else is refused before the guest fails on it.

use crate::kernel::{Format, peek, sniff};

/// Why a file cannot be the initrd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitrdError {
    /// The file has no bytes.
    #[error(
        "The initrd file is empty; expected a cpio archive, compressed or not: give one with --initrd, or leave the option out"
    )]
    Empty,
    /// The file is something else.
    #[error("The initrd file is {}{}; expected a cpio archive, compressed or not: {}", .found.describe(), inside(*.compression), advice(*.found))]
    NotAnInitrd {
        /// What it is.
        found: Format,
        /// The compression around it.
        compression: Option<Format>,
    },
}

fn inside(compression: Option<Format>) -> String {
    compression.map(|outer| format!(" inside {}", outer.describe())).unwrap_or_default()
}

fn advice(found: Format) -> &'static str {
    match found {
        Format::Image | Format::Zboot | Format::Elf | Format::UImage => "give a kernel with --kernel",
        Format::DeviceTree => "give a device tree with --dtb",
        Format::Disk(_) => "give a disk with --disk",
        _ => "is this the right file?",
    }
}

/// Checks that an initrd of which `head` is the start (64 KiB are enough) is none of the things that people mix it up with.
/// Files of unknown format pass: the kernel takes old RAM disk images too, and a bare-metal program anything.
///
/// # Errors
/// [`InitrdError`] says what was found.
pub fn check_initrd(head: &[u8]) -> Result<(), InitrdError> {
    if head.is_empty() {
        return Err(InitrdError::Empty);
    }
    let outer = sniff(head);
    let (found, compression) = match peek(outer, head) {
        Some(start) if !start.is_empty() => (sniff(&start), Some(outer)),
        _ => (outer, None),
    };
    match found {
        Format::Image
        | Format::Elf
        | Format::Zboot
        | Format::UImage
        | Format::BzImage
        | Format::ArmZImage
        | Format::ForeignImage(_)
        | Format::Pe(_)
        | Format::DeviceTree
        | Format::Archive(_)
        | Format::Text(_) => Err(InitrdError::NotAnInitrd { found, compression }),
        // File systems were RAM disks before initramfs; a partitioned disk never was one.
        Format::Disk(what) if what.contains("disk") => Err(InitrdError::NotAnInitrd { found, compression }),
        _ => Ok(()),
    }
}
