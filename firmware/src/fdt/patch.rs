//! Brings a user's device tree (`--dtb FILE`) up to date with what only the machine knows: memory, command line, initrd
//! and seeds. Everything else is copied as it is.

use std::collections::HashMap;
use std::ops::Range;

use super::FdtError;
use super::reader::{BEGIN_NODE, END, END_NODE, HEADER_SIZE, MAGIC, PROPERTY, Token, Tree};
use crate::place::FDT_MAX_SIZE;

/// What changes in a user's tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdtPatch {
    /// Memory, ascending: replaces all `/memory` nodes. Empty: they stay.
    pub memory: Vec<Range<u64>>,
    /// Kernel command line; `None`: that of the tree stays.
    pub bootargs: Option<String>,
    /// Where the initrd was placed; `None`: there is none, whatever the tree says.
    pub initrd: Option<Range<u64>>,
    /// Seed of the kernel's random generator; empty: that of the tree stays.
    pub rng_seed: Vec<u8>,
    /// Seed of the kernel's address space layout randomization; `None`: that of the tree stays.
    pub kaslr_seed: Option<u64>,
}

/// The tree `dtb` with the changes of `patch`.
///
/// # Errors
/// [`FdtError`] when `dtb` is no valid tree of version 17, its root uses other cell counts than 1 and 2, the memory does
/// not fit into them, or the result is larger than 2 MiB.
pub fn patch_fdt(dtb: &[u8], patch: &FdtPatch) -> Result<Vec<u8>, FdtError> {
    let tree = Tree::parse(dtb)?;
    let cells = RootCells::read(&tree)?;
    let chosen = chosen_properties(patch)?;
    let mut out = Structure::new(tree.strings);
    // The names of the nodes that are open, and how many of the outermost are being left out.
    let (mut depth, mut skipping, mut in_chosen, mut has_chosen) = (0usize, None, false, false);
    for token in tree.tokens() {
        let token = token?;
        match token {
            Token::Begin { name } => {
                depth += 1;
                if depth == 2 && skipping.is_none() && is_memory(name) && !patch.memory.is_empty() {
                    skipping = Some(depth);
                }
                if skipping.is_none() {
                    out.begin(name);
                }
                if depth == 2 && name == b"chosen" {
                    (in_chosen, has_chosen) = (true, true);
                    chosen.iter().for_each(|(name, value)| out.property(name, value));
                }
            }
            Token::Property { name, value } => {
                let ours = in_chosen && depth == 2 && replaces(patch, name);
                if skipping.is_none() && !ours {
                    out.property(name, value);
                }
            }
            Token::End => {
                if depth == 1 {
                    memory(&mut out, patch, cells)?;
                    if !has_chosen && !chosen.is_empty() {
                        out.begin(b"chosen");
                        chosen.iter().for_each(|(name, value)| out.property(name, value));
                        out.end();
                    }
                }
                if skipping.is_none() {
                    out.end();
                }
                if skipping == Some(depth) {
                    skipping = None;
                }
                in_chosen &= depth != 2;
                depth -= 1;
            }
        }
        out.check_size()?;
    }
    out.finish(&tree)
}

fn is_memory(name: &[u8]) -> bool {
    name == b"memory" || name.starts_with(b"memory@")
}

