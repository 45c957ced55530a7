//! What was measured, by program and subject, and what follows from it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::share::Shares;
use super::subject::Run;
use crate::counted::Executed;

/// Programs whose output is made for the architecture that they run on: no comparison with the host's.
const NATIVE_OUTPUT_DIFFERS: [&str; 1] = ["gcc"];
/// The name of the host itself.
pub const NATIVE: &str = "native";
/// The name of this program.
pub const VMM: &str = "vmm";

/// All times with one number of vCPUs.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// vCPUs, and copies of each program at a time.
    pub cpus: u16,
    /// Whether times are processor time of the host.
    pub processor_time: bool,
    /// Subjects, in the order of the columns.
    pub subjects: Vec<String>,
    /// Programs, in the order of the rows.
    pub programs: Vec<String>,
    times: BTreeMap<(String, String), Vec<Duration>>,
    /// The output that counts as right, and whose it was.
    outputs: BTreeMap<String, (String, String)>,
    /// What was wrong.
    pub wrong: Vec<String>,
    /// The last counters of `vmm`.
    pub stats: Option<Value>,
    /// Instructions by program, if they were counted.
    pub shares: Shares,
}

impl Table {
    /// An empty table.
    pub fn new(cpus: u16, subjects: Vec<String>, programs: Vec<String>) -> Table {
        Table { cpus, subjects, programs, ..Table::default() }
    }

    /// Enters a run of all programs; other output than before is noted as wrong.
    pub fn enter(&mut self, subject: &str, run: &Run) {
        for measured in &run.measured {
            let time = if self.processor_time { measured.spent } else { measured.time };
            self.enter_time(subject, &measured.program, time);
            if subject == NATIVE && NATIVE_OUTPUT_DIFFERS.contains(&measured.program.as_str()) {
                continue;
            }
            let first = self.outputs.entry(measured.program.clone());
            let (output, whose) = first.or_insert_with(|| (measured.output.clone(), subject.to_owned()));
            if *output != measured.output {
                self.wrong.push(format!("{}: {subject} prints other things than {whose}", measured.program));
            }
        }
        if run.stats.is_some() {
            self.stats.clone_from(&run.stats);
        }
    }

    /// Enters the time of one program.
    pub fn enter_time(&mut self, subject: &str, program: &str, time: Duration) {
        self.times.entry((program.to_owned(), subject.to_owned())).or_default().push(time);
    }

    /// The median of what the program took, in seconds.
    pub fn seconds(&self, program: &str, subject: &str) -> Option<f64> {
        let mut times = self.times.get(&(program.to_owned(), subject.to_owned()))?.clone();
        times.sort();
        let (low, high) = (times.get((times.len() - 1) / 2)?, times.get(times.len() / 2)?);
        Some((low.as_secs_f64() + high.as_secs_f64()) / 2.0)
    }

    /// Whether `subject` is another virtual machine.
    fn is_other(subject: &str) -> bool {
        subject != NATIVE && subject != VMM
    }

    /// Seconds of the fastest QEMU.
    pub fn fastest_other(&self, program: &str) -> Option<f64> {
        let others = self.subjects.iter().filter(|subject| Self::is_other(subject));
        others.filter_map(|subject| self.seconds(program, subject)).min_by(f64::total_cmp)
    }

    /// How many times faster than the fastest QEMU `vmm` is.
    pub fn gain(&self, program: &str) -> Option<f64> {
        Some(self.fastest_other(program)? / self.seconds(program, VMM)?)
    }

    /// How many times slower than the host itself `subject` is.
    pub fn slowdown(&self, program: &str, subject: &str) -> Option<f64> {
        Some(self.seconds(program, subject)? / self.seconds(program, NATIVE)?)
    }

