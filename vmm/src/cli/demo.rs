//! `vmm run` without a kernel: Debian's arm64 cloud kernel and busybox, fetched, verified and cached by crate `images`.

use images::cache::Cache;
use images::demo::{DemoOptions, build_with};

use super::RunArgs;
use super::progress::ProgressLine;
use crate::exit::{Failure, explain};
use crate::machine::boot::BootSource;

/// Fetches kernel and initramfs, or finds them in the cache, and names them in `source`.
pub fn prepare(args: &RunArgs, source: &mut BootSource) -> Result<(), Failure> {
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    let mut options = DemoOptions::new(&args.suite);
    options.archive.mirror.clone_from(&args.mirror);
    let guest = build_with(&options, &cache, &ProgressLine::new()).map_err(|e| Failure::backend(explain(&e)))?;
    source.kernel = guest.kernel;
    source.initrd = Some(guest.initrd);
    Ok(())
}
