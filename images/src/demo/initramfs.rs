//! The demo guest's root: BusyBox, a few modules, and the script that starts the shell.

use std::collections::BTreeMap;
use std::io;

use crate::cpio::Writer;
use crate::kept::UDHCPC;
use crate::kernel::{FOR_DEVICES, Module};

/// The first process.
pub(super) const INIT: &str = include_str!("init.sh");

/// Directories, parents first.
const DIRECTORIES: [&str; 16] = [
    "bin",
    "dev",
    "etc",
    "lib",
    "lib/modules",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/sbin",
    "usr/share",
    "usr/share/udhcpc",
];

/// The initramfs as an uncompressed cpio archive: unpacking would cost the guest more than reading costs the host.
pub(super) fn write(busybox: &[u8], modules: &[Module]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), 0);
    for name in DIRECTORIES {
        writer.directory(name, if name == "root" { 0o700 } else { 0o755 })?;
    }
    // The kernel opens it for the first process before that can mount anything.
    writer.character_device("dev/console", 0o600, 5, 1)?;
    writer.character_device("dev/null", 0o666, 1, 3)?;
    writer.file("init", 0o755, INIT.as_bytes())?;
    writer.file("bin/busybox", 0o755, busybox)?;
    writer.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    writer.file("etc/group", 0o644, b"root:x:0:\n")?;
    writer.file("usr/share/udhcpc/default.script", 0o755, UDHCPC.as_bytes())?;
    // One list for all guests, and one for each device that not all have.
    let mut orders = BTreeMap::from([("lib/modules/order".to_owned(), String::new())]);
    for module in modules {
        writer.file(&format!("lib/modules/{}.ko", module.name), 0o644, &module.contents)?;
        let device = FOR_DEVICES.iter().find(|(_, names)| names.contains(&module.name.as_str()));
        let order = device.map_or("lib/modules/order".to_owned(), |(id, _)| format!("lib/modules/order.{id}"));
        *orders.entry(order).or_default() += &format!("{}.ko\n", module.name);
    }
    for (name, order) in orders {
        writer.file(&name, 0o644, order.as_bytes())?;
    }
    writer.finish()
}
