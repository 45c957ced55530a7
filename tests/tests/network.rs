//! virtio-net under Debian's kernels: the user network, and a cable between two machines. All peers are on this host's loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tests::linux::{Shell, debian};
use tests::monitor::patience;
use tests::pattern;

const MIB: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);

fn boot(cpus: u32, options: &[&str]) -> Shell {
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    Shell::boot_with("auto", &guest, cpus, "256M", "quiet", &options)
}

/// Waits for the address that DHCP gives.
fn wait_for_address(shell: &mut Shell) {
    let wait = "for i in $(seq 100); do ip route | grep -q default && ip -6 addr show eth0 | grep fec0 | grep -qv tentative && break; sleep 0.2; done; ip -4 addr show eth0; ip route; cat /etc/resolv.conf";
    let text = shell.command(wait);
    for expected in ["inet 10.0.2.15/24", "default via 10.0.2.2", "nameserver 10.0.2.3"] {
        assert!(text.contains(expected), "{text}");
    }
}

fn no_complaints(shell: &mut Shell) {
    assert_eq!(shell.command("dmesg | grep -iE 'bug:|call trace|eth0.*(error|timeout|timed out)'"), "");
}

/// A port of this host that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Takes one connection, sends `data` or reads all of it, and gives what it read.
fn serve_once(data: Option<Vec<u8>>) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        if let Some(data) = data {
            stream.write_all(&data).expect("the guest reads");
            stream.shutdown(std::net::Shutdown::Write).expect("an end");
        }
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("the guest's bytes");
        got
    });
    (port, thread)
}

/// Connects to a forwarded port; the guest's server may take a moment, and the connection then ends at once.
fn ask(port: u16) -> Vec<u8> {
    let limit = std::time::Instant::now() + patience(LIMIT);
    loop {
        let mut got = Vec::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port))
            && stream.read_to_end(&mut got).is_ok()
            && !got.is_empty()
        {
            return got;
        }
        assert!(std::time::Instant::now() < limit, "nobody answers at the forwarded port");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn user_network(transport: &str) {
    let names = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let names_at = names.local_addr().expect("an address");
    std::thread::spawn(move || answer_questions(&names));
    let forwarded = free_port();
    let capture = std::env::temp_dir().join(format!("vmm-test-{}-{transport}.pcap", std::process::id()));
    let net = format!("user,allow-host,dns={names_at},hostfwd=tcp::{forwarded}-:80,pcap={}", capture.display());
    let mut shell = boot(2, &["--transport", transport, "--net", &net]);
    wait_for_address(&mut shell);
    let ping = shell.command("ping -c 2 -w 20 10.0.2.2; ping -c 1 -s 4000 -w 20 10.0.2.2; ping -6 -c 1 -w 20 fec0::2");
    assert_eq!(ping.matches(" 0% packet loss").count(), 3, "{ping}");
    let found = shell.command("nslookup -type=a vmm.test 10.0.2.3");
    assert!(found.contains("192.0.2.77"), "{found}");

    let data = pattern(20 * MIB, 0);
    let (from, server) = serve_once(Some(data.clone()));
    shell.command(&format!("nc 10.0.2.2 {from} </dev/null >/tmp/got; ls -l /tmp/got"));
    assert!(server.join().expect("served").is_empty());
    let (to, server) = serve_once(None);
    shell.command(&format!("nc 10.0.2.2 {to} </tmp/got"));
    assert!(server.join().expect("served") == data, "the bytes differ");

    shell.command("(echo from the guest | nc -l -p 80 >/dev/null) & true");
    assert_eq!(ask(forwarded), b"from the guest\n");

    let refused = shell.command(&format!("nc -w 2 10.0.2.2 {} </dev/null; echo status $?", free_port()));
    assert!(refused.contains("status 1"), "{refused}");
    let elsewhere = shell.command("ping -c 1 -w 2 169.254.169.254; nc -w 2 127.0.0.2 9 </dev/null; echo status $?");
    assert!(elsewhere.contains("100% packet loss") && elsewhere.contains("status 1"), "{elsewhere}");
    no_complaints(&mut shell);
    let finished = shell.end("poweroff -f");
    assert_eq!(finished.status.code(), Some(0));
    has_counted(&finished.stderr);
    let captured = std::fs::metadata(&capture).expect("a capture").len();
    assert!(captured > 40 * MIB as u64, "{captured} bytes captured");
    // Nothing more can be done about a file that does not go.
    let _ = std::fs::remove_file(&capture);
}

