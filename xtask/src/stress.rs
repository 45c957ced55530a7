//! `cargo xtask stress`: the end-to-end tests with every machine on the translator under `--jit-stress`.

use std::process::{Command, ExitCode};
use std::time::Instant;

/// The seed of `cargo xtask test`.
const SEED: u64 = 7;

/// The suites whose tests run guests on the translator, the ones that look closest at it first. Not among them: `bad_input` starts no
/// guest, `nested` runs on KVM, `differential` drives the engines without `vmm`; `images`, `own_archive` and `system` build
/// images by `vmm image`, which has no such option, for minutes.
const SUITES: [&str; 10] =
    ["guests", "living_code", "linux", "saved", "runtimes", "initrd", "disks", "network", "vsock", "fs"];
/// Minutes more, for `--all` and by name: the translator is compared with the interpreter under stress too; memory that comes and goes.
const LONG: [&str; 3] = ["lockstep", "balloon", "soak"];

/// Tests with these words in their names are left out: there is no translator in them.
const WITHOUT_TRANSLATOR: [&str; 1] = ["on_the_interpreter"];
/// These too unless all are asked for: the same once more over the other transport.
const ONCE_MORE: [&str; 1] = ["mmio"];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    seed: u64,
    runs: u64,
    all: bool,
    suites: Vec<String>,
}

impl Plan {
    fn of(arguments: &[String]) -> Result<Plan, String> {
        let mut plan = Plan { seed: SEED, runs: 1, all: false, suites: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let text = arguments.next().ok_or(format!("{argument} needs a number"))?;
                text.parse::<u64>().map_err(|_| format!("{argument} {text}: expected a number"))
            };
            match argument.as_str() {
                "--seed" => plan.seed = number()?,
                "--runs" => plan.runs = number()?.max(1),
                "--all" => plan.all = true,
                suite if SUITES.contains(&suite) || LONG.contains(&suite) => plan.suites.push(suite.to_owned()),
                other => {
                    let suites = [&SUITES[..], &LONG].concat().join(" ");
                    return Err(format!("`{other}`: expected --seed N, --runs N, --all or suites: {suites}"));
                }
            }
        }
        if plan.suites.is_empty() {
            plan.suites.extend(SUITES.map(str::to_owned));
            plan.suites.extend(LONG.iter().filter(|_| plan.all).map(|&suite| suite.to_owned()));
        }
        Ok(plan)
    }

    /// The arguments of cargo. A run goes to its end: one failure may be explained by another.
    fn cargo(&self) -> Vec<&str> {
        let mut words = vec!["test", "--release", "--package", "tests", "--no-fail-fast"];
        words.extend(self.suites.iter().flat_map(|suite| ["--test", suite]));
        words.push("--");
        let skipped = WITHOUT_TRANSLATOR.iter().chain(ONCE_MORE.iter().filter(|_| !self.all));
        words.extend(skipped.flat_map(|&word| ["--skip", word]));
        words
    }
}

/// Runs the suites under stress, with one seed after the other.
pub fn run(arguments: &[String]) -> ExitCode {
    let plan = match Plan::of(arguments) {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("xtask stress: {message}");
            return ExitCode::FAILURE;
        }
    };
    for seed in (0..plan.runs).map(|n| plan.seed.wrapping_add(n)) {
        println!("==> under stress, seed {seed}; again with: cargo xtask stress --seed {seed}");
        let started = Instant::now();
        let status = Command::new(env!("CARGO")).args(plan.cargo()).env("VMM_STRESS", seed.to_string()).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("==> under stress, seed {seed}: failed");
            return ExitCode::FAILURE;
        }
        println!("==> under stress, seed {seed}: ok, {:.0} s", started.elapsed().as_secs_f32());
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, String> {
        Plan::of(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn command_lines() {
        let all = plan("").expect("a plan");
        assert!(all.seed == SEED && all.runs == 1 && all.suites.len() == SUITES.len());
        assert!(all.cargo().ends_with(&["--", "--skip", "on_the_interpreter", "--skip", "mmio"]));
        let some = plan("--seed 9 --runs 3 --all fs").expect("a plan");
        assert_eq!(some, Plan { seed: 9, runs: 3, all: true, suites: vec!["fs".to_owned()] });
        assert!(some.cargo().ends_with(&["--test", "fs", "--", "--skip", "on_the_interpreter"]));
        assert_eq!(plan("--all").expect("a plan").suites.len(), SUITES.len() + LONG.len());
        assert!(plan("--seed").is_err() && plan("--seed x").is_err() && plan("images").is_err());
    }

    /// A suite that is new is named here, or above as one that is not meant.
    #[test]
    fn every_suite_is_known() {
        let known = ["bad_input", "nested", "differential", "images", "own_archive", "system"];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tests");
        for entry in std::fs::read_dir(folder).expect("the suites") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
            assert!(
                SUITES.contains(&&*name) || LONG.contains(&&*name) || known.contains(&&*name),
                "is {name} to run under stress?"
            );
        }
    }
}
