//! Fetches files over HTTP and HTTPS: bounded in size, with timeouts, and tried again when that can help.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::progress::Progress;

/// How often a file is asked for.
const TRIES: u32 = 4;
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

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Failure::Final(error.into())
    }
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
        self.retry(url, || {
            bytes.clear();
            self.try_get(url, url, limit, &mut bytes, progress)
        })?;
        Ok(bytes)
    }

    /// The file of the cache with this hash and size; fetched from `url` if it is not there. `what` names it to people.
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
        self.retry(url, || cache.store(what, sum, size, |out| self.try_get(what, url, size, out, progress)))
    }

    /// Tries `attempt` until it succeeds, fails for good, or has failed too often.
    fn retry<T>(&self, url: &str, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, HttpError> {
        let (mut tries, mut pause) = (1, self.pause);
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason)) if tries == TRIES => {
                    return Err(HttpError::Failed { url: url.to_owned(), reason, tries });
                }
                Err(Failure::Passing(_)) => std::thread::sleep(pause),
            }
            tries += 1;
            pause *= 2;
        }
    }

    fn try_get(
        &self,
        what: &str,
        url: &str,
        limit: u64,
        out: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure::Final(HttpError::BadUrl(url.to_owned())));
        }
        let response = self.agent.get(url).call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Final(HttpError::BadUrl(url.to_owned())),
            error => Failure::Passing(error.to_string()),
        })?;
        match response.status().as_u16() {
            200 => {}
            status @ (408 | 425 | 429 | 500..=599) => return Err(Failure::Passing(format!("HTTP status {status}"))),
            status => return Err(Failure::Final(HttpError::Missing { url: url.to_owned(), status })),
        }
        let too_large = || Failure::Final(HttpError::TooLarge { url: url.to_owned(), limit });
        let length = response.body().content_length();
        if length.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        progress.begin(what, length);
        let result = copy(&mut response.into_body().into_reader(), url, limit, out, progress);
        progress.end();
        let copied = result?;
        match length {
            Some(length) if copied < length => {
                Err(Failure::Passing(format!("the connection ended after {copied} of {length} bytes")))
            }
            _ => Ok(()),
        }
    }
}

/// Copies at most `limit` bytes.
fn copy(
    body: &mut dyn Read,
    url: &str,
    limit: u64,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<u64, Failure> {
    let mut buffer = vec![0; 1 << 16];
    let mut copied = 0u64;
    loop {
        let count = body.read(&mut buffer).map_err(|error| Failure::Passing(error.to_string()))?;
        if count == 0 {
            return Ok(copied);
        }
        copied += count as u64;
        if copied > limit {
            return Err(Failure::Final(HttpError::TooLarge { url: url.to_owned(), limit }));
        }
        out.write_all(buffer.get(..count).unwrap_or_default())
            .map_err(|source| Failure::Final(HttpError::Sink { url: url.to_owned(), source }))?;
        progress.advance(count as u64);
    }
}
