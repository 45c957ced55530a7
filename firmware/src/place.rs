//! Where the kernel, the initrd and the device tree go in memory.
//!
//! Rules (Linux, `Documentation/arch/arm64/booting.rst`): the kernel at a 2 MiB aligned base plus `text_offset` with
//! `image_size` bytes free; the device tree 8-byte aligned and at most 2 MiB, which kernels before 4.2 want in the
//! 512 MiB from the base and not across a 2 MiB boundary; kernel and initrd inside one 1 GiB aligned window of 32 GiB.

use std::ops::Range;

use crate::kernel::{ElfProgram, Kernel, Layout};

/// Alignment of the kernel's base, and of the slot of the device tree.
pub const BASE_ALIGN: u64 = 2 << 20;
/// Greatest size of a device tree.
pub const FDT_MAX_SIZE: u64 = 2 << 20;
/// Alignment of the initrd: the largest page, so that the kernel can free it in whole pages.
const INITRD_ALIGN: u64 = 64 << 10;
/// Size of the window that must cover the kernel and the initrd.
const WINDOW: u64 = 32 << 30;
/// Alignment of that window.
const WINDOW_ALIGN: u64 = 1 << 30;
/// What a kernel needs to come up beyond what is loaded: the advice of an error rests on it.
const WORKING_MEMORY: u64 = 64 << 20;

/// Addresses from here up are virtual addresses of a kernel, never physical ones.
const KERNEL_VIRTUAL: u64 = 0xffff << 48;

/// Where everything goes. All addresses are guest physical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// From the first byte of the kernel to the end of its BSS.
    pub kernel: Range<u64>,
    /// Address of the first instruction.
    pub entry: u64,
    /// The initrd, if there is one.
    pub initrd: Option<Range<u64>>,
    /// Address of the device tree; up to [`FDT_MAX_SIZE`] bytes are free there for a Linux kernel.
    pub fdt: u64,
    /// What is added (wrapping) to the physical addresses of an ELF program's headers; 0 for an `Image`.
    pub elf_slide: u64,
}

/// Why it does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Kernel, device tree and initrd together are larger than the memory.
    #[error(
        "The guest's memory of {} is too small for {what}, which ends {} after its start: give --memory {} or more",
        size(*.memory), size(*.needed), size(*.enough)
    )]
    TooLittleMemory {
        /// What did not fit any more.
        what: &'static str,
        /// Bytes of memory there are.
        memory: u64,
        /// Bytes of memory that loading alone takes.
        needed: u64,
        /// Bytes of memory that are enough to boot as well.
        enough: u64,
    },
    /// Kernel and initrd do not fit into one 32 GiB window.
    #[error("The initrd of {} is too large: arm64 Linux wants kernel and initrd within 32 GiB; put its contents on a --disk", size(*.initrd))]
    InitrdOutsideWindow {
        /// Bytes of the initrd.
        initrd: u64,
    },
    /// The device tree is larger than the boot protocol allows.
    #[error("The device tree has {found} bytes; arm64 Linux takes at most 2 MiB (2097152 bytes): give a smaller --dtb")]
    FdtTooLarge {
        /// Bytes of the device tree.
        found: u64,
    },
    /// An ELF program is linked for memory that is not there.
    #[error(
        "The ELF program is linked to {:#x}..{:#x}, but memory is {:#x}..{:#x}: link it there (or position-independent), \
         or is this a program for an operating system that belongs into an initrd?",
        .found.start, .found.end, .memory.start, .memory.end
    )]
    ElfOutsideMemory {
        /// Where it wants to be.
        found: Range<u64>,
        /// The memory.
        memory: Range<u64>,
    },
    /// The first instruction of an ELF program is in none of its segments.
    #[error("The ELF program's entry point {entry:#x} is in none of its segments: the file is damaged or badly linked")]
    EntryOutsideProgram {
        /// `e_entry`.
        entry: u64,
    },
    /// An address computation left the 64-bit space: only damaged headers do that.
    #[error("The kernel's headers name addresses beyond the 64-bit address space: the file is damaged, copy it again")]
    AddressOverflow,
}

/// A number of bytes as people and `--memory` write it.
fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{}G", b >> 30),
        b if b >= 1 << 20 => format!("{}M", b.div_ceil(1 << 20)),
        b => format!("{}K", b.div_ceil(1 << 10)),
    }
}

