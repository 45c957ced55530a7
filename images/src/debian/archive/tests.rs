//! A tiny archive, made and signed here, served on the loopback interface.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgp::composed::SignedSecretKey;

use super::super::signature::tests::{make_key, now, public, sign};
use super::*;
use crate::cache::tests::Scratch;
use crate::deb::tests::deb;
use crate::progress::Silent;

type Files = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A web server with these files, and the paths that it was asked for. With a file at `PATH!cut` it sends `PATH` once with
/// only half its bytes; where that file says `mark` it gives the file a mark. With a file at `PATH!whole` it cannot send parts.
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) files: Files,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}/debian", listener.local_addr().expect("an address"));
        let (files, asked) = (Files::default(), Arc::new(Mutex::new(Vec::new())));
        let server = Server { base, files: files.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            for mut stream in listener.incoming().filter_map(Result::ok) {
                let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
                let request = lines.next().unwrap_or_default();
                let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let range = headers
                    .iter()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
                let from = range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
                let marked = headers.iter().any(|line| line.to_ascii_lowercase().starts_with("if-range:"));
                let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches("/debian/").to_owned();
                let how = if marked { "if the same" } else { "" };
                let asked_for = from.map_or_else(|| path.clone(), |from| format!("{path} from {from} {how}"));
                asked.lock().expect("no panic").push(asked_for.trim_end().to_owned());
                let mut files = files.lock().expect("no panic");
                let from = from.filter(|_| !files.contains_key(&format!("{path}!whole")));
                let cut = files.remove(&format!("{path}!cut"));
                let (status, body) = match (files.get(&path), from) {
                    (Some(body), Some(from)) => {
                        let range = format!(
                            "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                            body.len() - 1,
                            body.len()
                        );
                        (range, &body[from..])
                    }
                    (Some(body), None) => ("200 OK".to_owned(), body.as_slice()),
                    (None, _) => ("404 Not Found".to_owned(), b"no".as_slice()),
                };
                let mark = if cut.as_deref() == Some(b"mark") { "ETag: \"1\"\r\n" } else { "" };
                let head =
                    format!("HTTP/1.1 {status}\r\n{mark}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let sent = if cut.is_some() { &body[..body.len() / 2] } else { body };
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
            }
        });
        server
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().expect("no panic").insert(path.to_owned(), bytes.into());
    }

    fn asked_for(&self, part: &str) -> usize {
        self.asked.lock().expect("no panic").iter().filter(|path| path.contains(part)).count()
    }
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer =
        lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).expect("valid options");
    writer.write_all(bytes).expect("memory");
    writer.finish().expect("memory")
}

/// An entry of a `Packages` index; puts the package on the server.
pub(crate) fn package(server: &Server, name: &str, version: &str, depends: &str, files: &[(&str, &[u8])]) -> String {
    let bytes = deb(files);
    let filename = format!("pool/{name}_{version}_arm64.deb");
    let (size, sum) = (bytes.len(), Sha256Sum::of(&bytes));
    server.put(&filename, bytes);
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: arm64\nDepends: {depends}\nFilename: {filename}\nSize: {size}\nSHA256: {sum}\n\n"
    )
}

/// Puts a suite with this index on the server; `more` are lines of its `Release`.
pub(crate) fn publish(server: &Server, key: &SignedSecretKey, suite: &str, index: &str, more: &str) {
    let packed = xz(index.as_bytes());
    let (size, sum) = (packed.len(), Sha256Sum::of(&packed));
    let name = "main/binary-arm64/Packages.xz";
    let release = format!("Suite: stable\nCodename: {suite}\n{more}SHA256:\n {sum} {size} {name}\n");
    server.put(&format!("dists/{suite}/InRelease"), sign(key, &release));
    server.put(&format!("dists/{suite}/{name}"), packed.clone());
    server.put(&format!("dists/{suite}/main/binary-arm64/by-hash/SHA256/{sum}"), packed);
}

pub(crate) const DATE: &str = "Date: Sat, 11 Jul 2020 10:16:37 UTC\n";

