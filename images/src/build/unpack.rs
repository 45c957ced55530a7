//! Unpacks packages into a [`Tree`] as dpkg would (dpkg(1), `--unpack`), many at a time. Packages whose
//! `preinst` may change where files go are left to dpkg in the guest.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::path::Path;

use crate::deb::{self, DebError, DebFile};
use crate::tarball::{Entry, EntryKind, Reader};
use crate::tree::{Content, Inode, InodeId, Kind, PathError, Spool, Tree, clean_path, show};

/// Greatest size of a file in a package.
const MAX_FILE: u64 = 8 << 30;
/// Most files in a package.
const MAX_FILES: usize = 4_000_000;

/// Why a package cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// Its files cannot be read, or not be kept.
    #[error("Cannot unpack {package}")]
    Io {
        /// The package.
        package: String,
        /// What went wrong.
        source: io::Error,
    },
    /// A path leads out of the image.
    #[error("The package {package} is not made as Debian's are")]
    Path {
        /// The package.
        package: String,
        /// What is wrong.
        source: PathError,
    },
    /// It holds something that packages do not have.
    #[error("The package {package} has {what}: that is not made as Debian's packages are")]
    Strange {
        /// The package.
        package: String,
        /// What was found.
        what: String,
    },
    /// Two packages have the same file.
    #[error("{first} and {second} both have the file {path}, and neither says that it replaces the other: exclude one")]
    Twice {
        /// The package that has it already.
        first: String,
        /// The package that is to be unpacked.
        second: String,
        /// The file.
        path: String,
    },
}

/// A package that was read.
#[derive(Debug)]
pub struct Unpacked {
    /// Its name.
    pub name: String,
    /// The text of its `control`.
    pub control: String,
    /// Its other control files.
    pub scripts: Vec<DebFile>,
    /// Its files in the package's order, paths cleaned.
    pub files: Vec<(Entry, Option<Content>)>,
}

/// What a package's `preinst` does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Preinst {
    /// Nothing in a system that does not have the package yet.
    Nothing,
    /// Something that has nothing to do with the package's files.
    Runs,
    /// It looks at files of the package, or moves them.
    NamesFiles,
    /// It changes where files go.
    Diverts,
}

impl Unpacked {
    /// Reads the package in the file `path`, contents into `spool`.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn read(name: &str, path: &Path, spool: &Spool) -> Result<Unpacked, UnpackError> {
        let strange = |what: String| UnpackError::Strange { package: name.to_owned(), what };
        let io_error = |source| UnpackError::Io { package: name.to_owned(), source };
        let (control, scripts): (Vec<DebFile>, Vec<DebFile>) =
            deb::read_control(path)?.into_iter().partition(|file| file.name == "control");
        let control = control.into_iter().next().ok_or_else(|| strange("no control file".to_owned()))?;
        let control = String::from_utf8_lossy(&control.contents).into_owned();
        let mut archive = Reader::new(deb::data(path)?);
        let mut files = Vec::new();
        while let Some(mut entry) = archive.next_entry().map_err(io_error)? {
            let clean =
                |path: &[u8]| clean_path(path).map_err(|source| UnpackError::Path { package: name.to_owned(), source });
            entry.path = clean(&entry.path)?;
            let content = match &mut entry.kind {
                EntryKind::File(size) if *size > MAX_FILE => {
                    return Err(strange(format!("a file of {size} bytes, {}", show(&entry.path))));
                }
                EntryKind::File(size) => Some(spool.copy(&mut archive.contents(), *size).map_err(io_error)?),
                EntryKind::HardLink(target) => {
                    *target = clean(target)?;
                    None
                }
                EntryKind::CharacterDevice(..) | EntryKind::BlockDevice(..) => {
                    return Err(strange(format!("a device node, {}", show(&entry.path))));
                }
                _ => None,
            };
            files.push((entry, content));
            if files.len() > MAX_FILES {
                return Err(strange(format!("more than {MAX_FILES} files")));
            }
        }
        // To the end, where the checks of the compression are.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(io_error)?;
        Ok(Unpacked { name: name.to_owned(), control, scripts, files })
    }

    /// A field of its `control`.
    pub fn field(&self, name: &str) -> Option<&str> {
        crate::debian::deb822::paragraphs(&self.control).next()?.get(name)
    }

    /// One of its control files.
    pub fn script(&self, name: &str) -> Option<&[u8]> {
        self.scripts.iter().find(|file| file.name == name).map(|file| file.contents.as_slice())
    }

    /// Its configuration files, as trees have their paths, in the order of its list.
    pub fn conffiles(&self) -> Vec<Vec<u8>> {
        let lines = self.script("conffiles").unwrap_or_default().split(|&byte| byte == b'\n');
        // `remove-on-upgrade PATH` names files that are not there.
        lines.filter(|line| line.starts_with(b"/")).filter_map(|line| clean_path(line.trim_ascii_end()).ok()).collect()
    }

    /// What is to be done about its `preinst` when its files are put where they belong before it runs.
    pub fn preinst(&self) -> Preinst {
        let Some(script) = self.script("preinst") else { return Preinst::Nothing };
        let text = String::from_utf8_lossy(script).replace("\\\n", " ");
        // The helper cares for files of older versions: of a package that is new it does nothing.
        let does_something = |line: &&str| {
            !line.is_empty()
                && !line.starts_with('#')
                && !line.starts_with("dpkg-maintscript-helper ")
                && !["set -e", "set -eu", "exit 0"].contains(line)
        };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(does_something).collect();
        if lines.is_empty() {
            return Preinst::Nothing;
        }
        if lines.iter().any(|line| line.contains("dpkg-divert")) {
            return Preinst::Diverts;
        }
        let text = lines.join("\n");
        let named = |path: &[u8]| memchr::memmem::find(text.as_bytes(), &[b"/", path].concat()).is_some();
        let mut files = self.files.iter().filter(|(entry, _)| entry.kind != EntryKind::Directory);
        if files.any(|(entry, _)| named(&entry.path)) { Preinst::NamesFiles } else { Preinst::Runs }
    }

    /// Whether it says that it replaces files of `other`.
    fn replaces(&self, other: &str) -> bool {
        let relations = self.field("Replaces").map(|text| crate::debian::relation::parse(text, "arm64"));
        relations.into_iter().flatten().flatten().any(|relation| relation.name == other)
    }
}