/// The counters at the end tell of frames, doorbells and interrupts, and of how soon these were taken.
fn has_counted(stats: &str) {
    let stats: serde_json::Value =
        serde_json::from_str(stats.lines().last().unwrap_or_default()).expect("counters as JSON");
    let mut found = std::collections::BTreeMap::new();
    let mut waiting = vec![&stats];
    while let Some(value) = waiting.pop() {
        let Some(fields) = value.as_object() else {
            waiting.extend(value.as_array().into_iter().flatten());
            continue;
        };
        for (name, field) in fields {
            let number = field.as_u64().or_else(|| field["count"].as_u64()).unwrap_or(0);
            let most = found.entry(name.as_str()).or_insert(number);
            *most = number.max(*most);
            waiting.push(field);
        }
    }
    let mut expected = vec!["from_guest", "to_guest", "doorbells", "requests", "interrupts"];
    if cfg!(target_arch = "x86_64") {
        // The host's kernel keeps no such count.
        expected.push("interrupt_to_acknowledgement");
    }
    for name in expected {
        assert!(found.get(name).is_some_and(|&number| number > 10), "{name}: {stats}");
    }
}

/// A name server that knows one name.
fn answer_questions(socket: &UdpSocket) {
    let mut question = [0; 512];
    while let Ok((len, from)) = socket.recv_from(&mut question) {
        let mut answer = question[..len].to_vec();
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        answer[6..8].copy_from_slice(&[0, 1]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77]);
        if socket.send_to(&answer, from).is_err() {
            return;
        }
    }
}

#[test]
fn the_user_network_over_pci() {
    user_network("pci");
}

#[test]
fn the_user_network_over_mmio() {
    user_network("mmio");
}

#[test]
fn the_host_is_out_of_reach_unless_it_is_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut shell = boot(1, &["--net", "user,offloads=off"]);
    wait_for_address(&mut shell);
    let text = shell.command(&format!("nc -w 2 10.0.2.2 {port} </dev/null; echo status $?"));
    assert!(text.contains("status 1"), "{text}");
    // A guest that reboots gets its address again.
    shell.until("reboot -f", tests::linux::PROMPT, tests::linux::BOOT_LIMIT);
    wait_for_address(&mut shell);
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
    listener.set_nonblocking(true).expect("a mode");
    assert!(listener.accept().is_err(), "somebody came");
}

/// What comes to port 99 goes to `/tmp/got`; then there is `/tmp/done`. Its input is not the terminal, where what is typed
/// would stop it as any process in the background that reads it; and it does not end, as the connection would with it.
fn receive_in_background(shell: &mut Shell) {
    shell.command("mkfifo /tmp/none; (nc -l -p 99 <>/tmp/none >/tmp/got; touch /tmp/done) & true");
}

