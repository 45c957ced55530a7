//! Reads flattened device trees of unknown origin (Devicetree Specification 0.4, chapter 5): one token after the other,
//! no recursion, nothing allocated, every offset checked.

use super::FdtError;
use crate::bytes::{array, be32};

pub(super) const MAGIC: u32 = 0xd00d_feed;
pub(super) const BEGIN_NODE: u32 = 1;
pub(super) const END_NODE: u32 = 2;
pub(super) const PROPERTY: u32 = 3;
pub(super) const NOP: u32 = 4;
pub(super) const END: u32 = 9;
/// Bytes of the header of version 17.
pub(super) const HEADER_SIZE: usize = 40;
/// Deeper trees are damage: Linux itself stops at 64 levels.
const MAX_DEPTH: usize = 64;
/// Longer names are damage: the specification allows 31 characters, some trees have a few more.
const MAX_NAME: usize = 255;

/// A tree whose header is checked.
#[derive(Copy, Clone, Debug)]
pub(super) struct Tree<'a> {
    /// The memory reservations with their terminator.
    pub reservations: &'a [u8],
    /// The structure block.
    structure: &'a [u8],
    /// The strings block.
    pub strings: &'a [u8],
    /// `boot_cpuid_phys`.
    pub boot_cpu: u32,
}

/// A token of the structure block.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A node begins.
    Begin {
        /// Its name with unit address; empty for the root.
        name: &'a [u8],
    },
    /// A property of the node that began last.
    Property {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The innermost node ends.
    End,
}

impl<'a> Tree<'a> {
    /// Checks the header and the memory reservations.
    pub fn parse(bytes: &'a [u8]) -> Result<Tree<'a>, FdtError> {
        let field = |index: usize| be32(bytes, index * 4).ok_or(bad("header", bytes.len()));
        if field(0)? != MAGIC {
            return Err(FdtError::NotATree { found: crate::kernel::sniff(bytes).describe() });
        }
        let total = field(1)? as usize;
        let bytes = bytes
            .get(..total)
            .filter(|bytes| bytes.len() >= HEADER_SIZE)
            .ok_or(FdtError::Truncated { size: bytes.len(), expected: total.max(HEADER_SIZE) })?;
        let (version, compatible) = (field(5)?, field(6)?);
        if version < 17 || compatible > 17 {
            return Err(FdtError::Version { version, compatible });
        }
        let (structure, strings, reservations) = (field(2)? as usize, field(3)? as usize, field(4)? as usize);
        let part = |what, start: usize, size: usize| {
            let part = start.checked_add(size).and_then(|end| bytes.get(start..end));
            part.ok_or(bad(what, start))
        };
        if !structure.is_multiple_of(4) {
            return Err(bad("structure block", structure));
        }
        Ok(Tree {
            reservations: reservations_of(bytes, reservations)?,
            structure: part("structure block", structure, field(9)? as usize)?,
            strings: part("strings block", strings, field(8)? as usize)?,
            boot_cpu: field(7)?,
        })
    }

    /// The tokens from the root's beginning to its end. After an error, and after the end of the root, there is none.
    pub fn tokens(&self) -> Tokens<'a> {
        Tokens { tree: *self, at: 0, depth: 0, done: false, properties: true }
    }

    fn string(&self, offset: usize) -> Option<&'a [u8]> {
        terminated(self.strings, offset)
    }
}

/// Iterator over the tokens of a tree.
pub(super) struct Tokens<'a> {
    tree: Tree<'a>,
    at: usize,
    depth: usize,
    done: bool,
    /// Whether properties may come: they stand before the children.
    properties: bool,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, FdtError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let result = self.token();
        self.done = result.is_err() || self.depth == 0;
        Some(result)
    }
}

impl<'a> Tokens<'a> {
    fn token(&mut self) -> Result<Token<'a>, FdtError> {
        let structure = self.tree.structure;
        loop {
            let at = self.at;
            let tag = be32(structure, at).ok_or(bad("structure block (no end)", at))?;
            self.at += 4;
            match tag {
                NOP => {}
                BEGIN_NODE if self.depth < MAX_DEPTH => {
                    let name = terminated(structure, self.at).ok_or(bad("name of a node", at))?;
                    // The root's name is empty, no other is.
                    if name.is_empty() != (self.depth == 0) || name.contains(&b'/') {
                        return Err(bad("name of a node", at));
                    }
                    self.at = (self.at + name.len() + 1).next_multiple_of(4);
                    self.depth += 1;
                    self.properties = true;
                    return Ok(Token::Begin { name });
                }
                PROPERTY if self.depth > 0 && self.properties => {
                    let (length, name) =
                        be32(structure, self.at).zip(be32(structure, self.at + 4)).ok_or(bad("property", at))?;
                    let start = self.at + 8;
                    let end = start.checked_add(length as usize).ok_or(bad("length of a property", at))?;
                    let value = structure.get(start..end).ok_or(bad("length of a property", at))?;
                    let name = self.tree.string(name as usize).ok_or(bad("name of a property", at))?;
                    self.at = end.next_multiple_of(4);
                    return Ok(Token::Property { name, value });
                }
                END_NODE if self.depth > 0 => {
                    self.depth -= 1;
                    self.properties = false;
                    return Ok(Token::End);
                }
                _ => return Err(bad("structure block (unexpected token)", at)),
            }
        }
    }
}

/// The name from `offset` to the NUL that must follow.
fn terminated(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = bytes.get(offset..)?;
    let rest = rest.get(..rest.len().min(MAX_NAME + 1))?;
    rest.get(..rest.iter().position(|&byte| byte == 0)?)
}

/// The memory reservation block at `start`, with its terminator.
fn reservations_of(bytes: &[u8], start: usize) -> Result<&[u8], FdtError> {
    let mut end = start;
    loop {
        let entry: [u8; 16] = array(bytes, end).ok_or(bad("memory reservation block", end))?;
        end += 16;
        if entry == [0; 16] {
            return bytes.get(start..end).ok_or(bad("memory reservation block", start));
        }
    }
}

fn bad(what: &'static str, offset: usize) -> FdtError {
    FdtError::BadTree { what, offset }
}
