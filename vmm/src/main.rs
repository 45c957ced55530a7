//! The `vmm` program.

use std::process::ExitCode;

use vmm::console::{fatal, terminal};
use vmm::exit::ExitStatus;

fn main() -> ExitCode {
    fatal::install();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if devices::contained::is_contained() {
            // It becomes an error where it happened.
            return report(info);
        }
        // A defect of ours, on whatever thread: the user gets the terminal back and a status that says so.
        terminal::restore();
        report(info);
        eprintln!("vmm: internal error (see above); please report it with the command line that led to it");
        std::process::exit(i32::from(ExitStatus::Internal.code()));
    }));
    vmm::cli::main(std::env::args_os()).into()
}
