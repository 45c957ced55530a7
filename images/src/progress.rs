//! How long work is told to whoever waits for it.

/// Told about long work. All methods do nothing unless overridden.
pub trait Progress: Sync {
    /// Something begins; `total` is its size in bytes, if it is known.
    fn begin(&self, what: &str, total: Option<u64>) {
        let _ = (what, total);
    }
    /// `bytes` more of it are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }
    /// A line of a log about it, for those who want to see everything.
    fn detail(&self, line: &str) {
        let _ = line;
    }
    /// It is done, or given up.
    fn end(&self) {}
    /// Something that a person should know, and that stops nothing.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

/// Tells nobody.
#[derive(Copy, Clone, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
