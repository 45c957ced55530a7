//! `vmm run` without a kernel: guests that crate `images` fetches, verifies, makes and keeps.

use images::build::BuildOptions;
use images::cache::Cache;
use images::demo::{DemoOptions, build_with};

use super::RunArgs;
use super::image::runner::ChildRunner;
use super::progress::ProgressLine;
use crate::exit::{Failure, explain};
use crate::machine::boot::BootSource;

/// Fetches kernel and initramfs, or finds them in the cache, and names them in `source`.
pub fn prepare(args: &RunArgs, source: &mut BootSource) -> Result<(), Failure> {
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    if let Some(suite) = args.guest.as_deref().and_then(|guest| guest.strip_prefix("debian:")) {
        return prepare_debian(suite, args, &cache, source);
    }
    let mut options = DemoOptions::new(&args.suite);
    options.archive.mirrors.extend(args.mirror.clone());
    let guest = build_with(&options, &cache, &ProgressLine::new()).map_err(|e| Failure::backend(explain(&e)))?;
    source.kernel = guest.kernel;
    source.initrd = Some(guest.initrd);
    Ok(())
}

/// A minbase image with its kernel: made at the first use, kept from then on.
fn prepare_debian(suite: &str, args: &RunArgs, cache: &Cache, source: &mut BootSource) -> Result<(), Failure> {
    let mut options = BuildOptions::new(suite, cache.named("build"));
    options.archive.mirrors.extend(args.mirror.clone());
    options.hostname = suite.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let runner = ChildRunner { engine: args.engine };
    let guest = images::ready::guest(&options, cache, &runner, &ProgressLine::new())
        .map_err(|e| Failure::backend(explain(&e)))?;
    source.kernel = guest.kernel;
    source.initrd = Some(guest.initrd);
    if source.append.is_none() {
        source.append = Some("console=ttyAMA0 quiet".to_owned());
    }
    Ok(())
}
