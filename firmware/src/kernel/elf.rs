//! AArch64 ELF programs: `vmlinux` and bare-metal programs (ELF for the Arm 64-bit Architecture; System V gABI).

use super::image::{ImageHeader, is_image};
use super::{KernelError, Load};
use crate::bytes::{array, le16, le32, le64};

const EM_AARCH64: u16 = 183;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PROGRAM_HEADER_SIZE: u16 = 56;

/// A loadable segment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ElfSegment {
    /// Index in the file of its first byte.
    pub offset: usize,
    /// Bytes in the file: `offset + file_size` is within the file.
    pub file_size: usize,
    /// Virtual address.
    pub virtual_address: u64,
    /// Physical address, before any slide.
    pub physical_address: u64,
    /// Bytes in memory, not less than `file_size`; no address of the segment wraps.
    pub memory_size: u64,
}

/// A checked ELF program with at least one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfProgram {
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// Segments with memory, ascending by physical address, not overlapping.
    pub segments: Vec<ElfSegment>,
    /// Whether the program may be anywhere in memory (`ET_DYN`).
    pub movable: bool,
    /// The header in front of a `vmlinux`: that of the `Image` made from it.
    pub linux: Option<ImageHeader>,
}

impl ElfProgram {
    /// Checks the headers of the ELF file in `bytes`.
    ///
    /// # Errors
    /// [`KernelError::ForeignElf`] for other machines, object files and programs for an operating system;
    /// [`KernelError::BadElf`] and [`KernelError::Truncated`] for damage.
    pub fn parse(bytes: &[u8]) -> Result<ElfProgram, KernelError> {
        let size = bytes.len() as u64;
        let header: [u8; 64] =
            array(bytes, 0).ok_or(KernelError::Truncated { what: "ELF header", size, expected: 64 })?;
        check_machine(&header)?;
        let field16 = |offset| le16(&header, offset).unwrap_or_default();
        let field64 = |offset| le64(&header, offset).unwrap_or_default();
        let (table, entry_size, count) = (field64(32), field16(54), field16(56));
        if count != 0 && entry_size != PROGRAM_HEADER_SIZE {
            return Err(KernelError::BadElf(format!("program headers of {entry_size} bytes, 56 expected")));
        }
        let expected = table.saturating_add(u64::from(count) * u64::from(PROGRAM_HEADER_SIZE));
        if size < expected {
            return Err(KernelError::Truncated { what: "ELF program header table", size, expected });
        }
        let mut segments = Vec::new();
        for index in 0..u64::from(count) {
            let start = (table + index * u64::from(PROGRAM_HEADER_SIZE)) as usize;
            match le32(bytes, start) {
                Some(PT_INTERP) => {
                    return Err(KernelError::ForeignElf {
                        found: "a program for an operating system (it asks for a dynamic loader)".to_owned(),
                        advice: "put it into an initrd (--initrd) and give a kernel with --kernel",
                    });
                }
                Some(PT_LOAD) => segments.extend(segment(bytes, start)?),
                _ => {}
            }
        }
        segments.sort_by_key(|segment| segment.physical_address);
        let overlap = segments
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if b.physical_address - a.physical_address < a.memory_size));
        if overlap {
            return Err(KernelError::BadElf("segments overlap".to_owned()));
        }
        let first =
            segments.first().ok_or_else(|| KernelError::BadElf("no segment with memory (PT_LOAD) in it".to_owned()))?;
        let front = bytes.get(first.offset..first.offset + first.file_size).unwrap_or_default();
        let linux = if is_image(front) { Some(ImageHeader::parse_in_elf(front, first.memory_size)?) } else { None };
        Ok(ElfProgram { entry: field64(24), movable: field16(16) == ET_DYN, segments, linux })
    }

    /// Lowest and highest physical address, before any slide.
    pub fn physical_range(&self) -> std::ops::Range<u64> {
        let start = self.segments.first().map_or(0, |segment| segment.physical_address);
        // Sorted and not overlapping: the last one ends highest.
        let end = self.segments.last().map_or(0, |segment| segment.physical_address + segment.memory_size);
        start..end
    }

    /// The physical address of the first instruction, before any slide; `None` if it is in no segment.
    pub fn physical_entry(&self) -> Option<u64> {
        let holds = |start: u64, size: u64| self.entry >= start && self.entry - start < size;
        let by_virtual = self.segments.iter().find(|segment| holds(segment.virtual_address, segment.memory_size));
        if let Some(segment) = by_virtual {
            return Some(segment.physical_address + (self.entry - segment.virtual_address));
        }
        // Some linker scripts name the physical address.
        self.segments.iter().any(|segment| holds(segment.physical_address, segment.memory_size)).then_some(self.entry)
    }

    /// The pieces of the program, moved by `slide`.
    pub(super) fn loads<'a>(&self, bytes: &'a [u8], slide: u64) -> Vec<Load<'a>> {
        let load = |segment: &ElfSegment| Load {
            unread: 0,
            address: segment.physical_address.wrapping_add(slide),
            bytes: bytes.get(segment.offset..segment.offset + segment.file_size).unwrap_or_default(),
            zeros: segment.memory_size - segment.file_size as u64,
        };
        self.segments.iter().map(load).collect()
    }
}

