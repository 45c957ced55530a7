//! The guest in which devices are measured, and the root with the peer of its network: Debian's packages, unpacked only.

use std::fs;
use std::path::PathBuf;

use images::cache::{Cache, Sha256Sum};
use images::deb::DebNode;
use images::debian::Archive;
use images::kernel::{self, CLOUD_KERNEL};
use images::progress::Progress;

use super::super::root;
use crate::exit::{Failure, explain};

/// Changes when roots are made in another way.
const RECIPE: &str = "1";
/// The first process.
const WORK: [(&str, &str); 1] = [("init.sh", include_str!("../work/devices.sh"))];
/// The drivers, besides what they need.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "ext4"];
/// The peer's packages; the guest has them too.
const PEER: [&str; 6] = ["iperf3", "libiperf0", "libsctp1", "libssl3", "libc6", "libgcc-s1"];

/// The guest's packages besides, with what they load. What fio can do and nobody asks for here needs most of them.
const GUEST: [&str; 65] = [
    "bash",
    "busybox-static",
    "coreutils",
    "e2fsprogs",
    "fio",
    "libacl1",
    "libaio1",
    "libargon2-1",
    "libattr1",
    "libblkid1",
    "libboost-iostreams1.74.0",
    "libboost-thread1.74.0",
    "libbz2-1.0",
    "libcom-err2",
    "libcryptsetup12",
    "libdaxctl1",
    "libdevmapper1.02.1",
    "libext2fs2",
    "libffi8",
    "libfmt9",
    "libgfapi0",
    "libgfrpc0",
    "libgfxdr0",
    "libglusterfs0",
    "libgmp10",
    "libgnutls30",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libibverbs1",
    "libicu72",
    "libidn2-0",
    "libjson-c5",
    "libk5crypto3",
    "libkeyutils1",
    "libkmod2",
    "libkrb5-3",
    "libkrb5support0",
    "liblzma5",
    "libnbd0",
    "libndctl6",
    "libnettle8",
    "libnl-3-200",
    "libnl-route-3-200",
    "libnuma1",
    "libp11-kit0",
    "libpcre2-8-0",
    "libpmem1",
    "libpmemblk1",
    "librados2",
    "librbd1",
    "librdmacm1",
    "libselinux1",
    "libss2",
    "libstdc++6",
    "libtasn1-6",
    "libtinfo6",
    "libtirpc3",
    "libudev1",
    "libunistring2",
    "libuuid1",
    "libxml2",
    "libzstd1",
    "logsave",
    "zlib1g",
    "base-files",
];

/// A kernel, and an initramfs with its drivers.
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

fn recipe() -> Sha256Sum {
    Sha256Sum::of(format!("{RECIPE} {} {PEER:?} {GUEST:?} {MODULES:?} {WORK:?}", root::SUITE).as_bytes())
}

/// The guest, from the cache if it was made before.
///
/// # Errors
/// When the archive, the cache or a package cannot be used.
pub fn guest(mirror: Option<&str>, cache: &Cache, progress: &dyn Progress) -> Result<Guest, Failure> {
    let notes = ["kernel", "initramfs"].map(|part| format!("bench-devices-{}.{part}", recipe()));
    if let [Some(kernel), Some(initramfs)] = notes.each_ref().map(|note| root::made_before(cache, note)) {
        return Ok(Guest { kernel, initramfs });
    }
    let archive = root::open(mirror, "arm64", cache, progress)?;
    let packages: Vec<&str> = PEER.iter().chain(&GUEST).copied().collect();
    let mut tree = root::with_frame(root::unpacked(&archive, &packages, progress)?, &WORK);
    let image = add_kernel(&archive, &mut tree, progress)?;
    root::with_parents(&mut tree);
    progress.begin("writing the initramfs of the benchmark", None);
    let bytes = root::write_cpio(&tree).map_err(root::failed("Cannot write the initramfs of the benchmark"))?;
    let [kernel, initramfs] = &notes;
    let initramfs = root::keep(cache, initramfs, &bytes)?;
    let kernel = root::keep(cache, kernel, &image)?;
    progress.end();
    Ok(Guest { kernel, initramfs })
}

/// Puts the drivers into `tree`; the answer is the kernel's image.
fn add_kernel(archive: &Archive, tree: &mut root::Tree, progress: &dyn Progress) -> Result<Vec<u8>, Failure> {
    let packages = kernel::packages(archive, CLOUD_KERNEL).map_err(|e| Failure::backend(explain(&e)))?;
    let kernel = kernel::read(archive, &packages, progress).map_err(|e| Failure::backend(explain(&e)))?;
    let mut order = String::new();
    for module in kernel.modules(&MODULES).map_err(|e| Failure::backend(explain(&e)))? {
        order += &format!("{}.ko\n", module.name);
        tree.insert(format!("bench/modules/{}.ko", module.name), (0o644, DebNode::File(module.contents)));
    }
    tree.insert("bench/modules/order".to_owned(), (0o644, DebNode::File(order.into_bytes())));
    Ok(kernel.image)
}

/// The directory with the peer's root, for the host's architecture.
///
/// # Errors
/// As [`guest`].
pub fn peer(mirror: Option<&str>, cache: &Cache, progress: &dyn Progress) -> Result<PathBuf, Failure> {
    let path = cache.named(&format!("bench-devices-{}.root", recipe()));
    if path.is_dir() {
        return Ok(path);
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let archive = root::open(mirror, architecture, cache, progress)?;
    let tree = root::with_frame(root::unpacked(&archive, &PEER, progress)?, &[]);
    let part = cache.named(&format!("bench-devices-{}.part", std::process::id()));
    root::write_directory(&tree, &part)
        .and_then(|()| fs::rename(&part, &path))
        .map_err(root::failed("Cannot write the root of the network's peer"))?;
    Ok(path)
}
