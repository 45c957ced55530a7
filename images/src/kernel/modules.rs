//! The modules of a kernel, in a folder, in its package or in an archive, and the order in which some of them can be loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::compression;
use crate::cpio;
use crate::deb::{self, DebError, DebFile};

/// The drivers of the machine's devices, without those of disks and file systems.
pub const DEVICES: [&str; 8] = [
    "virtio_net",
    "af_packet",
    "virtio_rng",
    "virtio_console",
    "virtio_balloon",
    "vmw_vsock_virtio_transport",
    "fuse",
    "virtiofs",
];
/// Drivers of which a guest loads those whose device it has, with what they need, by the number of the virtio device type as
/// Linux prints it.
pub(crate) const FOR_DEVICES: [(&str, &[&str]); 3] = [
    ("0x0005", &["virtio_balloon"]),
    ("0x0013", &["vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"]),
    ("0x001a", &["fuse", "virtiofs"]),
];
/// The drivers of disks on either transport.
pub const DISKS: [&str; 3] = ["virtio_pci", "virtio_mmio", "virtio_blk"];
/// Greatest size of a module: those of Debian have less than 10 MB.
const MAX_MODULE: u64 = 64 << 20;
/// Greatest size of all that is kept of a package.
const MAX_PACKAGE: u64 = 512 << 20;
/// What the names of a kernel's packages begin with.
pub(crate) const PACKAGES: [&str; 4] = ["linux-image-", "linux-modules-", "linux-base-", "linux-binary-"];
/// Folders below `kernel/` of which a root disk may need a module.
const PLACES: [&str; 15] = [
    "arch/arm64/",
    "crypto/",
    "drivers/block/",
    "drivers/char/",
    "drivers/net/",
    "drivers/nvme/",
    "drivers/scsi/",
    "drivers/virtio/",
    "fs/",
    "lib/",
    "mm/",
    "net/core/",
    "net/packet/",
    "net/vmw_vsock/",
    "drivers/vhost/",
];

/// Why there are no modules.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A file cannot be read.
    #[error("Cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the host or the decoder says.
        source: io::Error,
    },
    /// The kernel's package cannot be read.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// No modules of the kernel.
    #[error(
        "{} has no modules of the kernel {version}; expected a folder with lib/modules/{version}, or the package linux-image-{version}",
        path.display()
    )]
    NoModules {
        /// Where they were looked for.
        path: PathBuf,
        /// The kernel's version.
        version: String,
    },
}

/// A module, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name as the kernel has it: with underscores.
    pub name: String,
    /// The ELF object.
    pub contents: Vec<u8>,
}

/// Where a module is.
#[derive(Clone, Debug)]
enum Stored {
    File(PathBuf),
    /// Perhaps compressed.
    Bytes(Vec<u8>),
}

/// The modules of one kernel.
#[derive(Clone, Debug)]
pub struct ModuleSet {
    origin: PathBuf,
    /// By name.
    modules: BTreeMap<String, (String, Stored)>,
    /// Names of what the kernel has built in.
    built_in: BTreeSet<String>,
}

impl ModuleSet {
    /// The modules of the kernel `version` in `path`: a kernel package, an archive that [`ModuleSet::archive`] made, or a
    /// folder `VERSION`, `lib/modules` or one that has `lib/modules/VERSION`. Beside one of the packages that newer kernels
    /// are split into, the others are read too.
    ///
    /// # Errors
    /// [`ModuleError`].
    pub fn open(path: &Path, version: &str) -> Result<ModuleSet, ModuleError> {
        if path.is_dir() {
            return ModuleSet::of_folder(path, version);
        }
        let mut magic = [0; 6];
        let is_archive = fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok();
        if is_archive && magic == *b"070701" {
            let files = read_archive(path).map_err(|source| ModuleError::Io { path: path.to_owned(), source })?;
            return ModuleSet::of_files(path, files, version);
        }
        let wanted = |name: &str| is_module_of(name, version);
        let mut files = deb::read_files(path, wanted, MAX_PACKAGE)?;
        for other in packages_beside(path, version) {
            files.extend(deb::read_files(&other, wanted, MAX_PACKAGE)?);
        }
        ModuleSet::of_files(path, files, version)
    }

