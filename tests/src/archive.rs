//! Mirrors of packages on the loopback interface: files of the cache under the names that a lock file gives them, and small
//! archives that are signed here.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use images::cache::{Cache, Sha256Sum};
use images::deb;
use images::debian::Package;
use images::lock::{Lock, LockedPackage};
use images::tarball::{Entry, EntryKind, Writer};
use pgp::composed::{CleartextSignedMessage, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::composed::{SignedPublicKey, SubkeyParamsBuilder};
use pgp::ser::Serialize;
use pgp::types::Password;

/// What is behind a path.
#[derive(Clone, Debug)]
enum Served {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// A web server that lives as long as the test program.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its base, as `--mirror` takes it.
    pub base: String,
    files: Arc<Mutex<HashMap<String, Served>>>,
    /// Bytes that it still sends before it breaks off whatever it sends.
    left: Arc<AtomicU64>,
}

impl Mirror {
    /// A mirror without files whose base ends in `/name`.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start(name: &str) -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}/{name}", listener.local_addr().expect("an address"));
        let mirror = Mirror { base, files: Arc::default(), left: Arc::new(AtomicU64::new(u64::MAX)) };
        let server = mirror.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let server = server.clone();
                // A client that goes away is no failure.
                std::thread::spawn(move || server.answer(stream).ok());
            }
        });
        mirror
    }

    /// A mirror of all packages that a lock file names, from the cache in which they are.
    ///
    /// # Panics
    /// When one is not there.
    #[must_use]
    pub fn of_lock(name: &str, lock: &Lock, cache: &Cache) -> Mirror {
        let mirror = Mirror::start(name);
        for package in lock.packages.iter().chain(&lock.build_packages).chain(&lock.boot_package) {
            mirror.put_package(package, cache);
        }
        mirror
    }

    /// Breaks off for good after so many bytes.
    pub fn dies_after(&self, bytes: u64) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// Whether it has broken off.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn put_package(&self, package: &LockedPackage, cache: &Cache) {
        let sum = Sha256Sum::parse(&package.sha256).expect("a hash");
        let path = cache.find(&sum, package.size).unwrap_or_else(|| panic!("{} is not in the cache", package.name));
        self.insert(&package.path, Served::File(path));
    }

    fn insert(&self, path: &str, served: Served) {
        self.files.lock().expect("no panic").insert(path.to_owned(), served);
    }

    /// Serves these bytes.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.insert(path, Served::Bytes(bytes.into()));
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let range = headers.iter().find_map(|line| {
            let line = line.to_ascii_lowercase();
            line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<u64>().ok()
        });
        // Below the name of the mirror, or that of the one for security updates beside it.
        let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        let path = path.split_once('/').map_or("", |(_, path)| path);
        let served = self.files.lock().expect("no panic").get(path).cloned();
        let from = range.unwrap_or(0);
        let (size, mut body): (u64, Box<dyn Read>) = match served {
            None => {
                return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
            Some(Served::Bytes(bytes)) => {
                let rest = bytes.get(from as usize..).unwrap_or_default().to_vec();
                (bytes.len() as u64, Box::new(std::io::Cursor::new(rest)))
            }
            Some(Served::File(path)) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(from))?;
                (file.metadata()?.len(), Box::new(file))
            }
        };
        if self.is_dead() {
            return Ok(());
        }
        let status = match range {
            Some(from) => format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}", size - 1),
            None => "200 OK".to_owned(),
        };
        let length = size.saturating_sub(from);
        stream.write_all(
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut buffer = vec![0; 1 << 14];
        loop {
            let count = body.read(&mut buffer)?;
            let take = |left: u64| Some(left.saturating_sub(count as u64));
            let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
            if count == 0 || left < count as u64 {
                return Ok(());
            }
            stream.write_all(&buffer[..count])?;
        }
    }
}

/// An archive with a key of its own, of packages that Debian made and of such that a test makes.
#[derive(Debug)]
pub struct OwnArchive {
    /// Where it is served.
    pub mirror: Mirror,
    key: SignedSecretKey,
    index: String,
}

impl OwnArchive {
    /// An empty archive.
    #[must_use]
    pub fn new(name: &str) -> OwnArchive {
        OwnArchive { mirror: Mirror::start(name), key: make_key(), index: String::new() }
    }

