//! The host's own disk, written and read as the guests write and read theirs: what a virtual disk can reach at most.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};

use super::super::subject::Rated;
use super::Removed;

/// Bytes of a block, and blocks: those of the guests' dd.
const BLOCK: usize = 1 << 20;
const BLOCKS: u32 = 1000;

/// `dd-write` and `dd-read`, in MiB a second, in a file at `path` that is new and goes again.
///
/// # Errors
/// What the host says.
pub fn dd(path: &Path) -> io::Result<Vec<Rated>> {
    let _file = Removed(path.to_owned());
    let mut block = vec![0; BLOCK];
    let mut file = File::create(path)?;
    let begin = Instant::now();
    for _ in 0..BLOCKS {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let written = begin.elapsed();
    // The disk is to be read, not what is kept of it.
    fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut file = File::open(path)?;
    let begin = Instant::now();
    for _ in 0..BLOCKS {
        file.read_exact(&mut block)?;
    }
    Ok(vec![rated("dd-write", written), rated("dd-read", begin.elapsed())])
}

fn rated(name: &str, time: Duration) -> Rated {
    let seconds = time.as_secs_f64().max(1e-9);
    // The processor's part is not measured: the kernel spends it where no clock of this process sees it.
    Rated { name: name.to_owned(), rate: f64::from(BLOCKS) / seconds, cost: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_blocks_in_a_second() {
        assert!((rated("x", Duration::from_secs(4)).rate - 250.0).abs() < 1e-6);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert_eq!(dd(Path::new("/nowhere/x")).expect_err("no folder").kind(), io::ErrorKind::NotFound);
    }
}
