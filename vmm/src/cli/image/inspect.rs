//! `vmm image inspect`, `diff`, `convert` and `extract-kernel`: what is done with an image that is there.

use std::io::Read;
use std::path::Path;

use devices::disk::DiskOptions;
use images::cache::Cache;
use images::diff::DiffOptions;
use images::files::{Pending, ScratchDirectory};
use images::format::WriteOptions;
use images::format::disk::Resized;
use images::initrd::DiskView;
use images::load::{LoadError, Stored, load, load_disk, may_be_disk};
use images::tree::{Kind, Spool, Tree};
use serde_json::json;

use super::{ConvertArgs, DiffArgs, ExtractArgs, InspectArgs, ResizeArgs};
use crate::cli::print_out;
use crate::console::terminal;
use crate::exit::{ExitStatus, Failure, explain};

/// Greatest list of packages that is read.
const MAX_STATUS: u64 = 64 << 20;
/// Greatest kernel that is written.
const MAX_KERNEL: u64 = 1 << 30;

/// A place for contents while an image is looked at.
struct Workplace {
    spool: Spool,
    _scratch: ScratchDirectory,
}

impl Workplace {
    fn new() -> Result<Workplace, Failure> {
        let cache = Cache::of_user().map_err(|e| Failure::backend(explain(&e)))?;
        let failed = |e: std::io::Error| Failure::backend(format!("no place for temporary files: {e}"));
        let scratch = ScratchDirectory::new(&cache.named("build")).map_err(failed)?;
        let spool = Spool::new(scratch.path()).map_err(failed)?;
        Ok(Workplace { spool, _scratch: scratch })
    }

    fn load(&self, path: &Path) -> Result<(Stored, Tree), Failure> {
        let failed = |e: LoadError| Failure::usage(explain(&e));
        if !path.is_file() || !may_be_disk(&start_of(path)) {
            return load(path, &self.spool).map_err(failed);
        }
        let options = DiskOptions { read_only: true, ..DiskOptions::new(path) };
        let disk = devices::disk::open(&options).map_err(|e| Failure::usage(explain(&e)))?;
        let read = |offset: u64, out: &mut [u8]| disk.read(offset, out);
        let tree = load_disk(path, &DiskView { size: disk.size(), read: &read }, &self.spool).map_err(failed)?;
        Ok((Stored::Disk, tree))
    }
}

/// The first bytes of a file, as far as it can be read.
fn start_of(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(2048).read_to_end(&mut start));
    if read.is_ok() { start } else { Vec::new() }
}

/// `vmm image diff`: status 1 when there are differences.
pub fn diff(args: &DiffArgs) -> Result<ExitStatus, Failure> {
    let place = Workplace::new()?;
    let ((_, first), (_, second)) = (place.load(&args.first)?, place.load(&args.second)?);
    let found = images::diff::diff(&first, &second, DiffOptions { times: args.times })
        .map_err(|e| Failure::backend(format!("the images cannot be compared: {e}")))?;
    for line in &found {
        print_out(line);
    }
    let count = found.iter().filter(|line| !line.starts_with(' ')).count();
    terminal::message(&if count == 0 { "no differences".to_owned() } else { format!("{count} differences") });
    Ok(if count == 0 { ExitStatus::Success } else { ExitStatus::Different })
}

/// `vmm image inspect`.
pub fn run(args: &InspectArgs) -> Result<ExitStatus, Failure> {
    let place = Workplace::new()?;
    let (stored, tree) = place.load(&args.image)?;
    let bytes: u64 =
        tree.iter().map(|(.., inode)| if let Kind::File(content) = &inode.kind { content.len() } else { 0 }).sum();
    let packages = packages(&tree);
    let kernels = kernels(&tree);
    let release = text(&tree, b"etc/os-release").or_else(|| text(&tree, b"usr/lib/os-release")).unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"');
    if args.json {
        let packages: serde_json::Map<String, serde_json::Value> =
            packages.into_iter().map(|(name, version)| (name, version.into())).collect();
        let value = json!({
            "stored": stored.name(), "files": tree.len(), "bytes": bytes, "system": name, "packages": packages, "kernels": kernels,
        });
        print_out(&value.to_string());
        return Ok(ExitStatus::Success);
    }
    print_out(&format!("stored as  {}", stored.name()));
    print_out(&format!("system     {}", if name.is_empty() { "not known" } else { name }));
    print_out(&format!("files      {}, {:.1} MiB", tree.len(), bytes as f64 / f64::from(1 << 20)));
    print_out(&format!("packages   {}", packages.len()));
    print_out(&format!("kernels    {}", if kernels.is_empty() { "none".to_owned() } else { kernels.join(", ") }));
    if args.packages {
        packages.iter().for_each(|(name, version)| print_out(&format!("{name} {version}")));
    }
    Ok(ExitStatus::Success)
}