/// Options for a server, with an empty file system as root and a key's keyring in it.
pub(crate) fn options(server: &Server, key: &SignedSecretKey, scratch: &Scratch, suite: &str) -> ArchiveOptions {
    let keyring = scratch.0.join("keyring.gpg");
    fs::write(&keyring, public(key)).expect("written");
    ArchiveOptions {
        mirrors: vec![format!("{}/", server.base)],
        keyring: Some(keyring),
        root: scratch.0.join("root"),
        client: Client::new(Duration::from_millis(1)),
        ..ArchiveOptions::new(suite)
    }
}

struct Fixture {
    server: Server,
    key: SignedSecretKey,
    scratch: Scratch,
    cache: Cache,
}

impl Fixture {
    fn new(name: &str) -> Fixture {
        let scratch = Scratch::new(name);
        let cache = Cache::new(scratch.0.join("cache"));
        Fixture { server: Server::start(), key: make_key(), scratch, cache }
    }

    fn open(&self, suites: &[&str]) -> Result<Archive, DebianError> {
        let mut options = options(&self.server, &self.key, &self.scratch, "one");
        options.suites = suites.iter().map(|&suite| suite.to_owned()).collect();
        Archive::open(&options, &self.cache, &Silent)
    }
}

#[test]
fn a_package_is_found_fetched_and_then_taken_from_the_cache() {
    let t = Fixture::new("fetch");
    let old = package(&t.server, "tool", "1.9", "", &[("bin/tool", b"old")]);
    let new = package(&t.server, "tool", "1.10", "a, b", &[("bin/tool", b"new")]);
    publish(&t.server, &t.key, "one", &old, DATE);
    publish(&t.server, &t.key, "two", &new, &format!("{DATE}Acquire-By-Hash: yes\n"));
    let archive = t.open(&["one", "two"]).expect("opens");
    assert_eq!(t.server.asked_for("by-hash"), 1);
    let found = archive.find("tool").expect("there");
    assert_eq!((found.version.as_str(), found.depends.len()), ("1.10", 2));
    assert_eq!(archive.find_version("tool", "1.9").expect("there").version, "1.9");
    assert!(matches!(archive.find("none"), Err(DebianError::NoPackage { .. })));
    let path = archive.fetch(&found, &Silent).expect("fetched");
    assert_eq!(crate::deb::read_files(&path, |_| true, 99).expect("a package")[0].contents, b"new");
    assert_eq!(archive.fetch(&found, &Silent).expect("cached"), path);
    assert_eq!(t.server.asked_for("tool_1.10"), 1);
    t.open(&["one", "two"]).expect("opens");
    assert_eq!(t.server.asked_for("Packages.xz"), 1, "the index comes from the cache");
}

#[test]
fn what_a_mirror_changes_is_refused() {
    let t = Fixture::new("tamper");
    let index = package(&t.server, "tool", "1", "", &[("bin/tool", b"good")]);
    publish(&t.server, &t.key, "one", &index, DATE);
    let archive = t.open(&["one"]).expect("opens");
    let tool = archive.find("tool").expect("there");
    let good = t.server.files.lock().expect("no panic").get(&tool.filename).cloned().expect("there");
    for bad in [deb(&[("bin/tool", b"evil")]), good[..good.len() - 1].to_vec(), [good.as_slice(), b"x"].concat()] {
        t.server.put(&tool.filename, bad);
        let error = archive.fetch(&tool, &Silent).expect_err("changed");
        let DebianError::Http(error) = error else { panic!("{error}") };
        assert!(matches!(error, HttpError::Cache(CacheError::Mismatch { .. }) | HttpError::TooLarge { .. }), "{error}");
    }
    t.server.put(&tool.filename, good);
    archive.fetch(&tool, &Silent).expect("the good one is still taken");
    // An index that the Release does not name, and a Release that another key signed.
    fs::remove_dir_all(t.cache.named("sha256")).expect("removed");
    t.server.put("dists/one/main/binary-arm64/Packages.xz", xz(b"Package: evil\n"));
    assert!(matches!(t.open(&["one"]), Err(DebianError::Http(_))));
    publish(&t.server, &make_key(), "one", &index, DATE);
    assert!(matches!(t.open(&["one"]), Err(DebianError::Signature(SignatureError::Untrusted { .. }))));
}

