//! The kernel modules of the devices that the machine offers, in an order in which they can be loaded.

use std::io::{self, Read};

use crate::compression;
use crate::deb::DebFile;

/// Drivers that every guest loads, and what they need where that is a module too.
const WANTED: [&str; 13] = [
    "failover",
    "net_failover",
    "rng_core",
    "virtio",
    "virtio_ring",
    "virtio_blk",
    "virtio_console",
    "virtio_mmio",
    "virtio_net",
    "virtio_pci",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_rng",
];
/// Drivers that a guest loads where it has the device, by the number of the virtio device type as Linux prints it.
pub(crate) const FOR_DEVICES: [(&str, &[&str]); 3] = [
    ("0x0005", &["virtio_balloon"]),
    ("0x0013", &["vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"]),
    ("0x001a", &["fuse", "virtiofs"]),
];
/// Greatest size of a module: those of Debian have less than 10 MB.
const MAX_MODULE: u64 = 64 << 20;

/// A module, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name as the kernel has it: with underscores.
    pub name: String,
    /// The ELF object.
    pub contents: Vec<u8>,
}

/// Whether a file of a package is one of the modules.
pub(super) fn is_wanted(path: &str) -> bool {
    let wanted = |name: &str| WANTED.contains(&name) || FOR_DEVICES.iter().any(|(_, names)| names.contains(&name));
    path.contains("lib/modules/") && name(path).is_some_and(|name| wanted(&name))
}

/// The module's name for its path.
fn name(path: &str) -> Option<String> {
    let (stem, _) = path.rsplit('/').next()?.split_once(".ko")?;
    Some(stem.replace('-', "_"))
}

/// Unpacks the modules and sorts them so that each comes after those that it needs. One that needs a module that is not
/// there is left out, with those that need it.
pub(super) fn in_order(files: Vec<DebFile>) -> io::Result<Vec<Module>> {
    let mut waiting = Vec::new();
    for file in files {
        let Some(name) = name(&file.name) else {
            continue;
        };
        let mut contents = Vec::new();
        compression::reader(file.contents.as_slice())?.take(MAX_MODULE).read_to_end(&mut contents)?;
        waiting.push(Module { name, contents });
    }
    waiting.sort_by(|a, b| a.name.cmp(&b.name));
    let mut ordered: Vec<Module> = Vec::new();
    loop {
        let is_there = |name: &String| ordered.iter().any(|module| module.name == *name);
        let (ready, rest): (Vec<Module>, Vec<Module>) =
            waiting.into_iter().partition(|module| needs(&module.contents).iter().all(is_there));
        if ready.is_empty() {
            return Ok(ordered);
        }
        ordered.extend(ready);
        waiting = rest;
    }
}

/// What a module needs: `depends=a,b` among the NUL-terminated strings of its `.modinfo` section.
fn needs(module: &[u8]) -> Vec<String> {
    let field = module.split(|&byte| byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(field.unwrap_or_default()).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, contents: &[u8]) -> DebFile {
        DebFile { name: path.to_owned(), mode: 0o644, contents: contents.to_vec() }
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let packed = crate::debian::archive::tests::xz(b"\x7fELF\0depends=virtio-ring,virtio\0");
        let modules = in_order(vec![
            file("lib/modules/1/virtio_blk.ko.xz", &packed),
            file("lib/modules/1/virtio_ring.ko", b"x\0license=GPL\0depends=virtio\0"),
            file("lib/modules/1/virtio.ko", b"x\0depends=\0"),
            file("lib/modules/1/virtio_net.ko", b"x\0depends=net_failover\0"),
        ]);
        let names: Vec<String> = modules.expect("readable").into_iter().map(|module| module.name).collect();
        assert_eq!(names, ["virtio", "virtio_ring", "virtio_blk"]);
    }

    #[test]
    fn only_the_modules_of_our_devices_are_wanted() {
        assert!(is_wanted("usr/lib/modules/6.12/kernel/drivers/char/hw_random/virtio-rng.ko.xz"));
        assert!(!is_wanted("lib/modules/6.12/kernel/fs/xfs/xfs.ko.xz"));
        assert!(!is_wanted("usr/share/doc/virtio_net.ko"));
    }
}
