//! Generators and checks that developers and CI run: `cargo xtask help`.

mod cross;
mod decode_check;
mod generate;
mod nested;
mod stress;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  gen         writes the decoder's tables from arch/isa/a64.isa; --check says whether they are current
  decode-check
              counts the words of each encoding over all 2^32, and fails when two lines of the table take one word;
              --sample N takes N of them
  test        everything that a change must pass: format, generated files, clippy, unit, differential, bare-metal and
              end-to-end tests; installs the Debian packages that they need
  cross aarch64
              builds the program for arm64 hosts, static, with Debian's compiler packages (unpacked into a private folder);
              --dev: quickly, for tests; --check: clippy for that target; --test: its unit tests under qemu-user
  nested      runs that program on KVM in QEMU's emulation of an arm64 host with EL2; --small: what `test` runs;
              --full: more hosts, and a machine that moves from the translator and back
  stress      the end-to-end tests with the translator under --jit-stress; --seed N, --runs N (seeds one after the other), --all
              (also what takes minutes, and the second transport of the devices), or the names of suites
  release     a binary for each architecture, in target/dist
  help        this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("gen") => generate::run(&arguments[1..]),
        Some("decode-check") => decode_check::run(&arguments[1..]),
        Some("cross") => cross::run(&arguments[1..]),
        Some("nested") => nested::run(&arguments[1..]),
        Some("stress") => stress::run(&arguments[1..]),
        Some("release") => cross::release(),
        Some("test") => test::run(),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!("xtask: there is no command `{other}`\n\n{HELP}");
            ExitCode::FAILURE
        }
    }
}
