//! Guests that were made once and are kept in the cache: what one consists of, and whether it still is what it was.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cache::{Cache, CacheError, Sha256Sum};
use crate::files::Pending;

/// What BusyBox' DHCP client calls; `BUSYBOX` in the environment is the program before the name of a tool, if any.
pub(crate) const UDHCPC: &str = include_str!("kept/udhcpc.sh");
/// Disks are looked at in pieces of this size: those without a byte that is set do not count.
const PIECE: u64 = 4096;

/// A guest that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub kernel: PathBuf,
    /// An initramfs, or the modules for one.
    pub archive: PathBuf,
    pub disk: Option<PathBuf>,
    /// What its maker remembers of it.
    pub about: String,
    /// Seconds since 1970.
    pub made: u64,
}

/// A guest to keep.
pub(crate) struct Made<'a> {
    pub kernel: &'a [u8],
    pub archive: &'a [u8],
    pub disk: Option<(Pending, File)>,
    pub about: String,
}

/// What is remembered of a guest that was made.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Changes when guests are made in another way.
    recipe: String,
    made: u64,
    kernel: Blob,
    archive: Blob,
    disk: Option<Blob>,
    about: String,
}

#[derive(Serialize, Deserialize)]
struct Blob {
    sha256: String,
    size: u64,
}

fn manifest_name(name: &str) -> String {
    format!("{name}.json")
}

/// Where the disk of a guest is.
pub(crate) fn disk_path(cache: &Cache, name: &str) -> PathBuf {
    cache.named(&format!("{name}.ext4"))
}

/// The guest `name` that was made by the recipe, if all of it is still there as it was.
pub(crate) fn find(cache: &Cache, name: &str, recipe: &str) -> Option<Kept> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(cache.named(&manifest_name(name))).ok()?).ok()?;
    if manifest.recipe != recipe {
        return None;
    }
    let blob = |blob: &Blob| cache.find(&Sha256Sum::parse(&blob.sha256)?, blob.size);
    let disk = match &manifest.disk {
        None => None,
        Some(expected) => {
            let path = disk_path(cache, name);
            let found = sparse_sum(&File::open(&path).ok()?).ok()?;
            (found.sha256 == expected.sha256 && found.size == expected.size).then_some(())?;
            Some(path)
        }
    };
    let Manifest { about, made, .. } = manifest;
    Some(Kept { kernel: blob(&manifest.kernel)?, archive: blob(&manifest.archive)?, disk, about, made })
}

/// Keeps a guest, in place of one of the same name.
///
/// # Errors
/// What the operating system refuses.
pub(crate) fn keep(cache: &Cache, name: &str, recipe: String, made: Made<'_>) -> Result<Kept, CacheError> {
    let failed = |source| CacheError::Io { path: disk_path(cache, name), source };
    let store = |bytes: &[u8]| {
        let (sum, path) = cache.put(bytes)?;
        Ok::<_, CacheError>((Blob { sha256: sum.to_string(), size: bytes.len() as u64 }, path))
    };
    let ((kernel, kernel_path), (archive, archive_path)) = (store(made.kernel)?, store(made.archive)?);
    let disk = match made.disk {
        None => None,
        Some((pending, file)) => {
            let blob = sparse_sum(&file).map_err(failed)?;
            pending.commit().map_err(failed)?;
            Some(blob)
        }
    };
    let kept = Kept {
        kernel: kernel_path,
        archive: archive_path,
        disk: disk.is_some().then(|| disk_path(cache, name)),
        about: made.about.clone(),
        made: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
    };
    let manifest = Manifest { recipe, made: kept.made, kernel, archive, disk, about: made.about };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(error.into()))?;
    cache.replace_named(&manifest_name(name), &text)?;
    Ok(kept)
}

/// Size of a disk, and a hash of the pieces of it that hold something and of their places: most of a disk is a hole, of
/// which there is nothing to read.
fn sparse_sum(file: &File) -> io::Result<Blob> {
    let size = file.metadata()?.len();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut at = 0;
    while at < size {
        // A file system that knows no holes says that all is data.
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start / PIECE * PIECE,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start.max(at)))?.clamp(start, size);
        at = start;
        while at < end {
            let count = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
            let part = buffer.get_mut(..count).unwrap_or_default();
            file.read_exact_at(part, at)?;
            for piece in part.chunks(PIECE as usize) {
                if piece.iter().any(|&byte| byte != 0) {
                    hasher.update(at.to_le_bytes());
                    hasher.update(piece);
                }
                at += piece.len() as u64;
            }
        }
    }
    Ok(Blob { sha256: Sha256Sum::from_bytes(hasher.finalize().into()).to_string(), size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    fn made(disk: Option<(Pending, File)>) -> Made<'static> {
        Made { kernel: b"kernel", archive: b"archive", disk, about: "6.1".to_owned() }
    }

    #[test]
    fn a_guest_is_found_as_long_as_it_is_what_it_was() {
        let scratch = Scratch::new("kept");
        let cache = Cache::new(&scratch.0);
        let (pending, disk) = Pending::file(&disk_path(&cache, "one")).expect("a file");
        disk.set_len(64 << 20).expect("sparse");
        disk.write_all_at(b"text", 3 << 20).expect("written");
        let kept = keep(&cache, "one", "r1".to_owned(), made(Some((pending, disk)))).expect("kept");
        assert_eq!(find(&cache, "one", "r1"), Some(kept.clone()));
        assert_eq!((find(&cache, "one", "r2"), find(&cache, "two", "r1")), (None, None));
        let disk = File::options().write(true).open(kept.disk.expect("a disk")).expect("there");
        disk.write_all_at(b"T", 3 << 20).expect("written");
        assert_eq!(find(&cache, "one", "r1"), None, "a changed disk");
        disk.write_all_at(b"t", 3 << 20).expect("written");
        // Zeros that are written are no change.
        disk.write_all_at(&[0; 9000], 40 << 20).expect("written");
        assert!(find(&cache, "one", "r1").is_some());
        disk.write_all_at(b"more", 50 << 20).expect("written");
        assert_eq!(find(&cache, "one", "r1"), None, "more on the disk");
    }

    #[test]
    fn a_guest_without_a_disk() {
        let scratch = Scratch::new("kept-diskless");
        let cache = Cache::new(&scratch.0);
        let kept = keep(&cache, "one", "r1".to_owned(), made(None)).expect("kept");
        assert_eq!(find(&cache, "one", "r1"), Some(kept.clone()));
        fs::write(&kept.kernel, b"damaged").expect("written");
        assert_eq!(find(&cache, "one", "r1"), None);
    }
}
