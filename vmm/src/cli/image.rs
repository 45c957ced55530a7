//! `vmm image`: Debian images, made without root and always with the same bytes.

mod build;
mod inspect;
pub(super) mod runner;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::exit::{ExitStatus, Failure};

/// `vmm image`.
#[derive(Args, Debug)]
pub struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Subcommand, Debug)]
enum ImageCommand {
    /// Make an image of Debian packages
    Build(Box<BuildArgs>),
    /// Make an image again of its lock file and compare the bytes
    Verify(Box<VerifyArgs>),
    /// Say what differs between two images
    Diff(DiffArgs),
    /// Say what an image is and what is in it
    Inspect(InspectArgs),
    /// Write an image in another format
    Convert(ConvertArgs),
    /// Make a disk larger, with its last partition
    Resize(ResizeArgs),
    /// Write the kernels of an image
    ExtractKernel(ExtractArgs),
}

/// `vmm image verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The image
    pub image: PathBuf,
    /// How it was made: all options of `vmm image build` but --output
    #[command(flatten)]
    pub build: BuildOptionArgs,
}

/// `vmm image diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// An image: a cpio or tar archive, compressed or not, an OCI layout, or a disk with ext4 (raw or qcow2)
    pub first: PathBuf,
    /// Another one
    pub second: PathBuf,
    /// Also compare modification times
    #[arg(long)]
    pub times: bool,
}

/// `vmm image inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// An image: a cpio or tar archive, compressed or not, an OCI layout, or a disk with ext4 (raw or qcow2)
    pub image: PathBuf,
    /// List the packages
    #[arg(long)]
    pub packages: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `vmm image convert`.
#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// An image: a cpio or tar archive, compressed or not, an OCI layout, or a disk with ext4 (raw or qcow2)
    pub image: PathBuf,
    /// The image to write
    pub output: PathBuf,
    /// cpio, tar (also .gz, .zst), ext4, qcow2 or oci (default: what OUTPUT's name says)
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// Size of a file system or disk, with a unit: 4G (default: what the files need and some more)
    #[arg(long, value_name = "SIZE", value_parser = super::size::parse)]
    pub size: Option<u64>,
}

/// `vmm image resize`.
#[derive(Args, Debug)]
pub struct ResizeArgs {
    /// A raw disk; a partition table at the wrong end of it is mended
    ///
    /// The file system in the last partition grows when its system boots (x-systemd.growfs), or by resize2fs.
    pub image: PathBuf,
    /// Its new size, with a unit: 20G
    #[arg(value_parser = super::size::parse)]
    pub size: u64,
}

/// `vmm image extract-kernel`.
#[derive(Args, Debug)]
pub struct ExtractArgs {
    /// An image: a cpio or tar archive, compressed or not, an OCI layout, or a disk with ext4 (raw or qcow2)
    pub image: PathBuf,
    /// Where kernels and initrds are written to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
}

const BUILD_EXAMPLES: &str = "\
Examples:
  vmm image build --suite bookworm -o baseimg.cpio
  vmm image build --suite trixie --include openssl,python3 --format tar -o rootfs.tar
  vmm image build --suite bookworm --locked -o baseimg.cpio      exactly what baseimg.lock says
  vmm image build -o baseimg.cpio -o baseimg.qcow2 -o layout.oci  one image in three formats

The packages are verified, unpacked here, and configured in a guest; no root, no binfmt_misc, nothing mounted.
Beside OUT stands OUT's lock file (baseimg.cpio: baseimg.lock), of which --locked makes the same bytes again.";

/// `vmm image build`.
#[derive(Args, Debug)]
#[command(after_help = BUILD_EXAMPLES)]
pub struct BuildArgs {
    /// The image to write (repeatable: the same image in several formats; the lock file stands beside the first)
    #[arg(long, short, value_name = "OUT", required = true)]
    pub output: Vec<PathBuf>,
    /// What goes into it
    #[command(flatten)]
    pub build: BuildOptionArgs,
}

