//! An arm64 host with KVM that QEMU emulates (EL2 and all): what `vmm` for arm64 does there.
//!
//! The host is a Debian kernel with the demo's initramfs, to which an init of our own, the program, guests and a list of
//! jobs are added. Each job is a shell command; its output and status come back over the serial port.

use std::path::PathBuf;
use std::time::Duration;

use images::cpio::Writer;
use images::demo::DemoGuest;

use crate::process::run;
use crate::tools::{QEMU_SYSTEM, build_dir};

/// Starts the jobs and powers the host off.
const HOST_INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
mount -t tmpfs tmpfs /tmp
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
dmesg -n 1
while read -r module; do insmod "/lib/modules/$module" 2>/dev/null; done </lib/modules/order
echo "@@@ HOST $(uname -r) $(nproc)"
for job in /jobs/*; do
    echo "@@@ BEGIN ${job##*/}"
    sh "$job" </dev/null 2>&1
    echo "@@@ END $?"
done
echo "@@@ DONE"
poweroff -f
"#;

/// The first process of Linux guests: does what `job=` on its command line says.
const GUEST_INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
dmesg -n 1
if [ -e /lib/modules/order ]; then
    while read -r module; do insmod "/lib/modules/$module" 2>/dev/null; done </lib/modules/order
fi
echo "GUEST $(uname -m) CPUS $(nproc) MEMORY $(awk '/^MemTotal/ { print ($2 > 150000) }' /proc/meminfo)"
for cpu in 0 1 2 3; do
    [ -e /sys/devices/system/cpu/cpu$cpu ] && taskset $((1 << cpu)) sha256sum /bin/busybox | cut -c1-64
done
i=0; while [ ! -e /dev/vda ] && [ -n "$(grep -e job=disk -e job=sums /proc/cmdline)" ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done
if grep -q job=disk /proc/cmdline; then
    if [ "$(dd if=/dev/vda bs=512 skip=2047 count=1 2>/dev/null | head -c 6)" = MARKED ]; then
        echo "GUEST second boot"
        dd if=/dev/vda bs=512 count=1024 2>/dev/null | sha256sum
        poweroff -f
    fi
    dd if=/bin/busybox of=/dev/vda bs=512 count=1024 conv=notrunc 2>/dev/null
    echo MARKED | dd of=/dev/vda bs=512 seek=2047 conv=notrunc,sync 2>/dev/null
    sync
    echo "GUEST first boot"
    reboot -f
fi
if grep -q job=net /proc/cmdline; then
    ip link set eth0 up
    udhcpc -i eth0 -s /usr/share/udhcpc/default.script -q -n -t 10 >/dev/null 2>&1
    wget -q -O /tmp-file http://10.0.2.2:8080/file
    head -c 300000 /bin/busybox >/tmp-mine
    nc 10.0.2.2 8081 </tmp-mine
    address=$(ip -4 address show eth0 | awk '/inet / { print $2 }')
    echo "GUEST net $address $(md5sum </tmp-file | cut -c1-32) $(md5sum </tmp-mine | cut -c1-32)"
fi
if grep -q job=hotplug /proc/cmdline; then
    echo 0 >/sys/devices/system/cpu/cpu1/online && echo "GUEST online $(cat /sys/devices/system/cpu/online)"
    echo 1 >/sys/devices/system/cpu/cpu1/online && echo "GUEST online $(cat /sys/devices/system/cpu/online)"
fi
if grep -q job=sums /proc/cmdline; then
    for n in 1 2 3 4 5 6; do
        echo "GUEST at $n"
        # Not from the cache: each round takes interrupts of the disk.
        echo 3 >/proc/sys/vm/drop_caches
        echo "GUEST sum $n $(gzip -c /bin/busybox | gunzip | md5sum | cut -c1-32) $(dd if=/dev/vda bs=64k 2>/dev/null | wc -c)"
    done
fi
if grep -q job=features /proc/cmdline; then
    grep Features /proc/cpuinfo
    # The kernel uses stolen time; in hundredths of a second it is less than the uptime.
    echo "GUEST stolen $(dmesg | grep -c 'stolen time PV') $(awk '/^cpu / { print $9 }' /proc/stat) $(awk '{ print int($1 * 100) }' /proc/uptime)"
fi
if grep -q job=panic /proc/cmdline; then echo c >/proc/sysrq-trigger; fi
poweroff -f
"#;

/// The demo's root with an init that does what `job=` on the command line says.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn guest_root(guest: &DemoGuest) -> Vec<u8> {
    let mut root = std::fs::read(&guest.initrd).expect("the demo's root can be read");
    root.extend(archive(&[("init".to_owned(), GUEST_INIT.as_bytes().to_vec())], &[]));
    root
}

/// One command on the host.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name: letters, digits and `-`.
    pub name: String,
    /// What the shell executes.
    pub command: String,
}

impl Job {
    /// A job.
    #[must_use]
    pub fn new(name: &str, command: impl Into<String>) -> Job {
        Job { name: name.into(), command: command.into() }
    }
}

/// What a job left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The job's name.
    pub name: String,
    /// Its exit status.
    pub status: i32,
    /// What it printed.
    pub output: String,
}

