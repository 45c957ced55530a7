//! iperf3 through virtio-net, in this `vmm` and in QEMU, side by side: `cargo run --release -p tests --example network_speed`.
//!
//! Arguments: `user` (default: the user networks of both) or `tap` (a tap device in a network namespace of its own), then
//! seconds for each transfer (default 5), then runs (default 1). Needs the host's `iperf3` and `qemu-system-aarch64`. All
//! transfers are between the guest and this host's loopback, or the namespace.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers: what fails is shown")]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use images::cache::Cache;
use images::cpio::Writer;
use images::deb::{DebNode, read_entries};
use images::debian::{Archive, ArchiveOptions};
use images::progress::Silent;
use tests::linux::{PROMPT, debian};
use tests::process::{Running, start};
use tests::tools::QEMU_SYSTEM;

const PACKAGES: [&str; 5] = ["iperf3", "libiperf0", "libsctp1", "libssl3", "libc6"];
const PORT: &str = "5201";
const MODES: [(&str, &str); 4] =
    [("guest to host", ""), ("host to guest", "-R"), ("guest to host -P4", "-P4"), ("host to guest -P4", "-R -P4")];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let tap = arguments.first().is_some_and(|word| word == "tap");
    let number = |index: usize, default: u64| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let (seconds, runs) = (number(1, 5), number(2, 1));
    if tap && std::env::var_os("VMM_IN_NAMESPACE").is_none() {
        return in_namespace(&arguments);
    }
    let initrd = initrd();
    let kernel = debian("bookworm", "linux-image-cloud-arm64").kernel;
    println!("{:24}{:>12}{:>12}{:>8}   host processor seconds for a GB", "", "vmm Gbit/s", "qemu Gbit/s", "ratio");
    for _ in 0..runs {
        let mut results = Vec::new();
        for qemu in [false, true] {
            let mut guest = boot(qemu, tap, &kernel, &initrd);
            results.push(MODES.map(|(_, options)| measure(&mut guest, options, seconds)));
            guest.send("poweroff -f\n");
        }
        for (index, (name, _)) in MODES.iter().enumerate() {
            let ((ours, our_cost), (theirs, their_cost)) = (results[0][index], results[1][index]);
            println!("{name:24}{ours:12.2}{theirs:12.2}{:8.2}   {our_cost:.2} : {their_cost:.2}", ours / theirs);
        }
    }
}

/// Runs this program again where it may make a tap device.
fn in_namespace(arguments: &[String]) {
    let me = std::env::current_exe().unwrap();
    let script = "ip link set lo up && ip tuntap add tap0 mode tap vnet_hdr && ip addr add 10.0.2.2/24 dev tap0 && \
         ip link set tap0 up && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-Urn", "sh", "-c", script]).arg(me).args(arguments).env("VMM_IN_NAMESPACE", "1");
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}; are user namespaces denied here?");
}

/// The demo's initramfs with iperf3 and what it loads behind it: the kernel unpacks both.
fn initrd() -> std::path::PathBuf {
    let mut options = ArchiveOptions::new("bookworm");
    options.architecture = "arm64".to_owned();
    let cache = Cache::of_user().unwrap();
    let archive = Archive::open(&options, &cache, &Silent).unwrap();
    let mut writer = Writer::new(Vec::new(), 0);
    let mut made = std::collections::BTreeSet::new();
    let wanted = |name: &str| name.ends_with("bin/iperf3") || name.contains(".so.");
    for name in PACKAGES {
        let path = archive.fetch(&archive.find(name).unwrap(), &Silent).unwrap();
        for entry in read_entries(&path, wanted, 64 << 20).unwrap() {
            for (at, _) in entry.name.match_indices('/') {
                let parent = entry.name[..at].to_owned();
                if made.insert(parent.clone()) {
                    writer.directory(&parent, 0o755).unwrap();
                }
            }
            match &entry.node {
                DebNode::File(contents) => writer.file(&entry.name, entry.mode, contents).unwrap(),
                DebNode::Symlink(target) => writer.symlink(&entry.name, target).unwrap(),
                _ => {}
            }
        }
    }
    let base = std::fs::read(debian("bookworm", "linux-image-cloud-arm64").initrd).unwrap();
    let mut whole = base;
    whole.resize(whole.len().next_multiple_of(4), 0);
    whole.extend(writer.finish().unwrap());
    let path = std::env::temp_dir().join(format!("vmm-iperf-{}.cpio", std::process::id()));
    std::fs::write(&path, whole).unwrap();
    path
}

fn boot(qemu: bool, tap: bool, kernel: &std::path::Path, initrd: &std::path::Path) -> Running {
    let mut command = if qemu {
        let mut command = QEMU_SYSTEM.command();
        command.args(["-M", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on", "-m", "512", "-display", "none"]);
        command.args([
            "-serial",
            "stdio",
            "-monitor",
            "none",
            "-device",
            "virtio-net-pci,netdev=n,romfile=",
            "-netdev",
        ]);
        command.arg(if tap { "tap,id=n,ifname=tap0,script=no,downscript=no" } else { "user,id=n" });
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", "console=ttyAMA0 quiet"]);
        command
    } else {
        let mut command = tests::monitor::run_with("auto");
        command.args(["--memory", "512M", "--net", if tap { "tap:tap0" } else { "user,allow-host" }]);
        command.arg("--kernel").arg(kernel).arg("--initrd").arg(initrd).args(["--append", "console=ttyAMA0 quiet"]);
        command
    };
    let mut guest = start(&mut command);
    guest.expect(PROMPT, Duration::from_secs(240));
    guest.send("ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2; sleep 2; echo RE''ADY\n");
    guest.expect("READY", Duration::from_secs(60));
    guest
}

/// Gbit/s and the processor seconds of the machine for each GB.
fn measure(guest: &mut Running, options: &str, seconds: u64) -> (f64, f64) {
    let server: Child = Command::new("iperf3")
        .args(["-s", "-1", "-J", "-p", PORT])
        .stdout(Stdio::piped())
        .spawn()
        .expect("iperf3 is installed (Debian: iperf3)");
    std::thread::sleep(Duration::from_millis(500));
    let before = processor_seconds(guest.id());
    guest.send(&format!("iperf3 -c 10.0.2.2 -p {PORT} -t {seconds} {options} >/tmp/out; cat /tmp/out; echo DO''NE\n"));
    let text = guest.expect("DONE", Duration::from_secs(seconds * 4 + 60));
    let spent = processor_seconds(guest.id()) - before;
    let output = server.wait_with_output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let sum = |name: &str, field: &str| json["end"][name][field].as_f64().unwrap_or(0.0);
    let received =
        if options.contains("-R") { guest_received(&text) } else { sum("sum_received", "bits_per_second") / 1e9 };
    let bytes = received / 8.0 * seconds as f64;
    (received, spent / bytes.max(1e-9))
}

/// What the guest says that it received: the last line with "receiver", in Gbit/s.
fn guest_received(text: &str) -> f64 {
    let line = text.lines().rev().find(|line| line.contains("receiver")).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| word.ends_with("bits/sec")).unwrap();
    let factor = match words[at] {
        "Gbits/sec" => 1.0,
        "Mbits/sec" => 1e-3,
        "Kbits/sec" => 1e-6,
        _ => 1e-9,
    };
    words[at - 1].parse::<f64>().unwrap() * factor
}

fn processor_seconds(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}
