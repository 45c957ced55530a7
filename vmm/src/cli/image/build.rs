//! `vmm image build`.

use std::path::{Path, PathBuf};

use images::build::{BuildOptions, Image};
use images::cache::Cache;
use images::debian::ArchiveOptions;
use images::files::Pending;
use images::format::disk::Boot;
use images::format::{Format, WriteOptions};
use images::lock::Lock;
use images::recipe::Recipe;
use images::resolve::{Request, Variant};

use super::runner::ChildRunner;
use super::{BuildArgs, BuildOptionArgs, VerifyArgs};
use crate::cli::progress::ProgressLine;
use crate::console::terminal;
use crate::exit::{ExitStatus, Failure, explain};

/// Runs the command.
pub fn run(args: &BuildArgs) -> Result<ExitStatus, Failure> {
    let first = args.output.first().ok_or_else(|| Failure::usage("--output: name the image to write"))?;
    if args.build.format.is_some() && args.output.len() > 1 {
        return Err(Failure::usage("--format is for one --output: of several, the name of each says its format"));
    }
    let formats: Vec<Format> =
        args.output.iter().map(|output| format(args.build.format.as_deref(), output)).collect::<Result<_, _>>()?;
    let lock_path = args.build.lock.clone().unwrap_or_else(|| lock_beside(first));
    let lock = if args.build.locked { Some(read_lock(&lock_path)?) } else { None };
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    let mut image = build(&args.build, lock, &cache)?;
    let boot = boot_files(&formats, &image, &args.build, &cache)?;
    let mut written = Vec::new();
    for (output, format) in args.output.iter().zip(&formats) {
        let boot = boot.clone().filter(|_| format.boots());
        written.push((output, write(&mut image, *format, &args.build, boot, output)?));
    }
    let kernel = match &args.build.kernel {
        Some(_) => Some(write_kernel(&image, &args.build, &cache, first)?),
        None => None,
    };
    // All of them, or none: only now do they get their names.
    let mut sizes = Vec::new();
    for (output, written) in written {
        let size = written.commit();
        let size = size.map_err(|e| Failure::backend(format!("{} cannot be written: {e}", output.display())))?;
        sizes.push((output, size));
    }
    if let Some(kernel) = kernel {
        kernel.commit().map_err(|e| Failure::backend(format!("The kernel cannot be written: {e}")))?;
    }
    if !args.build.locked {
        std::fs::write(&lock_path, image.lock.text())
            .map_err(|e| Failure::backend(format!("The lock file {} cannot be written: {e}", lock_path.display())))?;
    }
    for (output, size) in sizes {
        terminal::message(&format!(
            "{}: {} packages, {} files, {:.1} MiB",
            output.display(),
            image.lock.packages.len(),
            image.tree.len(),
            size as f64 / f64::from(1 << 20)
        ));
    }
    Ok(ExitStatus::Success)
}

/// Makes the image of a lock file again and compares.
pub fn verify(args: &VerifyArgs) -> Result<ExitStatus, Failure> {
    let format = format(args.build.format.as_deref(), &args.image)?;
    let lock_path = args.build.lock.clone().unwrap_or_else(|| lock_beside(&args.image));
    let lock = read_lock(&lock_path)?;
    let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
    let mut image = build(&args.build, Some(lock), &cache)?;
    let scratch = images::files::ScratchDirectory::new(&scratch(&args.build, &cache))
        .map_err(|e| Failure::backend(format!("no scratch directory: {e}")))?;
    let name = args.image.file_name().map(PathBuf::from).unwrap_or_default();
    let boot = boot_files(&[format], &image, &args.build, &cache)?;
    let written = write(&mut image, format, &args.build, boot, &scratch.path().join(name))?;
    let found = images::format::hash_of(&args.image, format)
        .map_err(|e| Failure::usage(format!("{} cannot be read: {e}", args.image.display())))?;
    if found != written.sha256 {
        return Err(Failure::backend(format!(
            "{} has SHA-256 {found}, but what its lock file {} says has {}: it was changed; `vmm image diff` says where",
            args.image.display(),
            lock_path.display(),
            written.sha256
        )));
    }
    terminal::message(&format!("{} is what {} says: SHA-256 {found}", args.image.display(), lock_path.display()));
    Ok(ExitStatus::Success)
}

fn build(args: &BuildOptionArgs, lock: Option<Lock>, cache: &Cache) -> Result<Image, Failure> {
    let mut options = options(args, cache)?;
    options.locked = lock;
    let progress = ProgressLine::new().verbose(args.verbose);
    let runner = ChildRunner { engine: args.engine };
    images::build::build(&options, cache, &runner, &progress).map_err(|e| Failure::backend(explain(&e)))
}

/// What disks boot, if one of the formats is a disk.
fn boot_files(
    formats: &[Format],
    image: &Image,
    args: &BuildOptionArgs,
    cache: &Cache,
) -> Result<Option<Boot>, Failure> {
    if !formats.iter().any(|format| format.boots()) {
        return Ok(None);
    }
    let boot = images::build::boot(&image.lock, &archive_options(image, args), cache, &ProgressLine::new());
    boot.map(Some).map_err(|e| Failure::backend(explain(&e)))
}