/// Puts the files of packages into a tree.
pub struct Placer<'a> {
    tree: &'a mut Tree,
    /// Which package has which file that is no directory, and for each package which were taken over by others.
    owners: HashMap<Vec<u8>, String>,
    lost: BTreeMap<String, Vec<Vec<u8>>>,
}

impl<'a> Placer<'a> {
    /// Into `tree`.
    pub fn new(tree: &'a mut Tree) -> Placer<'a> {
        Placer { tree, owners: HashMap::new(), lost: BTreeMap::new() }
    }

    /// Puts the files of a package into the tree. `owns` is false for files that are put there again by dpkg.
    ///
    /// # Errors
    /// [`UnpackError`].
    pub fn place(
        &mut self,
        package: &Unpacked,
        all: &BTreeMap<String, Unpacked>,
        owns: bool,
    ) -> Result<(), UnpackError> {
        for (entry, content) in &package.files {
            let strange = |what: &str| UnpackError::Strange {
                package: package.name.clone(),
                what: format!("the file {}, which {what}", show(&entry.path)),
            };
            let path = self.tree.resolve(&entry.path).ok_or_else(|| strange("leads through a file"))?;
            let is_directory = entry.kind == EntryKind::Directory;
            if is_directory && self.is_directory(&path) {
                continue;
            }
            if owns && !is_directory {
                match self.owners.get(&path).and_then(|other| all.get(other)) {
                    // The file of the package that is replaced is not put there at all.
                    Some(other) if other.replaces(&package.name) => {
                        self.lost.entry(package.name.clone()).or_default().push(entry.path.clone());
                        continue;
                    }
                    Some(other) if package.replaces(&other.name) => {
                        self.lost.entry(other.name.clone()).or_default().push(entry.path.clone());
                    }
                    Some(other) => {
                        return Err(UnpackError::Twice {
                            first: other.name.clone(),
                            second: package.name.clone(),
                            path: show(&entry.path),
                        });
                    }
                    None => {}
                }
                self.owners.insert(path.clone(), package.name.clone());
            }
            if let EntryKind::HardLink(target) = &entry.kind {
                let id = self.target(target).ok_or_else(|| strange("is a link to a file that is not there"))?;
                self.tree.link(&path, id);
            } else {
                let kind = kind(&entry.kind, content.clone()).ok_or_else(|| strange("is of an unknown kind"))?;
                self.tree.insert(&path, inode(entry, kind));
            }
        }
        Ok(())
    }

    /// Files of each package that others replaced: they are no longer in its list.
    pub fn lost(self) -> BTreeMap<String, Vec<Vec<u8>>> {
        self.lost
    }

    fn target(&self, path: &[u8]) -> Option<InodeId> {
        let id = self.tree.id(&self.tree.resolve(path)?)?;
        let is_file = self.tree.iter().any(|(_, other, inode)| other == id && matches!(inode.kind, Kind::File(_)));
        is_file.then_some(id)
    }

    /// Whether there is a directory, or a link to one, at `path`.
    fn is_directory(&self, path: &[u8]) -> bool {
        let there = self.tree.follow(path).and_then(|path| self.tree.get(&path));
        there.is_some_and(|inode| inode.kind == Kind::Directory)
    }
}

/// What an entry becomes in a tree; nothing for hard links.
pub(crate) fn kind(kind: &EntryKind, content: Option<Content>) -> Option<Kind> {
    Some(match kind {
        EntryKind::File(_) => Kind::File(content?),
        EntryKind::Symlink(target) => Kind::Symlink(target.clone()),
        EntryKind::Directory => Kind::Directory,
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::CharacterDevice(major, minor) => Kind::CharacterDevice(*major, *minor),
        EntryKind::BlockDevice(major, minor) => Kind::BlockDevice(*major, *minor),
        EntryKind::HardLink(_) => return None,
    })
}

/// The inode of an entry.
pub(crate) fn inode(entry: &Entry, kind: Kind) -> Inode {
    let (mode, mtime) = (entry.mode, entry.mtime);
    Inode { uid: entry.uid, gid: entry.gid, xattrs: entry.xattrs.clone(), ..Inode::new(kind, mode, mtime) }
}

/// Reads many packages on `threads` threads. `done` hears of each one.
///
/// # Errors
/// The first error.
pub fn read_all(
    packages: &[(String, std::path::PathBuf)],
    spool: &Spool,
    threads: usize,
    done: &(dyn Fn(&str) + Sync),
) -> Result<BTreeMap<String, Unpacked>, UnpackError> {
    super::parallel::map(packages, threads, |(name, path)| {
        let unpacked = Unpacked::read(name, path, spool)?;
        done(name);
        Ok(unpacked)
    })
    .map(|all| all.into_iter().map(|one| (one.name.clone(), one)).collect())
}

/// The MD5 sum of contents, in hexadecimal: what dpkg knows files by.
pub(super) fn md5(content: &Content) -> io::Result<String> {
    use md5::{Digest, Md5};
    let mut hasher = Md5::new();
    let mut reader = content.reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preinst_is_judged_by_what_it_does() {
        let judged = |script: Option<&str>| {
            let entry = Entry {
                path: b"usr/bin/tool".to_vec(),
                kind: EntryKind::Symlink(b"x".to_vec()),
                mode: 0o777,
                uid: 0,
                gid: 0,
                mtime: 0,
                xattrs: BTreeMap::new(),
            };
            let file =
                |text: &str| DebFile { name: "preinst".to_owned(), mode: 0o755, contents: text.as_bytes().to_vec() };
            let scripts = script.map(file).into_iter().collect();
            let files = vec![(entry, None)];
            Unpacked { name: "a".to_owned(), control: String::new(), scripts, files }.preinst()
        };
        assert_eq!(judged(None), Preinst::Nothing);
        let helper =
            "#!/bin/sh\nset -e\n# /usr/bin/tool\ndpkg-maintscript-helper rm_conffile /usr/bin/tool \\\n  1 -- \"$@\"\n";
        assert_eq!(judged(Some(helper)), Preinst::Nothing);
        assert_eq!(judged(Some("#!/bin/sh\nset -e\nmkdir -p /var/lib/a\n")), Preinst::Runs);
        assert_eq!(judged(Some("#!/bin/sh\nrm -f /usr/bin/tool\n")), Preinst::NamesFiles);
        assert_eq!(judged(Some("#!/bin/sh\ndpkg-divert --add /bin/sh\n")), Preinst::Diverts);
    }
}