#[test]
fn an_older_or_expired_or_other_release_is_refused() {
    let t = Fixture::new("downgrade");
    publish(&t.server, &t.key, "one", "", DATE);
    t.open(&["one"]).expect("opens");
    publish(&t.server, &t.key, "one", "", &DATE.replace("11 Jul", "10 Jul"));
    assert!(matches!(t.open(&["one"]), Err(DebianError::Release(ReleaseError::Downgrade { .. }))));
    publish(&t.server, &t.key, "one", "", &format!("{DATE}Valid-Until: Sun, 12 Jul 2020 10:16:37 UTC\n"));
    assert!(matches!(t.open(&["one"]), Err(DebianError::Release(ReleaseError::Expired { .. }))));
    let settings = t.scratch.0.join("root/etc/apt/apt.conf.d");
    fs::create_dir_all(&settings).expect("made");
    fs::write(settings.join("99frozen"), "Acquire::Check-Valid-Until \"false\";\n").expect("written");
    t.open(&["one"]).expect("apt's configuration allows it");
    let one = t.server.files.lock().expect("no panic").get("dists/one/InRelease").cloned().expect("there");
    t.server.put("dists/two/InRelease", one);
    assert!(matches!(t.open(&["two"]), Err(DebianError::Release(ReleaseError::OtherSuite { .. }))));
    publish(&t.server, &t.key, "late", "", "Date: Sat, 11 Jul 2099 10:16:37 UTC\n");
    assert!(matches!(t.open(&["late"]), Err(DebianError::Release(ReleaseError::Future { .. }))));
}

#[test]
fn a_broken_connection_is_tried_again_and_a_missing_file_is_not() {
    let t = Fixture::new("retry");
    publish(&t.server, &t.key, "one", "", DATE);
    t.server.put("dists/one/InRelease!cut", "");
    t.open(&["one"]).expect("the second try is good");
    assert_eq!(t.server.asked_for("dists/one/InRelease"), 2);
    assert!(matches!(t.open(&["none"]), Err(DebianError::NoSuite { .. })));
    assert!(t.open(&["trixi"]).expect_err("no suite").to_string().contains("near: trixie"));
    assert_eq!(t.server.asked_for("dists/none/InRelease"), 1);
}

#[test]
fn a_file_that_broke_off_goes_on_where_it_ended() {
    let t = Fixture::new("resume");
    let contents: Vec<u8> = (0..200_001u32).map(|n| (n / 3) as u8).collect();
    let index = package(&t.server, "tool", "1", "", &[("bin/tool", &contents)]);
    publish(&t.server, &t.key, "one", &index, DATE);
    let archive = t.open(&["one"]).expect("opens");
    let tool = archive.find("tool").expect("there");
    let half = tool.size / 2;
    let name = tool.filename.clone();
    for (cut, whole, asked) in [
        ("mark", false, format!("{name} from {half} if the same")),
        ("", false, format!("{name} from {half}")),
        ("", true, format!("{name} from {half}")),
    ] {
        let _ = fs::remove_file(t.cache.path(&tool.sha256));
        t.server.asked.lock().expect("no panic").clear();
        t.server.put(&format!("{name}!cut"), cut);
        if whole {
            t.server.put(&format!("{name}!whole"), "");
        }
        let path = archive.fetch(&tool, &Silent).expect("fetched");
        assert_eq!(crate::deb::read_files(&path, |_| true, 1 << 20).expect("a package")[0].contents, contents);
        assert_eq!(*t.server.asked.lock().expect("no panic"), [name.clone(), asked], "{cut} {whole}");
    }
}

