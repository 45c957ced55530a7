//! Extended attributes: behind the inode where they fit, else in a block of their own. Access control lists, which programs
//! see as `system.posix_acl_*` with entries of eight bytes, have a shorter form on the disk.

use std::collections::BTreeMap;
use std::io;

use super::layout::BLOCK;
use crate::tree::show;

/// Begins the attributes of an inode, and a block of them.
const MAGIC: u32 = 0xea02_0000;
/// Bytes of the header of a block.
const BLOCK_HEADER: usize = 32;
/// What names of attributes may begin with, and what stands for that. The lists have no other name.
const PREFIXES: [(&[u8], u8); 6] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
    (b"system.", 7),
];
/// The indices of access control lists.
const LISTS: std::ops::RangeInclusive<u8> = 2..=3;
/// Entries of an access control list that name a user or a group.
const NAMED: [u16; 2] = [0x02, 0x08];

/// What is attached to a file, as the file system has it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<Attribute>);

#[derive(Debug, PartialEq, Eq)]
struct Attribute {
    index: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Attribute {
    fn entry_len(&self) -> usize {
        16 + self.name.len().next_multiple_of(4)
    }

    fn value_len(&self) -> usize {
        self.value.len().next_multiple_of(4)
    }

    /// By which e2fsck and the kernel see that an attribute in a block is as it was written.
    fn hash(&self) -> u32 {
        let of_name = self.name.iter().fold(0u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
        self.value.chunks(4).fold(of_name, |hash, chunk| {
            let mut word = [0; 4];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

impl Attributes {
    /// The attributes of the file at `path`.
    ///
    /// # Errors
    /// Names that ext4 does not know, damaged lists, and more than a block.
    pub(super) fn of(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>, path: &[u8]) -> io::Result<Attributes> {
        let refuse = |what: &str| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{}: its extended attributes {what}", show(path)))
        };
        let mut all = Vec::new();
        for (name, value) in xattrs {
            let known = PREFIXES.iter().find_map(|(prefix, index)| Some((*index, name.strip_prefix(*prefix)?)));
            let (index, name) = known.ok_or_else(|| refuse("have a name that ext4 does not know"))?;
            let value = if LISTS.contains(&index) {
                list(value).ok_or_else(|| refuse("have an access control list that is none"))?
            } else {
                value.clone()
            };
            all.push(Attribute { index, name: name.to_vec(), value });
        }
        // As the kernel sorts them.
        all.sort_by(|a, b| (a.index, a.name.len(), &a.name).cmp(&(b.index, b.name.len(), &b.name)));
        let attributes = Attributes(all);
        if attributes.len() + BLOCK_HEADER > BLOCK as usize {
            return Err(refuse("are larger than a block: use the formats tar or oci"));
        }
        Ok(attributes)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all, with the word that ends the entries.
    fn len(&self) -> usize {
        self.0.iter().map(|one| one.entry_len() + one.value_len()).sum::<usize>() + 4
    }

    /// The attributes as they stand behind an inode with `room` bytes; `None` if they need more.
    pub(super) fn inline(&self, room: usize) -> Option<Vec<u8>> {
        if self.len() + 4 > room {
            return None;
        }
        let mut out = vec![0; room];
        put(&mut out, 0, &MAGIC.to_le_bytes());
        // Places of values count from the first entry.
        self.write(&mut out, 4, 4, |_| 0);
        Some(out)
    }

    /// The attributes as a block.
    pub(super) fn block(&self) -> Vec<u8> {
        let mut out = vec![0; BLOCK as usize];
        let hash = self.0.iter().fold(0u32, |hash, one| hash.rotate_left(16) ^ one.hash());
        // Magic, one inode has it, one block; the hash of all.
        for (at, word) in [(0, MAGIC), (4, 1), (8, 1), (12, hash)] {
            put(&mut out, at, &word.to_le_bytes());
        }
        self.write(&mut out, BLOCK_HEADER, 0, Attribute::hash);
        out
    }

    /// Entries from `first` on, values from the end down; their places count from `base`.
    fn write(&self, out: &mut [u8], first: usize, base: usize, hash: impl Fn(&Attribute) -> u32) {
        let (mut at, mut value_at) = (first, out.len());
        for one in &self.0 {
            // All of them fit, as was found before.
            value_at = value_at.saturating_sub(one.value_len());
            put(out, at, &[one.name.len() as u8, one.index]);
            put(out, at + 2, &(value_at.saturating_sub(base) as u16).to_le_bytes());
            put(out, at + 8, &(one.value.len() as u32).to_le_bytes());
            put(out, at + 12, &hash(one).to_le_bytes());
            put(out, at + 16, &one.name);
            put(out, value_at, &one.value);
            at += one.entry_len();
        }
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// An access control list in the disk's form (version 1) out of the programs' (version 2): only entries that name somebody
/// have a number.
fn list(value: &[u8]) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&2u32.to_le_bytes())?;
    if entries.len() % 8 != 0 {
        return None;
    }
    let mut out = 1u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let [t0, t1, ..] = *entry else { return None };
        let named = NAMED.contains(&u16::from_le_bytes([t0, t1]));
        out.extend(entry.get(..if named { 8 } else { 4 })?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_loses_the_numbers_that_mean_nothing() {
        // Owner rw-, the group 4 r--, the mask r--.
        let entry =
            |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
        let whole = [vec![2, 0, 0, 0], entry(1, 6, u32::MAX), entry(8, 4, 4), entry(0x10, 4, u32::MAX)].concat();
        let expected = [1, 0, 0, 0, 1, 0, 6, 0, 8, 0, 4, 0, 4, 0, 0, 0, 0x10, 0, 4, 0];
        assert_eq!(list(&whole).as_deref(), Some(&expected[..]));
        assert_eq!((list(&whole[..10]), list(&[1, 0, 0, 0]), list(b"")), (None, None, None));
    }

    #[test]
    fn what_is_too_much_for_the_inode_goes_into_a_block() {
        let one = |len| Attributes::of(&BTreeMap::from([(b"user.a".to_vec(), vec![1; len])]), b"file");
        assert!(one(60).expect("small").inline(96).is_some());
        assert!(one(100).expect("a block").inline(96).is_none());
        assert!(one(5000).is_err());
        assert!(Attributes::of(&BTreeMap::from([(b"odd".to_vec(), vec![])]), b"file").is_err());
    }
}
