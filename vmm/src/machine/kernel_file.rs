//! The kernel between two resets: it is in guest RAM, so a second copy would only cost memory. A file is read again.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use firmware::{Kernel, KernelKind, Limits};

use crate::exit::{Failure, explain};

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
        let bytes = firmware::read_file(path, "--kernel", limits.max_size).map_err(|e| Failure::usage(explain(&e)))?;
        let kernel = parse(path, bytes, &limits)?;
        let description = describe(&kernel);
        Ok(KernelFile { path: path.to_owned(), file: opened, kept: Mutex::new(Some(kernel)), description })
    }

    /// One line about it.
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// Does something with the kernel, without which it is not needed any more if it can be read again.
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

    /// Gives back the memory of a kernel that can be read again.
    pub fn forget(&self) {
        if self.file.is_some() {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn read_again(&self) -> Result<Kernel, Failure> {
        let limits = Limits::default();
        let failed =
            |what: &dyn std::fmt::Display| Failure::backend(format!("--kernel {}: {what}", self.path.display()));
        let Some(mut file) = self.file.as_ref() else { return Err(failed(&"it was not kept")) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(|e| failed(&e))?;
        file.take(limits.max_size).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
        let kernel = parse(&self.path, bytes, &limits)?;
        if describe(&kernel) != self.description {
            return Err(failed(&"the file was overwritten by another kernel while the guest ran"));
        }
        Ok(kernel)
    }
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
}
