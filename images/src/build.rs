//! Makes Debian images: packages are chosen, fetched and unpacked here and configured in a guest; what comes out depends on
//! nothing but what went in. See `docs/design/image-build.md`.

mod choose;
mod console;
mod dpkg;
pub mod guest;
pub mod normalise;
pub(crate) mod parallel;
mod result;
mod skeleton;
pub(crate) mod unpack;

pub use guest::{GuestEnd, GuestError, GuestRunner, GuestSpec};
pub use result::ResultError;
pub use unpack::UnpackError;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::guest::{BuildGuest, Plan};
use self::unpack::{Placer, Preinst, Unpacked};
use crate::cache::{Cache, Sha256Sum};
use crate::debian::{Archive, ArchiveOptions, DebianError, Package};
use crate::files::ScratchDirectory;
use crate::format::disk;
use crate::kernel::{self, GuestKernel, KernelError};
use crate::load::{self, LoadError};
use crate::lock::{Lock, LockError, LockedPackage, LockedSource};
use crate::progress::Progress;
use crate::recipe::{Recipe, RecipeError};
use crate::resolve::{Request, ResolveError};
use crate::tree::{Spool, Tree};

/// The name of a system that has none.
const DEFAULT_HOSTNAME: &str = "localhost";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The archive cannot be used.
    #[error(transparent)]
    Debian(#[from] DebianError),
    /// The packages cannot be chosen.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A package cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// There is no kernel for the guest.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The archive has no kernel for the guest, and neither has anybody else.
    #[error(
        "{suite} has no kernel for the guest that configures the image, and Debian's cannot be had: name one with --build-kernel, or name a mirror of Debian in apt's sources"
    )]
    NoTools {
        /// The suite.
        suite: String,
        /// What was wrong with Debian's.
        source: Box<DebianError>,
    },
    /// The guest failed.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// What the guest made is not believed.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// The lock file does not fit.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The system to begin with cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The operating system refused.
    #[error("Cannot make the image")]
    Io(#[from] io::Error),
}

/// What to make.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Where packages come from.
    pub archive: ArchiveOptions,
    /// Which packages.
    pub request: Request,
    /// The package of the kernel of the guest in which the image is configured; `None`: one of the archive, else Debian's.
    pub kernel: Option<String>,
    /// The latest time in the image, in seconds since 1970; `None`: the date of the archive.
    pub epoch: Option<u64>,
    /// The name of the system; `None`: `localhost`, or the one that it has.
    pub hostname: Option<String>,
    /// The system to begin with, a tar or cpio archive or an OCI layout, in place of packages.
    pub from_tar: Option<PathBuf>,
    /// What is done beside installing packages.
    pub recipe: Recipe,
    /// Make exactly what this lock file says.
    pub locked: Option<Lock>,
    /// Number of processors of the guest.
    pub cpus: u16,
    /// Bytes of RAM of the guest; `None`: by the size of the packages.
    pub memory: Option<u64>,
    /// The mirrors that the image's `sources.list` names, one for the suites and one that ends in `-security` for those of
    /// security updates; where there is none, that which the packages come from.
    pub image_mirrors: Vec<String>,
    /// How long the guest may take.
    pub timeout: Duration,
    /// Threads that fetch and unpack.
    pub threads: usize,
    /// Where files are put while the image is made.
    pub scratch: PathBuf,
}

impl BuildOptions {
    /// A minbase image of `suite` with its updates.
    pub fn new(suite: &str, scratch: PathBuf) -> BuildOptions {
        BuildOptions {
            archive: ArchiveOptions { updates: true, ..ArchiveOptions::new(suite) },
            request: Request::default(),
            kernel: None,
            epoch: None,
            hostname: None,
            from_tar: None,
            recipe: Recipe::default(),
            locked: None,
            cpus: 2,
            memory: None,
            image_mirrors: Vec::new(),
            timeout: Duration::from_secs(3600),
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            scratch,
        }
    }

    /// The suite that the image is of.
    pub fn suite(&self) -> &str {
        self.archive.suites.first().map(String::as_str).unwrap_or_default()
    }