#[test]
fn two_machines_on_one_cable() {
    let path = std::env::temp_dir().join(format!("vmm-test-{}.cable", std::process::id()));
    let net = format!("socket:{}", path.display());
    let mut first = boot(1, &["--net", &net]);
    let mut second = boot(1, &["--transport", "mmio", "--net", &net]);
    for (shell, address) in [(&mut first, "192.168.9.1/24"), (&mut second, "192.168.9.2/24")] {
        shell.command(&format!("ip addr add {address} dev eth0; ip link set eth0 up"));
    }
    let ping = second.command("ping -c 2 -w 20 192.168.9.1");
    assert!(ping.contains(" 0% packet loss"), "{ping}");
    second.command("head -c 20000000 /dev/urandom >/tmp/data");
    let expected = second.command("md5sum </tmp/data");
    receive_in_background(&mut first);
    second.command("until nc 192.168.9.1 99 </tmp/data; do sleep 0.2; done");
    assert_eq!(first.command("until [ -e /tmp/done ]; do sleep 0.2; done; md5sum </tmp/got"), expected);
    for mut shell in [first, second] {
        no_complaints(&mut shell);
        assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
    }
    assert!(!path.exists(), "the socket is left");
}

/// A network namespace with a tap device, in which the rest of the command line runs.
const WITH_TAP: &str = "ip link set lo up && ip tuntap add dev vmtap0 mode tap vnet_hdr && \
     ip addr add 192.168.77.1/24 dev vmtap0 && ip link set vmtap0 up && exec \"$0\" \"$@\"";

/// Runs a script of bash where the process `id` is, and gives it `input`.
fn beside(id: u32, script: &str, input: &[u8]) -> Output {
    let mut command = Command::new("nsenter");
    command.args(["-t", &id.to_string(), "-U", "-n", "--preserve-credentials", "bash", "-c", script]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("nsenter (Debian package util-linux) runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A peer that has closed does not want the rest.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    output
}

/// The same until the guest listens.
fn beside_when_ready(id: u32, script: &str, input: &[u8]) -> Vec<u8> {
    let limit = std::time::Instant::now() + patience(LIMIT);
    loop {
        let output = beside(id, script, input);
        if output.status.success() {
            return output.stdout;
        }
        assert!(std::time::Instant::now() < limit, "{}", String::from_utf8_lossy(&output.stderr));
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn tap(offloads: &str) {
    let denied = Command::new("unshare").args(["-rn", "sh", "-c", WITH_TAP, "true"]).output();
    let denied = denied.expect("unshare (Debian package util-linux) runs");
    assert!(
        denied.status.success(),
        "a tap device needs user and network namespaces, /dev/net/tun and `ip` (Debian package iproute2), which this host denies or lacks: {}",
        String::from_utf8_lossy(&denied.stderr)
    );
    let guest = debian("bookworm", "linux-image-cloud-arm64");
    let net = format!("tap:vmtap0{offloads}");
    let mut shell = Shell::boot_within(&["unshare", "-rn", "sh", "-c", WITH_TAP], &guest, "quiet", &["--net", &net]);
    let id = shell.process().id();
    shell.command("ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up");
    let ping = shell.command("ping -c 2 -w 20 192.168.77.1; ping -c 1 -s 4000 -w 20 192.168.77.1");
    assert_eq!(ping.matches(" 0% packet loss").count(), 2, "{ping}");
    let data = pattern(20 * MIB, 0);
    receive_in_background(&mut shell);
    beside_when_ready(id, "cat >/dev/tcp/192.168.77.2/99", &data);
    shell.command("until [ -e /tmp/done ]; do sleep 0.2; done");
    shell.command("(nc -l -p 98 </tmp/got >/dev/null) & true");
    let back = beside_when_ready(id, "cat </dev/tcp/192.168.77.2/98", &[]);
    let differs = data.iter().zip(&back).position(|(sent, got)| sent != got);
    assert!(back == data, "{} bytes went, {} came back, the first that differs: {differs:?}", data.len(), back.len());
    no_complaints(&mut shell);
    assert_eq!(shell.end("poweroff -f").status.code(), Some(0));
}

#[test]
fn a_tap_device_carries_frames_both_ways() {
    tap("");
}

#[test]
fn a_tap_device_carries_frames_of_a_driver_without_offloads() {
    tap(",offloads=off");
}
