//! Files of the host: such without a name, and such that get their name only when they are complete.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A name that nobody else in this directory has.
fn temporary_name(directory: &Path, stem: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("{stem}.{}-{number}.part", std::process::id()))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// A file for reading and writing that vanishes with its last handle.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn unnamed(directory: &Path) -> io::Result<File> {
    let path = temporary_name(directory, "vmm");
    let file = create(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// A directory that is removed with all in it when this is dropped.
#[derive(Debug)]
pub struct ScratchDirectory(PathBuf);

impl ScratchDirectory {
    /// A new directory below `parent`, which is made if need be.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn new(parent: &Path) -> io::Result<ScratchDirectory> {
        fs::create_dir_all(parent)?;
        let path = temporary_name(parent, "build");
        fs::create_dir(&path)?;
        Ok(ScratchDirectory(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        // What cannot be removed is litter, not a failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file or directory beside its later place. It is removed unless [`Pending::commit`] gives it its name.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    target: PathBuf,
    done: bool,
}

impl Pending {
    fn beside(target: &Path) -> Pending {
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = temporary_name(directory, &format!(".{name}"));
        Pending { path, target: target.to_owned(), done: false }
    }

    /// A new file.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn file(target: &Path) -> io::Result<(Pending, File)> {
        let pending = Pending::beside(target);
        let file = create(&pending.path)?;
        Ok((pending, file))
    }

    /// A new directory.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn directory(target: &Path) -> io::Result<Pending> {
        let pending = Pending::beside(target);
        fs::create_dir(&pending.path)?;
        Ok(pending)
    }

    /// Where it is until then.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, in place of a file that has it.
    ///
    /// # Errors
    /// What the operating system refuses, such as to replace a directory that is not empty.
    pub fn commit(mut self) -> io::Result<()> {
        if self.path.is_file() {
            File::open(&self.path)?.sync_all()?;
        }
        fs::rename(&self.path, &self.target)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.done {
            // One of the two, as far as it was made.
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    #[test]
    fn nothing_half_written_is_left() {
        let scratch = Scratch::new("pending");
        let target = scratch.0.join("out");
        let (pending, _) = Pending::file(&target).expect("made");
        assert!(pending.path().exists());
        drop(pending);
        drop(Pending::directory(&target).expect("made"));
        drop(ScratchDirectory::new(&scratch.0).expect("made"));
        unnamed(&scratch.0).expect("made");
        assert_eq!(fs::read_dir(&scratch.0).expect("there").count(), 0);
        Pending::file(&target).expect("made").0.commit().expect("named");
        Pending::file(&target).expect("made").0.commit().expect("replaced");
        assert!(target.is_file());
    }
}
