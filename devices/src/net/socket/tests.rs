use super::*;
use crate::net::packet::HEADER;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

fn counted() -> (Wake, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let same = Arc::clone(&count);
    let wake = move || {
        same.fetch_add(1, Ordering::SeqCst);
    };
    (Arc::new(wake), count)
}

fn receive(end: &SocketPair, packet: &mut Packet) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !end.receive(packet) {
        assert!(Instant::now() < limit, "nothing comes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn frames_go_both_ways_and_a_new_peer_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cable");
    let first = SocketPair::open(&path).unwrap();
    let second = SocketPair::open(&path).unwrap();
    let (wake, woken) = counted();
    first.connect(Arc::clone(&wake));
    second.connect(wake);
    let (mut out, mut into) = (Packet::new(), Packet::new());
    for len in [60usize, 1514, 60_000] {
        out.copy_from(&vec![len as u8; len]);
        second.send(&mut out);
        receive(&first, &mut into);
        assert_eq!(into.whole(), out.whole());
        first.send(&mut out);
        receive(&second, &mut into);
        assert_eq!(into.whole(), out.whole());
    }
    assert!(woken.load(Ordering::SeqCst) > 0);
    drop(second);
    let third = SocketPair::open(&path).unwrap();
    third.connect(counted().0);
    out.copy_from(&[3; 100]);
    // What is sent before the first one has noticed is lost, as on a cable.
    let limit = Instant::now() + Duration::from_secs(20);
    while !third.receive(&mut into) {
        assert!(Instant::now() < limit, "nothing comes");
        first.send(&mut out);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(into.frame(), [3; 100]);
    // The one that connected finds the next one that listens.
    drop(first);
    let fourth = SocketPair::open(&path).unwrap();
    fourth.connect(counted().0);
    let limit = Instant::now() + Duration::from_secs(20);
    while !fourth.receive(&mut into) {
        assert!(Instant::now() < limit, "nothing comes");
        third.send(&mut out);
        third.receive(&mut Packet::new());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_hostile_peer_gets_no_frame_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cable");
    let end = SocketPair::open(&path).unwrap();
    end.connect(counted().0);
    let peer = try_connect(&path).unwrap().expect("it listens");
    let mut bad = [0u8; HEADER + 60];
    bad[0] = 1;
    bad[6] = 0xff;
    for message in [&bad[..], &bad[..5], &[9; HEADER + 60]] {
        send(&peer, message, SendFlags::NOSIGNAL).unwrap();
    }
    send(&peer, &[0; HEADER + 61], SendFlags::NOSIGNAL).unwrap();
    let mut packet = Packet::new();
    receive(&end, &mut packet);
    assert_eq!(packet.frame().len(), 61);
    assert_eq!(end.counters()["lost"], 3);
}

#[test]
fn what_is_in_the_way_is_left_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "mine").unwrap();
    assert!(SocketPair::open(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    // A socket that nobody listens at any more is replaced.
    let stale = folder.path().join("stale");
    drop(try_listen(&stale).unwrap());
    assert!(stale.exists());
    SocketPair::open(&stale).unwrap();
}
