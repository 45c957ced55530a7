//! The guest's serial console on the host: where its output goes, where its input comes from, and the keys that are for `vmm` itself.
//!
//! Output: vCPU threads put bytes into an [`output::OutputQueue`]; one writer thread empties it, so that a vCPU does not wait for a terminal.
//! Input: one reader thread feeds bytes through [`escape`] into an [`input::InputQueue`]; one feeder thread hands them to the UART as fast as its FIFO takes them.

pub mod backend;
pub mod escape;
pub mod fatal;
pub mod input;
pub mod mark;
pub mod monitor;
pub mod output;
pub mod terminal;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use input::InputQueue;
use mark::Mark;
use output::OutputQueue;

/// The two ends of the serial line.
#[derive(Clone, Default)]
pub struct SerialLine {
    /// From the guest.
    pub output: Arc<OutputQueue>,
    /// To the guest.
    pub input: Arc<InputQueue>,
    /// Words that the guest is waited for to print.
    pub mark: Arc<Mark>,
}

/// `--console`: where the guest's PL011 is connected to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsoleKind {
    /// Standard input and output; a terminal is made raw.
    Stdio,
    /// Output only, into a file that is created or truncated.
    File(PathBuf),
    /// A listening Unix stream socket; one client at a time, output so far is replayed to it.
    Socket(PathBuf),
    /// A pseudo-terminal, whose name is printed on stderr.
    Pty,
    /// Output is dropped, there is no input.
    None,
}

/// `--console` was none of the known words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{found:?} is not a console; expected stdio, file:PATH, socket:PATH, pty or none")]
pub struct ConsoleKindError {
    found: String,
}

impl FromStr for ConsoleKind {
    type Err = ConsoleKindError;

    fn from_str(text: &str) -> Result<ConsoleKind, ConsoleKindError> {
        let unknown = || ConsoleKindError { found: text.to_owned() };
        match text.split_once(':') {
            None => match text {
                "stdio" => Ok(ConsoleKind::Stdio),
                "pty" => Ok(ConsoleKind::Pty),
                "none" => Ok(ConsoleKind::None),
                _ => Err(unknown()),
            },
            Some(("file", path)) if !path.is_empty() => Ok(ConsoleKind::File(path.into())),
            Some(("socket", path)) if !path.is_empty() => Ok(ConsoleKind::Socket(path.into())),
            Some(_) => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_option() {
        assert_eq!("stdio".parse(), Ok(ConsoleKind::Stdio));
        assert_eq!("file:/tmp/a:b".parse(), Ok(ConsoleKind::File("/tmp/a:b".into())));
        assert_eq!("socket:s".parse(), Ok(ConsoleKind::Socket("s".into())));
        for bad in ["", "file", "file:", "socket:", "tty", "stdio:1"] {
            let error = bad.parse::<ConsoleKind>().unwrap_err().to_string();
            assert!(error.contains("socket:PATH"), "{error}");
        }
    }
}