/// A mirror that dies half way: the next one sends the rest, in the same run or in a later one.
#[test]
fn another_mirror_goes_on_where_one_ended() {
    let t = Fixture::new("mirrors");
    let contents: Vec<u8> = (0..200_001u32).map(|n| (n / 3) as u8).collect();
    let index = package(&t.server, "tool", "1", "", &[("bin/tool", &contents)]);
    publish(&t.server, &t.key, "one", &index, DATE);
    let archive = t.open(&["one"]).expect("opens");
    let tool = archive.find("tool").expect("there");
    let good = t.server.files.lock().expect("no panic").get(&tool.filename).cloned().expect("there");
    let half = good.len() / 2;
    // Sends the first half of whatever it is asked for, once; then nobody listens there.
    let dying = |sent: Vec<u8>| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}/debian", listener.local_addr().expect("an address"));
        let all = good.len();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok).find(String::is_empty);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {all}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&sent));
        });
        base
    };
    let with = |mirrors: Vec<String>| {
        let mut archive = t.open(&["one"]).expect("opens");
        archive.sources[0].mirrors = mirrors;
        archive
    };
    let asked = || t.server.asked.lock().expect("no panic").last().cloned();
    let resumed = Some(format!("{} from {half}", tool.filename));
    let both = with(vec![dying(good[..half].to_vec()), t.server.base.clone()]);
    let path = both.fetch(&tool, &Silent).expect("the second has the rest");
    assert_eq!((fs::read(&path).expect("there"), asked()), (good.clone(), resumed.clone()));

    fs::remove_file(&path).expect("removed");
    let error = with(vec![dying(good[..half].to_vec())]).fetch(&tool, &Silent).expect_err("it died");
    assert!(matches!(error, DebianError::Http(HttpError::Failed { .. })), "{error}");
    let path = with(vec![t.server.base.clone()]).fetch(&tool, &Silent).expect("the next run has the rest");
    assert_eq!((fs::read(&path).expect("there"), asked()), (good.clone(), resumed));

    // What came from a mirror with another file does no harm.
    fs::remove_file(&path).expect("removed");
    let both = with(vec![dying(vec![b'x'; half]), t.server.base.clone()]);
    assert_eq!(fs::read(both.fetch(&tool, &Silent).expect("fetched")).expect("there"), good);
    assert_eq!(asked(), Some(tool.filename.clone()));
}

#[test]
fn without_a_network_the_last_release_serves() {
    let mut t = Fixture::new("offline");
    let index = package(&t.server, "tool", "1", "", &[]);
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let dead = format!("http://{port}/debian");
    assert!(matches!(Client::new(Duration::ZERO).get(&dead, 9, &Silent), Err(HttpError::Failed { tries: 4, .. })));
    publish(&t.server, &t.key, "one", &index, DATE);
    t.open(&["one"]).expect("opens");
    let url = |base: &str| Sha256Sum::of(format!("{base}/dists/one/InRelease").as_bytes());
    let kept = fs::read(t.cache.named(&format!("{}.InRelease", url(&t.server.base)))).expect("kept");
    t.cache.replace_named(&format!("{}.InRelease", url(&dead)), &kept).expect("written");
    t.server.base = dead;
    let archive = t.open(&["one"]).expect("opens without a network");
    assert!(archive.find("tool").is_ok());
}

#[test]
fn without_a_mirror_the_option_is_explained() {
    let t = Fixture::new("mirror");
    let options = ArchiveOptions { mirrors: Vec::new(), ..options(&t.server, &t.key, &t.scratch, "bookworm") };
    let error = Archive::open(&options, &t.cache, &Silent).expect_err("no mirror");
    assert!(error.to_string().contains("--mirror"), "{error}");
    for (mirror, suite) in [("ftp://mirror.example/debian", "one"), (t.server.base.as_str(), "../x")] {
        let options =
            ArchiveOptions { mirrors: vec![mirror.to_owned()], suites: vec![suite.to_owned()], ..options.clone() };
        assert!(matches!(Archive::open(&options, &t.cache, &Silent), Err(DebianError::Http(HttpError::BadUrl(_)))));
    }
    assert!(now() > 0);
}
