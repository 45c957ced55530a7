//! Linux guests: Debian's kernels with the demo's initramfs, driven through the console.

use crate::monitor::{program, run_with, stress_option};
use crate::process::{Finished, Running, start};
use crate::tools::{CROSS_GCC, crate_dir, must_succeed};
use images::cache::Cache;
use images::demo::{DemoGuest, DemoOptions, build_with};
use images::progress::Silent;
use std::process::Command;
use std::time::Duration;

/// What the initramfs prints before it waits for a command.
pub const PROMPT: &str = "# ";

/// Longest boot: the interpreter on a slow, busy host.
pub const BOOT_LIMIT: Duration = Duration::from_secs(240);

/// Kernel and initramfs of a Debian kernel package: `suite` as in `bookworm-backports`, `package` a meta package.
///
/// # Panics
/// When the archive cannot be reached and nothing was kept of an earlier run.
#[must_use]
pub fn debian(suite: &str, package: &str) -> DemoGuest {
    let mut options = DemoOptions::new(suite);
    package.clone_into(&mut options.kernel);
    let cache = Cache::of_user().unwrap_or_else(|error| panic!("no cache folder: {error}"));
    build_with(&options, &cache, &Silent).unwrap_or_else(|error| panic!("{package} of {suite}: {error}"))
}

/// A Linux guest at its console.
#[derive(Debug)]
pub struct Shell {
    vmm: Running,
    /// The console from the start of `vmm` to the first prompt.
    pub boot: String,
}

impl Shell {
    /// Boots to the first prompt.
    ///
    /// # Panics
    /// When the prompt does not come in time.
    #[must_use]
    pub fn boot(engine: &str, guest: &DemoGuest, cpus: u32, memory: &str, append: &str) -> Shell {
        Shell::boot_with(engine, guest, cpus, memory, append, &[])
    }

    /// Boots to the first prompt, with further options.
    ///
    /// # Panics
    /// When the prompt does not come in time.
    #[must_use]
    pub fn boot_with(
        engine: &str,
        guest: &DemoGuest,
        cpus: u32,
        memory: &str,
        append: &str,
        options: &[String],
    ) -> Shell {
        let mut command = run_with(engine);
        Shell::prompted(guest_options(&mut command, guest, cpus, memory, append).args(options))
    }

    /// Boots to the first prompt, `vmm` started by the command `before`, such as a namespace of its own.
    ///
    /// # Panics
    /// When the prompt does not come in time.
    #[must_use]
    pub fn boot_within(before: &[&str], guest: &DemoGuest, append: &str, options: &[&str]) -> Shell {
        let (first, rest) = before.split_first().expect("a command");
        let mut command = Command::new(first);
        command.args(rest).arg(program()).arg("run").args(stress_option("auto"));
        Shell::prompted(guest_options(&mut command, guest, 1, "256M", append).args(options))
    }

    /// Starts a guest that comes to a prompt by itself.
    ///
    /// # Panics
    /// When the prompt does not come in time.
    #[must_use]
    pub fn prompted(command: &mut Command) -> Shell {
        let mut vmm = start(command);
        let boot = vmm.expect(PROMPT, BOOT_LIMIT);
        let mut shell = Shell { vmm, boot };
        // What the kernel says from here on, such as that an interrupt took long, would be in the midst of what commands print.
        shell.command("dmesg -n 1");
        shell
    }

    /// Boots to a login and logs in.
    ///
    /// # Panics
    /// When the login or the prompt does not come in time.
    #[must_use]
    pub fn login(command: &mut Command, name: &str, password: &str, limit: Duration) -> Shell {
        let mut shell = Shell { vmm: start(command), boot: String::new() };
        shell.log_in(name, password, limit);
        shell
    }

    /// Types a line that restarts the guest, and logs in again.
    ///
    /// # Panics
    /// When the login or the prompt does not come in time.
    pub fn again(&mut self, line: &str, name: &str, password: &str, limit: Duration) {
        self.vmm.send(&format!("{line}\n"));
        self.log_in(name, password, limit);
    }

