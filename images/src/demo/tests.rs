use super::*;
use crate::cache::tests::Scratch;
use crate::cpio;
use crate::debian::archive::tests::{DATE, Server, options, package, publish};
use crate::debian::signature::tests::make_key;
use crate::progress::Silent;

fn publish_guest(server: &Server, key: &pgp::composed::SignedSecretKey, version: &str, date: &str) {
    let kernel = format!("linux-image-{version}-cloud-arm64");
    let image = format!("boot/vmlinuz-{version}-cloud-arm64");
    let modules = format!("lib/modules/{version}-cloud-arm64/kernel");
    let index = package(server, "busybox-static", "1", "", &[("bin/busybox", b"BUSYBOX")])
        + &package(server, CLOUD_KERNEL, version, &format!("{kernel} (= {version}-1)"), &[])
        + &package(
            server,
            &kernel,
            &format!("{version}-1"),
            "kmod",
            &[
                (&image, version.as_bytes()),
                (&format!("{modules}/drivers/virtio/virtio_mmio.ko"), b"m\0depends=\0"),
                (&format!("{modules}/fs/xfs/xfs.ko"), b"x"),
            ],
        );
    publish(server, key, "one", &index, date);
}

#[test]
fn a_guest_is_made_kept_and_refreshed() {
    let scratch = Scratch::new("demo");
    let (server, key) = (Server::start(), make_key());
    let cache = Cache::new(scratch.0.join("cache"));
    let mut demo = DemoOptions { archive: options(&server, &key, &scratch, "one"), ..DemoOptions::new("one") };
    publish_guest(&server, &key, "6.1", DATE);
    let guest = build_with(&demo, &cache, &Silent).expect("made");
    assert_eq!(guest.kernel_version, "6.1-1");
    assert_eq!(std::fs::read(&guest.kernel).expect("there"), b"6.1");
    let initrd = std::fs::read(&guest.initrd).expect("there");
    let entries = cpio::read(&initrd).expect("an archive");
    let find = |name| entries.iter().find(|entry| entry.name == name).copied().expect(name);
    assert_eq!((find("bin/busybox").contents, find("bin/busybox").mode), (b"BUSYBOX".as_slice(), 0o100_755));
    assert_eq!(find("init").contents, initramfs::INIT.as_bytes());
    assert_eq!(find("lib/modules/order").contents, b"virtio_mmio.ko\n");
    assert!(entries.iter().all(|entry| !entry.name.contains("xfs")));
    // A newer kernel is taken only when it is asked for, or the old one is damaged.
    publish_guest(&server, &key, "6.12", &DATE.replace("11 Jul", "12 Jul"));
    assert_eq!(build_with(&demo, &cache, &Silent).expect("kept"), guest);
    demo.refresh = true;
    let newer = build_with(&demo, &cache, &Silent).expect("made");
    assert_eq!(newer.kernel_version, "6.12-1");
    demo.refresh = false;
    std::fs::write(&newer.kernel, b"damaged").expect("written");
    let repaired = build_with(&demo, &cache, &Silent).expect("made again");
    assert_eq!(std::fs::read(&repaired.kernel).expect("there"), b"6.12");
}

#[test]
fn a_package_without_a_kernel_is_refused() {
    let scratch = Scratch::new("demo-empty");
    let (server, key) = (Server::start(), make_key());
    let cache = Cache::new(scratch.0.join("cache"));
    let demo = DemoOptions { archive: options(&server, &key, &scratch, "one"), ..DemoOptions::new("one") };
    let index = package(&server, "busybox-static", "1", "", &[("bin/busybox", b"BUSYBOX")])
        + &package(&server, CLOUD_KERNEL, "1", "", &[("boot/config", b"")]);
    publish(&server, &key, "one", &index, DATE);
    let error = build_with(&demo, &cache, &Silent).expect_err("no kernel");
    assert!(matches!(error, DemoError::Kernel(KernelError::Missing { what: "boot/vmlinuz", .. })), "{error}");
}

/// The real thing, from the mirror of this system's apt. `VMM_TEST_DEMO` names the directory to keep it in,
/// `VMM_TEST_SUITE` the suite (default bookworm).
#[test]
#[ignore = "needs a Debian mirror, and VMM_TEST_DEMO, a directory"]
fn a_real_guest() {
    struct Told;
    impl Progress for Told {
        fn begin(&self, what: &str, total: Option<u64>) {
            eprintln!("{what} {total:?}");
        }
        fn note(&self, text: &str) {
            eprintln!("note: {text}");
        }
    }
    let directory = std::env::var("VMM_TEST_DEMO").expect("VMM_TEST_DEMO");
    let suite = std::env::var("VMM_TEST_SUITE").unwrap_or_else(|_| "bookworm".to_owned());
    let begin = std::time::Instant::now();
    let guest = build(&suite, &Cache::new(directory), &Told).expect("a guest");
    eprintln!("{guest:?} after {:?}", begin.elapsed());
}
