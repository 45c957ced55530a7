//! Each fuzz target on random bytes: what libFuzzer does better, but on every machine and in seconds.

/// A generator that needs no crate: xorshift, seeded with the number of the run.
fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Runs `target` on `FUZZ_RUNS` (default 2000) byte strings; the seed of a failure is in its message.
fn run(target: fn(&[u8])) {
    let runs = std::env::var("FUZZ_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    for seed in 0..runs {
        let data = random_bytes(seed, (seed % 1500) as usize);
        if std::panic::catch_unwind(|| target(&data)).is_err() {
            panic!("failed with seed {seed}");
        }
    }
}

#[test]
fn gic() {
    run(fuzz::gic);
}

#[test]
fn its() {
    run(fuzz::its);
}

#[test]
fn pl011() {
    run(fuzz::pl011);
}

#[test]
fn pl031() {
    run(fuzz::pl031);
}

#[test]
fn pl061() {
    run(fuzz::pl061);
}

#[test]
fn device_state() {
    run(fuzz::device_state);
    // Random bytes are hardly ever JSON: edits of a good text are.
    for text in [
        r#"{"version":1,"state":{"groups":3,"banks":[],"routes":[]}}"#,
        r#"{"version":1,"state":[{"bank":{"exists":0,"group1":0,"enabled":4294967295,"latch":9,"line":1,"message":7,"active":0,"edge":0,"priority":[0]},"asleep":false,"propbaser":18446744073709551615,"pendbaser":0}]}"#,
        r#"{"version":1,"state":{"offset":4294967295,"matches":0,"load":1,"imsc":255,"ris":255,"due":18446744073709551615}}"#,
        r#"{"version":1,"state":{"data":255,"inputs":255,"dir":1,"is":2,"ibe":4,"iev":8,"ie":255,"edges":255,"afsel":0}}"#,
    ] {
        fuzz::device_state(text.as_bytes());
        (0..text.len()).for_each(|cut| {
            fuzz::device_state([&text.as_bytes()[..cut], b"9", &text.as_bytes()[cut..]].concat().as_slice())
        });
    }
}

#[test]
fn kernel() {
    run(fuzz::kernel);
}

#[test]
fn fdt() {
    run(fuzz::fdt);
}

#[test]
fn archive() {
    run(fuzz::archive);
}

#[test]
fn package() {
    run(fuzz::package);
}

#[test]
fn disk_image() {
    run(fuzz::disk_image);
}

#[test]
fn decoder() {
    run(fuzz::decoder);
}

#[test]
fn walker() {
    run(fuzz::walker);
}

#[test]
fn processing_element() {
    run(fuzz::processing_element);
}

#[test]
fn virtio_mmio() {
    run(fuzz::virtio_mmio);
}

#[test]
fn virtio_blk() {
    run(fuzz::virtio_blk);
}

#[test]
fn virtio_pci() {
    run(fuzz::virtio_pci);
}

#[test]
fn virtio_net() {
    run(fuzz::virtio_net);
}

#[test]
fn nat() {
    run(fuzz::nat);
}

#[test]
fn dhcp() {
    run(fuzz::dhcp);
}

#[test]
fn virtio_vsock() {
    run(fuzz::virtio_vsock);
}

#[test]
fn virtio_console() {
    run(fuzz::virtio_console);
}

#[test]
fn virtio_balloon() {
    run(fuzz::virtio_balloon);
}

#[test]
fn virtio_fs() {
    run(fuzz::virtio_fs);
}