/// Reads a `PT_LOAD` header at `start`; `None` for one without memory.
fn segment(bytes: &[u8], start: usize) -> Result<Option<ElfSegment>, KernelError> {
    let field = |offset| le64(bytes, start.saturating_add(offset)).unwrap_or_default();
    let (offset, file_size, memory_size) = (field(8), field(32), field(40));
    if memory_size == 0 {
        return Ok(None);
    }
    if file_size > memory_size {
        return Err(KernelError::BadElf(format!(
            "a segment of {memory_size:#x} bytes of memory with {file_size:#x} bytes of contents"
        )));
    }
    let expected = offset.saturating_add(file_size);
    if expected > bytes.len() as u64 {
        return Err(KernelError::Truncated { what: "ELF segment", size: bytes.len() as u64, expected });
    }
    let (virtual_address, physical_address) = (field(16), field(24));
    if virtual_address.checked_add(memory_size).is_none() || physical_address.checked_add(memory_size).is_none() {
        return Err(KernelError::BadElf(format!(
            "a segment at {physical_address:#x} of {memory_size:#x} bytes wraps around the address space"
        )));
    }
    Ok(Some(ElfSegment {
        offset: offset as usize,
        file_size: file_size as usize,
        virtual_address,
        physical_address,
        memory_size,
    }))
}

/// Whether this machine can run such a file at all.
fn check_machine(header: &[u8; 64]) -> Result<(), KernelError> {
    let foreign = |found: String, advice| Err(KernelError::ForeignElf { found, advice });
    const OTHER: &str = "give a program built for arm64";
    let [_, _, _, _, class, data, ..] = *header;
    let little = data == 1;
    let machine = le16(header, 18).map_or(0, |machine| if little { machine } else { machine.swap_bytes() });
    if machine != EM_AARCH64 {
        let name = match machine {
            3 => " (x86, 32 bits)",
            8 => " (MIPS)",
            20 | 21 => " (PowerPC)",
            22 => " (s390)",
            40 => " (Arm, 32 bits)",
            62 => " (x86-64)",
            243 => " (RISC-V)",
            258 => " (LoongArch)",
            _ => "",
        };
        return foreign(format!("an ELF file for machine {machine}{name}"), OTHER);
    }
    if class != 2 {
        return foreign("an ELF file of class ILP32".to_owned(), OTHER);
    }
    if !little {
        return Err(KernelError::BigEndian { what: "ELF program" });
    }
    match le16(header, 16) {
        Some(ET_EXEC | ET_DYN) => Ok(()),
        Some(1) => foreign("an object file or a kernel module".to_owned(), "link it to a program first"),
        Some(4) => foreign("a core dump".to_owned(), OTHER),
        other => foreign(format!("an ELF file of type {}", other.unwrap_or_default()), OTHER),
    }
}
