//! How the program ends: one status per cause, the same on every engine.
//!
//! `docs/design/exit-codes.md` is the table that users rely on; the tests here hold it to the code.

use std::fmt;
use std::process::ExitCode;

/// Why `vmm` ends, and with which status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// The guest powered off, or the user left it.
    Success,
    /// Two things that were compared are not the same.
    Different,
    /// `--timeout` ran out (the number that coreutils' `timeout` uses).
    Timeout,
    /// A host signal ended the program: 128 + its number, as shells report it.
    Signal(u8),
    /// The guest kernel panicked.
    GuestPanic,
    /// The machine cannot be had from this host: no memory, no engine, a file that cannot be opened.
    Backend,
    /// The command line or an input that it names is wrong.
    Usage,
    /// A defect of `vmm` itself.
    Internal,
}

impl ExitStatus {
    /// The process status.
    pub fn code(self) -> u8 {
        match self {
            ExitStatus::Success => 0,
            ExitStatus::Different => 1,
            ExitStatus::Timeout => 124,
            ExitStatus::Signal(n) => 128u8.wrapping_add(n),
            ExitStatus::GuestPanic => 250,
            ExitStatus::Backend => 253,
            ExitStatus::Usage => 254,
            ExitStatus::Internal => 255,
        }
    }

    /// One word for `--json`.
    pub fn word(self) -> &'static str {
        match self {
            ExitStatus::Success => "success",
            ExitStatus::Different => "different",
            ExitStatus::Timeout => "timeout",
            ExitStatus::Signal(_) => "signal",
            ExitStatus::GuestPanic => "guest-panic",
            ExitStatus::Backend => "backend",
            ExitStatus::Usage => "usage",
            ExitStatus::Internal => "internal",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        ExitCode::from(status.code())
    }
}

/// An error on its way to the user: what was found, what was expected, and the option that fixes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The status the program ends with.
    pub status: ExitStatus,
    /// The whole message, without a trailing newline.
    pub message: String,
}

impl Failure {
    /// A wrong command line or a wrong input file.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { status: ExitStatus::Usage, message: message.into() }
    }

    /// Something that this host does not give.
    pub fn backend(message: impl Into<String>) -> Failure {
        Failure { status: ExitStatus::Backend, message: message.into() }
    }

    /// A defect of the program.
    pub fn internal(message: impl Into<String>) -> Failure {
        Failure { status: ExitStatus::Internal, message: message.into() }
    }

    /// The message as one JSON object, for `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": { "kind": self.status.word(), "status": self.status.code(), "message": self.message } })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error with all its causes in one line: libraries keep the cause out of their own text.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_the_code() {
        let page = include_str!("../../docs/design/exit-codes.md");
        for status in [
            ExitStatus::Success,
            ExitStatus::Timeout,
            ExitStatus::GuestPanic,
            ExitStatus::Backend,
            ExitStatus::Usage,
            ExitStatus::Internal,
        ] {
            let row = format!("| {} | {} |", status.code(), status.word());
            assert!(page.contains(&row), "docs/design/exit-codes.md lacks the row `{row}`");
        }
    }

    #[test]
    fn a_signal_is_reported_as_shells_do() {
        assert_eq!(ExitStatus::Signal(15).code(), 143);
    }
}
