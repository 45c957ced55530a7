//! Files that were fetched or made, addressed by their SHA-256. A file gets its name only when it is complete and its hash
//! is right, and the hash is checked again whenever the file is asked for: neither a crash nor a bad disk is believed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};

/// A SHA-256 value.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Sum([u8; 32]);

impl Sha256Sum {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Sha256Sum {
        Sha256Sum(Sha256::digest(bytes).into())
    }

    /// A hash that was computed.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Sha256Sum {
        Sha256Sum(bytes)
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(digits: &str) -> Option<Sha256Sum> {
        let mut sum = [0; 32];
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        for (byte, index) in sum.iter_mut().zip(0..) {
            *byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        Some(Sha256Sum(sum))
    }
}

impl std::fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Why the cache cannot give or take a file.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// No directory to keep files in.
    #[error("There is no directory for fetched files: set XDG_CACHE_HOME or HOME")]
    NoDirectory,
    /// The operating system refused.
    #[error("Cannot use the cache file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// What came is not what was promised.
    #[error(
        "{what} has {found_size} bytes with SHA-256 {found}; expected {size} bytes with {expected}: the mirror is out of step or tampers; try again later or another --mirror"
    )]
    Mismatch {
        /// What was being stored.
        what: String,
        /// The size that was promised.
        size: u64,
        /// The hash that was promised.
        expected: Sha256Sum,
        /// The size that came, as far as it was read.
        found_size: u64,
        /// The hash of what came.
        found: Sha256Sum,
    },
}

/// A directory of fetched and made files.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache below `root`, which is made when something is stored.
    pub fn new(root: impl Into<PathBuf>) -> Cache {
        Cache { root: root.into() }
    }

    /// The user's cache: `$XDG_CACHE_HOME/vmm`, or `~/.cache/vmm`.
    ///
    /// # Errors
    /// [`CacheError::NoDirectory`] when the environment names neither.
    pub fn of_user() -> Result<Cache, CacheError> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Ok(Cache::new(base.ok_or(CacheError::NoDirectory)?.join("vmm")))
    }

    /// A file of the cache that is known by name, not by content: `name` has no directories.
    pub fn named(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the file with this hash is, if it is there.
    pub fn path(&self, sum: &Sha256Sum) -> PathBuf {
        let digits = sum.to_string();
        let (directory, name) = digits.split_at(2);
        self.root.join("sha256").join(directory).join(name)
    }

    /// The file with this hash and size, if it is there and its contents still are what they were. A damaged file is
    /// removed.
    pub fn find(&self, sum: &Sha256Sum, size: u64) -> Option<PathBuf> {
        let path = self.path(sum);
        let file = File::open(&path).ok()?;
        if file.metadata().ok()?.len() == size && hash(file).ok()? == *sum {
            return Some(path);
        }
        // Losing the race to somebody who removes it too is no loss.
        let _ = fs::remove_file(&path);
        None
    }

    /// Stores what `write` gives, which must have this hash and size. `what` names it in errors. Stops reading as soon as
    /// there is more than `size`.
    ///
    /// # Errors
    /// [`CacheError::Mismatch`] for other contents, and what the operating system and `write` refuse.
    pub fn store<E: From<CacheError>>(
        &self,
        what: &str,
        sum: &Sha256Sum,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let temporary = Temporary::create(&self.path(sum))?;
        self.store_into(temporary, what, sum, size, |out, _| write(out))
    }

    /// The same for what comes slowly: when `write` fails, what it gave is kept, and the next call for this hash goes on there.
    /// `write` is told how many bytes are there already.
    ///
    /// # Errors
    /// As [`Cache::store`]; after a mismatch nothing is kept.
    pub fn store_resumed<E: From<CacheError>>(
        &self,
        what: &str,
        sum: &Sha256Sum,
        size: u64,
        write: impl FnOnce(&mut dyn Write, u64) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.path(sum);
        let temporary = match Temporary::resume(&path, size)? {
            Some(temporary) => temporary,
            // Somebody else is at it.
            None => Temporary::create(&path)?,
        };
        self.store_into(temporary, what, sum, size, write)
    }

    fn store_into<E: From<CacheError>>(
        &self,
        mut temporary: Temporary,
        what: &str,
        sum: &Sha256Sum,
        size: u64,
        write: impl FnOnce(&mut dyn Write, u64) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.path(sum);
        let (hasher, start) = (temporary.hasher.clone(), temporary.size);
        let mut bounded = Bounded { out: &mut temporary.file, hasher, size: start, limit: size, refused: false };
        let written = write(&mut bounded, start);
        let refused = bounded.refused;
        let (found_size, found) = (bounded.size, Sha256Sum(bounded.hasher.finalize().into()));
        // Too many bytes are a mismatch, however the writer reports that it was stopped.
        if found_size <= size {
            // What the disk has no room for is not kept.
            temporary.kept = written.is_err() && temporary.resumable && !refused;
            written?;
        }
        if found_size != size || found != *sum {
            return Err(CacheError::Mismatch { what: what.to_owned(), size, expected: *sum, found_size, found }.into());
        }
        temporary.keep(&path)?;
        Ok(path)
    }

    /// Stores `bytes` under their hash.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn put(&self, bytes: &[u8]) -> Result<(Sha256Sum, PathBuf), CacheError> {
        let sum = Sha256Sum::of(bytes);
        let size = bytes.len() as u64;
        if let Some(path) = self.find(&sum, size) {
            return Ok((sum, path));
        }
        let path = self.path(&sum);
        let path = self.store("a made file", &sum, size, |out| {
            out.write_all(bytes).map_err(|source| CacheError::Io { path: path.clone(), source })
        })?;
        Ok((sum, path))
    }

    /// Replaces the named file as a whole.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn replace_named(&self, name: &str, bytes: &[u8]) -> Result<(), CacheError> {
        let path = self.named(name);
        let mut temporary = Temporary::create(&path)?;
        temporary.file.write_all(bytes).map_err(|source| CacheError::Io { path: path.clone(), source })?;
        temporary.keep(&path)
    }
}

