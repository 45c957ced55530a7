//! The kernel between two resets: it is in guest RAM, so a second copy would only cost memory. A file is read again; of an `Image` only the head is read
//! here, the rest goes from the file to guest RAM.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use firmware::{Kernel, KernelKind, Limits};
use vm_memory::{Bytes, GuestAddress};

use super::ram::GuestRam;
use crate::exit::{Failure, explain};

/// Bytes of an `Image` that hold its header and its section table.
const HEAD: u64 = 64 << 10;

/// A kernel that can be had as often as the machine is reset.
pub struct KernelFile {
    path: PathBuf,
    /// Open all the time, so that a package upgrade does not change it; `None`: not a regular file, the kernel is kept.
    file: Option<File>,
    /// The kernel, until it is taken.
    kept: Mutex<Option<Kernel>>,
    /// What it was when it was first read.
    description: String,
}

impl KernelFile {
    /// Reads and checks the kernel.
    ///
    /// # Errors
    /// What cannot be read, and what is no kernel.
    pub fn open(path: &Path) -> Result<KernelFile, Failure> {
        let limits = Limits::default();
        let is_file = std::fs::metadata(path).is_ok_and(|meta| meta.is_file());
        let opened = if is_file { File::open(path).ok() } else { None };
        // What cannot be read is explained by the one who reads all.
        let kernel = match opened.as_ref().and_then(|file| image_head(file, &limits)) {
            Some(kernel) => kernel,
            None => {
                let bytes = firmware::read_file(path, "--kernel", limits.max_size);
                parse(path, bytes.map_err(|e| Failure::usage(explain(&e)))?, &limits)?
            }
        };
        let description = describe(&kernel);
        Ok(KernelFile { path: path.to_owned(), file: opened, kept: Mutex::new(Some(kernel)), description })
    }

    /// One line about it.
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// Does something with the kernel, without which it is not needed any more if it can be read again. Of an `Image` it may be the head alone.
    ///
    /// # Errors
    /// Those of `use_it`; and a file that cannot be read again, or is another kernel now.
    pub fn with<T>(&self, use_it: impl FnOnce(&Kernel) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = match kept.take() {
            Some(kernel) => kernel,
            None => self.read_again()?,
        };
        let result = use_it(&kernel);
        *kept = Some(kernel);
        result
    }

