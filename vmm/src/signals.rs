//! Host signals, on a thread of their own.

use std::io;
use std::thread;

use signal_hook::consts::signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

use crate::console::terminal;

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// End the program, with this signal's number as the reason.
    End(u8),
    /// SIGQUIT: print a hang report, go on.
    Report,
}

/// Starts the thread; `deliver` is called on it.
pub fn spawn(deliver: impl Fn(Request) + Send + 'static) -> io::Result<()> {
    // From here on these signals no longer end the process by themselves.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
    let body = move || {
        for signal in signals.forever() {
            match signal {
                SIGQUIT => deliver(Request::Report),
                SIGTSTP => {
                    terminal::restore();
                    // Stops the whole process; it returns when the process is continued. Failing to stop is no harm.
                    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
                    terminal::continued();
                }
                SIGCONT => terminal::continued(),
                other => deliver(Request::End(u8::try_from(other).unwrap_or(0))),
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(body).map(drop)
}