/// A property to be written.
type NamedValue = (&'static [u8], Vec<u8>);

/// The properties of `/chosen` that the machine sets.
fn chosen_properties(patch: &FdtPatch) -> Result<Vec<NamedValue>, FdtError> {
    let mut list: Vec<NamedValue> = Vec::new();
    if let Some(bootargs) = &patch.bootargs {
        if let Some(position) = bootargs.bytes().position(|byte| byte == 0) {
            return Err(FdtError::NulInText { what: "kernel command line (--append)", position });
        }
        list.push((b"bootargs", [bootargs.as_bytes(), &[0]].concat()));
    }
    if let Some(initrd) = &patch.initrd {
        list.push((b"linux,initrd-start", initrd.start.to_be_bytes().to_vec()));
        list.push((b"linux,initrd-end", initrd.end.to_be_bytes().to_vec()));
    }
    if !patch.rng_seed.is_empty() {
        list.push((b"rng-seed", patch.rng_seed.clone()));
    }
    if let Some(seed) = patch.kaslr_seed {
        list.push((b"kaslr-seed", seed.to_be_bytes().to_vec()));
    }
    Ok(list)
}

/// Whether a property of the user's `/chosen` gives way.
fn replaces(patch: &FdtPatch, name: &[u8]) -> bool {
    match name {
        b"bootargs" => patch.bootargs.is_some(),
        b"linux,initrd-start" | b"linux,initrd-end" => true,
        b"rng-seed" => !patch.rng_seed.is_empty(),
        b"kaslr-seed" => patch.kaslr_seed.is_some(),
        _ => false,
    }
}

/// How many 32-bit cells addresses and sizes below the root have.
#[derive(Copy, Clone)]
struct RootCells {
    address: usize,
    size: usize,
}

impl RootCells {
    fn read(tree: &Tree<'_>) -> Result<RootCells, FdtError> {
        // The specification's defaults.
        let mut cells = RootCells { address: 2, size: 1 };
        for token in tree.tokens().skip(1) {
            let Token::Property { name, value } = token? else {
                break;
            };
            let field = match name {
                b"#address-cells" => &mut cells.address,
                b"#size-cells" => &mut cells.size,
                _ => continue,
            };
            *field = match value {
                [0, 0, 0, count @ (1 | 2)] => usize::from(*count),
                _ => return Err(FdtError::BadTree { what: "cell counts of the root (1 or 2 expected)", offset: 0 }),
            };
        }
        Ok(cells)
    }
}

/// Writes the memory node.
fn memory(out: &mut Structure<'_>, patch: &FdtPatch, cells: RootCells) -> Result<(), FdtError> {
    let Some(first) = patch.memory.first() else {
        return Ok(());
    };
    let mut reg = Vec::new();
    let mut push = |value: u64, cells: usize| {
        if cells == 1 && value > u64::from(u32::MAX) {
            return Err(FdtError::MemoryTooHigh { address: value });
        }
        reg.extend(value.to_be_bytes().iter().skip(8 - 4 * cells));
        Ok(())
    };
    for range in &patch.memory {
        push(range.start, cells.address)?;
        push(range.end.saturating_sub(range.start), cells.size)?;
    }
    out.begin(format!("memory@{:x}", first.start).as_bytes());
    out.property(b"device_type", b"memory\0");
    out.property(b"reg", &reg);
    out.end();
    Ok(())
}

/// A structure block being written, and the strings it names.
struct Structure<'a> {
    bytes: Vec<u8>,
    strings: Vec<u8>,
    offsets: HashMap<&'a [u8], u32>,
}

impl<'a> Structure<'a> {
    fn new(strings: &'a [u8]) -> Structure<'a> {
        // Names may share their ends; whole strings are enough to keep the table from growing.
        let mut offsets = HashMap::new();
        let mut at = 0u32;
        for string in strings.split_inclusive(|&byte| byte == 0) {
            if let Some(name) = string.strip_suffix(&[0]) {
                offsets.entry(name).or_insert(at);
            }
            at = at.saturating_add(string.len() as u32);
        }
        let mut strings = strings.to_vec();
        if strings.last().is_some_and(|&last| last != 0) {
            strings.push(0);
        }
        Structure { bytes: Vec::new(), strings, offsets }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn begin(&mut self, name: &[u8]) {
        self.bytes.extend(BEGIN_NODE.to_be_bytes());
        self.bytes.extend(name);
        self.bytes.push(0);
        self.pad();
    }

    fn property(&mut self, name: &'a [u8], value: &[u8]) {
        let offset = *self.offsets.entry(name).or_insert_with(|| {
            let offset = self.strings.len() as u32;
            self.strings.extend(name);
            self.strings.push(0);
            offset
        });
        self.bytes.extend(PROPERTY.to_be_bytes());
        self.bytes.extend((value.len() as u32).to_be_bytes());
        self.bytes.extend(offset.to_be_bytes());
        self.bytes.extend(value);
        self.pad();
    }

    fn end(&mut self) {
        self.bytes.extend(END_NODE.to_be_bytes());
    }

    /// Keeps what is written bounded, whatever the tree names twice.
    fn check_size(&self) -> Result<(), FdtError> {
        let (found, limit) = (self.bytes.len() + self.strings.len(), FDT_MAX_SIZE as usize);
        if found > limit { Err(FdtError::TooLarge { found, limit }) } else { Ok(()) }
    }

    fn finish(mut self, tree: &Tree<'_>) -> Result<Vec<u8>, FdtError> {
        self.bytes.extend(END.to_be_bytes());
        let structure = HEADER_SIZE + tree.reservations.len();
        let strings = structure + self.bytes.len();
        let total = strings + self.strings.len();
        if total as u64 > FDT_MAX_SIZE {
            return Err(FdtError::TooLarge { found: total, limit: FDT_MAX_SIZE as usize });
        }
        let mut out = Vec::with_capacity(total);
        let header = [
            MAGIC,
            total as u32,
            structure as u32,
            strings as u32,
            HEADER_SIZE as u32,
            17,
            16,
            tree.boot_cpu,
            self.strings.len() as u32,
            self.bytes.len() as u32,
        ];
        header.iter().for_each(|field| out.extend(field.to_be_bytes()));
        out.extend(tree.reservations);
        out.extend(self.bytes);
        out.extend(self.strings);
        Ok(out)
    }
}
