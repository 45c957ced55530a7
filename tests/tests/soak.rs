//! The user network and a qcow2 under all that a guest does with them, again and again: nothing that `vmm` holds may grow.
//! `SOAK_MINUTES=1440` is the long run; a few rounds run without it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use images::cache::Sha256Sum;
use tests::linux::{Shell, debian};
use tests::monitor::patience;
use tests::pattern;
use vmm::bench::taken::Taken;

/// The guest's memory; no other mapping of the process has this size.
const MEMORY: (&str, u64) = ("192M", 192 << 10);
/// Rounds without `SOAK_MINUTES`.
const FEW: usize = 6;
/// What the process may hold more in the last third of the rounds than in the second: file descriptors; KiB of memory, of
/// which the translator's code is most (its cache is bounded, but fills slowly).
const MORE: (usize, u64) = (16, 24 << 10);
const LIMIT: Duration = Duration::from_secs(240);

/// What `vmm` holds of the host.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    /// KiB of memory beside the guest's.
    memory: u64,
}

impl Held {
    fn by(process: u32) -> Held {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").count();
        let taken = Taken::by(process, MEMORY.1).expect("it runs");
        Held { descriptors, memory: taken.resident_beside() }
    }
}

/// Sends `data` to whoever connects, and to some of them only the beginning.
fn serve(data: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let data = data.clone();
            std::thread::spawn(move || {
                // A guest that goes away in the middle is part of it.
                let _ = stream.write_all(&data);
            });
        }
    });
    address
}

/// A name server that refuses everything.
fn refuse_names() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            question[2..4].copy_from_slice(&[0x81, 0x85]);
            let _ = socket.send_to(&question[..length], from);
        }
    });
    address
}

/// One line of shell: connections that end well and badly, datagrams, echoes; then the disk.
fn round(number: usize, server: u16) -> String {
    let at = number % 3 * 160;
    format!(
        "for i in $(seq 12); do nc 10.0.2.2 {server} </dev/null | sha256sum; done | sort -u | cut -c 1-8; \
         for i in $(seq 6); do timeout -s KILL 0.02 nc 10.0.2.2 {server} </dev/null >/dev/null; done 2>/dev/null; \
         for i in $(seq 4); do nslookup -type=a n{number}x$i.test 10.0.2.3 >/dev/null 2>&1; done; \
         ping -q -c 1 -w 20 10.0.2.2 | grep -c ' 0% packet loss'; nc -w 1 10.0.2.2 9 </dev/null 2>/dev/null; \
         dd if=/dev/urandom of=/tmp/x bs=1M count=8 2>/dev/null; \
         dd if=/tmp/x of=/dev/vda bs=64k seek={at} conv=fsync,notrunc 2>/dev/null; \
         echo 3 >/proc/sys/vm/drop_caches; \
         dd if=/dev/vda bs=64k skip={at} count=128 2>/dev/null | cmp - /tmp/x && echo same; rm /tmp/x; \
         blkdiscard -o {} -l 4194304 /dev/vda && echo gone",
        at << 16
    )
}

/// A connection from the host to the guest's echo, ended by either side.
fn visit(port: u16, number: usize) {
    let data = pattern(20_000, number);
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    stream.set_read_timeout(Some(patience(Duration::from_secs(20)))).expect("a limit");
    if stream.write_all(&data).is_ok() && number.is_multiple_of(2) {
        let mut back = vec![0; data.len()];
        stream.read_exact(&mut back).expect("the guest's echo");
        assert!(back == data, "the echo differs");
    }
}

#[test]
fn nothing_grows() {
    let minutes: u64 = std::env::var("SOAK_MINUTES").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("soak.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&image).arg("64M").status();
    assert!(made.expect("qemu-img (Debian package qemu-utils)").success());
    let forwarded = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let options = [
        "--disk".to_owned(),
        format!("{},format=qcow2", image.display()),
        "--net".to_owned(),
        format!("user,allow-host,dns={},hostfwd=tcp::{forwarded}-:7", refuse_names()),
    ];
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let mut shell = Shell::boot_with("auto", &guest, 1, MEMORY.0, "quiet", &options);
    let process = shell.process().id();
    shell.command(
        "dmesg -n 1; for i in $(seq 100); do ip route | grep -q default && break; sleep 0.2; done; nc -ll -p 7 -e cat & true",
    );
    let data = pattern(64 << 10, 1);
    let sum = Sha256Sum::of(&data).to_string();
    let server = serve(data).port();

    let (begin, mut held) = (Instant::now(), Vec::new());
    while held.len() < FEW || begin.elapsed().as_secs() < minutes * 60 {
        let text = shell.long(&round(held.len(), server), LIMIT);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines, [&sum[..8], "1", "same", "gone"], "round {}", held.len());
        (0..4).for_each(|number| visit(forwarded, number));
        held.push(Held::by(process));
        if held.len().is_multiple_of(20) {
            println!("{:?}: {} rounds, {:?}", begin.elapsed(), held.len(), held.last());
        }
    }
    let third = held.len() / 3;
    let most = |part: &[Held]| {
        let of = |value: fn(&Held) -> u64| part.iter().map(value).max().unwrap_or(0);
        (of(|held| held.descriptors as u64), of(|held| held.memory))
    };
    let (before, after) = (most(&held[third..2 * third]), most(&held[2 * third..]));
    println!("{} rounds: descriptors and KiB in the second third {before:?}, in the last {after:?}", held.len());
    assert!(after.0 <= before.0 + MORE.0 as u64, "descriptors grow: {held:?}");
    assert!(after.1 <= before.1 + MORE.1, "memory grows: {held:?}");
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
    let check = Command::new("qemu-img").arg("check").arg(&image).output().expect("qemu-img");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}
