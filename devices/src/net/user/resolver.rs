//! The host's name servers, to which the guest's questions go.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

const PORT: u16 = 53;
/// Longest configuration that is read, and most servers of it.
const MOST_BYTES: usize = 64 << 10;
const MOST_SERVERS: usize = 3;
/// Milliseconds between two looks at the file.
const LOOK: u64 = 5000;

/// What the host's configuration says, looked at again when it changes.
pub(super) struct Resolver {
    path: PathBuf,
    changed: Option<SystemTime>,
    looked: Option<u64>,
    servers: Vec<IpAddr>,
    search: Vec<String>,
    turn: usize,
}

impl Resolver {
    pub(super) fn new(path: PathBuf) -> Resolver {
        Resolver { path, changed: None, looked: None, servers: Vec::new(), search: Vec::new(), turn: 0 }
    }

    fn refresh(&mut self, now: u64) {
        if self.looked.is_some_and(|looked| now < looked + LOOK) {
            return;
        }
        let first = self.looked.replace(now).is_none();
        let changed = std::fs::metadata(&self.path).and_then(|data| data.modified()).ok();
        if first || changed != self.changed {
            self.changed = changed;
            let text = std::fs::read(&self.path).unwrap_or_default();
            let text = String::from_utf8_lossy(text.get(..text.len().min(MOST_BYTES)).unwrap_or_default()).into_owned();
            (self.servers, self.search) = parse(&text);
            self.turn = 0;
        }
    }

    /// The server for a new question.
    pub(super) fn server(&mut self, now: u64) -> SocketAddr {
        self.refresh(now);
        let server = self.servers.get(self.turn % self.servers.len().max(1)).copied();
        SocketAddr::new(server.unwrap_or(Ipv4Addr::LOCALHOST.into()), PORT)
    }

    /// The server did not answer: it is another one's turn.
    pub(super) fn failed(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// The domains in which names are looked up.
    pub(super) fn search(&mut self, now: u64) -> &[String] {
        self.refresh(now);
        &self.search
    }
}

/// Servers and search domains of a `resolv.conf`.
pub(super) fn parse(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            // An address with a scope is one on a link that the guest has no part in.
            Some("nameserver") => servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
            Some("search" | "domain") => search = words.filter(|word| is_domain(word)).map(str::to_owned).collect(),
            _ => {}
        }
    }
    servers.truncate(MOST_SERVERS);
    search.truncate(6);
    (servers, search)
}

fn is_domain(word: &str) -> bool {
    let label = |label: &str| (1..=63).contains(&label.len());
    word.len() <= 253
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && word.trim_end_matches('.').split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_domains() {
        let (servers, search) = parse(
            "# x\nnameserver 192.0.2.1\nnameserver ::1 # y\nnameserver fe80::1%eth0\nnameserver x\nsearch a.example b..example c\noptions edns0\n",
        );
        assert_eq!(servers, ["192.0.2.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(search, ["a.example", "c"]);
    }

    #[test]
    fn servers_take_turns_and_the_file_is_looked_at_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        let mut resolver = Resolver::new(file.path().to_owned());
        assert_eq!(resolver.server(0), "192.0.2.1:53".parse().unwrap());
        resolver.failed();
        assert_eq!(resolver.server(1), "192.0.2.2:53".parse().unwrap());
        std::fs::write(file.path(), "nameserver 192.0.2.9\n").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(9);
        std::fs::File::options().write(true).open(file.path()).unwrap().set_modified(later).unwrap();
        assert_eq!(resolver.server(2), "192.0.2.2:53".parse().unwrap());
        assert_eq!(resolver.server(LOOK), "192.0.2.9:53".parse().unwrap());
        // Without a file: the server that the C library would ask.
        assert_eq!(Resolver::new("/does/not/exist".into()).server(0), "127.0.0.1:53".parse().unwrap());
    }
}
