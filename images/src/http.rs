//! Fetches files over HTTP and HTTPS: bounded in size, with timeouts, and tried again when that can help, from where they
//! broke off if the server can do that.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::progress::Progress;

/// How often a file is asked for.
const TRIES: u32 = 4;
/// A try that brought more bytes than this does not count.
const PROGRESS: u64 = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// A server that sends nothing for so long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not a URL that can be fetched.
    #[error("{0} is no URL that can be fetched: it must begin with http:// or https://")]
    BadUrl(String),
    /// The server does not have it.
    #[error("{url} is not there (HTTP status {status}): is --mirror right, and does it have this suite?")]
    Missing {
        /// What was asked for.
        url: String,
        /// The server's status.
        status: u16,
    },
    /// It could not be fetched, also after trying again.
    #[error(
        "Cannot fetch {url}: {reason} (tried {tries} times); check the network, or name another server with --mirror"
    )]
    Failed {
        /// What was asked for.
        url: String,
        /// The last failure.
        reason: String,
        /// How often it was tried.
        tries: u32,
    },
    /// It is larger than allowed.
    #[error("{url} has more than the {limit} bytes that were expected at most")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// What came could not be kept.
    #[error("Cannot keep what was fetched from {url}")]
    Sink {
        /// What was asked for.
        url: String,
        /// What refused it.
        source: io::Error,
    },
    /// It is not what was promised, or the cache cannot hold it.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Fetches files.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    /// Wait before the second try; doubled for each further one.
    pause: Duration,
}

impl Default for Client {
    fn default() -> Self {
        Client::new(Duration::from_secs(1))
    }
}

/// How one try ended.
#[derive(Debug)]
enum Failure {
    /// Trying again cannot help.
    Final(HttpError),
    /// Trying again may help.
    Passing(String),
}

/// A file on its way.
struct Download<'a> {
    /// What it is called for people.
    what: &'a str,
    url: &'a str,
    /// Most bytes that it may have.
    limit: u64,
    /// Bytes that came.
    done: u64,
    /// The server's mark of the file that they are of (`ETag`), if it has a strong one.
    mark: Option<String>,
    /// Whether the rest may be asked for without such a mark, as the file's hash says in the end whether it fits.
    hashed: bool,
    out: &'a mut dyn Write,
}

