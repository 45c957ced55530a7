//! Downloads as people see them: one line on stderr, redrawn on a terminal, written once otherwise.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use images::progress::Progress;

/// A terminal is redrawn at most this often.
const REDRAW: Duration = Duration::from_millis(100);

/// The line on stderr.
pub struct ProgressLine {
    terminal: bool,
    verbose: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    what: String,
    total: Option<u64>,
    done: u64,
    drawn: Option<Instant>,
}

impl State {
    fn text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        match self.total {
            Some(total) => format!("{}  {:.1} of {:.1} MiB", self.what, mib(self.done), mib(total)),
            None if self.done == 0 => self.what.clone(),
            None => format!("{}  {:.1} MiB", self.what, mib(self.done)),
        }
    }
}

impl ProgressLine {
    /// For the stderr of this process.
    pub fn new() -> ProgressLine {
        ProgressLine { terminal: io::stderr().is_terminal(), verbose: false, state: Mutex::new(State::default()) }
    }

    /// Also shows the logs of what is done.
    #[must_use]
    pub fn verbose(self, verbose: bool) -> ProgressLine {
        ProgressLine { verbose, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A closed stderr stops nothing.
    fn write(text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    fn draw(&self, state: &mut State) {
        if self.terminal {
            Self::write(&format!("\r\x1b[K{}", state.text()));
            state.drawn = Some(Instant::now());
        }
    }
}

impl Default for ProgressLine {
    fn default() -> Self {
        ProgressLine::new()
    }
}

impl Progress for ProgressLine {
    fn begin(&self, what: &str, total: Option<u64>) {
        let mut state = self.lock();
        *state = State { what: what.to_owned(), total, ..State::default() };
        if self.terminal {
            self.draw(&mut state);
        } else {
            Self::write(&format!("{}\n", state.text().replace("0.0 of ", "")));
        }
    }

    fn advance(&self, bytes: u64) {
        let mut state = self.lock();
        state.done = state.done.saturating_add(bytes);
        if state.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            self.draw(&mut state);
        }
    }

    fn detail(&self, line: &str) {
        if self.verbose {
            Self::write(&format!("  {line}\n"));
        }
    }

    fn end(&self) {
        let mut state = self.lock();
        self.draw(&mut state);
        if self.terminal {
            Self::write("\n");
        }
    }

    fn note(&self, text: &str) {
        Self::write(&format!("vmm: {text}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_mib() {
        let state = State { what: "Packages.xz".into(), total: Some(27 << 20), done: 3 << 19, drawn: None };
        assert_eq!(state.text(), "Packages.xz  1.5 of 27.0 MiB");
        assert_eq!(State { total: None, done: 0, ..state }.text(), "Packages.xz");
    }
}