/// The text of a small file.
fn text(tree: &Tree, path: &[u8]) -> Option<String> {
    let path = tree.follow(path)?;
    let Kind::File(content) = &tree.get(&path)?.kind else { return None };
    Some(String::from_utf8_lossy(&content.bytes(MAX_STATUS).ok()?).into_owned())
}

/// Names and versions of the installed packages.
fn packages(tree: &Tree) -> Vec<(String, String)> {
    let status = text(tree, b"var/lib/dpkg/status").unwrap_or_default();
    let entry = |entry: &str| {
        let field = |name: &str| entry.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        field("Status: ").filter(|status| status.ends_with(" installed"))?;
        Some((field("Package: ")?, field("Version: ")?))
    };
    status.split("\n\n").filter_map(entry).collect()
}

/// Paths of kernels and initrds.
fn kernels(tree: &Tree) -> Vec<String> {
    let is_one = |name: &str| name.starts_with("boot/vmlinuz-") || name.starts_with("boot/initrd.img-");
    let names = tree.below(b"boot").map(|name| String::from_utf8_lossy(name).into_owned());
    names.filter(|name| is_one(name)).collect()
}

/// `vmm image convert`.
pub fn convert(args: &ConvertArgs) -> Result<ExitStatus, Failure> {
    let format = super::build::format(args.format.as_deref(), &args.output)?;
    let place = Workplace::new()?;
    let (stored, mut tree) = place.load(&args.image)?;
    if stored == Stored::Cpio {
        // The first process that makes an initramfs of an image is no part of it.
        let ours = text(&tree, b"init").is_some_and(|text| text == images::format::cpio::INIT);
        if ours {
            tree.remove(b"init");
        }
    }
    let epoch = tree.iter().map(|(.., inode)| inode.mtime).max().unwrap_or_default();
    let options = WriteOptions { size: args.size, name: "image".to_owned(), ..WriteOptions::default() };
    let epoch = u64::try_from(epoch).unwrap_or_default();
    let failed = |text: String| Failure::backend(format!("{} cannot be written: {text}", args.output.display()));
    let written =
        images::format::write(&tree, epoch, format, &options, &args.output).map_err(|e| failed(explain(&e)))?;
    let size = written.commit().map_err(|e| failed(e.to_string()))?;
    terminal::message(&format!("{}: {:.1} MiB", args.output.display(), size as f64 / f64::from(1 << 20)));
    Ok(ExitStatus::Success)
}

/// `vmm image resize`.
pub fn resize(args: &ResizeArgs) -> Result<ExitStatus, Failure> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&args.image);
    let resized = file.and_then(|file| images::format::disk::resize(&file, args.size));
    let what = match resized.map_err(|e| Failure::usage(format!("{}: {e}", args.image.display())))? {
        Resized::Plain => String::new(),
        Resized::Partition(number, size) => format!(", partition {number} {:.1} MiB", size as f64 / f64::from(1 << 20)),
    };
    terminal::message(&format!("{}: {:.1} MiB{what}", args.image.display(), args.size as f64 / f64::from(1 << 20)));
    Ok(ExitStatus::Success)
}

/// `vmm image extract-kernel`.
pub fn extract(args: &ExtractArgs) -> Result<ExitStatus, Failure> {
    let place = Workplace::new()?;
    let (_, tree) = place.load(&args.image)?;
    let kernels = kernels(&tree);
    if kernels.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no kernel: build it with --include linux-image-cloud-arm64, or use --kernel debian",
            args.image.display()
        )));
    }
    for name in kernels {
        let Some(Kind::File(content)) = tree.get(name.as_bytes()).map(|inode| &inode.kind) else { continue };
        let path = args.output.join(name.trim_start_matches("boot/"));
        let written = content.bytes(MAX_KERNEL).and_then(|bytes| {
            let (pending, mut file) = Pending::file(&path)?;
            std::io::Write::write_all(&mut file, &bytes)?;
            pending.commit()
        });
        written.map_err(|e| Failure::backend(format!("{} cannot be written: {e}", path.display())))?;
        print_out(&path.display().to_string());
    }
    Ok(ExitStatus::Success)
}
