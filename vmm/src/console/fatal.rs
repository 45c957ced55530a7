//! The terminal is restored even when the program dies of a fatal signal (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT).
#![expect(unsafe_code, reason = "sigaction has no safe form for synchronous signals")]

use std::sync::OnceLock;

use super::terminal;

/// Signals after which the process ends, in the order of [`PREVIOUS`].
const FATAL: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What was installed before (Rust's stack overflow report, for one); it gets the signal after the terminal is restored.
static PREVIOUS: [OnceLock<Action>; 5] = [const { OnceLock::new() }; 5];

struct Action(libc::sigaction);

/// Installs the handlers. A handler that is installed later (an engine's fault handler) comes first, and decides what it passes on.
pub fn install() {
    for (slot, &signal) in PREVIOUS.iter().zip(&FATAL) {
        // SAFETY: all-zero bytes are a valid `sigaction` (no flags, empty mask, SIG_DFL).
        let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
        new.sa_sigaction = on_fatal as *const () as libc::sighandler_t;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: a null new action only reads the old one into `old`, which is a valid place.
        if unsafe { libc::sigaction(signal, std::ptr::null(), &mut old) } != 0 {
            continue;
        }
        if slot.set(Action(old)).is_err() {
            continue; // installed already
        }
        // SAFETY: `new` is a complete action whose handler has the SA_SIGINFO signature and calls only async-signal-safe functions.
        unsafe { libc::sigaction(signal, &new, std::ptr::null_mut()) };
    }
}

extern "C" fn on_fatal(signal: libc::c_int, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    terminal::restore();
    let index = FATAL.iter().position(|&fatal| fatal == signal);
    let previous = index.and_then(|i| PREVIOUS.get(i)).and_then(OnceLock::get);
    // SAFETY: `previous` is an action that sigaction itself gave; zeroed is SIG_DFL. Returning re-executes the faulting instruction, so the signal comes again, to the
    // previous handler; SIGABRT is raised again by abort() itself.
    unsafe {
        let default = Action(std::mem::zeroed());
        libc::sigaction(signal, &previous.unwrap_or(&default).0, std::ptr::null_mut());
        if signal == libc::SIGABRT {
            libc::raise(signal);
        }
    }
}