    /// The modules of the kernel `version` among the files of its packages.
    ///
    /// # Errors
    /// [`ModuleError`].
    pub fn of_files(origin: &Path, files: Vec<DebFile>, version: &str) -> Result<ModuleSet, ModuleError> {
        let mut set = ModuleSet::new(origin);
        for file in files {
            if let Some(name) = inside(&file.name, version).filter(|name| is_wanted(name)) {
                set.add(name, Stored::Bytes(file.contents))?;
            }
        }
        set.checked(version)
    }

    /// The modules `names` and what they need, as a cpio archive that [`ModuleSet::open`] reads.
    ///
    /// # Errors
    /// A module that cannot be read.
    pub fn archive(&self, names: &[&str], version: &str) -> Result<Vec<u8>, ModuleError> {
        let modules = self.in_order(names)?;
        let written = || -> io::Result<Vec<u8>> {
            let mut archive = cpio::Writer::new(Vec::new(), 0);
            let mut built_in = String::new();
            for name in &self.built_in {
                built_in += &format!("kernel/{name}.ko\n");
            }
            archive.file(&format!("lib/modules/{version}/modules.builtin"), 0o644, built_in.as_bytes())?;
            for module in &modules {
                let path = self.modules.get(&module.name).map(|(path, _)| path.as_str()).unwrap_or_default();
                let path = path.trim_end_matches(".xz").trim_end_matches(".gz").trim_end_matches(".zst");
                archive.file(&format!("lib/modules/{version}/{path}"), 0o644, &module.contents)?;
            }
            archive.finish()
        };
        written().map_err(|source| ModuleError::Io { path: self.origin.clone(), source })
    }