/// The emulated host.
#[derive(Clone, Debug)]
pub struct Host {
    /// QEMU's name of the processor.
    pub cpu: &'static str,
    /// Kernel and root.
    pub debian: DemoGuest,
    /// Files for the host's root, by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// A file that the host has as `/dev/vda`.
    pub disk: Option<PathBuf>,
    /// The version of its interrupt controller: 2 or 3.
    pub gic: u8,
    /// Its time is the number of instructions that were executed: slow, but each run is like the last one.
    pub counts_time: bool,
}

/// The program for arm64.
///
/// # Panics
/// When `cargo xtask nested` did not say where it is.
#[must_use]
pub fn program() -> PathBuf {
    std::env::var_os("VMM_AARCH64").expect("VMM_AARCH64 is the program for arm64: run `cargo xtask nested`").into()
}

impl Host {
    /// A host that has the program, and Debian's kernel and root for guests under `/guest`.
    ///
    /// # Panics
    /// When a file cannot be read.
    #[must_use]
    pub fn new(cpu: &'static str, debian: DemoGuest, guest: &DemoGuest) -> Host {
        let read = |path: &PathBuf| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let files = vec![
            ("vmm".to_owned(), read(&program())),
            ("guest/vmlinuz".to_owned(), read(&guest.kernel)),
            ("guest/root.cpio".to_owned(), guest_root(guest)),
        ];
        Host { cpu, debian, files, disk: None, gic: 3, counts_time: false }
    }

    /// Adds a bare-metal guest as `/guest/NAME.elf`.
    #[must_use]
    pub fn with_bare_metal(mut self, name: &str) -> Host {
        let elf = std::fs::read(crate::guests::build(name)).expect("the guest was just built");
        self.files.push((format!("guest/{name}.elf"), elf));
        self
    }

    /// Boots the host, runs the jobs, and gives what each left.
    ///
    /// # Panics
    /// When the host does not boot, or does not come to its end within `limit`.
    #[must_use]
    pub fn run(&self, jobs: &[Job], limit: Duration) -> Vec<Outcome> {
        let mut files = self.files.clone();
        files.push(("init".to_owned(), HOST_INIT.as_bytes().to_vec()));
        for (index, job) in jobs.iter().enumerate() {
            files.push((format!("jobs/{index:02}-{}", job.name), job.command.clone().into_bytes()));
        }
        let mut root = std::fs::read(&self.debian.initrd).expect("the demo's root can be read");
        root.extend(archive(&files, &["guest", "jobs"]));
        let initrd =
            build_dir().join(format!("nested-{}-{}.cpio", self.cpu.replace([',', '='], "-"), std::process::id()));
        std::fs::write(&initrd, root).expect("the initramfs can be written");
        let mut qemu = QEMU_SYSTEM.command();
        let machine = format!("virt,virtualization=on,gic-version={}", self.gic);
        qemu.args(["-M", &machine, "-cpu", self.cpu, "-smp", "2", "-m", "1024"])
            .args(["-nographic", "-no-reboot", "-nic", "none", "-append", "console=ttyAMA0 quiet panic=-1", "-kernel"])
            .arg(&self.debian.kernel)
            .arg("-initrd")
            .arg(&initrd);
        if self.counts_time {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        if let Some(disk) = &self.disk {
            qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio", disk.display()));
        }
        let finished = run(&mut qemu, limit);
        let _ = std::fs::remove_file(&initrd);
        let console = finished.stdout.replace('\r', "");
        assert!(console.contains("@@@ DONE"), "the host did not come to its end:\n{console}\n{}", finished.stderr);
        println!("host {} done in {:.1?}", self.cpu, finished.elapsed);
        outcomes(&console)
    }
}

fn archive(files: &[(String, Vec<u8>)], folders: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), 0);
    folders.iter().for_each(|folder| writer.directory(folder, 0o755).expect("a vector takes everything"));
    for (name, contents) in files {
        writer.file(name, 0o755, contents).expect("a vector takes everything");
    }
    let mut bytes = writer.finish().expect("a vector takes everything");
    // Archives that follow each other begin at multiples of 4; QEMU puts nothing between.
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Takes a host's console apart.
#[must_use]
pub fn outcomes(console: &str) -> Vec<Outcome> {
    let mut found = Vec::new();
    for part in console.split("@@@ BEGIN ").skip(1) {
        let Some((name, rest)) = part.split_once('\n') else { continue };
        let Some((output, status)) = rest.rsplit_once("@@@ END ") else { continue };
        let status = status.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(-1);
        let name = name.trim().split_once('-').map_or(name, |(_, name)| name).to_owned();
        found.push(Outcome { name, status, output: output.to_owned() });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_told_apart() {
        let console = "x\n@@@ BEGIN 00-a\none\n@@@ END 0\n@@@ BEGIN 01-b-c\ntwo\nthree\n@@@ END 124\n@@@ DONE\n";
        let outcome = |name: &str, status, output: &str| Outcome { name: name.into(), status, output: output.into() };
        assert_eq!(outcomes(console), [outcome("a", 0, "one\n"), outcome("b-c", 124, "two\nthree\n")]);
        assert_eq!(outcomes("@@@ BEGIN 00-a\nnever ends"), []);
    }
}