    /// The geometric mean of `value` over the programs that have it.
    pub fn mean(&self, value: impl Fn(&str) -> Option<f64>) -> Option<f64> {
        let logarithms: Vec<f64> = self.programs.iter().filter_map(|name| value(name)).map(f64::ln).collect();
        (!logarithms.is_empty()).then(|| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let guests: Vec<&String> = self.subjects.iter().filter(|subject| *subject != NATIVE).collect();
        let mut out = format!(
            "{} vCPU{}: seconds",
            self.cpus,
            if self.cpus == 1 { "" } else { "s, as many copies of each program" }
        );
        out += if self.processor_time { " of processor time" } else { "" };
        out += "; then times slower than native; then vmm against the fastest QEMU";
        out += if self.shares.is_empty() { "\n" } else { "; then the interpreter's share of its instructions\n" };
        let mut row = |name: &str,
                       seconds: &dyn Fn(&str) -> Option<f64>,
                       slower: &dyn Fn(&str) -> Option<f64>,
                       gain: Option<f64>| {
            let cell = |value: Option<f64>, digits: usize, unit: &str| {
                value.map_or_else(
                    || format!("{:>13}", "-"),
                    |value| format!("{value:>width$.digits$}{unit}", width = 13 - unit.len()),
                )
            };
            out += &format!("{name:12}");
            for subject in &self.subjects {
                out += &cell(seconds(subject), 3, "");
            }
            out += " |";
            for subject in &guests {
                out += &cell(slower(subject), 1, "x");
            }
            out += " |";
            out += &cell(gain, 2, "x");
            if let Some(executed) = self.shares.get(name) {
                out += &cell(Some(executed.percent()), 4, " %");
            }
            out += "\n";
        };
        for program in &self.programs {
            row(
                program,
                &|subject| self.seconds(program, subject),
                &|subject| self.slowdown(program, subject),
                self.gain(program),
            );
        }
        let mean_slower = |subject: &str| self.mean(|program| self.slowdown(program, subject));
        row("geom. mean", &|_| None, &mean_slower, self.mean(|program| self.gain(program)));
        let head: String = self.subjects.iter().map(|subject| format!("{subject:>13}")).collect();
        let slower: String = guests.iter().map(|subject| format!("{subject:>13}")).collect();
        let (title, rows) = out.split_once('\n').unwrap_or((&out, ""));
        let executed = self.stats.as_ref().and_then(Executed::of).map_or_else(String::new, |executed| {
            format!("interpreted: {:.4} % of {} guest instructions in the last run\n", executed.percent(), executed.all)
        });
        let share = if self.shares.is_empty() { String::new() } else { format!("{:>13}", "interpreted") };
        format!("{title}\n{:12}{head} |{slower} |{:>13}{share}\n{rows}{executed}", "", "gain")
    }

    /// All that was measured.
    pub fn json(&self) -> Value {
        let programs: Vec<Value> = self
            .programs
            .iter()
            .map(|program| {
                let subjects = self.subjects.iter().filter_map(|subject| {
                    let times = self.times.get(&(program.clone(), subject.clone()))?;
                    let all: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
                    let value = json!({ "median_seconds": self.seconds(program, subject), "seconds": all, "times_native": self.slowdown(program, subject) });
                    Some((subject.clone(), value))
                });
                let share = self.shares.get(program);
                let share = share.map(|own| json!({ "instructions": own.all, "interpreted": own.interpreted, "interpreted_percent": own.percent() }));
                json!({ "program": program, "subjects": subjects.collect::<serde_json::Map<_, _>>(), "gain": self.gain(program), "executed": share })
            })
            .collect();
        json!({
            "cpus": self.cpus,
            "processor_time": self.processor_time,
            "programs": programs,
            "mean_gain": self.mean(|program| self.gain(program)),
            "least_gain": self.programs.iter().filter_map(|program| self.gain(program)).min_by(f64::total_cmp),
            "mean_times_native": self.subjects.iter().map(|subject| (subject.clone(), json!(self.mean(|program| self.slowdown(program, subject))))).collect::<serde_json::Map<_, _>>(),
            "wrong": self.wrong,
            "interpreted_percent": self.stats.as_ref().and_then(Executed::of).map(Executed::percent),
            "vmm_stats": self.stats,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::subject::Measured;
    use super::*;

    fn run(program: &str, milliseconds: u64, output: &str) -> Run {
        let time = Duration::from_millis(milliseconds);
        Run {
            measured: vec![Measured {
                program: program.into(),
                time,
                spent: time * 2,
                runs: 1.0,
                output: output.into(),
            }],
            ..Run::default()
        }
    }

    fn table() -> Table {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut table = Table::new(1, names(&[NATIVE, VMM, "qemu 1", "qemu 2"]), names(&["gcc", "gzip"]));
        for (subject, gcc, gzip) in [(NATIVE, 100, 10), (VMM, 200, 20), ("qemu 1", 900, 90), ("qemu 2", 800, 160)] {
            table.enter(subject, &run("gcc", gcc, if subject == NATIVE { "x86" } else { "arm" }));
            table.enter(subject, &run("gzip", gzip, "same"));
        }
        table
    }

    #[test]
    fn ratios_and_means() {
        let table = table();
        assert_eq!((table.gain("gcc"), table.slowdown("gcc", "qemu 1")), (Some(4.0), Some(9.0)));
        let mean = table.mean(|program| table.gain(program)).unwrap();
        assert!((mean - 18f64.sqrt()).abs() < 1e-9, "{mean}");
        assert_eq!(table.wrong, Vec::<String>::new());
        let json = table.json();
        assert_eq!(
            (&json["programs"][0]["gain"], &json["programs"][1]["subjects"]["vmm"]["median_seconds"]),
            (&json!(4.0), &json!(0.02))
        );
        let text = table.text();
        assert!(text.lines().any(|line| line.starts_with("gzip") && line.ends_with("4.50x")), "{text}");
    }

    #[test]
    fn the_interpreters_share_is_a_column_of_its_own() {
        let mut table = table();
        let head = |table: &Table| table.text().lines().nth(1).map(|line| line.ends_with("interpreted"));
        assert_eq!(head(&table), Some(false));
        table.shares.insert("gzip".into(), Executed { all: 200_000, interpreted: 10 });
        assert_eq!(head(&table), Some(true));
        let text = table.text();
        assert!(text.lines().any(|line| line.starts_with("gzip") && line.ends_with(" 0.0050 %")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("gcc") && line.ends_with("4.00x")), "{text}");
        assert_eq!(table.json()["programs"][1]["executed"]["interpreted"], 10);
        assert_eq!(table.json()["programs"][0]["executed"], Value::Null);
    }

    #[test]
    fn processor_time_counts_if_wanted() {
        let mut table = Table { processor_time: true, ..table() };
        table.enter("new", &run("gcc", 100, "arm"));
        assert_eq!(table.seconds("gcc", "new"), Some(0.2));
    }

    #[test]
    fn another_output_is_wrong() {
        let mut table = table();
        table.enter(VMM, &run("gzip", 20, "other"));
        assert_eq!(table.wrong, ["gzip: vmm prints other things than native"]);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let mut table = table();
        for time in [40, 30, 1] {
            table.enter_time(VMM, "gzip", Duration::from_millis(time));
        }
        assert_eq!(table.seconds("gzip", VMM), Some(0.025));
        assert_eq!((table.seconds("nothing", VMM), table.gain("nothing")), (None, None));
    }
}
