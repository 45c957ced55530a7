//! virtio-fs (VIRTIO 1.2 section 5.11): a folder of the host in the guest, by a FUSE server in this process.
//!
//! The server needs no right that the user does not have, and cannot leave the folder: every file is reached from its
//! folder's descriptor by one name, no link is followed, and only plain files and folders are ever opened.

mod abi;
mod entries;
mod files;
mod owners;
mod queue;
mod saved;
mod server;
#[cfg(test)]
mod tests;
mod tree;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Resource, getegid, geteuid, getrlimit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::saved::SavedTree;
use self::server::{Counters, Server};
use self::tree::Tree;
use super::device::{QueueHandler, VirtioDevice};
use super::spec::device_type;
use crate::state::{self, StateError};

pub use owners::Range;

const NAME: &str = "virtio-fs";
const VERSION: u64 = 1;
/// Longest tag.
pub const MAX_TAG: usize = 36;
/// Entries of each queue: one request of a megabyte fits.
const QUEUE_SIZE: u16 = 512;
/// Descriptors that other parts of the machine may need.
const SPARE: u64 = 512;

/// A shared folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsOptions {
    /// The name by which the guest mounts it: 1 to [`MAX_TAG`] bytes.
    pub tag: String,
    /// The folder.
    pub folder: PathBuf,
    /// The guest changes nothing.
    pub read_only: bool,
    /// Which users of the guest are which of the host; empty: the guest's root is this process' user, or for root all are themselves.
    pub users: Vec<Range>,
    /// The same for groups.
    pub groups: Vec<Range>,
}

impl FsOptions {
    /// `folder` under the name `tag`, writable.
    pub fn new(tag: &str, folder: impl Into<PathBuf>) -> FsOptions {
        FsOptions { tag: tag.into(), folder: folder.into(), read_only: false, users: Vec::new(), groups: Vec::new() }
    }
}

/// The device.
pub struct VirtioFs {
    tag: String,
    server: Arc<Server>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    tag: String,
    introduced: bool,
    tree: SavedTree,
}

impl VirtioFs {
    /// Opens the folder.
    pub fn new(options: &FsOptions) -> io::Result<VirtioFs> {
        let root = openat(CWD, &options.folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20).saturating_sub(SPARE).max(64);
        let is_root = geteuid().is_root();
        let map = |given: &[Range], own: u32| match given {
            [] if is_root => vec![Range::ALL],
            [] => vec![Range { guest: 0, host: own, count: 1 }],
            _ => given.to_vec(),
        };
        let server = Server {
            tree: Tree::new(root, usize::try_from(files).unwrap_or(usize::MAX))?,
            read_only: options.read_only,
            users: map(&options.users, geteuid().as_raw()),
            groups: map(&options.groups, getegid().as_raw()),
            may_give: is_root,
            introduced: AtomicBool::new(false),
            counters: Counters::default(),
        };
        Ok(VirtioFs { tag: options.tag.clone(), server: Arc::new(server) })
    }
}

impl VirtioDevice for VirtioFs {
    fn device_type(&self) -> u32 {
        device_type::FILE_SYSTEM
    }

    fn type_name(&self) -> &'static str {
        NAME
    }

    fn features(&self) -> u64 {
        0
    }

    /// Requests that may not wait (they make the guest forget), and all others.
    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    fn handler(&self, _index: u16) -> Box<dyn QueueHandler> {
        Box::new(queue::Handler::new(Arc::clone(&self.server)))
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; MAX_TAG + 4];
        config.iter_mut().zip(self.tag.bytes().take(MAX_TAG)).for_each(|(to, from)| *to = from);
        // One queue of requests.
        crate::net::wire::put(&mut config, MAX_TAG, &1u32.to_le_bytes());
        let from = usize::try_from(offset).ok().and_then(|at| config.get(at..)).unwrap_or_default();
        data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn reset(&self) {
        self.server.reset();
    }

    fn counters(&self) -> Value {
        self.server.counters()
    }

    fn save(&self) -> Value {
        let introduced = self.server.introduced.load(Ordering::SeqCst);
        state::pack(VERSION, &Saved { tag: self.tag.clone(), introduced, tree: self.server.tree.save() })
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: Saved = state::unpack(NAME, VERSION, value)?;
        if saved.tag != self.tag {
            return Err(StateError::machine(NAME, format!("had tag={}", saved.tag)));
        }
        let failed = |e: rustix::io::Errno| StateError::machine(NAME, format!("cannot be restored: {e}"));
        self.server.tree.load(&saved.tree).map_err(failed)?;
        self.server.introduced.store(saved.introduced, Ordering::SeqCst);
        Ok(())
    }
}
