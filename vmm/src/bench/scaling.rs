//! How programs gain from more processors: copies of them at a time, on as many vCPUs, beside the same on the host itself.

use serde_json::{Value, json};

use super::table::{NATIVE, Table};

/// The gain of each subject from one processor to another number of them.
#[derive(Debug)]
pub struct Scaling<'a> {
    one: &'a Table,
    many: &'a Table,
}

/// A scaling for each number of processors beside one; none without a table of one.
pub fn of(tables: &[Table]) -> Vec<Scaling<'_>> {
    let Some(one) = tables.iter().find(|table| table.cpus == 1) else { return Vec::new() };
    tables.iter().filter(|table| table.cpus > 1).map(|many| Scaling { one, many }).collect()
}

impl Scaling<'_> {
    /// Work in the time in which one processor does one: as many as there are processors, at best.
    pub fn gain(&self, program: &str, subject: &str) -> Option<f64> {
        let (one, many) = (self.one.seconds(program, subject)?, self.many.seconds(program, subject)?);
        Some(f64::from(self.many.cpus) * one / many)
    }

    /// The gain beside the host's own: 1 where a program gains as much in the machine as it does natively.
    pub fn beside_native(&self, program: &str, subject: &str) -> Option<f64> {
        Some(self.gain(program, subject)? / self.gain(program, NATIVE)?)
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let guests = || self.many.subjects.iter().filter(|subject| *subject != NATIVE);
        let mut out = format!("Gain from 1 to {} processors, then times the host's own\n{:12}", self.many.cpus, "");
        self.many.subjects.iter().for_each(|subject| out += &format!("{subject:>13}"));
        out += " |";
        guests().for_each(|subject| out += &format!("{subject:>13}"));
        out += "\n";
        let cell = |value: Option<f64>| value.map_or_else(|| format!("{:>13}", "-"), |value| format!("{value:>13.3}"));
        for program in &self.many.programs {
            out += &format!("{program:12}");
            self.many.subjects.iter().for_each(|subject| out += &cell(self.gain(program, subject)));
            out += " |";
            guests().for_each(|subject| out += &cell(self.beside_native(program, subject)));
            out += "\n";
        }
        out += &format!("{:12}", "geom. mean");
        self.many.subjects.iter().for_each(|s| out += &cell(self.many.mean(|program| self.gain(program, s))));
        out += " |";
        guests().for_each(|s| out += &cell(self.many.mean(|program| self.beside_native(program, s))));
        out + "\n"
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let programs = self.many.programs.iter().map(|program| {
            let subjects = self.many.subjects.iter().filter_map(|subject| {
                let value = json!({ "gain": self.gain(program, subject)?, "beside_native": self.beside_native(program, subject) });
                Some((subject.clone(), value))
            });
            json!({ "program": program, "subjects": subjects.collect::<serde_json::Map<_, _>>() })
        });
        let means =
            self.many.subjects.iter().map(|subject| {
                (subject.clone(), json!(self.many.mean(|program| self.beside_native(program, subject))))
            });
        json!({ "cpus": self.many.cpus, "programs": programs.collect::<Vec<_>>(), "mean_beside_native": means.collect::<serde_json::Map<_, _>>() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::table::VMM;
    use super::*;

    fn table(cpus: u16, native: u64, vmm: u64) -> Table {
        let mut table = Table::new(cpus, vec![NATIVE.into(), VMM.into()], vec!["gcc".into()]);
        table.enter_time(NATIVE, "gcc", Duration::from_millis(native));
        table.enter_time(VMM, "gcc", Duration::from_millis(vmm));
        table
    }

    #[test]
    fn gains_are_beside_those_of_the_host() {
        // Natively two copies take 1.25 times as long as one, in the machine 1.6 times.
        let tables = [table(1, 1000, 4000), table(2, 1250, 6400)];
        let all = of(&tables);
        let [scaling] = all.as_slice() else { panic!("{all:?}") };
        let near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-9);
        assert!(near(scaling.gain("gcc", NATIVE), 1.6) && near(scaling.gain("gcc", VMM), 1.25));
        assert!(near(scaling.beside_native("gcc", VMM), 1.25 / 1.6));
        assert!(
            scaling.text().lines().any(|line| line.starts_with("gcc") && line.ends_with("0.781")),
            "{}",
            scaling.text()
        );
        assert!(near(scaling.json()["mean_beside_native"][VMM].as_f64(), 1.25 / 1.6));
        assert!(of(&tables[1..]).is_empty());
    }
}