    /// Adds a package of another archive, with its file.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn add_package(&mut self, package: &Package, file: &Path) {
        let control = deb::read_control(file).expect("a package").into_iter().find(|file| file.name == "control");
        let control = String::from_utf8_lossy(&control.expect("a control file").contents).into_owned();
        let Package { filename, size, sha256, .. } = package;
        self.mirror.insert(filename, Served::File(file.to_owned()));
        self.index += &format!("{}\nFilename: {filename}\nSize: {size}\nSHA256: {sha256}\n\n", control.trim_end());
    }

    /// Adds a package with these fields, control files and files.
    ///
    /// # Panics
    /// Never.
    pub fn add(&mut self, name: &str, fields: &str, scripts: &[(&str, &str)], files: &[(&str, EntryKind, &str)]) {
        let control = format!(
            "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: A test <a@example.org>\nDescription: a test\n{fields}"
        );
        let mut members = vec![("./control", EntryKind::File(0), control.as_str(), 0o644)];
        members.extend(scripts.iter().map(|(name, text)| (*name, EntryKind::File(0), *text, 0o755)));
        let files: Vec<_> = files.iter().map(|(path, kind, text)| (*path, kind.clone(), *text, 0o644)).collect();
        let bytes =
            ar(&[("debian-binary", b"2.0\n".to_vec()), ("control.tar", tar(&members)), ("data.tar", tar(&files))]);
        let (size, sum, path) = (bytes.len(), Sha256Sum::of(&bytes), format!("pool/{name}_1_all.deb"));
        self.mirror.put(&path, bytes);
        self.index += &format!("{control}Filename: {path}\nSize: {size}\nSHA256: {sum}\n\n");
    }

    /// Signs its index as that of `suite`; `date` and further lines are those of its `Release`.
    ///
    /// # Panics
    /// Never.
    pub fn publish(&self, suite: &str, lines: &str) {
        self.publish_index(suite, lines, &self.index);
    }

    /// The same with an index of one's own.
    ///
    /// # Panics
    /// Never.
    pub fn publish_index(&self, suite: &str, lines: &str, index: &str) {
        let packed = gzip(index.as_bytes());
        let (size, sum, name) = (packed.len(), Sha256Sum::of(&packed), "main/binary-arm64/Packages.gz");
        let release =
            format!("Origin: a test\nSuite: {suite}\nCodename: {suite}\n{lines}SHA256:\n {sum} {size} {name}\n");
        let subkey = &self.key.secret_subkeys[0].key;
        let signed = CleartextSignedMessage::sign(rand::thread_rng(), &release, subkey, &Password::empty());
        let message = signed.and_then(|message| message.to_armored_bytes(Default::default())).expect("signed");
        self.mirror.put(&format!("dists/{suite}/InRelease"), message);
        self.mirror.put(&format!("dists/{suite}/{name}"), packed);
    }

    /// Writes its public key.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn write_keyring(&self, path: &Path) {
        let bytes = SignedPublicKey::from(self.key.clone()).to_bytes().expect("memory");
        fs::write(path, bytes).expect("a keyring");
    }
}

fn make_key() -> SignedSecretKey {
    let mut subkey = SubkeyParamsBuilder::default();
    subkey.key_type(KeyType::Ed25519Legacy).can_sign(true).can_encrypt(EncryptionCaps::None).can_authenticate(false);
    let mut key = SecretKeyParamsBuilder::default();
    key.key_type(KeyType::Ed25519Legacy).can_certify(true).can_sign(false).can_encrypt(EncryptionCaps::None);
    key.primary_user_id("An archive <archive@example.org>".into()).subkeys(vec![subkey.build().expect("a subkey")]);
    key.build().expect("valid parameters").generate(rand::thread_rng()).expect("a key")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).and_then(|()| writer.finish()).expect("memory")
}

fn tar(members: &[(&str, EntryKind, &str, u32)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind, text, mode) in members {
        let kind = if let EntryKind::File(_) = kind { EntryKind::File(text.len() as u64) } else { kind.clone() };
        let path = path.as_bytes().to_vec();
        let entry = Entry { path, kind, mode: *mode, uid: 0, gid: 0, mtime: 1, xattrs: Default::default() };
        writer.entry(&entry, &mut text.as_bytes()).expect("memory");
    }
    writer.finish().expect("memory")
}

fn ar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, contents) in members {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, contents.len());
        out.extend(header.as_bytes());
        out.extend(contents);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}
