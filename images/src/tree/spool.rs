//! Where the contents of an image's files are while it is made: one file without a name, so that memory stays free and
//! nothing is left when the program ends in whatever way.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Contents of a file in a [`Spool`].
#[derive(Clone, Debug)]
pub struct Content {
    file: Arc<File>,
    offset: u64,
    length: u64,
}

impl PartialEq for Content {
    /// The same place, not the same bytes.
    fn eq(&self, other: &Content) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && (self.offset, self.length) == (other.offset, other.length)
    }
}

impl Eq for Content {}

impl Content {
    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads the bytes from the beginning.
    pub fn reader(&self) -> ContentReader<'_> {
        ContentReader { content: self, position: 0 }
    }

    /// All bytes, of a file that has at most `limit`.
    ///
    /// # Errors
    /// More than `limit` bytes, and what the operating system refuses.
    pub fn bytes(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.length > limit {
            return Err(io::Error::other(format!("{} bytes are more than the {limit} expected at most", self.length)));
        }
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a [`Content`].
pub struct ContentReader<'a> {
    content: &'a Content,
    position: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.content.length - self.position).unwrap_or(usize::MAX);
        let count = left.min(buffer.len());
        let part = buffer.get_mut(..count).unwrap_or_default();
        if part.is_empty() {
            return Ok(0);
        }
        let read = self.content.file.read_at(part, self.content.offset + self.position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

/// A file without a name that contents are appended to, from any thread.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    end: AtomicU64,
}

impl Spool {
    /// A spool on the file system of `directory`.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn new(directory: &Path) -> io::Result<Spool> {
        std::fs::create_dir_all(directory)?;
        Ok(Spool { file: Arc::new(crate::files::unnamed(directory)?), end: AtomicU64::new(0) })
    }

    /// A spool in an empty file.
    pub(crate) fn of_file(file: File) -> Spool {
        Spool { file: Arc::new(file), end: AtomicU64::new(0) }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// What the operating system refuses, such as a full disk.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Content> {
        let length = bytes.len() as u64;
        let offset = self.end.fetch_add(length, Ordering::Relaxed);
        self.file.write_all_at(bytes, offset)?;
        Ok(Content { file: Arc::clone(&self.file), offset, length })
    }

    /// Appends exactly `length` bytes of `input`.
    ///
    /// # Errors
    /// What the operating system and the input refuse, and an input that ends too early.
    pub fn copy(&self, input: &mut dyn Read, length: u64) -> io::Result<Content> {
        let offset = self.end.fetch_add(length, Ordering::Relaxed);
        let mut buffer = vec![0; usize::try_from(length.min(1 << 18)).unwrap_or(1 << 18)];
        let mut done = 0;
        while done < length {
            let count = usize::try_from(length - done).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..count).unwrap_or_default();
            input.read_exact(part)?;
            self.file.write_all_at(part, offset + done)?;
            done += count as u64;
        }
        Ok(Content { file: Arc::clone(&self.file), offset, length })
    }
}