/// What goes into an image, and how it is made.
#[derive(Args, Debug)]
pub struct BuildOptionArgs {
    /// A recipe (TOML): suite, packages, files, users, a script, ...; options given here count more
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// The release: bullseye, bookworm, trixie, sid, ... (default: bookworm)
    #[arg(long, value_name = "NAME")]
    pub suite: Option<String>,
    /// Further suites, such as bookworm-backports (repeatable); take packages from it with --include NAME/SUITE
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub add_suite: Vec<String>,
    /// Only the suite itself, not its updates and security updates
    #[arg(long)]
    pub no_updates: bool,
    /// Components of the archive (default: main)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub components: Vec<String>,
    /// What is taken without being asked for: essential, apt, minbase (default), important or standard
    #[arg(long, value_name = "NAME")]
    pub variant: Option<String>,
    /// Packages: NAME, NAME=VERSION or NAME/SUITE (repeatable)
    #[arg(long, value_name = "PKG,...", value_delimiter = ',')]
    pub include: Vec<String>,
    /// Packages that must not be taken (repeatable)
    #[arg(long, value_name = "PKG,...", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Begin with this system (a tar or cpio archive, or an OCI layout) in place of packages: for a recipe's files, users and script
    #[arg(long, value_name = "FILE", conflicts_with_all = ["include", "exclude", "variant"])]
    pub from_tar: Option<PathBuf>,
    /// A mirror, such as https://mirror.example/debian (repeatable: tried in turn; default: the one of this host's apt)
    #[arg(long, value_name = "URL")]
    pub mirror: Vec<String>,
    /// The mirrors that the image's own sources.list names: one for all suites but those of security updates, and one that
    /// ends in -security for these (default: those that the packages come from)
    #[arg(long, value_name = "URL")]
    pub image_mirror: Vec<String>,
    /// The keys that sign the archive (default: Debian's)
    #[arg(long, value_name = "FILE")]
    pub keyring: Option<PathBuf>,
    /// cpio, tar (also .gz, .zst), ext4, qcow2, disk (UEFI boots it; also disk.qcow2) or oci (default: what OUT's name says)
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// Size of a file system or disk, with a unit: 4G (default: what the files need and some more)
    #[arg(long, value_name = "SIZE", value_parser = super::size::parse)]
    pub size: Option<u64>,
    /// Another OCI layout, such as that for amd64, whose images go into the same index
    #[arg(long, value_name = "DIR")]
    pub merge: Option<PathBuf>,
    /// The name of the system (default: localhost)
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Also write the Debian kernel that fits, beside OUT with the ending .vmlinuz
    #[arg(long, value_name = "debian", value_parser = ["debian"])]
    pub kernel: Option<String>,
    /// Make exactly what the lock file says; fail on any difference
    #[arg(long)]
    pub locked: bool,
    /// The lock file (default: OUT with the ending .lock)
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// The latest time in the image, in seconds since 1970 (default: the archive's date)
    #[arg(long, value_name = "SECS")]
    pub epoch: Option<u64>,
    /// The kernel package of the guest that configures the image (default: one of the archive, else Debian's)
    #[arg(long, value_name = "PKG")]
    pub build_kernel: Option<String>,
    /// What executes the guest that configures the image
    #[arg(long, value_enum, default_value_t = super::EngineChoice::Auto)]
    pub engine: super::EngineChoice,
    /// Its processors
    #[arg(long, short = 'c', value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub cpus: u16,
    /// Its memory, with a unit: 4G (default: by the size of the packages)
    #[arg(long, value_name = "SIZE", value_parser = super::size::parse)]
    pub build_memory: Option<u64>,
    /// How long it may take
    #[arg(long, value_name = "SECS", value_parser = super::parse_seconds, default_value = "3600")]
    pub timeout: std::time::Duration,
    /// Where files are put while the image is made (default: the cache)
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Show everything that the guest says
    #[arg(long, short)]
    pub verbose: bool,
    /// Print errors as JSON objects on stderr
    #[arg(long)]
    pub json: bool,
}

impl ImageArgs {
    /// Whether errors are printed as JSON.
    pub fn json(&self) -> bool {
        match &self.command {
            ImageCommand::Build(args) => args.build.json,
            ImageCommand::Verify(args) => args.build.json,
            ImageCommand::Inspect(args) => args.json,
            _ => false,
        }
    }
}

/// Runs the command.
pub fn run(args: ImageArgs) -> Result<ExitStatus, Failure> {
    match args.command {
        ImageCommand::Build(args) => build::run(&args),
        ImageCommand::Verify(args) => build::verify(&args),
        ImageCommand::Diff(args) => inspect::diff(&args),
        ImageCommand::Inspect(args) => inspect::run(&args),
        ImageCommand::Convert(args) => inspect::convert(&args),
        ImageCommand::Resize(args) => inspect::resize(&args),
        ImageCommand::ExtractKernel(args) => inspect::extract(&args),
    }
}
