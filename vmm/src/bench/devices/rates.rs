//! How fast devices were, by measure and subject, and what follows from it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::super::subject::Run;
use super::super::table::VMM;

/// The host's own disk, as a subject.
pub const HOST: &str = "host";
/// What a virtual disk is to have of the host's own rate, where the disk is the limit.
const BAR_OF_HOST: f64 = 0.95;

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// Its name, as the guest has it.
    pub name: &'static str,
    /// What is counted in a second.
    pub unit: &'static str,
    /// How many times QEMU's rate `vmm` is to have.
    pub bar: f64,
}

/// All rates with one number of vCPUs.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// vCPUs.
    pub cpus: u16,
    /// Subjects, in the order of the columns.
    pub subjects: Vec<String>,
    /// What is measured, in the order of the rows.
    pub measures: Vec<Measure>,
    /// Rate, and processor time for each unit in seconds.
    runs: BTreeMap<(String, String), Vec<(f64, f64)>>,
    /// The last counters of `vmm`.
    pub stats: Option<Value>,
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

impl Rates {
    /// An empty table.
    pub fn new(cpus: u16, subjects: Vec<String>, measures: Vec<Measure>) -> Rates {
        Rates { cpus, subjects, measures, ..Rates::default() }
    }

    /// Enters what a guest measured.
    pub fn enter(&mut self, subject: &str, run: &Run) {
        for rated in &run.rated {
            let key = (rated.name.clone(), subject.to_owned());
            self.runs.entry(key).or_default().push((rated.rate, rated.cost));
        }
        if run.stats.is_some() {
            self.stats.clone_from(&run.stats);
        }
    }

    fn all(&self, measure: &str, subject: &str) -> Option<&Vec<(f64, f64)>> {
        self.runs.get(&(measure.to_owned(), subject.to_owned()))
    }

    /// The median rate.
    pub fn rate(&self, measure: &str, subject: &str) -> Option<f64> {
        median(self.all(measure, subject)?.iter().map(|(rate, _)| *rate))
    }

    /// The median of the processor time for each unit, in seconds.
    pub fn cost(&self, measure: &str, subject: &str) -> Option<f64> {
        median(self.all(measure, subject)?.iter().map(|(_, cost)| *cost))
    }

    fn others(&self) -> impl Iterator<Item = &String> {
        self.subjects.iter().filter(|subject| *subject != VMM && *subject != HOST)
    }

    /// How many times the fastest QEMU's rate `vmm` has.
    pub fn gain(&self, measure: &str) -> Option<f64> {
        let fastest = self.others().filter_map(|subject| self.rate(measure, subject)).max_by(f64::total_cmp)?;
        Some(self.rate(measure, VMM)? / fastest)
    }

    /// Which part of the host's own rate `vmm` has.
    pub fn of_host(&self, measure: &str) -> Option<f64> {
        Some(self.rate(measure, VMM)? / self.rate(measure, HOST)?)
    }

