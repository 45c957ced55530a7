//! The file by which `perf` names generated code: `/tmp/perf-PID.map`, a line `START SIZE NAME` for each piece (Linux, tools/perf/Documentation/jit-interface.txt).

use std::fs::File;
use std::io::{self, Write};
use std::sync::Mutex;

/// The open file.
#[derive(Debug)]
pub struct PerfMap(Mutex<File>);

impl PerfMap {
    /// Makes the file of this process, new.
    ///
    /// # Errors
    /// It cannot be written; somebody else's file of that name is not followed or overwritten.
    pub fn create() -> io::Result<PerfMap> {
        let path = format!("/tmp/perf-{}.map", std::process::id());
        // An old one, of an earlier process with this number, may be ours to replace.
        let _ = std::fs::remove_file(&path);
        Ok(PerfMap(Mutex::new(File::create_new(path)?)))
    }

    /// A fragment: its hot and cold code (address, bytes), and the guest code at `pc` that it stands for.
    pub fn fragment(&self, [hot, cold]: [(u64, usize); 2], el1: bool, pc: u64) {
        let name = format!("guest_el{}_{pc:x}", u8::from(el1));
        self.line(&format!("{:x} {:x} {name}\n{:x} {:x} {name}_cold\n", hot.0, hot.1, cold.0, cold.1));
    }

    /// The code that all fragments share.
    pub fn thunks(&self, start: u64, bytes: usize) {
        self.line(&format!("{start:x} {bytes:x} vmm_thunks\n"));
    }

    fn line(&self, text: &str) {
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A full disk costs names, not the guest.
        let _ = file.write_all(text.as_bytes());
    }
}