/// Writes the image; nothing is left of it if that fails, or if the lock file says that it should be another.
fn write(
    image: &mut Image,
    format: Format,
    args: &BuildOptionArgs,
    boot: Option<Boot>,
    output: &Path,
) -> Result<images::format::Written, Failure> {
    let name = format!("debian:{}", image.lock.suite);
    let options = WriteOptions { size: args.size, name, boot, merge: args.merge.clone() };
    let written = images::format::write(&image.tree, image.epoch, format, &options, output)
        .map_err(|e| Failure::backend(format!("{} cannot be written: {}", output.display(), explain(&e))))?;
    // Sizes and other layouts are no part of the lock.
    if args.size.is_none() && args.merge.is_none() {
        image.lock.output(format.name(), &written.sha256).map_err(|e| Failure::backend(explain(&e)))?;
    }
    Ok(written)
}

/// Where the packages of an image come from.
fn archive_options(image: &Image, args: &BuildOptionArgs) -> ArchiveOptions {
    let mut archive = ArchiveOptions::new(&image.lock.suite);
    archive.mirrors.clone_from(&args.mirror);
    archive
}

/// Writes the kernel of the guest in which the image was configured, which is the suite's.
fn write_kernel(image: &Image, args: &BuildOptionArgs, cache: &Cache, output: &Path) -> Result<Pending, Failure> {
    let (kernel, _) = images::build::tools(&image.lock, &archive_options(image, args), cache, &ProgressLine::new())
        .map_err(|e| Failure::backend(explain(&e)))?;
    let path = lock_beside(output).with_extension("vmlinuz");
    let written = Pending::file(&path).and_then(|(pending, mut file)| {
        std::io::Write::write_all(&mut file, &kernel.image)?;
        Ok(pending)
    });
    written.map_err(|e| Failure::backend(format!("{} cannot be written: {e}", path.display())))
}

/// The format that is asked for, or that a name says.
pub(super) fn format(asked: Option<&str>, output: &Path) -> Result<Format, Failure> {
    let known = Format::NAMES.join(", ");
    match asked {
        Some(name) => Format::parse(name)
            .ok_or_else(|| Failure::usage(format!("--format {name}: there is no such format; there are {known}"))),
        None => Format::of_path(output).ok_or_else(|| {
            Failure::usage(format!("{}: the name does not say which format; add --format ({known})", output.display()))
        }),
    }
}

fn scratch(args: &BuildOptionArgs, cache: &Cache) -> PathBuf {
    args.scratch.clone().unwrap_or_else(|| cache.named("build"))
}

fn options(args: &BuildOptionArgs, cache: &Cache) -> Result<BuildOptions, Failure> {
    let recipe = match &args.recipe {
        Some(path) => Recipe::read(path).map_err(|e| Failure::usage(explain(&e)))?,
        None => Recipe::default(),
    };
    let first = |option: &Option<String>, recipe: &Option<String>, default: &str| {
        option.clone().or_else(|| recipe.clone()).unwrap_or_else(|| default.to_owned())
    };
    let name = first(&args.variant, &recipe.variant, "minbase");
    let variant = Variant::parse(&name).ok_or_else(|| {
        Failure::usage(format!("--variant {name}: there is no such variant; there are {}", Variant::NAMES.join(", ")))
    })?;
    let mut options = BuildOptions::new(&first(&args.suite, &recipe.suite, "bookworm"), scratch(args, cache));
    let both = |one: &[String], other: &[String]| one.iter().chain(other).cloned().collect::<Vec<_>>();
    options.archive.suites.extend(both(&args.add_suite, &recipe.add_suites));
    options.archive.updates = !args.no_updates;
    let components = if args.components.is_empty() { &recipe.components } else { &args.components };
    if !components.is_empty() {
        options.archive.components.clone_from(components);
    }
    options.archive.mirrors = if args.mirror.is_empty() { recipe.mirrors.clone() } else { args.mirror.clone() };
    options.archive.keyring.clone_from(&args.keyring);
    let include = [both(&args.include, &recipe.include), recipe.needed_packages()].concat();
    options.request = Request { variant, include, exclude: both(&args.exclude, &recipe.exclude) };
    options.epoch = args.epoch;
    options.hostname = args.hostname.clone().or_else(|| recipe.hostname.clone());
    options.kernel.clone_from(&args.build_kernel);
    options.cpus = args.cpus;
    options.timeout = args.timeout;
    options.memory = args.build_memory;
    options.image_mirrors =
        if args.image_mirror.is_empty() { recipe.image_mirrors.clone() } else { args.image_mirror.clone() };
    let from_recipe = recipe.from_tar.as_ref().map(|path| recipe.directory.join(path));
    options.from_tar = args.from_tar.clone().or(from_recipe);
    options.recipe = recipe;
    Ok(options)
}

/// The lock file of an image: the name without its endings that say the format.
fn lock_beside(output: &Path) -> PathBuf {
    let name = output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = Format::NAMES
        .iter()
        .filter_map(|ending| name.strip_suffix(&format!(".{ending}")))
        .min_by_key(|stem| stem.len());
    output.with_file_name(format!("{}.lock", stem.unwrap_or(&name)))
}

/// Reads a lock file.
pub(super) fn read_lock(path: &Path) -> Result<Lock, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("The lock file {} cannot be read: {e} (--lock)", path.display())))?;
    Lock::parse(&text).map_err(|e| Failure::usage(format!("{}: {}", path.display(), explain(&e))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_stands_beside_the_image() {
        for (output, lock) in [
            ("a/base.cpio", "a/base.lock"),
            ("base.cpio.gz", "base.lock"),
            ("v1.2.tar", "v1.2.lock"),
            ("image", "image.lock"),
        ] {
            assert_eq!(lock_beside(Path::new(output)), Path::new(lock), "{output}");
        }
    }
}