    /// Hash of what is asked for beside suite and variant.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn recipe_hash(&self) -> Result<String, RecipeError> {
        let base = match &self.from_tar {
            None => String::new(),
            Some(path) => {
                let failed = |source| RecipeError::File { path: path.clone(), source };
                let name = if path.is_dir() { path.join("index.json") } else { path.clone() };
                let sum = std::fs::File::open(&name).and_then(|mut file| crate::format::hash(&mut file));
                format!("from {}\n", sum.map_err(failed)?.0)
            }
        };
        let base = match self.image_mirrors.as_slice() {
            [] => base,
            mirrors => format!("{base}image-mirrors {mirrors:?}\n"),
        };
        let text = format!(
            "{base}include {:?}\nexclude {:?}\nsuites {:?}\ncomponents {:?}\nhostname {:?}\n{}",
            self.request.include,
            self.request.exclude,
            self.archive.suites,
            self.archive.components,
            self.hostname.as_deref().unwrap_or(DEFAULT_HOSTNAME),
            self.recipe.hash()?
        );
        Ok(Sha256Sum::of(text.as_bytes()).to_string())
    }
}

/// An image that was made, to be written in any format.
#[derive(Debug)]
pub struct Image {
    /// Its files.
    pub tree: Tree,
    /// The latest time in it, in seconds since 1970.
    pub epoch: u64,
    /// What it was made of.
    pub lock: Lock,
}

/// Makes an image.
///
/// # Errors
/// [`BuildError`].
pub fn build(
    options: &BuildOptions,
    cache: &Cache,
    runner: &dyn GuestRunner,
    progress: &dyn Progress,
) -> Result<Image, BuildError> {
    let (archive, lock) = match &options.locked {
        Some(lock) => {
            lock.check(options.suite(), options.request.variant.name(), &options.recipe_hash()?)?;
            (archive_of(&lock.sources, &options.archive, cache)?, lock.clone())
        }
        None => {
            let mut archive = Archive::open(&options.archive, cache, progress)?;
            let lock = choose::new_lock(options, &mut archive, cache, progress)?;
            (archive.without_index(), lock)
        }
    };
    let scratch = ScratchDirectory::new(&options.scratch)?;
    let spool = Spool::new(scratch.path())?;
    let tools = archive_of_tools(&lock, &options.archive, cache)?;
    let build = Build { options, archive, tools, lock, spool, scratch, progress };
    build.run(runner)
}

fn packages_of(locked: &[LockedPackage], sources: &[LockedSource]) -> Result<Vec<Package>, LockError> {
    locked.iter().map(|package| package.to_package(sources)).collect()
}

/// The archive of these sources of a lock.
fn archive_of(sources: &[LockedSource], options: &ArchiveOptions, cache: &Cache) -> Result<Archive, BuildError> {
    let sources = sources.iter().map(LockedSource::to_source).collect::<Result<_, _>>()?;
    Ok(Archive::of_known_packages(options, cache, sources)?)
}

/// The archive that the kernel of the build guest comes from.
fn archive_of_tools(lock: &Lock, options: &ArchiveOptions, cache: &Cache) -> Result<Archive, BuildError> {
    let mut options = options.clone();
    if !lock.build_sources.is_empty() {
        // The mirrors that are named are those of another archive.
        options.mirrors.clear();
    }
    archive_of(lock.sources_of_build(), &options, cache)
}

fn read_tools(lock: &Lock, archive: &Archive, progress: &dyn Progress) -> Result<(GuestKernel, Vec<u8>), BuildError> {
    let mut packages = packages_of(&lock.build_packages, lock.sources_of_build())?;
    let busybox = packages.pop().ok_or(LockError::Value { what: "no packages of the build guest".to_owned() })?;
    let kernel = kernel::read(archive, &packages, progress)?;
    Ok((kernel, kernel::busybox(archive, &busybox, progress)?))
}

/// The kernel and the static BusyBox of the guest in which an image was configured.
///
/// # Errors
/// [`BuildError`].
pub fn tools(
    lock: &Lock,
    options: &ArchiveOptions,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<(GuestKernel, Vec<u8>), BuildError> {
    read_tools(lock, &archive_of_tools(lock, options, cache)?, progress)
}

/// Only bytes and notes: the whole is one piece of work.
struct Bytes<'a>(&'a dyn Progress);