/// The hash of a stream.
fn hash(mut file: impl Read) -> io::Result<Sha256Sum> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Sum(hasher.finalize().into())),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// A file beside its later place, removed unless it is kept.
struct Temporary {
    file: File,
    path: PathBuf,
    kept: bool,
    /// What is in it already.
    hasher: Sha256,
    size: u64,
    /// Whether its name says what it will be, so that it can be gone on with.
    resumable: bool,
}

impl Temporary {
    fn create(target: &Path) -> Result<Temporary, CacheError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = target.with_extension(format!("{}-{number}.part", std::process::id()));
        let error = |source| CacheError::Io { path: path.clone(), source };
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(error)?;
        }
        let file = File::create(&path).map_err(error)?;
        Ok(Temporary { file, path, kept: false, hasher: Sha256::new(), size: 0, resumable: false })
    }

    /// The part of `target` that an earlier call left, or a new one; nothing if another process writes it. What comes of a
    /// process that was killed is found, too.
    fn resume(target: &Path, limit: u64) -> Result<Option<Temporary>, CacheError> {
        let path = target.with_extension("partial");
        let error = |source| CacheError::Io { path: path.clone(), source };
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(error)?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(error)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        // Who had the lock before may have given the file its name.
        let own = file.metadata().map_err(error)?;
        if !fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
            return Ok(None);
        }
        let mut temporary = Temporary { file, path, kept: false, hasher: Sha256::new(), size: 0, resumable: true };
        temporary.read_part(own.len(), limit).map_err(|source| CacheError::Io { path: target.to_owned(), source })?;
        Ok(Some(temporary))
    }

    /// Hashes what is there; begins anew where that cannot be the beginning of a file of `limit` bytes.
    fn read_part(&mut self, length: u64, limit: u64) -> io::Result<()> {
        if length >= limit {
            return self.file.set_len(0);
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.hasher.update(buffer.get(..count).unwrap_or_default()),
            }
            self.size = self.file.stream_position()?;
        }
    }

    fn keep(mut self, target: &Path) -> Result<(), CacheError> {
        let result = self.file.sync_all().and_then(|()| fs::rename(&self.path, target));
        self.kept = result.is_ok();
        result.map_err(|source| CacheError::Io { path: target.to_owned(), source })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Hashes what is written and refuses more than the limit.
struct Bounded<'a> {
    out: &'a mut File,
    hasher: Sha256,
    size: u64,
    limit: u64,
    /// Whether the file refused something.
    refused: bool,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            return Err(io::Error::other(format!("more than the {} bytes that were promised", self.limit)));
        }
        self.out.write_all(bytes).inspect_err(|_| self.refused = true)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An empty directory that is removed at the end.
    pub(crate) struct Scratch(pub PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("vmm-images-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("a temporary directory");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn store(cache: &Cache, promised: &[u8], sent: &[u8]) -> Result<PathBuf, CacheError> {
        cache.store("it", &Sha256Sum::of(promised), promised.len() as u64, |out| {
            out.write_all(sent).map_err(|source| CacheError::Io { path: "sent".into(), source })
        })
    }

    #[test]
    fn only_what_was_promised_is_kept() {
        let scratch = Scratch::new("cache");
        let cache = Cache::new(&scratch.0);
        for sent in [b"abcd".as_slice(), b"ab", b"abd", b""] {
            let error = store(&cache, b"abc", sent).expect_err("a mismatch");
            assert!(matches!(error, CacheError::Mismatch { size: 3, .. }), "{error}");
        }
        assert_eq!(cache.find(&Sha256Sum::of(b"abc"), 3), None);
        let path = store(&cache, b"abc", b"abc").expect("stored");
        assert_eq!(fs::read(&path).expect("there"), b"abc");
        let left: Vec<_> = fs::read_dir(path.parent().expect("a parent")).expect("there").collect();
        assert_eq!(left.len(), 1, "temporary files are left: {left:?}");
    }

    #[test]
    fn what_broke_off_is_gone_on_with() {
        let scratch = Scratch::new("resumed");
        let cache = Cache::new(&scratch.0);
        let sum = Sha256Sum::of(b"abcdef");
        let io_error = |source| CacheError::Io { path: "it".into(), source };
        let broken = || io_error(io::Error::other("broken"));
        let send = |bytes: &'static [u8], there: u64, breaks: bool| {
            cache.store_resumed("it", &sum, 6, |out, start| {
                assert_eq!(start, there);
                out.write_all(bytes).map_err(io_error)?;
                if breaks { Err(broken()) } else { Ok(()) }
            })
        };
        send(b"ab", 0, true).expect_err("broken");
        send(b"c", 2, true).expect_err("broken");
        assert_eq!(cache.find(&sum, 6), None);
        let path = send(b"def", 3, false).expect("stored");
        assert_eq!(fs::read(&path).expect("there"), b"abcdef");
        let left = || fs::read_dir(path.parent().expect("a parent")).expect("there").count();
        assert_eq!(left(), 1);
        // Other contents are not gone on with.
        fs::remove_file(&path).expect("removed");
        send(b"ax", 0, true).expect_err("broken");
        assert!(matches!(send(b"cdef", 2, false), Err(CacheError::Mismatch { found_size: 6, .. })));
        assert_eq!(left(), 0);
        // Nor is what is too long, or what somebody else writes.
        let partial = path.with_extension("partial");
        fs::write(&partial, b"abcdefg").expect("written");
        send(b"abc", 0, true).expect_err("broken");
        let other = File::open(&partial).expect("there");
        rustix::fs::flock(&other, FlockOperation::LockExclusive).expect("locked");
        send(b"abcdef", 0, false).expect("stored");
        assert_eq!((left(), fs::read(&partial).expect("there").len()), (2, 3));
    }

    #[test]
    fn a_damaged_file_is_not_given_out() {
        let scratch = Scratch::new("damage");
        let cache = Cache::new(&scratch.0);
        let (sum, path) = cache.put(b"abc").expect("stored");
        assert_eq!(cache.find(&sum, 3), Some(path.clone()));
        fs::write(&path, b"abd").expect("written");
        assert_eq!(cache.find(&sum, 3), None);
        assert!(!path.exists());
    }

    #[test]
    fn hashes_are_read_and_shown() {
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256Sum::parse(digits), Some(Sha256Sum::of(b"abc")));
        assert_eq!(Sha256Sum::of(b"abc").to_string(), digits);
        for bad in ["", "ba78", &digits.replace('b', "g"), &format!("{digits}0"), &"é".repeat(32)] {
            assert_eq!(Sha256Sum::parse(bad), None, "{bad}");
        }
    }
}
