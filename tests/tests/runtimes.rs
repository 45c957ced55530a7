//! Programs that write code while they run: LuaJIT, V8, HotSpot and PyPy in Debian guests with two processors. Each computes
//! what this test computes too, two at a time.
//!
//! LuaJIT runs always; `RUNTIMES=1` makes an image with the others (some minutes, 600 MB in `target/guests`) and runs them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use images::cache::Cache;
use images::debian::{Archive, ArchiveOptions};
use images::kernel::{self, CLOUD_KERNEL};
use images::progress::Silent;
use tests::linux::{Shell, debian};
use tests::monitor::{program, run_with};
use tests::process::run;
use tests::tools::{build_dir, crate_dir, must_succeed};
use tests::workshop::Workshop;

const LIMIT: Duration = Duration::from_secs(600);
const PACKAGES: &str = "nodejs,default-jre-headless,librhino-java,luajit,pypy3";

fn next(x: u64) -> u64 {
    x * 16807 % 2_147_483_647
}

fn primes(n: usize) -> usize {
    let mut composite = vec![false; n];
    (2..n)
        .filter(|&p| {
            let prime = !composite[p];
            if prime {
                (p * p..n).step_by(p).for_each(|m| composite[m] = true);
            }
            prime
        })
        .count()
}

fn churn(rounds: usize, n: usize) -> usize {
    // The names' lengths of each round, kept as long as the programs keep the objects.
    let mut kept: Vec<Option<Vec<usize>>> = vec![None; 20];
    let mut sum = 0;
    for round in 0..rounds {
        kept[round % 20] = Some((0..n).map(|i| format!("k{}", i * round).len()).collect());
        if let Some(other) = &kept[round * 7 % 20] {
            sum += other[..=round * 37 % n].iter().sum::<usize>();
        }
    }
    sum % 1_000_003
}

/// What each program prints.
fn answers() -> String {
    let chain = (0..5_000_000).fold(1, |x, _| next(x));
    let series: f64 = (1..=3_000_000u32).map(|i| 1.0 / (f64::from(i) * f64::from(i))).sum();
    let mut values: Vec<u64> = std::iter::successors(Some(next(1)), |&x| Some(next(x))).take(100_000).collect();
    values.sort_unstable();
    let sorted = values.iter().fold(0, |h, v| (h * 31 + v) % 1_000_003);
    format!(
        "chain {chain}\nprimes {}\nseries {}\nsorted {sorted}\nchurn {}",
        primes(500_000),
        (series * 1e12) as u64,
        churn(100, 3000)
    )
}

/// Runs two copies at a time; both print `expected`.
fn two_copies(shell: &mut Shell, name: &str, command: &str, expected: &str) {
    let begin = Instant::now();
    let said = shell
        .long(&format!("{command} >/tmp/1 2>&1 & {command} >/tmp/2 2>&1; wait; cat /tmp/1; echo; cat /tmp/2"), LIMIT);
    let copies: Vec<&str> = said.split("\n\n").map(str::trim).collect();
    assert_eq!(copies, [expected, expected], "{name}");
    println!("{name}: {:.1?}", begin.elapsed());
}

fn no_complaints(shell: &mut Shell) {
    assert_eq!(shell.command("dmesg | grep -iE 'bug:|warning:|call trace|lockup|segfault|unhandled'"), "");
}

#[test]
fn luajit() {
    let mut workshop = Workshop::new("bookworm", CLOUD_KERNEL);
    workshop.packages(&["luajit"]);
    let source = std::fs::read(crate_dir().join("programs/runtimes/work.lua")).expect("a program");
    workshop.file("work.lua", 0o644, &source);
    let (guest, _folder) = workshop.finish();
    let mut shell = Shell::boot("auto", &guest, 2, "512M", "quiet");
    two_copies(&mut shell, "luajit", "luajit /work.lua", &answers());
    no_complaints(&mut shell);
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

/// The image with the runtimes, made if it is not there.
fn image() -> PathBuf {
    let image = build_dir().join(format!("{}.qcow2", PACKAGES.replace(',', "-")));
    if !image.exists() {
        let part = build_dir().join(format!("runtimes-{}.qcow2", std::process::id()));
        let mut command = Command::new(program());
        command.args(["image", "build", "--suite", "bookworm", "--size", "3G", "--include", PACKAGES, "--output"]);
        let finished = run(command.arg(&part), Duration::from_secs(1800));
        assert!(finished.status.success(), "{}", finished.stderr);
        std::fs::rename(&part, &image).expect("renamed");
    }
    image
}

/// A shell in a guest with the image; what it writes is gone afterwards.
fn start(image: &Path, programs: &Path) -> Shell {
    let cache = Cache::of_user().expect("a cache folder");
    let archive = Archive::open(&ArchiveOptions::new("bookworm"), &cache, &Silent).expect("the archive");
    let package = kernel::packages(&archive, CLOUD_KERNEL).expect("the cloud kernel").remove(0);
    let mut command = run_with("auto");
    command.arg("--kernel").arg(debian("bookworm", CLOUD_KERNEL).kernel);
    command.arg("--modules").arg(archive.fetch(&package, &Silent).expect("the package"));
    command.args([
        "--cpus",
        "2",
        "--memory",
        "1500M",
        "--append",
        "console=ttyAMA0 quiet root=/dev/vda rw init=/bin/sh",
    ]);
    command.arg("--disk").arg(format!("{},format=qcow2,ephemeral", image.display()));
    command.arg("--disk").arg(programs).args(std::env::var("RUNTIMES_OPTION").ok());
    let mut shell = Shell::prompted(&mut command);
    shell.command("mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp; mount -t devtmpfs dev /dev; tar xf /dev/vdb -C /tmp; cd /tmp");
    shell
}

#[test]
fn v8_hotspot_pypy_and_luajit() {
    if std::env::var_os("RUNTIMES").is_none() {
        eprintln!("only with RUNTIMES=1: it makes a large image");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let programs = folder.path().join("programs.tar");
    let mut tar = Command::new("tar");
    must_succeed(tar.arg("-cf").arg(&programs).arg("-C").arg(crate_dir().join("programs/runtimes")).arg("."));
    let mut shell = start(&image(), &programs);
    let expected = answers();
    let rhino = "-cp /usr/share/java/js.jar org.mozilla.javascript.tools.shell.Main -opt 9";
    let java = |options: &str, file: &str| format!("java {options} {rhino} /tmp/{file}");
    two_copies(&mut shell, "luajit", "luajit work.lua", &expected);
    two_copies(&mut shell, "pypy3", "pypy3 work.py", &expected);
    two_copies(&mut shell, "node", "node work.js", &expected);
    two_copies(
        &mut shell,
        "node, small young generation",
        "node --max-semi-space-size=1 --stress-compaction work.js",
        &expected,
    );
    two_copies(&mut shell, "node, threads", "node threads.js", "atomics 600000 stale 0");
    for collector in ["Serial", "Parallel", "G1", "Shenandoah", "Z"] {
        let options = format!("-Xmx300m -XX:-UsePerfData -XX:+Use{collector}GC");
        two_copies(&mut shell, &format!("java, {collector}"), &java(&options, "work.js"), &expected);
        let threads = "atomics 200000 locked 200000 keys 5000";
        two_copies(&mut shell, &format!("java, {collector}, threads"), &java(&options, "java.js"), threads);
    }
    no_complaints(&mut shell);
    assert_eq!(shell.end("echo o >/proc/sysrq-trigger; sleep 60").status.code(), Some(0));
}