    /// The same with all of the kernel.
    ///
    /// # Errors
    /// As [`KernelFile::with`].
    pub fn with_whole<T>(&self, use_it: impl FnOnce(&Kernel) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|kernel| kernel.unread != 0) {
            *kept = Some(self.read_whole()?);
        }
        drop(kept);
        self.with(use_it)
    }

    /// Copies `length` bytes from `offset` in the file to `address` in RAM: what is not read of an `Image`.
    ///
    /// # Errors
    /// What cannot be read or does not fit.
    pub fn copy(&self, offset: u64, length: u64, ram: &GuestRam, address: u64) -> Result<(), Failure> {
        let Some(mut file) = self.file.as_ref() else { return Err(self.failed(&"it was not kept")) };
        file.seek(SeekFrom::Start(offset)).map_err(|e| self.failed(&e))?;
        let length = usize::try_from(length).map_err(|e| self.failed(&e))?;
        let copied = ram.memory().read_exact_volatile_from(GuestAddress(address), &mut file, length);
        copied.map_err(|e| self.failed(&format_args!("{length} bytes at {address:#x}: {e}")))
    }

    fn failed(&self, what: &dyn std::fmt::Display) -> Failure {
        Failure::backend(format!("--kernel {}: {what}", self.path.display()))
    }

    /// Gives back the memory of a kernel that can be read again.
    pub fn forget(&self) {
        if self.file.is_some() {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn read_again(&self) -> Result<Kernel, Failure> {
        let Some(file) = self.file.as_ref() else { return Err(self.failed(&"it was not kept")) };
        match image_head(file, &Limits::default()) {
            Some(kernel) => self.check_again(kernel),
            None => self.read_whole(),
        }
    }

    fn read_whole(&self) -> Result<Kernel, Failure> {
        let limits = Limits::default();
        let Some(mut file) = self.file.as_ref() else { return Err(self.failed(&"it was not kept")) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(|e| self.failed(&e))?;
        file.take(limits.max_size).read_to_end(&mut bytes).map_err(|e| self.failed(&e))?;
        let kernel = parse(&self.path, bytes, &limits)?;
        self.check_again(kernel)
    }

    fn check_again(&self, kernel: Kernel) -> Result<Kernel, Failure> {
        if describe(&kernel) != self.description {
            return Err(self.failed(&"the file was overwritten by another kernel while the guest ran"));
        }
        Ok(kernel)
    }
}

/// The kernel in a file, if it is an `Image` as it is, with the rest unread.
fn image_head(mut file: &File, limits: &Limits) -> Option<Kernel> {
    let length = file.metadata().ok()?.len();
    let mut head = Vec::with_capacity(HEAD as usize);
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(HEAD).read_to_end(&mut head).ok()?;
    firmware::parse_image_head(head, length, limits)
}

fn parse(path: &Path, bytes: Vec<u8>, limits: &Limits) -> Result<Kernel, Failure> {
    firmware::parse_kernel(bytes, limits)
        .map_err(|e| Failure::usage(format!("--kernel {}: {}", path.display(), explain(&e))))
}

fn describe(kernel: &Kernel) -> String {
    let kind = match kernel.kind() {
        KernelKind::Image => "arm64 Image",
        KernelKind::Elf => "arm64 ELF",
    };
    match kernel.wrapping.as_slice() {
        [] => kind.to_owned(),
        wrapping => format!("{kind} in {}", wrapping.join(" in ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest thing that is an arm64 Image.
    fn image() -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[16..24].copy_from_slice(&4096u64.to_le_bytes());
        bytes[24] = 2;
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn a_kernel_that_was_forgotten_is_read_again() {
        let path = std::env::temp_dir().join(format!("vmm-kernel-file-{}", std::process::id()));
        std::fs::write(&path, image()).expect("writable");
        let kernel = KernelFile::open(&path).expect("an Image");
        let length = |kernel: &KernelFile| kernel.with(|kernel| Ok(kernel.bytes.len()));
        assert_eq!(length(&kernel).expect("there"), 4096);
        kernel.forget();
        std::fs::remove_file(&path).expect("its name goes");
        assert_eq!(length(&kernel).expect("still there"), 4096);
        kernel.forget();
        // The open file was truncated under the machine: said, not guessed.
        std::fs::write(&path, image()).expect("writable");
        let kernel = KernelFile::open(&path).expect("an Image");
        kernel.forget();
        std::fs::write(&path, b"short").expect("writable");
        assert!(length(&kernel).is_err());
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn what_is_behind_the_head_goes_to_memory_by_itself() {
        let path = std::env::temp_dir().join(format!("vmm-kernel-head-{}", std::process::id()));
        let mut bytes = image();
        let length = HEAD as usize + 12_345;
        bytes.extend((bytes.len()..length).map(|i| (i % 251) as u8));
        std::fs::write(&path, &bytes).expect("writable");
        let kernel = KernelFile::open(&path).expect("an Image");
        assert_eq!(kernel.with(|kernel| Ok(kernel.unread)).expect("there"), 12_345);
        let ram = GuestRam::new(2 << 20).expect("memory");
        let at = ram.range().start + 0x1000;
        kernel.copy(HEAD, 12_345, &ram, at).expect("fits");
        let mut copied = vec![0; 12_345];
        ram.memory().read_slice(&mut copied, GuestAddress(at)).expect("inside");
        assert!(copied == bytes[HEAD as usize..]);
        let end = ram.range().end - 0x1000;
        assert!(kernel.copy(HEAD, 12_345, &ram, end).is_err(), "beyond memory");
        assert!(kernel.copy(HEAD, 12_346, &ram, at).is_err(), "beyond the file");
        assert!(kernel.with_whole(|kernel| Ok(kernel.bytes == bytes && kernel.unread == 0)).expect("there"));
        std::fs::remove_file(&path).expect("removed");
    }
}
