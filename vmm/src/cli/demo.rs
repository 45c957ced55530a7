//! `vmm run` without a kernel: guests that crate `images` fetches, verifies, makes and keeps.

use devices::disk::{CacheMode, DiskOptions, Format};
use images::build::BuildOptions;
use images::cache::Cache;
use images::demo::{DemoOptions, build_with};

use super::RunArgs;
use super::image::runner::ChildRunner;
use super::progress::ProgressLine;
use crate::exit::{Failure, explain};
use crate::machine::boot::BootSource;
use crate::machine::virtio::DiskConfig;

/// Names what the guest boots from in `source`, fetched and made or found in the cache; gives the disk with its root, which
/// stands behind those of the user.
pub fn prepare(args: &RunArgs, source: &mut BootSource) -> Result<Option<DiskConfig>, Failure> {
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    let default = format!("debian:{}", args.suite);
    let guest = args.guest.as_deref().unwrap_or(&default);
    if let Some(suite) = guest.strip_prefix("debian:") {
        return prepare_debian(suite, args, &cache, source).map(Some);
    }
    let mut options = DemoOptions::new(&args.suite);
    options.archive.mirrors.extend(args.mirror.clone());
    let guest = build_with(&options, &cache, &ProgressLine::new()).map_err(|e| Failure::backend(explain(&e)))?;
    source.kernel = guest.kernel;
    source.initrd = Some(guest.initrd);
    Ok(None)
}

/// A minbase image with its kernel: made at the first use, kept from then on.
fn prepare_debian(suite: &str, args: &RunArgs, cache: &Cache, source: &mut BootSource) -> Result<DiskConfig, Failure> {
    let mut options = BuildOptions::new(suite, cache.named("build"));
    options.archive.mirrors.extend(args.mirror.clone());
    options.hostname = Some(suite.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let runner = ChildRunner { engine: args.engine };
    let guest = images::ready::guest(&options, cache, &runner, &ProgressLine::new())
        .map_err(|e| Failure::backend(explain(&e)))?;
    source.kernel = guest.kernel;
    source.modules = Some(guest.modules);
    let words = source.append.as_deref().unwrap_or("console=ttyAMA0 quiet");
    // What stands behind "--" is the guest's program.
    let (kernel, program) = words.split_once(" -- ").unwrap_or((words, ""));
    let program = if program.is_empty() { String::new() } else { format!(" -- {program}") };
    source.append = Some(format!("{kernel} {}{program}", guest.words));
    let mut disk = DiskOptions { ephemeral: true, format: Some(Format::Raw), ..DiskOptions::new(guest.disk) };
    disk.cache = CacheMode::Unsafe;
    Ok(DiskConfig::new(disk))
}
