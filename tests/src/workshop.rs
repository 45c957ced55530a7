//! A guest with more in its root than the demo's: programs of `programs/`, files of Debian packages, modules of its kernel.

use std::path::{Path, PathBuf};

use images::cache::Cache;
use images::compression;
use images::cpio::Writer;
use images::deb::{DebNode, read_entries, read_files};
use images::debian::{Archive, Package};
use images::demo::{DemoGuest, DemoOptions};
use images::kernel;
use images::progress::Silent;

use crate::linux::{compiled, debian};

/// Greatest size of what is taken out of one package.
const MAX_CONTENTS: u64 = 512 << 20;

/// A kernel, and what is added to the demo's initramfs.
pub struct Workshop {
    archive: Archive,
    guest: DemoGuest,
    /// The package with the modules.
    kernel_package: PathBuf,
    added: Writer<Vec<u8>>,
    folder: tempfile::TempDir,
}

impl Workshop {
    /// A guest with the kernel `package`, a meta package, of `suite`.
    ///
    /// # Panics
    /// When the archive cannot be reached. So in the other functions.
    #[must_use]
    pub fn new(suite: &str, package: &str) -> Workshop {
        let cache = Cache::of_user().expect("a cache folder");
        let archive = Archive::open(&DemoOptions::new(suite).archive, &cache, &Silent).expect("the archive");
        let packages = kernel::packages(&archive, package).expect("the kernel's packages");
        let kernel_package = archive.fetch(packages.last().expect("one at least"), &Silent).expect("the package");
        Workshop {
            archive,
            guest: debian(suite, package),
            kernel_package,
            added: Writer::new(Vec::new(), 0),
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    /// The kernel's image.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        &self.guest.kernel
    }

    /// The demo's initramfs, without what was added.
    #[must_use]
    pub fn plain_initrd(&self) -> &Path {
        &self.guest.initrd
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.added.file(name, mode, contents).expect("a name");
    }

    /// Adds the program `programs/NAME.c` as `/NAME`.
    pub fn program(&mut self, name: &str) {
        let program = compiled(name, self.folder.path());
        self.file(name, 0o755, &std::fs::read(program).expect("it was compiled"));
    }

    /// Adds modules of the kernel, unpacked, as `/modules/NAME.ko`; nothing that they need.
    pub fn modules(&mut self, names: &[&str]) {
        self.added.directory("modules", 0o755).expect("a name");
        let name_of = |path: &str| -> Option<String> {
            let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
            Some(name.to_owned())
        };
        let wanted = |path: &str| name_of(path).is_some_and(|name| names.contains(&name.as_str()));
        let found = read_files(&self.kernel_package, wanted, MAX_CONTENTS).expect("a kernel package");
        assert_eq!(found.len(), names.len(), "{} lacks some of {names:?}", self.kernel_package.display());
        for module in found {
            let mut contents = Vec::new();
            let mut reader = compression::reader(module.contents.as_slice()).expect("a known format");
            std::io::Read::read_to_end(&mut reader, &mut contents).expect("a module");
            let name = name_of(&module.name).expect("as above");
            self.file(&format!("modules/{name}.ko"), 0o644, &contents);
        }
    }

    /// Adds what packages install, without their documentation, and the libraries that they need. No script of theirs runs.
    pub fn packages(&mut self, names: &[&str]) {
        let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut next = 0;
        while let Some(name) = names.get(next) {
            let package = self.archive.find(name).expect("a package");
            for needed in package.depends.iter().flatten() {
                let is_library = needed.name.starts_with("lib") || needed.name.starts_with("zlib");
                if is_library && !names.contains(&needed.name) && self.archive.find(&needed.name).is_ok() {
                    names.push(needed.name.clone());
                }
            }
            self.package(&package);
            next += 1;
        }
    }

    fn package(&mut self, package: &Package) {
        let path = self.archive.fetch(package, &Silent).expect("the package");
        let wanted = |name: &str| !name.starts_with("usr/share/");
        for entry in read_entries(&path, wanted, MAX_CONTENTS).expect("a package") {
            let added = match entry.node {
                DebNode::Directory => self.added.directory(&entry.name, entry.mode),
                DebNode::File(contents) => self.added.file(&entry.name, entry.mode, &contents),
                DebNode::Symlink(target) => self.added.symlink(&entry.name, &target),
                DebNode::HardLink(target) => self.added.symlink(&entry.name, &format!("/{target}")),
            };
            added.expect("a name");
        }
    }

    /// The guest, and the folder that has to outlive it.
    #[must_use]
    pub fn finish(self) -> (DemoGuest, tempfile::TempDir) {
        let mut initrd = std::fs::read(&self.guest.initrd).expect("an initramfs");
        // The kernel takes archives one behind the other.
        initrd.extend(self.added.finish().expect("memory"));
        let path = self.folder.path().join("initrd");
        std::fs::write(&path, initrd).expect("written");
        (DemoGuest { initrd: path, ..self.guest }, self.folder)
    }
}