    fn of_folder(path: &Path, version: &str) -> Result<ModuleSet, ModuleError> {
        let places = ["", version, &format!("lib/modules/{version}"), &format!("usr/lib/modules/{version}")];
        let folder = places.iter().map(|place| path.join(place)).find(|folder| folder.join("kernel").is_dir());
        let folder =
            folder.ok_or_else(|| ModuleError::NoModules { path: path.to_owned(), version: version.to_owned() })?;
        let mut set = ModuleSet::new(path);
        let mut waiting = vec![folder.clone()];
        while let Some(directory) = waiting.pop() {
            let failed = |source| ModuleError::Io { path: directory.clone(), source };
            for entry in fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                // Links lead out of the modules (`build`, `source`) and are not followed.
                let kind = entry.file_type().map_err(failed)?;
                let path = entry.path();
                let name =
                    path.strip_prefix(&folder).map_or_else(|_| String::new(), |p| p.to_string_lossy().into_owned());
                if kind.is_dir() {
                    waiting.push(path);
                } else if kind.is_file() && is_wanted(&name) {
                    set.add(&name, Stored::File(path))?;
                }
            }
        }
        set.checked(version)
    }

    fn new(origin: &Path) -> ModuleSet {
        ModuleSet { origin: origin.to_owned(), modules: BTreeMap::new(), built_in: BTreeSet::new() }
    }

    fn checked(self, version: &str) -> Result<ModuleSet, ModuleError> {
        if self.modules.is_empty() && self.built_in.is_empty() {
            return Err(ModuleError::NoModules { path: self.origin, version: version.to_owned() });
        }
        Ok(self)
    }

    /// Takes in the file at `path` below the folder of the kernel's version.
    fn add(&mut self, path: &str, stored: Stored) -> Result<(), ModuleError> {
        if path == "modules.builtin" {
            let text = self.read(path, &stored)?;
            self.built_in.extend(String::from_utf8_lossy(&text).lines().filter_map(module_name));
        } else if let Some(name) = module_name(path) {
            self.modules.insert(name, (path.to_owned(), stored));
        }
        Ok(())
    }

    fn read(&self, path: &str, stored: &Stored) -> Result<Vec<u8>, ModuleError> {
        let unpack = |input: &mut dyn io::BufRead| -> io::Result<Vec<u8>> {
            let mut contents = Vec::new();
            compression::reader(input)?.take(MAX_MODULE + 1).read_to_end(&mut contents)?;
            if contents.len() as u64 > MAX_MODULE {
                return Err(io::Error::other(format!("it has more than {MAX_MODULE} bytes unpacked")));
            }
            Ok(contents)
        };
        let contents = match stored {
            Stored::Bytes(bytes) => unpack(&mut bytes.as_slice()),
            Stored::File(file) => fs::File::open(file).and_then(|file| unpack(&mut io::BufReader::new(file))),
        };
        contents.map_err(|source| ModuleError::Io { path: self.origin.join(path), source })
    }

    /// Whether there is a list of what is built into the kernel.
    pub fn knows_built_in(&self) -> bool {
        !self.built_in.is_empty()
    }

    /// Whether the kernel can do what the module `name` does.
    pub fn has(&self, name: &str) -> bool {
        self.modules.contains_key(name) || self.built_in.contains(name)
    }

    /// The modules `names`, each behind those that it needs; what is built in needs no loading, and what is not there
    /// is left out ([`has`](Self::has) tells).
    ///
    /// # Errors
    /// A module that cannot be read.
    pub fn in_order(&self, names: &[&str]) -> Result<Vec<Module>, ModuleError> {
        let mut order = Order { set: self, seen: BTreeSet::new(), modules: Vec::new() };
        names.iter().try_for_each(|name| order.add(name))?;
        Ok(order.modules)
    }

    /// The module that does what a soft dependency asks for: one of that name, or one that implements a cipher or a
    /// checksum of that name.
    fn provider(&self, wanted: &str) -> Result<Option<String>, ModuleError> {
        if self.has(wanted) {
            return Ok(Some(wanted.to_owned()));
        }
        let alias = format!("crypto-{wanted}");
        for (name, (path, stored)) in &self.modules {
            let ciphers = path.starts_with("kernel/crypto/") || path.starts_with("kernel/arch/arm64/crypto/");
            if ciphers && fields(&self.read(path, stored)?, "alias=").any(|field| field == alias) {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }
}

/// A walk through what modules need.
struct Order<'a> {
    set: &'a ModuleSet,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    fn add(&mut self, name: &str) -> Result<(), ModuleError> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some((path, stored)) = self.set.modules.get(name) else { return Ok(()) };
        let contents = self.set.read(path, stored)?;
        let soft: Vec<String> = fields(&contents, "softdep=").flat_map(|field| before(&field)).collect();
        for wanted in soft {
            if let Some(provider) = self.set.provider(&wanted)? {
                self.add(&provider)?;
            }
        }
        let needed: Vec<String> = fields(&contents, "depends=").collect();
        for name in needed.iter().flat_map(|field| field.split(',')).filter(|name| !name.is_empty()) {
            self.add(&name.replace('-', "_"))?;
        }
        self.modules.push(Module { name: name.to_owned(), contents });
        Ok(())
    }
}

/// What a soft dependency (`pre: a b post: c`) wants first.
fn before(field: &str) -> Vec<String> {
    let words = field.split_whitespace().skip_while(|word| *word != "pre:").skip(1);
    words.take_while(|word| !word.ends_with(':')).map(|word| word.replace('-', "_")).collect()
}

/// The values of a key among the NUL-terminated strings of a module's `.modinfo` section.
fn fields(module: &[u8], key: &str) -> impl Iterator<Item = String> {
    let values = module.split(|&byte| byte == 0).filter_map(move |text| text.strip_prefix(key.as_bytes()));
    values.map(|value| String::from_utf8_lossy(value).into_owned())
}

