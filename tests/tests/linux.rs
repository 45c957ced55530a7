//! Debian's kernels boot to a shell, see the machine that was asked for, and end as they are told to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::linux::{BOOT_LIMIT, PROMPT, Shell, debian};
use tests::monitor::{rounds, stress_option};

/// The engine of the tests that boot many kernels: the one that people get.
const ENGINE: &str = "auto";

/// Boots, looks around, powers off.
fn boots(engine: &str, suite: &str, package: &str, cpus: u32, memory: &str) {
    let guest = debian(suite, package);
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let begun = seconds();
    let mut shell = Shell::boot(engine, &guest, cpus, memory, "quiet");
    assert_eq!(shell.command("uname -m"), "aarch64");
    assert_eq!(shell.command("nproc"), cpus.to_string());
    let interrupts = shell.command("cat /proc/interrupts");
    assert!(interrupts.contains("arch_timer") && interrupts.contains("uart-pl011"), "{interrupts}");
    let guest_time: u64 = shell.command("date +%s").parse().expect("a number of seconds");
    let host_time = seconds();
    // Under stress the clock begins with the host's and goes slower.
    let least = if stress_option(engine).is_some() { begun } else { host_time };
    assert!((least - 5..=host_time + 5).contains(&guest_time), "guest {guest_time}, host {host_time}");
    // Bugs and stalls; what kernels say of firmware and of a busy host is no fault. Short: the shell echoes 80 columns.
    let complaints = shell.command("dmesg | grep -iE 'bug:|call trace|lockup'");
    assert_eq!(complaints, "", "{package} of {suite} complains");
    let finished = shell.end("poweroff -f");
    assert_eq!(finished.status.code(), Some(0), "{}{}", finished.stdout, finished.stderr);
    // No kernel touches a system register that does not exist here; an exception to this would be listed with its reason.
    assert!(finished.stderr.contains("\"unimplemented_system_encodings\":{}"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("\"unimplemented_system_encodings\":{\""), "{}", finished.stderr);
}

#[test]
fn bookworm_cloud_kernel_on_the_interpreter() {
    boots("interp", "bookworm", "linux-image-cloud-arm64", 1, "512M");
}

#[test]
fn bookworm_cloud_kernel() {
    boots(ENGINE, "bookworm", "linux-image-cloud-arm64", 1, "128M");
}

#[test]
fn bookworm_cloud_kernel_with_two_processors() {
    boots(ENGINE, "bookworm", "linux-image-cloud-arm64", 2, "1G");
}

#[test]
fn bookworm_cloud_kernel_with_four_processors() {
    boots(ENGINE, "bookworm", "linux-image-cloud-arm64", 4, "2G");
}

#[test]
fn bookworm_cloud_kernel_with_eight_processors() {
    boots(ENGINE, "bookworm", "linux-image-cloud-arm64", 8, "16G");
}

#[test]
fn bookworm_generic_kernel() {
    boots(ENGINE, "bookworm", "linux-image-arm64", 2, "1G");
}

#[test]
fn backports_cloud_kernel() {
    boots(ENGINE, "bookworm-backports", "linux-image-cloud-arm64", 2, "1G");
}

#[test]
fn backports_kernel_with_16k_pages() {
    boots(ENGINE, "bookworm-backports", "linux-image-arm64-16k", 2, "1G");
}

#[test]
fn reboot_boots_again() {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let mut shell = Shell::boot(ENGINE, &guest, 1, "512M", "quiet");
    shell.command("echo mark > /tmp/mark");
    shell.until("reboot -f", PROMPT, BOOT_LIMIT);
    assert!(shell.command("ls /tmp").is_empty(), "a fresh root");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

#[test]
fn what_is_piped_in_is_all_read() {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    for _ in 0..rounds(3) {
        let mut command = tests::monitor::run_with(ENGINE);
        command.arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(&guest.initrd);
        let mut vmm = tests::process::start(&mut command);
        vmm.send("echo 'first l'ine\necho 'second l'ine\npoweroff -f\n");
        let finished = vmm.finish(BOOT_LIMIT);
        assert_eq!(finished.status.code(), Some(0), "{}{}", finished.stdout, finished.stderr);
        assert!(
            finished.stdout.contains("first line") && finished.stdout.contains("second line"),
            "{}",
            finished.stdout
        );
    }
}

#[test]
fn a_kernel_panic_has_a_status_of_its_own() {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let shell = Shell::boot(ENGINE, &guest, 1, "512M", "quiet");
    let finished = shell.end("echo c > /proc/sysrq-trigger");
    assert_eq!(finished.status.code(), Some(250), "{}{}", finished.stdout, finished.stderr);
}

#[test]
fn a_program_that_prints_the_words_of_a_panic_is_none() {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let mut shell = Shell::boot(ENGINE, &guest, 1, "512M", "quiet");
    shell.command("echo 'Kernel panic - not syncing: no' > /dev/console");
    shell.command("echo 'Kernel panic - not syncing: no' > /dev/kmsg");
    let finished = shell.end("echo 'Kernel panic - not syncing: no'; poweroff -f");
    assert_eq!(finished.status.code(), Some(0), "{}{}", finished.stdout, finished.stderr);
}

#[test]
fn an_idle_guest_leaves_the_host_alone() {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let mut shell = Shell::boot(ENGINE, &guest, 2, "512M", "quiet");
    let ticks = |id: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process lives");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    };
    std::thread::sleep(Duration::from_secs(3));
    let id = shell.process().id();
    let before = ticks(id);
    std::thread::sleep(Duration::from_secs(10));
    let spent = ticks(id) - before;
    // 2 % of a core; a bound on what is done, not on how fast the host is. A tick is 10 ms.
    assert!(spent <= 20, "{spent} ticks in 10 s");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

/// `BOOTS=200` boots as often in a row with each number of processors.
#[test]
fn every_boot_comes_to_its_end() {
    let boots = std::env::var("BOOTS").map_or(rounds(3), |text| text.parse().expect("BOOTS is a number"));
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let mut longest = Duration::ZERO;
    for number in 1..=boots {
        for cpus in [1, 2] {
            let shell = Shell::boot(ENGINE, &guest, cpus, "256M", "quiet");
            let finished = shell.end("poweroff -f");
            assert_eq!(
                finished.status.code(),
                Some(0),
                "boot {number}, {cpus} vCPUs: {}{}",
                finished.stdout,
                finished.stderr
            );
            longest = longest.max(finished.elapsed);
        }
    }
    println!("{boots} boots each with 1 and 2 vCPUs, the longest in {longest:.1?}");
}

/// Below 0.1 % of a boot; if this grows, something hot has lost its lowering.
#[test]
fn almost_nothing_is_left_to_the_interpreter() {
    if let Err(why) = jit::detect() {
        println!("no translator on this host: {why}");
        return;
    }
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    for cpus in [1, 2] {
        let shell = Shell::boot_with("jit", &guest, cpus, "256M", "quiet", &["--count-instructions".to_owned()]);
        let finished = shell.end("poweroff -f");
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        let stats = finished.stderr.lines().rev().find(|line| line.starts_with('{')).expect("counters");
        let stats = serde_json::from_str(stats).expect("JSON");
        let executed = vmm::counted::Executed::of(&stats).expect("counted");
        println!("{cpus} vCPUs: {executed:?}, {:.4} %", executed.percent());
        assert!(executed.all > 100_000_000 && executed.percent() < 0.1, "{executed:?}: {:.4} %", executed.percent());
    }
}