impl Progress for Bytes<'_> {
    fn advance(&self, bytes: u64) {
        self.0.advance(bytes);
    }

    fn note(&self, text: &str) {
        self.0.note(text);
    }
}

/// What a disk of an image boots: the kernel of the guest in which it was configured, and systemd-boot.
///
/// # Errors
/// [`BuildError`]; also when the suite has no boot loader.
pub fn boot(
    lock: &Lock,
    options: &ArchiveOptions,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<disk::Boot, BuildError> {
    let archive = archive_of(&lock.sources, options, cache)?;
    let none = || LockError::Value { what: format!("no package with a boot loader of {}", lock.suite) };
    let package = lock.boot_package.as_ref().ok_or_else(none)?.to_package(&lock.sources)?;
    let loader = kernel::boot_loader(&archive, &package, progress)?;
    let (kernel, busybox) = tools(lock, options, cache, progress)?;
    Ok(disk::Boot::new(loader, kernel, &busybox)?)
}

/// One image on its way.
struct Build<'a> {
    options: &'a BuildOptions,
    archive: Archive,
    /// Where the kernel of the guest comes from.
    tools: Archive,
    lock: Lock,
    spool: Spool,
    scratch: ScratchDirectory,
    progress: &'a dyn Progress,
}

impl Build<'_> {
    fn run(self, runner: &dyn GuestRunner) -> Result<Image, BuildError> {
        let epoch = i64::try_from(self.lock.epoch).unwrap_or(i64::MAX);
        // The kernel's package is one large file: it is read while the others are.
        let (tools, packages) = std::thread::scope(|scope| {
            let tools = scope.spawn(|| read_tools(&self.lock, &self.tools, &Bytes(self.progress)));
            let packages = self.fetch().and_then(|files| Ok((self.unpack(&files)?, files)));
            (tools.join(), packages)
        });
        let (kernel, busybox) = tools.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (packages, files) = packages?;
        let guest = BuildGuest {
            runner,
            directory: self.scratch.path(),
            kernel: &kernel,
            busybox: &busybox,
            cpus: self.options.cpus,
            memory: self.options.memory,
            timeout: self.options.timeout,
            progress: self.progress,
        };
        let mut left_to_dpkg = BTreeSet::new();
        let (results, tree) = loop {
            let (tree, plan) = self.assemble(&files, &packages, &left_to_dpkg, epoch)?;
            match guest.run(&tree, &plan) {
                Ok(results) => break (results, tree),
                // A `preinst` did more than can be seen: once more, now as dpkg would have it.
                Err(GuestError::Preinst(name)) if packages.contains_key(&name) && !left_to_dpkg.contains(&name) => {
                    self.progress.note(&format!("the preinst of {name} changes its files: dpkg unpacks it"));
                    left_to_dpkg.insert(name);
                }
                Err(error) => return Err(error.into()),
            }
        };
        drop(packages);
        self.progress.begin("taking over the image", None);
        let mut tree = result::read(&results, &tree, &self.spool, epoch)?;
        normalise::normalise(&mut tree, &self.spool, epoch)?;
        normalise::add_devices(&mut tree, epoch);
        if self.options.from_tar.is_none() {
            console::add_login(&mut tree, &self.spool, epoch)?;
        }
        skeleton::finish(&mut tree, &self.spool, &self.lock)?;
        self.progress.end();
        Ok(Image { tree, epoch: self.lock.epoch, lock: self.lock })
    }

    /// Fetches the packages, several at a time.
    fn fetch(&self) -> Result<Vec<(String, PathBuf)>, BuildError> {
        let packages = packages_of(&self.lock.packages, &self.lock.sources)?;
        let missing = packages.iter().filter(|package| !self.archive.has(package));
        let (count, size) = missing.fold((0, 0), |(count, size), package| (count + 1, size + package.size));
        let bytes = Bytes(self.progress);
        if count > 0 {
            self.progress.begin(&format!("fetching {count} packages"), Some(size));
        }
        // More threads than processors: most of the time they wait.
        let fetched = parallel::map(&packages, self.options.threads.max(4), |package| {
            Ok::<_, DebianError>((package.name.clone(), self.archive.fetch(package, &bytes)?))
        });
        if count > 0 {
            self.progress.end();
        }
        Ok(fetched?)
    }

    fn unpack(&self, packages: &[(String, PathBuf)]) -> Result<BTreeMap<String, Unpacked>, BuildError> {
        let done = AtomicU64::new(0);
        self.progress.begin(&format!("unpacking {} packages", packages.len()), None);
        let unpacked = unpack::read_all(packages, &self.spool, self.options.threads, &|name| {
            let number = done.fetch_add(1, Ordering::Relaxed) + 1;
            self.progress.detail(&format!("{number} {name}"));
        });
        self.progress.end();
        Ok(unpacked?)
    }

    /// The image as the guest gets it.
    fn assemble(
        &self,
        files: &[(String, PathBuf)],
        packages: &BTreeMap<String, Unpacked>,
        left_to_dpkg: &BTreeSet<String>,
        epoch: i64,
    ) -> Result<(Tree, Plan), BuildError> {
        if let Some(path) = &self.options.from_tar {
            return self.begin_with(path, epoch);
        }
        let base: Vec<String> =
            self.lock.packages.iter().filter(|package| package.base).map(|package| package.name.clone()).collect();
        let is_base = |name: &String| base.contains(name);
        // A `preinst` has to run before the files are there where it has to do with them: dpkg unpacks such packages in the
        // guest. Those of the base system are unpacked here all the same: without them nothing runs, and mmdebstrap does as
        // much.
        let by_dpkg = |name: &str| {
            left_to_dpkg.contains(name)
                || packages.get(name).is_some_and(|package| match package.preinst() {
                    Preinst::Nothing | Preinst::Runs => false,
                    Preinst::NamesFiles => !is_base(&package.name),
                    Preinst::Diverts => true,
                })
        };
        let by_dpkg: BTreeSet<&str> = packages.keys().map(String::as_str).filter(|name| by_dpkg(name)).collect();
        let by_dpkg = |name: &str| by_dpkg.contains(name);
        let mut tree = Tree::new(epoch);
        skeleton::prepare(
            &mut tree,
            packages,
            &self.lock,
            self.options.hostname.as_deref().unwrap_or(DEFAULT_HOSTNAME),
            &self.spool,
            epoch,
        )?;
        let mut placer = Placer::new(&mut tree);
        for package in packages.values().filter(|package| !by_dpkg(&package.name)) {
            placer.place(package, packages, true)?;
        }
        for package in packages.values().filter(|package| by_dpkg(&package.name) && is_base(&package.name)) {
            placer.place(package, packages, false)?;
        }
        let lost = placer.lost();
        self.options.recipe.prepare(&mut tree, &self.spool, epoch)?;
        let mut database = dpkg::Database { tree: &mut tree, spool: &self.spool, epoch };
        database.write(packages, &|name| !by_dpkg(name), &lost)?;
        let mut plan = Plan { epoch: self.lock.epoch, base: base.clone(), configure: true, ..Plan::default() };
        let run_here = |package: &&Unpacked| !by_dpkg(&package.name) && package.preinst() != Preinst::Nothing;
        for package in packages.values().filter(run_here) {
            let preinsts = if is_base(&package.name) { &mut plan.base_preinsts } else { &mut plan.other_preinsts };
            preinsts.push(dpkg::stem(package));
        }
        for (name, path) in files.iter().filter(|(name, _)| by_dpkg(name)) {
            skeleton::add_deb(&mut tree, &self.spool, self.scratch.path(), name, path, epoch)?;
            let debs = if is_base(name) { &mut plan.base_debs } else { &mut plan.other_debs };
            debs.push(format!("{name}.deb"));
        }
        Ok((tree, plan))
    }

    /// A system that is there already: nothing is to be installed.
    fn begin_with(&self, path: &Path, epoch: i64) -> Result<(Tree, Plan), BuildError> {
        let (_, mut tree) = load::load(path, &self.spool)?;
        skeleton::prepare_existing(&mut tree, self.options.hostname.as_deref(), &self.spool, epoch)?;
        self.options.recipe.prepare(&mut tree, &self.spool, epoch)?;
        Ok((tree, Plan { epoch: self.lock.epoch, ..Plan::default() }))
    }
}
