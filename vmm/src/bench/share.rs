//! What share of a program's instructions the interpreter executes, in runs of their own, as counting costs some percent.
//!
//! A machine that starts and prepares but runs nothing is counted too, and taken off: what is left is the program's own (of `rsa`, with the making of its key).

use std::collections::BTreeMap;

use images::progress::Progress;

use super::subject::{Job, Subject};
use crate::counted::Executed;
use crate::exit::Failure;

/// The instructions of each program, by name.
pub type Shares = BTreeMap<String, Executed>;

/// Each program is run again until so many seconds have passed: how much a machine does besides is not always the same, and some programs are short.
const SECONDS: u32 = 3;
/// The options that make a machine count.
const COUNTING: [&str; 1] = ["--count-instructions"];

/// Counts `boot`, a whole machine from start to power-off, and the programs of `work` one by one, with `options` for `vmm run`.
///
/// # Errors
/// When a run fails, or does not use the translator.
pub fn measure(
    options: &[String],
    boot: Option<(&str, &Job<'_>)>,
    work: Option<&Job<'_>>,
    progress: &dyn Progress,
) -> Result<Shares, Failure> {
    let counting = options.iter().cloned().chain(COUNTING.map(str::to_owned)).collect();
    let subject = Subject::Vmm(counting);
    let count = |job: &Job<'_>| {
        let run = subject.run(job, &mut |_| ())?;
        run.stats.as_ref().and_then(Executed::of).ok_or_else(|| {
            Failure::usage(
                "--interpreted: this run counted no translated instructions; leave out what chooses another engine",
            )
        })
    };
    let mut shares = Shares::new();
    let mut enter = |name: &str, executed: Executed| {
        progress.note(&format!(
            "{name}: {} instructions, {:.4} % of them interpreted",
            executed.all,
            executed.percent()
        ));
        shares.insert(name.to_owned(), executed);
    };
    if let Some((name, job)) = boot {
        enter(name, count(job)?);
    }
    let Some(job) = work else { return Ok(shares) };
    let bare = count(&Job { programs: &[], ..job.clone() })?;
    for name in job.programs {
        let all = count(&Job { programs: &[name], seconds: job.seconds.max(SECONDS), ..job.clone() })?;
        match all.beyond(bare) {
            Some(own) => enter(name, own),
            None => progress.note(&format!("{name}: no more instructions than without it")),
        }
    }
    Ok(shares)
}
