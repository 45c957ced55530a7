//! The user's terminal: raw while the guest has it, restored on every way out.
//!
//! [`restore`] takes no lock and allocates nothing, so that the panic hook and the handlers of fatal signals may call it.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{self, OptionalActions, Termios};

/// The modes that the terminal had when the program started.
static COOKED: OnceLock<Termios> = OnceLock::new();
/// True while the terminal is raw.
static RAW: AtomicBool = AtomicBool::new(false);
/// True from [`enter_raw`] to the end: after the program was stopped and continued, the terminal becomes raw again.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Makes the terminal on standard input raw; false when standard input is none.
pub fn enter_raw() -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let cooked = match COOKED.get() {
        Some(cooked) => cooked.clone(),
        None => {
            let found = termios::tcgetattr(rustix::stdio::stdin())?;
            COOKED.get_or_init(|| found).clone()
        }
    };
    let mut raw = cooked;
    raw.make_raw();
    termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)?;
    RAW.store(true, Ordering::SeqCst);
    WANTED.store(true, Ordering::SeqCst);
    Ok(true)
}

/// Gives the terminal back as it was found. May be called any number of times, from any thread, from signal handlers.
pub fn restore() {
    if !RAW.swap(false, Ordering::SeqCst) {
        return;
    }
    if let Some(cooked) = COOKED.get() {
        // Nobody is left to tell if this fails: the terminal may be gone (SIGHUP).
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, cooked);
    }
}

/// The program goes on after it was stopped (SIGTSTP, SIGSTOP): the shell may have changed the modes meanwhile.
pub fn continued() {
    if WANTED.load(Ordering::SeqCst) {
        // A terminal that is gone is noticed by whoever reads it.
        let _ = enter_raw();
    }
}

/// True while the terminal is raw, that is, while `\n` alone does not return the carriage.
pub fn is_raw() -> bool {
    RAW.load(Ordering::SeqCst)
}

/// Prints a message of `vmm` itself on stderr, readable on a raw terminal too.
pub fn message(text: &str) {
    use io::Write;
    let mut text = text.replace('\n', if is_raw() { "\r\n" } else { "\n" });
    text.push_str(if is_raw() { "\r\n" } else { "\n" });
    // A closed stderr must not end the guest.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Restores the terminal when it goes out of scope.
#[derive(Debug)]
pub struct RawGuard(());

impl RawGuard {
    /// Makes the terminal raw; `None` when standard input is no terminal.
    pub fn enter() -> io::Result<Option<RawGuard>> {
        Ok(enter_raw()?.then_some(RawGuard(())))
    }
}

impl Drop for RawGuard {
    fn drop(&mut self) {
        WANTED.store(false, Ordering::SeqCst);
        restore();
    }
}
