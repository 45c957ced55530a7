use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::io::Errno;

use super::abi::{IN_HEADER, OUT_HEADER, op};
use super::*;
use crate::bus::MmioDevice;
use crate::testing::transfer;
use crate::virtio::spec::status;
use crate::virtio::testing::{BUFFERS, RAM, RAM_LEN, Rig};

const ROOT: u64 = 1;
const REQUEST: u64 = BUFFERS;
const ANSWER: u64 = BUFFERS + 0x12_0000;
const ROOM: u32 = 0x11_0000;

struct Shared(tempfile::TempDir);

impl Shared {
    /// A folder with some files, and something beside it.
    fn new() -> Shared {
        let all = tempfile::tempdir().unwrap();
        let folder = all.path().join("shared");
        std::fs::create_dir_all(folder.join("sub/deep")).unwrap();
        std::fs::write(folder.join("file"), "contents").unwrap();
        std::fs::write(folder.join("sub/inner"), "inner").unwrap();
        std::fs::write(all.path().join("secret"), "secret").unwrap();
        symlink("../secret", folder.join("out")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        Shared(all)
    }
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("shared")
    }
    fn options(&self) -> FsOptions {
        FsOptions::new("tag", self.path())
    }
}

/// A request's arguments.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn new() -> Body {
        Body::default()
    }
    fn u32(mut self, value: u32) -> Body {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Body {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn name(mut self, name: &str) -> Body {
        self.0.extend(name.as_bytes());
        self.0.push(0);
        self
    }
    fn bytes(mut self, bytes: &[u8]) -> Body {
        self.0.extend(bytes);
        self
    }
}

struct Guest {
    rig: Rig,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn request(opcode: u32, node: u64, body: &Body) -> Vec<u8> {
    let mut bytes = vec![0; IN_HEADER];
    bytes[4..8].copy_from_slice(&opcode.to_le_bytes());
    bytes[8..16].copy_from_slice(&77u64.to_le_bytes());
    bytes[16..24].copy_from_slice(&node.to_le_bytes());
    bytes.extend(&body.0);
    bytes
}

impl Guest {
    fn new(options: &FsOptions) -> Guest {
        let mut rig = Rig::new(VirtioFs::new(options).unwrap());
        rig.start(2, 0);
        let mut guest = Guest { rig };
        guest.introduce();
        guest
    }

    fn introduce(&mut self) {
        let answer = self.ask(op::INIT, 0, Body::new().u32(7).u32(38).u32(0x2_0000).u32(u32::MAX)).unwrap();
        assert_eq!((answer.len(), u32_at(&answer, 0), u32_at(&answer, 4)), (64, 7, 31));
        assert_eq!(u32_at(&answer, 20), 1 << 20);
    }

    fn ask(&mut self, opcode: u32, node: u64, body: Body) -> Result<Vec<u8>, Errno> {
        let bytes = request(opcode, node, &body);
        self.rig.put(REQUEST, &bytes);
        self.rig.submit(1, &[(REQUEST, bytes.len() as u32)], &[(ANSWER, ROOM)]);
        let len = self.rig.used(1).1 as usize;
        let answer = self.rig.get(ANSWER, len);
        assert_eq!((u32_at(&answer, 0) as usize, u64_at(&answer, 8)), (len, 77));
        match -(u32_at(&answer, 4) as i32) {
            0 => Ok(answer[OUT_HEADER..].to_vec()),
            error => Err(Errno::from_raw_os_error(error)),
        }
    }

    fn lookup(&mut self, node: u64, name: &str) -> Result<u64, Errno> {
        self.ask(op::LOOKUP, node, Body::new().name(name)).map(|entry| u64_at(&entry, 0))
    }

    fn open(&mut self, node: u64, flags: u32) -> Result<u64, Errno> {
        self.ask(op::OPEN, node, Body::new().u32(flags).u32(0)).map(|answer| u64_at(&answer, 0))
    }

    fn create(&mut self, node: u64, name: &str, mode: u32) -> Result<(u64, u64), Errno> {
        let answer = self.ask(op::CREATE, node, Body::new().u32(2).u32(mode).u64(0).name(name))?;
        Ok((u64_at(&answer, 0), u64_at(&answer, 128)))
    }

    fn read(&mut self, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.ask(op::READ, 0, Body::new().u64(handle).u64(offset).u32(size).u32(0).u64(0).u64(0))
    }

    fn write(&mut self, handle: u64, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let body = Body::new().u64(handle).u64(offset).u32(data.len() as u32).u32(0).u64(0).u64(0).bytes(data);
        self.ask(op::WRITE, 0, body).map(|answer| u32_at(&answer, 0))
    }

    fn forget(&mut self, node: u64, count: u64) {
        let bytes = request(op::FORGET, node, &Body::new().u64(count));
        self.rig.put(REQUEST, &bytes);
        self.rig.submit(0, &[(REQUEST, bytes.len() as u32)], &[]);
        assert_eq!(self.rig.used(0).1, 0);
    }

    /// Names, and nodes if `plus`.
    fn list(&mut self, node: u64, plus: bool, size: u32) -> BTreeMap<String, u64> {
        let handle = u64_at(&self.ask(op::OPENDIR, node, Body::new().u32(0).u32(0)).unwrap(), 0);
        let (mut names, mut offset) = (BTreeMap::new(), 0);
        loop {
            let opcode = if plus { op::READDIRPLUS } else { op::READDIR };
            let body = Body::new().u64(handle).u64(offset).u32(size).u32(0).u64(0).u64(0);
            let answer = self.ask(opcode, node, body).unwrap();
            if answer.is_empty() {
                break;
            }
            assert!(answer.len() <= size as usize);
            let mut at = 0;
            while at < answer.len() {
                let known = if plus { u64_at(&answer, at) } else { 0 };
                at += if plus { 128 } else { 0 };
                offset = u64_at(&answer, at + 8);
                let len = u32_at(&answer, at + 16) as usize;
                let name = String::from_utf8(answer[at + 24..at + 24 + len].to_vec()).unwrap();
                assert!(names.insert(name, known).is_none(), "listed twice");
                at += (24 + len).next_multiple_of(8);
            }
        }
        self.ask(op::RELEASEDIR, node, Body::new().u64(handle).u64(0).u64(0)).unwrap();
        names
    }
}

#[test]
fn the_device_has_a_tag_and_one_queue_of_requests() {
    let shared = Shared::new();
    let guest = Guest::new(&shared.options());
    let read = |at: u64| guest.rig.device.read(0x100 + at, 4).unwrap() as u32;
    assert_eq!((read(0), read(4), read(36)), (u32::from_le_bytes(*b"tag\0"), 0, 1));
    assert!(VirtioFs::new(&FsOptions::new("t", shared.path().join("file"))).is_err());
    assert!(VirtioFs::new(&FsOptions::new("t", "/nonexistent")).is_err());
}

#[test]
fn files_are_made_written_read_and_removed() {
    let shared = Shared::new();
    let mut guest = Guest::new(&shared.options());
    let (node, handle) = guest.create(ROOT, "new", 0o100_640).unwrap();
    let data: Vec<u8> = (0..1u32 << 20).map(|i| (i * 7 + (i >> 9)) as u8).collect();
    assert_eq!(guest.write(handle, 5, &data).unwrap(), 1 << 20);
    assert!(guest.read(handle, 5, 1 << 20).unwrap() == data);
    assert_eq!(guest.read(handle, (1 << 20) + 3, 100).unwrap(), data[(1 << 20) - 2..]);
    let host = shared.path().join("new");
    assert_eq!(std::fs::metadata(&host).unwrap().permissions().mode() & 0o7777, 0o640);
    assert!(std::fs::read(&host).unwrap()[5..] == data);
    // Another name, another mode, another size, another time.
    guest.ask(op::LINK, ROOT, Body::new().u64(node).name("second")).unwrap();
    let set = |valid: u32, size: u64, mode: u32| {
        Body::new()
            .u32(valid)
            .u32(0)
            .u64(0)
            .u64(size)
            .u64(0)
            .u64(5)
            .u64(6)
            .u64(0)
            .u32(7)
            .u32(8)
            .u32(0)
            .u32(mode)
            .u32(0)
            .u32(0)
            .u32(0)
            .u32(0)
    };
    guest.ask(op::SETATTR, node, set(1 | 8 | 16 | 32, 3, 0o4755)).unwrap();
    let meta = std::fs::metadata(shared.path().join("second")).unwrap();
    assert_eq!((meta.len(), meta.permissions().mode() & 0o7777, meta.nlink()), (3, 0o755, 2));
    assert_eq!((meta.atime(), meta.atime_nsec(), meta.mtime(), meta.mtime_nsec()), (5, 7, 6, 8));
    guest.ask(op::FSYNC, node, Body::new().u64(handle).u32(0).u32(0)).unwrap();
    guest.ask(op::FALLOCATE, node, Body::new().u64(handle).u64(0).u64(10_000).u32(0).u32(0)).unwrap();
    assert_eq!(std::fs::metadata(&host).unwrap().len(), 10_000);
    guest.ask(op::RENAME2, ROOT, Body::new().u64(ROOT).u32(1).u32(0).name("new").name("file")).unwrap_err();
    guest.ask(op::RENAME2, ROOT, Body::new().u64(ROOT).u32(2).u32(0).name("new").name("file")).unwrap();
    assert_eq!(std::fs::read(&host).unwrap(), b"contents");
    guest.ask(op::RENAME, ROOT, Body::new().u64(ROOT).name("new").name("old")).unwrap();
    guest.ask(op::UNLINK, ROOT, Body::new().name("old")).unwrap();
    assert!(!shared.path().join("old").exists());
    // An open file outlives its name.
    guest.ask(op::UNLINK, ROOT, Body::new().name("file")).unwrap();
    guest.ask(op::UNLINK, ROOT, Body::new().name("second")).unwrap();
    assert_eq!(guest.write(handle, 0, b"still").unwrap(), 5);
    assert_eq!(guest.read(handle, 0, 5).unwrap(), b"still");
    guest.ask(op::RELEASE, node, Body::new().u64(handle).u64(0).u64(0)).unwrap();
    assert_eq!(guest.read(handle, 0, 5), Err(Errno::BADF));
    assert_eq!(guest.rig.counter("open_files"), 0);
}

#[test]
fn folders_links_and_attributes() {
    let shared = Shared::new();
    let mut guest = Guest::new(&shared.options());
    let made = guest.ask(op::MKDIR, ROOT, Body::new().u32(0o2751).u32(0).name("made")).unwrap();
    let made = u64_at(&made, 0);
    assert_eq!(std::fs::metadata(shared.path().join("made")).unwrap().permissions().mode() & 0o7777, 0o2751);
    guest.ask(op::SYMLINK, made, Body::new().name("link").name("/anywhere/at all")).unwrap();
    let link = guest.lookup(made, "link").unwrap();
    assert_eq!(guest.ask(op::READLINK, link, Body::new()).unwrap(), b"/anywhere/at all");
    for n in 0..500 {
        std::fs::write(shared.path().join("made").join(format!("a rather long name of a file {n}")), "").unwrap();
    }
    for (plus, size) in [(false, 4096), (true, 4096), (false, 300), (true, 70_000)] {
        let names = guest.list(made, plus, size);
        assert_eq!(names.len(), 503, "{plus} {size}");
        let some = names["a rather long name of a file 77"];
        assert_eq!(plus, some != 0);
        assert_eq!((names["."], names[".."]), (0, 0));
        if plus {
            assert_eq!(guest.lookup(made, "a rather long name of a file 77"), Ok(some));
        }
    }
    let known = guest.rig.counter("known_files");
    assert_eq!(known, 503, "the root, the folder, the link and 500 files");
    guest.ask(op::RMDIR, ROOT, Body::new().name("made")).unwrap_err();
    assert_eq!(guest.ask(op::UNLINK, ROOT, Body::new().name("made")), Err(Errno::ISDIR));
    guest.ask(op::MKNOD, ROOT, Body::new().u32(0o010_644).u32(0).u64(0).name("pipe")).unwrap();
    let pipe = guest.lookup(ROOT, "pipe").unwrap();
    assert_eq!(guest.open(pipe, 0), Err(Errno::PERM), "opening a pipe would wait");
    for device in [0o020_644u32, 0o060_644] {
        let body = Body::new().u32(device).u32(0x101).u64(0).name("device");
        assert_eq!(guest.ask(op::MKNOD, ROOT, body), Err(Errno::PERM));
    }
    let file = guest.lookup(ROOT, "file").unwrap();
    let set = Body::new().u32(3).u32(0).name("user.colour").bytes(b"red");
    // A file system of the host without extended attributes says so.
    if guest.ask(op::SETXATTR, file, set).is_ok() {
        let get = || Body::new().u32(100).u32(0);
        assert_eq!(guest.ask(op::GETXATTR, file, get().name("user.colour")).unwrap(), b"red");
        assert_eq!(guest.ask(op::LISTXATTR, file, get()).unwrap(), b"user.colour\0");
        let length = guest.ask(op::GETXATTR, file, Body::new().u64(0).name("user.colour")).unwrap();
        assert_eq!(u32_at(&length, 0), 3);
        assert_eq!(guest.ask(op::GETXATTR, file, Body::new().u32(2).u32(0).name("user.colour")), Err(Errno::RANGE));
        guest.ask(op::REMOVEXATTR, file, Body::new().name("user.colour")).unwrap();
    }
    for name in ["trusted.x", "security.capability", "system.posix_acl_access"] {
        let set = Body::new().u32(1).u32(0).name(name).bytes(b"x");
        assert_eq!(guest.ask(op::SETXATTR, file, set), Err(Errno::OPNOTSUPP));
    }
    assert_eq!(guest.ask(op::STATFS, ROOT, Body::new()).unwrap().len(), 80);
    assert_eq!(guest.ask(99, ROOT, Body::new()), Err(Errno::NOSYS));
}

#[test]
fn nothing_leads_out_of_the_folder() {
    let shared = Shared::new();
    let mut guest = Guest::new(&shared.options());
    let sub = guest.lookup(ROOT, "sub").unwrap();
    let long = "x".repeat(300);
    for name in ["", ".", "..", "../secret", "/etc/passwd", "sub/inner", "up/secret", long.as_str()] {
        for node in [ROOT, sub] {
            assert!(guest.lookup(node, name).is_err(), "{name}");
            assert!(guest.create(node, name, 0o644).is_err(), "{name}");
            for opcode in [op::UNLINK, op::RMDIR] {
                assert!(guest.ask(opcode, node, Body::new().name(name)).is_err(), "{name}");
            }
            assert!(guest.ask(op::MKDIR, node, Body::new().u64(0).name(name)).is_err());
            assert!(guest.ask(op::RENAME, ROOT, Body::new().u64(node).name("file").name(name)).is_err());
            assert!(guest.ask(op::RENAME, node, Body::new().u64(ROOT).name(name).name("got")).is_err());
        }
    }
    // Links are files of their own: neither opened, nor gone through, nor written by way of.
    for name in ["out", "up"] {
        let link = guest.lookup(ROOT, name).unwrap();
        assert_eq!(guest.open(link, 0), Err(Errno::LOOP));
        assert_eq!(guest.open(link, 1 | 0o1000), Err(Errno::LOOP));
        assert_eq!(guest.lookup(link, "secret"), Err(Errno::NOTDIR));
        assert!(guest.create(ROOT, name, 0o644).is_err());
        assert!(guest.ask(op::OPENDIR, link, Body::new().u64(0)).is_err());
    }
    assert_eq!(std::fs::read(shared.0.path().join("secret")).unwrap(), b"secret");
    let mut left: Vec<_> =
        std::fs::read_dir(shared.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["secret", "shared"]);
}

#[test]
fn a_race_of_renames_and_links_does_not_lead_out() {
    let shared = Shared::new();
    let mut guest = Guest::new(&shared.options());
    let over = std::sync::Arc::new(AtomicBool::new(false));
    let (stop, folder) = (over.clone(), shared.path());
    // The host's side plays with a name: a folder with a file, and a link to the outside.
    let other = std::thread::spawn(move || {
        let (real, link, name) = (folder.join("real"), folder.join("link"), folder.join("name"));
        std::fs::create_dir(&real).unwrap();
        std::fs::write(real.join("secret"), "inside").unwrap();
        symlink("..", &link).unwrap();
        std::fs::rename(&real, &name).unwrap();
        while !stop.load(Ordering::SeqCst) {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(CWD, &link, CWD, &name, exchange).unwrap();
        }
    });
    let (mut inside, mut links) = (0, 0);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while inside < 200 || links < 200 {
        assert!(std::time::Instant::now() < limit, "{inside} and {links}");
        let Ok(node) = guest.lookup(ROOT, "name") else { continue };
        match guest.lookup(node, "secret") {
            Ok(file) => {
                let handle = guest.open(file, 2).unwrap();
                assert_eq!(guest.read(handle, 0, 100).unwrap(), b"inside");
                guest.ask(op::RELEASE, file, Body::new().u64(handle).u64(0).u64(0)).unwrap();
                let (_, handle) = guest.create(node, "secret", 0o644).unwrap();
                guest.ask(op::RELEASE, file, Body::new().u64(handle).u64(0).u64(0)).unwrap();
                inside += 1;
            }
            Err(error) => {
                assert_eq!(error, Errno::NOTDIR);
                assert!(guest.create(node, "secret", 0o644).is_err());
                links += 1;
            }
        }
    }
    over.store(true, Ordering::SeqCst);
    other.join().unwrap();
    assert_eq!(std::fs::read(shared.0.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn a_folder_for_reading_only_is_not_changed() {
    let shared = Shared::new();
    let mut guest = Guest::new(&FsOptions { read_only: true, ..shared.options() });
    let file = guest.lookup(ROOT, "file").unwrap();
    let handle = guest.open(file, 0).unwrap();
    assert_eq!(guest.read(handle, 0, 100).unwrap(), b"contents");
    assert_eq!(guest.write(handle, 0, b"x"), Err(Errno::ROFS));
    for flags in [1, 2, 0o1000] {
        assert_eq!(guest.open(file, flags), Err(Errno::ROFS));
    }
    assert_eq!(guest.create(ROOT, "new", 0o644), Err(Errno::ROFS));
    let changes = [
        op::SETATTR,
        op::SYMLINK,
        op::MKNOD,
        op::MKDIR,
        op::UNLINK,
        op::RMDIR,
        op::RENAME,
        op::RENAME2,
        op::LINK,
        op::SETXATTR,
        op::REMOVEXATTR,
        op::FALLOCATE,
        op::COPY_FILE_RANGE,
    ];
    for opcode in changes {
        assert_eq!(guest.ask(opcode, ROOT, Body::new().u64(0).u64(0).name("a").name("b")), Err(Errno::ROFS));
    }
}

#[test]
fn what_the_guest_forgets_is_let_go_of() {
    let shared = Shared::new();
    let mut guest = Guest::new(&shared.options());
    let sub = guest.lookup(ROOT, "sub").unwrap();
    assert_eq!(guest.lookup(ROOT, "sub"), Ok(sub));
    guest.forget(sub, 1);
    assert!(guest.lookup(sub, "inner").is_ok());
    guest.forget(sub, 1);
    assert_eq!(guest.lookup(sub, "inner"), Err(Errno::STALE));
    // More than it knows, what it does not know, and the root, which stays.
    for node in [sub, ROOT, 12345] {
        guest.forget(node, u64::MAX);
    }
    let again = guest.lookup(ROOT, "sub").unwrap();
    assert_ne!(again, sub, "numbers are not used again");
    let batch = Body::new().u32(u32::MAX).u32(0).u64(again).u64(1);
    let bytes = request(op::BATCH_FORGET, 0, &batch);
    guest.rig.put(REQUEST, &bytes);
    guest.rig.submit(0, &[(REQUEST, bytes.len() as u32)], &[]);
    guest.rig.used(0);
    assert_eq!(guest.lookup(again, "inner"), Err(Errno::STALE));
}

#[test]
fn a_saved_machine_goes_on_with_its_files() {
    let shared = Shared::new();
    let mut guest = Guest::new(&shared.options());
    let sub = guest.lookup(ROOT, "sub").unwrap();
    let (node, handle) = guest.create(sub, "open", 0o600).unwrap();
    guest.write(handle, 0, b"before").unwrap();
    let gone = guest.lookup(ROOT, "file").unwrap();
    guest.rig.device.pause();
    let saved = guest.rig.device.save();
    std::fs::remove_file(shared.path().join("file")).unwrap();
    let rig = Rig::with_memory(VirtioFs::new(&shared.options()).unwrap(), Arc::clone(&guest.rig.memory));
    let mut other = Guest { rig };
    other.rig.take_driver(&guest.rig);
    other.rig.device.pause();
    transfer(&*guest.rig.device, &*other.rig.device);
    other.rig.device.resume();
    assert_eq!(other.read(handle, 0, 100).unwrap(), b"before");
    other.write(handle, 6, b" and after").unwrap();
    assert_eq!(std::fs::read(shared.path().join("sub/open")).unwrap(), b"before and after");
    assert_eq!(other.lookup(sub, "open"), Ok(node));
    assert_eq!(other.open(gone, 0), Err(Errno::STALE));
    assert!(other.lookup(ROOT, "sub").is_ok());
    assert!(other.create(ROOT, "new", 0o644).unwrap().0 > node);
    let elsewhere = VirtioFs::new(&FsOptions::new("other", shared.path())).unwrap();
    assert!(Rig::new(elsewhere).device.load(&saved).is_err());
    // A state whose paths lead out finds nothing there.
    other.rig.device.pause();
    let text = other.rig.device.save().to_string();
    let text = text.replace(&format!("{:?}", b"sub/open").replace(' ', ""), "[46,46,47,115,101,99,114,101,116]");
    other.rig.device.load(&serde_json::from_str(&text).unwrap()).unwrap();
    other.rig.device.resume();
    assert_eq!(other.read(handle, 0, 100), Err(Errno::BADF));
    assert_eq!(other.open(node, 0), Err(Errno::STALE));
}

#[test]
fn hostile_drivers_stop_the_device_and_nothing_else() {
    let outside = RAM + RAM_LEN - 4;
    for case in 0..5 {
        let shared = Shared::new();
        let mut guest = Guest::new(&shared.options());
        guest.rig.put(REQUEST, &request(op::GETATTR, ROOT, &Body::new().u64(0).u64(0)));
        match case {
            0 => drop(guest.rig.submit(1, &[(REQUEST, 39)], &[(ANSWER, ROOM)])),
            1 => drop(guest.rig.submit(1, &[(outside, 60)], &[(ANSWER, ROOM)])),
            2 => drop(guest.rig.submit(1, &[(REQUEST, 56)], &[(ANSWER, 15)])),
            3 => drop(guest.rig.submit(1, &[(REQUEST, 56)], &[(outside, 200)])),
            _ => drop(guest.rig.submit(1, &[(REQUEST, u32::MAX)], &[(ANSWER, ROOM)])),
        }
        guest.rig.until_needs_reset();
        guest.rig.device.reset();
        assert_eq!(guest.rig.status() & status::DEVICE_NEEDS_RESET, 0, "case {case}");
        guest.rig.start(2, 0);
        // Nothing is served before the introduction.
        assert_eq!(guest.lookup(ROOT, "file"), Err(Errno::IO));
        guest.introduce();
        assert!(guest.lookup(ROOT, "file").is_ok());
    }
}

#[test]
fn requests_cut_anywhere_are_errors() {
    let shared = Shared::new();
    let mut guest = Guest::new(&shared.options());
    let full = Body::new().u64(1).u64(2).u64(3).u64(4).u64(5).u64(6).u64(7).u64(8).u64(9).u64(10).u64(11).name("x");
    for opcode in 1..=52 {
        if matches!(opcode, op::FORGET | op::BATCH_FORGET | op::DESTROY | op::SYNCFS) {
            continue;
        }
        for cut in 0..full.0.len() {
            for node in [ROOT, 0, u64::MAX] {
                // An error, or an answer: but one that comes.
                let _ = guest.ask(opcode, node, Body(full.0[..cut].to_vec()));
            }
        }
    }
    assert!(Path::new(&shared.path()).exists());
    std::fs::File::open(shared.path().join("file")).unwrap().read_at(&mut [0], 0).unwrap();
}
