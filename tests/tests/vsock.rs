//! virtio-vsock under Debian's kernel: streams both ways, many at once, much data, and a machine that is saved.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use tests::linux::{Shell, debian, with_program};
use tests::monitor::patience;
use tests::pattern;

const MIB: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);

fn boot(folder: &Path, suite: &str, transport: &str, options: &[&str]) -> Shell {
    let guest = with_program(&debian(suite, "linux-image-cloud-arm64"), "streams", folder);
    let vsock = format!("cid=3,socket={}", folder.join("v").display());
    let mut all = vec!["--vsock".to_owned(), vsock, "--transport".to_owned(), transport.to_owned()];
    all.extend(options.iter().map(|&option| option.to_owned()));
    Shell::boot_with("auto", &guest, 2, "256M", "quiet", &all)
}

/// Gives back what comes on `count` connections to the guest's idea of the host's port `port`.
fn echo(folder: &Path, port: u32, count: usize) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(folder.join(format!("v_{port}"))).expect("a socket");
    std::thread::spawn(move || {
        let threads: Vec<_> = (0..count)
            .map(|_| {
                let (mut stream, _) = listener.accept().expect("a connection");
                std::thread::spawn(move || {
                    let mut out = stream.try_clone().expect("a second end");
                    std::io::copy(&mut stream, &mut out).expect("bytes go round");
                    out.shutdown(Shutdown::Write).expect("an end");
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("an echo"));
    })
}

/// Connects to a port of the guest; whoever listens there may need a moment.
fn connect(folder: &Path, port: u32) -> UnixStream {
    let limit = Instant::now() + patience(LIMIT);
    loop {
        let stream = UnixStream::connect(folder.join("v")).expect("the device's socket");
        stream.set_read_timeout(Some(patience(LIMIT))).expect("a limit");
        (&stream).write_all(format!("CONNECT {port}\n").as_bytes()).expect("a question");
        // The answer is read byte by byte: what follows belongs to the stream.
        let mut line = String::new();
        let mut reader = BufReader::with_capacity(1, &stream);
        if reader.read_line(&mut line).is_ok() && line.starts_with("OK ") {
            return stream;
        }
        assert!(Instant::now() < limit, "nobody listens at the guest's port {port}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends `len` bytes, checks that they come back, and then the end.
fn go_round(stream: UnixStream, len: usize, seed: usize) {
    let mut out = stream.try_clone().expect("a second end");
    let data = pattern(len, seed);
    let sender = std::thread::spawn(move || {
        out.write_all(&pattern(len, seed)).expect("the guest reads");
        out.shutdown(Shutdown::Write).expect("an end");
    });
    let mut got = Vec::with_capacity(len);
    (&stream).read_to_end(&mut got).expect("the guest's bytes");
    sender.join().expect("sent");
    assert!(got == data, "{} of {len} bytes came back, or others", got.len());
}

fn both_ways(suite: &str, transport: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut shell = boot(folder, suite, transport, &[]);
    let refused = shell.command("/streams refused 999");
    assert!(refused.ends_with("streams: Connection reset by peer"), "{refused}");

    // The guest connects: one stream of 100 MB, then 100 of them at once.
    for (port, count, bytes) in [(7, 1, 100 * MIB), (8, 100, 100_000)] {
        let server = echo(folder, port, count);
        let start = Instant::now();
        let text = shell.command(&format!("/streams talk {port} {count} {bytes}"));
        // A busy host makes the kernel say something between.
        assert!(text.ends_with("streams: 0 failed"), "{text}");
        server.join().expect("the echo ends");
        println!("{count} streams of {bytes} bytes from the guest and back: {:.1?}", start.elapsed());
    }
    // The host connects.
    for (port, count, bytes) in [(70, 1, 100 * MIB), (80, 100, 100_000)] {
        let start = Instant::now();
        shell.until(&format!("/streams echo {port} {count}"), "streams: ready", LIMIT);
        let streams: Vec<UnixStream> = (0..count).map(|_| connect(folder, port)).collect();
        let threads: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(seed, stream)| std::thread::spawn(move || go_round(stream, bytes, seed)))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("all bytes"));
        shell.process().expect("streams: 0 failed", LIMIT);
        shell.process().expect(tests::linux::PROMPT, LIMIT);
        println!("{count} streams of {bytes} bytes to the guest and back: {:.1?}", start.elapsed());
    }
    assert_eq!(shell.command("dmesg | grep -iE 'bug:|call trace|vsock.*error'"), "");
    let finished = shell.end("poweroff -f");
    assert_eq!(finished.status.code(), Some(0));
    let stats = finished.stderr.lines().last().unwrap_or_default().to_owned();
    let opened = format!("\"opened_by_guest\":{},\"opened_by_host\":{}", 101, 101);
    assert!(stats.contains(&opened) && stats.contains("\"bytes_waiting\":0"), "{stats}");
}

#[test]
fn streams_by_pci() {
    both_ways("bookworm", "pci");
}

#[test]
fn streams_by_mmio_with_a_newer_kernel() {
    both_ways("bookworm-backports", "mmio");
}

#[test]
fn a_saved_machine_learns_that_its_streams_are_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let state = folder.join("state");
    // Nobody answers on this stream; the guest waits, is saved, and hears of the end in its next life.
    let listener = UnixListener::bind(folder.join("v_7")).expect("a socket");
    let on = format!("streams: ready:{}", state.display());
    let mut shell = boot(folder, "bookworm", "pci", &["--save-on", &on]);
    shell.until("/streams gone 7", "streams: ready", LIMIT);
    let (stream, _) = listener.accept().expect("a connection");
    let finished = shell.process().finish(LIMIT);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    drop(stream);
    let guest = with_program(&debian("bookworm", "linux-image-cloud-arm64"), "streams", folder);
    let mut command = tests::monitor::run_with("auto");
    command.arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(&guest.initrd);
    command.args(["--cpus", "2", "--memory", "256M", "--append", "console=ttyAMA0 quiet"]);
    command.arg("--vsock").arg(format!("cid=3,socket={}", folder.join("v").display()));
    command.arg("--load").arg(&state);
    let mut vmm = tests::process::start(&mut command);
    vmm.expect("streams: Connection reset by peer", LIMIT);
    vmm.expect(tests::linux::PROMPT, LIMIT);
    vmm.send("/streams talk 7 1 100000\n");
    let (mut stream, _) = listener.accept().expect("a new connection");
    let mut out = stream.try_clone().expect("a second end");
    std::io::copy(&mut stream, &mut out).expect("bytes go round");
    out.shutdown(Shutdown::Write).expect("an end");
    vmm.expect("streams: 0 failed", LIMIT);
    vmm.send("poweroff -f\n");
    assert_eq!(vmm.finish(LIMIT).status.code(), Some(0));
}
