//! What an image is made of: its packages, and those of the guest in which it is configured.

use std::collections::BTreeMap;

use super::{BuildError, BuildOptions, parallel};
use crate::cache::Cache;
use crate::debian::{Archive, ArchiveOptions, DebianError, Package, mirror_of};
use crate::kernel::{self, CLOUD_KERNEL, KernelError};
use crate::lock::{Lock, LockedPackage, LockedSource, VERSION};
use crate::progress::Progress;
use crate::resolve::{self, Reason, Selection};

/// Packages that have had systemd-boot, the newer one first.
const LOADER_PACKAGES: [&str; 2] = ["systemd-boot-efi", "systemd"];
/// The static tools of the guest in which an image is configured.
const BUSYBOX: &str = "busybox-static";
/// Packages that lead to a kernel for virtual machines, in Debian and in what derives from it, the smallest first.
const KERNELS: [&str; 4] = [CLOUD_KERNEL, "linux-image-virtual", "linux-image-arm64", "linux-image-generic"];
/// The suite of Debian whose kernel configures images of archives that have none.
const DEBIAN_SUITE: &str = "bookworm";

/// Chooses the packages.
pub(super) fn new_lock(
    options: &BuildOptions,
    archive: &mut Archive,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Lock, BuildError> {
    let chosen = match options.from_tar {
        None => choose(options, archive, progress)?,
        Some(_) => Chosen::default(),
    };
    let mut sources: Vec<LockedSource> = archive.sources().iter().map(LockedSource::new).collect();
    for source in &mut sources {
        let mirror = mirror_of(&source.suite, &options.image_mirrors);
        source.image_uri = mirror.filter(|mirror| *mirror != source.uri);
    }
    let newest = archive.sources().iter().map(|source| source.date).max().unwrap_or_default();
    let (build_sources, build_packages) = tools(options, archive, cache, progress)?;
    // Not every archive has one: only disks need it.
    let boot_package = LOADER_PACKAGES.iter().find_map(|name| match archive.find(name) {
        Ok(package) if archive.is_of_closed(&package) => archive.find_available(name, progress).ok(),
        found => found.ok(),
    });
    Ok(Lock {
        version: VERSION,
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        suite: options.suite().to_owned(),
        variant: options.request.variant.name().to_owned(),
        architecture: options.archive.architecture.clone(),
        epoch: options.epoch.unwrap_or(newest),
        recipe: options.recipe_hash()?,
        packages: chosen.locked(&sources),
        build_packages: build_packages
            .iter()
            .map(|one| LockedPackage::new(one, if build_sources.is_empty() { &sources } else { &build_sources }))
            .collect(),
        build_sources,
        boot_package: boot_package.map(|package| LockedPackage::new(&package, &sources)),
        sources,
        outputs: Vec::new(),
    })
}

/// The packages of an image.
#[derive(Default)]
struct Chosen {
    selection: Selection,
    /// What is listed, but gone, by name; an older version is taken.
    gone: BTreeMap<String, Package>,
}

impl Chosen {
    fn locked(&self, sources: &[LockedSource]) -> Vec<LockedPackage> {
        let locked = |one: &resolve::Selected| LockedPackage {
            base: one.reason == Reason::Base,
            automatic: matches!(one.reason, Reason::NeededBy(_)),
            instead_of: self.gone.get(&one.package.name).map(|gone| gone.version.clone()),
            ..LockedPackage::new(&one.package, sources)
        };
        self.selection.values().map(locked).collect()
    }
}

/// Resolves what is asked for. Of updates that are no longer made mirrors may have dropped the files: what is gone is
/// passed over, as long as nothing else stands in the way.
fn choose(options: &BuildOptions, archive: &mut Archive, progress: &dyn Progress) -> Result<Chosen, BuildError> {
    let mut gone: BTreeMap<String, Package> = BTreeMap::new();
    let mut has_closed = true;
    let selection = loop {
        let selection = match resolve::resolve(archive, &options.request) {
            // What is left of such updates does not fit together.
            Err(_) if has_closed && !gone.is_empty() => {
                archive.forget_closed();
                has_closed = false;
                continue;
            }
            result => result?,
        };
        let missing = missing(options, archive, &selection, progress)?;
        if missing.is_empty() {
            break selection;
        }
        for package in &missing {
            gone.entry(package.name.clone()).or_insert_with(|| package.clone());
        }
        archive.forget(&missing);
    };
    gone.retain(|name, _| selection.contains_key(name));
    if !gone.is_empty() {
        let suites = archive.sources().iter().enumerate();
        let suites = suites.filter(|(index, _)| gone.values().any(|package| package.source == *index));
        let names = gone.iter().filter_map(|(name, newer)| {
            Some(format!("{name} {} for {}", selection.get(name)?.package.version, newer.version))
        });
        progress.note(&format!(
            "{} ended, and no mirror has the files of {} of its packages any more: older ones are taken, WITHOUT those updates \
             (instead_of in the lock file): {}",
            suites.map(|(_, source)| source.suite.as_str()).collect::<Vec<_>>().join(", "),
            gone.len(),
            names.collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(Chosen { selection, gone })
}

/// The packages of updates that are no longer made which no mirror has. The others are in the cache then.
fn missing(
    options: &BuildOptions,
    archive: &Archive,
    selection: &Selection,
    progress: &dyn Progress,
) -> Result<Vec<Package>, BuildError> {
    let doubtful = |package: &&Package| archive.is_of_closed(package) && !archive.has(package);
    let doubtful: Vec<Package> = selection.values().map(|one| &one.package).filter(doubtful).cloned().collect();
    let bytes = super::Bytes(progress);
    let found = parallel::map(&doubtful, options.threads.max(4), |package| match archive.fetch(package, &bytes) {
        Ok(_) => Ok(None),
        Err(DebianError::Gone { .. }) => Ok(Some(package.clone())),
        Err(error) => Err(error),
    });
    Ok(found?.into_iter().flatten().collect())
}

/// The kernel's packages and BusyBox, and where they come from if that is another archive than the image's.
fn tools(
    options: &BuildOptions,
    archive: &Archive,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<(Vec<LockedSource>, Vec<Package>), BuildError> {
    let own = tools_of(options, archive, progress);
    let Err(BuildError::Kernel(KernelError::Debian(DebianError::NoPackage { .. }))) = &own else {
        return Ok((Vec::new(), own?));
    };
    if options.kernel.is_some() {
        return Ok((Vec::new(), own?));
    }
    progress.note(&format!(
        "{} has no kernel or no {BUSYBOX}: the guest that configures the image takes those of Debian {DEBIAN_SUITE}",
        options.suite()
    ));
    // Debian's, by its own keys and from its own mirrors.
    let debian = ArchiveOptions {
        updates: true,
        root: options.archive.root.clone(),
        client: options.archive.client.clone(),
        ..ArchiveOptions::new(DEBIAN_SUITE)
    };
    let no_tools =
        |source: DebianError| BuildError::NoTools { suite: options.suite().to_owned(), source: Box::new(source) };
    let archive = Archive::open(&debian, cache, progress).map_err(no_tools)?;
    let packages = tools_of(options, &archive, progress)?;
    Ok((archive.sources().iter().map(LockedSource::new).collect(), packages))
}

fn tools_of(options: &BuildOptions, archive: &Archive, progress: &dyn Progress) -> Result<Vec<Package>, BuildError> {
    let is_there = |name: &&str| !archive.index().named(name).is_empty();
    let kernel = options.kernel.as_deref().or_else(|| KERNELS.into_iter().find(is_there)).unwrap_or(CLOUD_KERNEL);
    let busybox = archive.find_available(BUSYBOX, progress).map_err(KernelError::from)?;
    let mut packages = kernel::available(archive, kernel, progress)?;
    packages.push(busybox);
    Ok(packages)
}

#[cfg(test)]
mod tests;