    /// How many times more processor time the most frugal QEMU takes for the same.
    pub fn saving(&self, measure: &str) -> Option<f64> {
        let least = self.others().filter_map(|subject| self.cost(measure, subject)).min_by(f64::total_cmp)?;
        self.cost(measure, VMM).filter(|cost| *cost > 0.0).map(|cost| least / cost)
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} vCPU{}: rates; then microseconds of the host's processors for each unit; then vmm against the best QEMU\n",
            self.cpus,
            if self.cpus == 1 { "" } else { "s" }
        );
        let head: String = self.subjects.iter().map(|subject| format!("{subject:>13}")).collect();
        // A string takes whatever is written into it.
        let _ = writeln!(out, "{:21}{head} |{head} |{:>9}{:>7}{:>11}", "", "rate", "bar", "processor");
        let cell = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| format!("{:>13}", "-"), |value| format!("{value:>13.digits$}"))
        };
        let times = |value: Option<f64>, width: usize| {
            value.map_or_else(
                || format!("{:>width$}", "-"),
                |value| format!("{value:>inner$.2}x", inner = width.saturating_sub(1)),
            )
        };
        for Measure { name, unit, bar } in &self.measures {
            let rates: String = self.subjects.iter().map(|subject| cell(self.rate(name, subject), 0)).collect();
            let cost = |subject| self.cost(name, subject).filter(|cost| *cost > 0.0);
            let costs = self.subjects.iter().map(|subject| cell(cost(subject).map(|cost| cost * 1e6), 2));
            let costs: String = costs.collect();
            let (gain, saving) = (times(self.gain(name), 9), times(self.saving(name), 11));
            let _ = writeln!(out, "{name:14}{unit:>7}{rates} |{costs} |{gain}{bar:>6.1}x{saving}");
        }
        for Measure { name, .. } in &self.measures {
            if let Some(part) = self.of_host(name) {
                let _ = writeln!(
                    out,
                    "{name}: vmm has {part:.2} of the host's own rate (bar {BAR_OF_HOST}, where the disk is the limit)"
                );
            }
        }
        out
    }

    /// All that was measured.
    pub fn json(&self) -> Value {
        let row = |measure: &Measure| {
            let subjects = self.subjects.iter().filter_map(|subject| {
                let all = self.all(measure.name, subject)?;
                let value = json!({
                    "median_rate": self.rate(measure.name, subject),
                    "median_processor_seconds_per_unit": self.cost(measure.name, subject),
                    "rates": all.iter().map(|(rate, _)| rate).collect::<Vec<_>>(),
                });
                Some((subject.clone(), value))
            });
            json!({
                "measure": measure.name, "unit": measure.unit, "bar": measure.bar,
                "subjects": subjects.collect::<serde_json::Map<_, _>>(),
                "gain": self.gain(measure.name), "of_host": self.of_host(measure.name), "processor_gain": self.saving(measure.name),
            })
        };
        json!({ "cpus": self.cpus, "measures": self.measures.iter().map(row).collect::<Vec<_>>(), "vmm_stats": self.stats })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::subject::Rated;
    use super::*;

    const DD: Measure = Measure { name: "dd", unit: "MiB/s", bar: 2.0 };

    fn table() -> Rates {
        let names = [VMM, "qemu 1", "qemu 2"].map(str::to_owned).to_vec();
        let mut rates = Rates::new(1, names, vec![DD]);
        for (subject, rate, cost) in [
            (VMM, 600.0, 0.001),
            (VMM, 300.0, 0.003),
            (VMM, 500.0, 0.002),
            ("qemu 1", 100.0, 0.008),
            ("qemu 2", 200.0, 0.010),
        ] {
            let rated = vec![Rated { name: "dd".into(), rate, cost }];
            rates.enter(subject, &Run { rated, ..Run::default() });
        }
        rates
    }

    #[test]
    fn medians_are_compared_with_the_best() {
        let rates = table();
        assert_eq!((rates.rate("dd", VMM), rates.cost("dd", VMM)), (Some(500.0), Some(0.002)));
        assert_eq!((rates.gain("dd"), rates.saving("dd")), (Some(2.5), Some(4.0)));
        assert_eq!((rates.gain("fio"), rates.saving("fio")), (None, None));
        let text = rates.text();
        assert!(
            text.lines().any(|line| line.starts_with("dd") && line.contains("2.50x") && line.ends_with("4.00x")),
            "{text}"
        );
        assert_eq!(rates.json()["measures"][0]["gain"], json!(2.5));
    }

    #[test]
    fn the_host_is_no_competitor() {
        let mut rates = table();
        rates.subjects.push(HOST.to_owned());
        let rated = vec![Rated { name: "dd".into(), rate: 510.0, cost: 0.0 }];
        rates.enter(HOST, &Run { rated, ..Run::default() });
        assert_eq!((rates.gain("dd"), rates.of_host("dd")), (Some(2.5), Some(500.0 / 510.0)));
        assert!(rates.text().contains("vmm has 0.98 of the host's own rate"), "{}", rates.text());
        assert_eq!(table().of_host("dd"), None);
    }

    #[test]
    fn without_a_qemu_there_are_rates_only() {
        let mut rates = table();
        rates.subjects.truncate(1);
        assert_eq!(rates.gain("dd"), None);
        assert!(rates.text().contains("500"));
    }
}