impl Client {
    /// A client that waits `pause` before it tries a second time, and twice as long before each further try. Proxies are
    /// taken from the environment (`http_proxy`, `https_proxy`, `no_proxy`).
    pub fn new(pause: Duration) -> Client {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT))
            .timeout_per_read(Some(STALL_TIMEOUT))
            .http_status_as_error(false)
            .user_agent(concat!("vmm/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { agent: config.into(), pause }
    }

    /// The file at `url`, at most `limit` bytes of it.
    ///
    /// # Errors
    /// [`HttpError`]; after passing failures it is tried again.
    pub fn get(&self, url: &str, limit: u64, progress: &dyn Progress) -> Result<Vec<u8>, HttpError> {
        let mut bytes = Vec::new();
        self.download(
            Download { what: url, url, limit, done: 0, mark: None, hashed: false, out: &mut bytes },
            progress,
        )?;
        Ok(bytes)
    }

    /// The file of the cache with this hash and size; fetched from `url` if it is not there, or what is missing of it where an
    /// earlier call failed, also for another server. `what` names it to people.
    ///
    /// # Errors
    /// [`HttpError`]; a file with other contents is not tried again.
    pub fn get_cached(
        &self,
        cache: &Cache,
        what: &str,
        url: &str,
        (sum, size): (&Sha256Sum, u64),
        progress: &dyn Progress,
    ) -> Result<PathBuf, HttpError> {
        if let Some(path) = cache.find(sum, size) {
            return Ok(path);
        }
        let resumed = Cell::new(false);
        let store = || {
            cache.store_resumed(what, sum, size, |out, done| {
                resumed.set(done > 0);
                self.download(Download { what, url, limit: size, done, mark: None, hashed: true, out }, progress)
            })
        };
        match store() {
            // What was there may have come from a server that has other files: once more, all from this one.
            Err(HttpError::Cache(CacheError::Mismatch { .. })) if resumed.get() => store(),
            result => result,
        }
    }

    /// Tries until it succeeds, fails for good, or has failed too often without a byte more.
    fn download(&self, mut download: Download<'_>, progress: &dyn Progress) -> Result<(), HttpError> {
        let (mut tries, mut pause) = (1, self.pause);
        loop {
            let before = download.done;
            match self.attempt(&mut download, progress) {
                Ok(()) => return Ok(()),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason)) if tries == TRIES => {
                    return Err(HttpError::Failed { url: download.url.to_owned(), reason, tries });
                }
                Err(Failure::Passing(_)) => std::thread::sleep(pause),
            }
            if download.done > before + PROGRESS {
                (tries, pause) = (1, self.pause);
            } else {
                tries += 1;
                pause *= 2;
            }
        }
    }

    /// Asks for what is missing of the file.
    fn attempt(&self, download: &mut Download<'_>, progress: &dyn Progress) -> Result<(), Failure> {
        let (url, limit) = (download.url, download.limit);
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure::Final(HttpError::BadUrl(url.to_owned())));
        }
        let mut request = self.agent.get(url);
        if download.done > 0 && (download.hashed || download.mark.is_some()) {
            request = request.header("Range", format!("bytes={}-", download.done));
        }
        if let Some(mark) = download.mark.as_ref().filter(|_| download.done > 0) {
            request = request.header("If-Range", mark);
        }
        let response = request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Final(HttpError::BadUrl(url.to_owned())),
            error => Failure::Passing(error.to_string()),
        })?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let start = match response.status().as_u16() {
            200 => 0,
            206 => {
                let start = header("content-range")
                    .and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
                start.filter(|start| *start == download.done).ok_or_else(|| {
                    (download.mark, download.hashed) = (None, false);
                    Failure::Passing("the server sent another part than it was asked for".to_owned())
                })?
            }
            status @ 416 => {
                (download.mark, download.hashed) = (None, false);
                return Err(Failure::Passing(format!("HTTP status {status}")));
            }
            status @ (408 | 425 | 429 | 500..=599) => return Err(Failure::Passing(format!("HTTP status {status}"))),
            status => return Err(Failure::Final(HttpError::Missing { url: url.to_owned(), status })),
        };
        download.mark = header("etag").filter(|mark| mark.starts_with('"')).map(str::to_owned);
        let end = response.body().content_length().map(|length| length.saturating_add(start));
        if end.is_some_and(|end| end > limit) {
            return Err(Failure::Final(HttpError::TooLarge { url: url.to_owned(), limit }));
        }
        progress.begin(download.what, end);
        let result = copy(&mut response.into_body().into_reader(), start, download, progress);
        progress.end();
        let copied = result?;
        match end {
            Some(end) if copied < end => {
                Err(Failure::Passing(format!("the connection ended after {copied} of {end} bytes")))
            }
            _ => Ok(()),
        }
    }
}

/// Copies what comes from byte `start` of the file on, without what is there already; gives where it ended.
fn copy(body: &mut dyn Read, start: u64, download: &mut Download<'_>, progress: &dyn Progress) -> Result<u64, Failure> {
    let Download { url, limit, .. } = *download;
    let mut buffer = vec![0; 1 << 16];
    let mut at = start;
    loop {
        let count = body.read(&mut buffer).map_err(|error| Failure::Passing(error.to_string()))?;
        if count == 0 {
            return Ok(at);
        }
        // A server that begins anew sends again what is there. The file's hash says whether it is the same.
        let known = usize::try_from(download.done.saturating_sub(at)).unwrap_or(usize::MAX).min(count);
        at += count as u64;
        if at > limit {
            return Err(Failure::Final(HttpError::TooLarge { url: url.to_owned(), limit }));
        }
        let new = buffer.get(known..count).unwrap_or_default();
        let kept = download.out.write_all(new);
        kept.map_err(|source| Failure::Final(HttpError::Sink { url: url.to_owned(), source }))?;
        download.done += new.len() as u64;
        progress.advance(new.len() as u64);
    }
}