    fn log_in(&mut self, name: &str, password: &str, limit: Duration) {
        self.boot = self.vmm.expect("login: ", limit);
        self.vmm.send(&format!("{name}\n"));
        self.vmm.expect("Password: ", limit);
        self.vmm.send(&format!("{password}\n"));
        self.vmm.expect(PROMPT, limit);
        // A shell without line editing, so that what it prints is what commands print. The mark is not what is typed.
        self.vmm.send("exec env TERM=dumb PS1='#''# ' sh\n");
        self.vmm.expect("## ", limit);
        self.command("stty cols 500; PS1='# '");
    }

    /// Types a command and gives what it printed.
    ///
    /// # Panics
    /// When the next prompt does not come within a minute.
    pub fn command(&mut self, line: &str) -> String {
        self.long(line, Duration::from_secs(60))
    }

    /// The same for a command that may take as long as `limit`.
    ///
    /// # Panics
    /// When the next prompt does not come in time.
    pub fn long(&mut self, line: &str, limit: Duration) -> String {
        // The marks are made by the shell, so that the echo of the line, which wraps where it is long, does not hold them.
        self.vmm.send(&format!("echo BEGIN''MARK; {line}; echo END''MARK\n"));
        let text = self.vmm.expect("ENDMARK", limit);
        self.vmm.expect(PROMPT, limit);
        let body = text.strip_suffix("ENDMARK").unwrap_or(&text);
        body.split_once("BEGINMARK").map_or("", |(_, rest)| rest).trim().replace('\r', "")
    }

    /// Types a line that ends the guest, and waits for the end of `vmm`.
    ///
    /// # Panics
    /// When `vmm` does not end within a minute.
    #[must_use]
    pub fn end(mut self, line: &str) -> Finished {
        self.vmm.send(&format!("{line}\n"));
        self.vmm.finish(Duration::from_secs(60))
    }

    /// Types a line, then waits for `text` on the console.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn until(&mut self, line: &str, text: &str, limit: Duration) -> String {
        self.vmm.send(&format!("{line}\n"));
        self.vmm.expect(text, limit)
    }

    /// The running process.
    #[must_use]
    pub fn process(&mut self) -> &mut Running {
        &mut self.vmm
    }
}

/// The guest with a program for it, `programs/NAME.c`, in its root as `/NAME`. The folder has to outlive the guest.
///
/// # Panics
/// When the compiler is missing or refuses the program.
#[must_use]
pub fn with_program(guest: &DemoGuest, name: &str, folder: &std::path::Path) -> DemoGuest {
    let program = compiled(name, folder);
    let read = |path: &std::path::Path| {
        std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    };
    // The kernel takes archives one behind the other.
    let mut initrd = read(&guest.initrd);
    let mut archive = images::cpio::Writer::new(Vec::new(), 0);
    let added = archive.file(name, 0o755, &read(&program)).and_then(|()| archive.finish());
    initrd.extend(added.unwrap_or_else(|error| panic!("cannot write an archive: {error}")));
    let path = folder.join("initrd");
    std::fs::write(&path, initrd).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    DemoGuest { initrd: path, ..guest.clone() }
}

/// The program `programs/NAME.c`, compiled for the guest: `FOLDER/NAME`.
///
/// # Panics
/// When the compiler is missing or refuses the program.
#[must_use]
pub fn compiled(name: &str, folder: &std::path::Path) -> std::path::PathBuf {
    let program = folder.join(name);
    let source = crate_dir().join("programs").join(format!("{name}.c"));
    let mut gcc = CROSS_GCC.command();
    must_succeed(
        gcc.args(["-O2", "-static", "-pthread", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source),
    );
    program
}

fn guest_options<'a>(
    command: &'a mut Command,
    guest: &DemoGuest,
    cpus: u32,
    memory: &str,
    append: &str,
) -> &'a mut Command {
    command.arg("--kernel").arg(&guest.kernel).arg("--initrd").arg(&guest.initrd);
    command.args(["--cpus", &cpus.to_string(), "--memory", memory]);
    command.args(["--append", &format!("console=ttyAMA0 {append}"), "--stats=json"])
}