/// Decides where `kernel`, an initrd of `initrd_len` bytes (0: none) and a device tree of `fdt_len` bytes go in `ram`.
///
/// # Errors
/// [`PlacementError`] with the amount of memory that would be enough.
pub fn place(kernel: &Kernel, ram: Range<u64>, initrd_len: u64, fdt_len: u64) -> Result<Placement, PlacementError> {
    if fdt_len > FDT_MAX_SIZE {
        return Err(PlacementError::FdtTooLarge { found: fdt_len });
    }
    let base = align_up(ram.start, BASE_ALIGN)?;
    let room = Room { ram, initrd_len };
    match &kernel.layout {
        Layout::Image(header) => {
            let start = add(base, header.text_offset)?;
            let kernel = start..add(start, header.image_size)?;
            room.divide(kernel, start, 0, None)
        }
        Layout::Elf(program) => {
            let (kernel, slide) = place_elf(program, &room.ram, base)?;
            let entry = program.physical_entry().ok_or(PlacementError::EntryOutsideProgram { entry: program.entry })?;
            // A bare-metal program that leaves room at the start of memory finds the tree there, as on QEMU's `virt`.
            let front = room.ram.start.checked_next_multiple_of(8).filter(|&front| {
                program.linux.is_none() && kernel.start.checked_sub(front).is_some_and(|free| free >= fdt_len)
            });
            room.divide(kernel, entry.wrapping_add(slide), slide, front)
        }
    }
}

/// The memory that an ELF program takes, and what is added to its addresses. A program whose physical addresses are
/// memory stays there; one linked at kernel virtual addresses (`vmlinux` has no others) and one that may be anywhere
/// goes to the start of memory and keeps its place within 2 MiB.
fn place_elf(program: &ElfProgram, ram: &Range<u64>, base: u64) -> Result<(Range<u64>, u64), PlacementError> {
    let wanted = program.physical_range();
    let slide = if ram.contains(&wanted.start) {
        0
    } else if program.linux.is_some() || program.movable || wanted.start >= KERNEL_VIRTUAL {
        base.wrapping_sub(wanted.start / BASE_ALIGN * BASE_ALIGN)
    } else {
        return Err(PlacementError::ElfOutsideMemory { found: wanted, memory: ram.clone() });
    };
    let start = wanted.start.wrapping_add(slide);
    // A vmlinux says how much it needs beyond its segments.
    let size = (wanted.end - wanted.start).max(program.linux.map_or(0, |header| header.image_size));
    Ok((start..add(start, size)?, slide))
}

/// The memory that is being divided.
struct Room {
    ram: Range<u64>,
    initrd_len: u64,
}

impl Room {
    /// Device tree (unless it has its place) and initrd right behind the kernel: so the least memory is enough.
    fn divide(
        &self,
        kernel: Range<u64>,
        entry: u64,
        elf_slide: u64,
        fdt: Option<u64>,
    ) -> Result<Placement, PlacementError> {
        self.check(kernel.end, "the kernel")?;
        let (fdt, fdt_end) = match fdt {
            Some(fdt) => (fdt, kernel.end),
            None => {
                let fdt = align_up(kernel.end, BASE_ALIGN)?;
                (fdt, add(fdt, FDT_MAX_SIZE)?)
            }
        };
        self.check(fdt_end, "the kernel and the device tree")?;
        let initrd = match self.initrd_len {
            0 => None,
            len => {
                let start = align_up(fdt_end, INITRD_ALIGN)?;
                let end = add(start, len)?;
                let window_end = add(kernel.start / WINDOW_ALIGN * WINDOW_ALIGN, WINDOW)?;
                if end > window_end {
                    return Err(PlacementError::InitrdOutsideWindow { initrd: len });
                }
                self.check(end, "the kernel, the device tree and the initrd")?;
                Some(start..end)
            }
        };
        Ok(Placement { kernel, entry, initrd, fdt, elf_slide })
    }

    /// Whether everything up to `end` is memory.
    fn check(&self, end: u64, what: &'static str) -> Result<(), PlacementError> {
        if end <= self.ram.end {
            return Ok(());
        }
        let needed = end.saturating_sub(self.ram.start);
        let enough = needed.saturating_add(self.initrd_len).saturating_add(WORKING_MEMORY);
        let enough = enough.checked_next_multiple_of(WORKING_MEMORY).unwrap_or(u64::MAX);
        Err(PlacementError::TooLittleMemory {
            what,
            memory: self.ram.end.saturating_sub(self.ram.start),
            needed,
            enough,
        })
    }
}

fn add(a: u64, b: u64) -> Result<u64, PlacementError> {
    a.checked_add(b).ok_or(PlacementError::AddressOverflow)
}

fn align_up(address: u64, align: u64) -> Result<u64, PlacementError> {
    address.checked_next_multiple_of(align).ok_or(PlacementError::AddressOverflow)
}

#[cfg(test)]
mod tests;