/// The path of a package's file below the folder of the kernel's version.
fn inside<'a>(name: &'a str, version: &str) -> Option<&'a str> {
    let name = name.strip_prefix("usr/").unwrap_or(name).strip_prefix("lib/modules/")?;
    name.strip_prefix(version)?.strip_prefix('/')
}

/// Whether a file of a package is a module of the kernel `version` that may be of use.
fn is_module_of(name: &str, version: &str) -> bool {
    inside(name, version).is_some_and(is_wanted)
}

/// Whether a file of a package is a module of some kernel that may be of use.
pub(super) fn is_useful(name: &str) -> bool {
    let version =
        |name: &str| name.split_once("lib/modules/").and_then(|(_, rest)| Some(rest.split_once('/')?.0.to_owned()));
    version(name).is_some_and(|version| is_module_of(name, &version))
}

/// The packages of the same kernel in the folder of `package`: since Linux 7.0 Debian keeps the image, the modules and the
/// list of what is built in (`modules.builtin`) in packages of their own.
fn packages_beside(package: &Path, version: &str) -> Vec<PathBuf> {
    let folder = package.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefixes = PACKAGES.map(|kind| format!("{kind}{version}_"));
    let kind_of = |name: &str| prefixes.iter().find(|prefix| name.starts_with(prefix.as_str()));
    let Some(own) = package.file_name().and_then(OsStr::to_str).filter(|name| kind_of(name).is_some()) else {
        return Vec::new();
    };
    // The same build of it: what is between version and architecture is the package's version.
    let build = |name: &str| kind_of(name).and_then(|prefix| name.strip_prefix(prefix.as_str())).map(str::to_owned);
    let wanted = build(own);
    let mut others: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != own && name.ends_with(".deb") && build(name) == wanted)
        .collect();
    others.sort();
    others.into_iter().map(|name| folder.join(name)).collect()
}

/// The files of an archive of modules.
fn read_archive(path: &Path) -> io::Result<Vec<DebFile>> {
    let size = fs::metadata(path)?.len();
    if size > MAX_PACKAGE {
        return Err(io::Error::other(format!("it has {size} bytes, at most {MAX_PACKAGE} are expected")));
    }
    let bytes = fs::read(path)?;
    let file = |found: &cpio::Found<'_>| DebFile {
        name: found.name.to_owned(),
        mode: found.mode,
        contents: found.contents.to_vec(),
    };
    Ok(cpio::read(&bytes)?.iter().map(file).collect())
}

/// Whether a file below the folder of the kernel's version is of use here.
fn is_wanted(path: &str) -> bool {
    let place = |path: &str| PLACES.iter().any(|place| path.starts_with(place));
    path == "modules.builtin" || path.strip_prefix("kernel/").is_some_and(place) && module_name(path).is_some()
}

/// The module's name for its path.
fn module_name(path: &str) -> Option<String> {
    let (stem, ending) = path.rsplit('/').next()?.split_once(".ko")?;
    matches!(ending, "" | ".xz" | ".gz" | ".zst").then(|| stem.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &[u8])]) -> ModuleSet {
        let mut set = ModuleSet::new(Path::new("test"));
        for (path, contents) in files {
            set.add(path, Stored::Bytes(contents.to_vec())).expect("readable");
        }
        set
    }

    fn order(set: &ModuleSet, names: &[&str]) -> Vec<String> {
        set.in_order(names).expect("readable").into_iter().map(|module| module.name).collect()
    }

    #[test]
    fn what_is_needed_comes_first() {
        let set = set(&[
            ("kernel/drivers/block/virtio_blk.ko", b"\x7fELF\0depends=virtio-ring,virtio\0"),
            ("kernel/drivers/virtio/virtio_ring.ko", b"x\0license=GPL\0depends=virtio\0"),
            ("kernel/drivers/virtio/virtio.ko", b"x\0depends=\0"),
            ("kernel/fs/ext4/ext4.ko", b"x\0depends=jbd2,mbcache\0softdep=pre: crc32c\0"),
            ("kernel/fs/jbd2/jbd2.ko", b"depends=\0"),
            ("kernel/crypto/crc32c_generic.ko", b"alias=crypto-crc32c-generic\0alias=crypto-crc32c\0depends=\0"),
            ("modules.builtin", b"kernel/fs/mbcache.ko\n"),
        ]);
        assert_eq!(order(&set, &["virtio_blk"]), ["virtio", "virtio_ring", "virtio_blk"]);
        assert_eq!(order(&set, &["ext4", "jbd2"]), ["crc32c_generic", "jbd2", "ext4"]);
        assert!(set.has("mbcache") && !set.has("xfs"));
        assert!(order(&set, &["xfs", "mbcache"]).is_empty());
    }

    #[test]
    fn an_archive_holds_what_was_put_into_it() {
        let packed = crate::debian::archive::tests::xz(b"x\0depends=virtio\0");
        let set = set(&[
            ("kernel/drivers/block/virtio_blk.ko.xz", &packed),
            ("kernel/drivers/virtio/virtio.ko", b"x\0depends=\0"),
            ("kernel/fs/xfs/xfs.ko", b"x\0"),
            ("modules.builtin", b"kernel/fs/mbcache.ko\n"),
        ]);
        let scratch = crate::cache::tests::Scratch::new("modules");
        let path = scratch.0.join("modules");
        fs::write(&path, set.archive(&["virtio_blk"], "6.1").expect("readable")).expect("written");
        let again = ModuleSet::open(&path, "6.1").expect("an archive");
        assert_eq!(order(&again, &["virtio_blk"]), ["virtio", "virtio_blk"]);
        assert!(again.has("mbcache") && !again.has("xfs"));
        assert!(matches!(ModuleSet::open(&path, "6.2"), Err(ModuleError::NoModules { .. })));
    }

    #[test]
    fn packages_of_one_kernel_are_found_beside_each_other() {
        let scratch = crate::cache::tests::Scratch::new("packages");
        let names = [
            "linux-modules-7.2-cloud-arm64_7.2.13-1_arm64.deb",
            "linux-base-7.2-cloud-arm64_7.2.13-1_arm64.deb",
            "linux-base-7.2-cloud-arm64_7.2.12-1_arm64.deb",
            "linux-base-7.2-arm64_7.2.13-1_arm64.deb",
            "linux-binary-7.2-cloud-arm64_7.2.13-1_arm64.deb",
            "linux-base-7.2-cloud-arm64_7.2.13-1_arm64.deb.part",
        ];
        for name in names {
            fs::write(scratch.0.join(name), b"").expect("written");
        }
        let beside = |name: &str| packages_beside(&scratch.0.join(name), "7.2-cloud-arm64");
        assert_eq!(beside(names[0]), [scratch.0.join(names[1]), scratch.0.join(names[4])]);
        assert!(beside("kernel.deb").is_empty());
    }

    #[test]
    fn a_circle_of_needs_ends() {
        let set = set(&[("kernel/lib/a.ko", b"depends=b\0"), ("kernel/lib/b.ko", b"depends=a\0softdep=pre: a\0")]);
        assert_eq!(order(&set, &["a"]), ["b", "a"]);
    }

    #[test]
    fn names_and_places() {
        assert_eq!(module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz").as_deref(), Some("virtio_rng"));
        assert_eq!(module_name("kernel/x.kofax"), None);
        assert!(
            is_wanted("kernel/fs/xfs/xfs.ko") && !is_wanted("kernel/drivers/gpu/drm/drm.ko") && !is_wanted("fs/a.ko")
        );
        assert_eq!(before("pre: a b-c post: d"), ["a", "b_c"]);
        assert!(before("post: d").is_empty());
    }
}
