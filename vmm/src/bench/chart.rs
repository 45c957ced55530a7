//! A chart of a table as SVG: for each program how many times slower than native each engine is.

use std::fmt::Write;

use super::devices::rates::Rates;
use super::table::{NATIVE, Table};

const LEFT: f64 = 110.0;
const WIDTH: f64 = 720.0;
const BAR: f64 = 11.0;
const COLOURS: [&str; 5] = ["#1b7f5c", "#b8502f", "#d99a3d", "#6b5b95", "#777777"];

/// The chart of all tables, one below the other. Without native times, bars are seconds.
pub fn svg(tables: &[Table]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for table in tables {
        y = panel(&mut body, table, y);
    }
    framed(&body, y)
}

fn panel(out: &mut String, table: &Table, top: f64) -> f64 {
    let subjects: Vec<&String> = table.subjects.iter().filter(|subject| *subject != NATIVE).collect();
    let native = table.subjects.iter().any(|subject| subject == NATIVE);
    let value = |program: &str, subject: &str| {
        if native { table.slowdown(program, subject) } else { table.seconds(program, subject) }
    };
    let unit = if native { "x" } else { " s" };
    let most = table.programs.iter().flat_map(|program| subjects.iter().filter_map(|subject| value(program, subject)));
    let most = most.fold(1e-9, f64::max);
    let what = if native { "times slower than native (shorter is better)" } else { "seconds (shorter is better)" };
    let mut y = top + 14.0;
    text(out, 10.0, y, &format!("{} vCPU{}: {what}", table.cpus, if table.cpus == 1 { "" } else { "s" }), "bold");
    let mut x = 10.0;
    y += 18.0;
    for (subject, colour) in subjects.iter().zip(COLOURS.iter().cycle()) {
        rectangle(out, (x, y - 9.0), (10.0, 10.0), colour);
        text(out, x + 14.0, y, subject, "normal");
        x += 120.0;
    }
    y += 10.0;
    for program in &table.programs {
        if subjects.iter().all(|subject| value(program, subject).is_none()) {
            continue;
        }
        text(out, 10.0, y + BAR, program, "normal");
        for (subject, colour) in subjects.iter().zip(COLOURS.iter().cycle()) {
            if let Some(value) = value(program, subject) {
                let width = value / most * WIDTH;
                rectangle(out, (LEFT, y), (width, BAR - 1.0), colour);
                text(out, LEFT + width + 4.0, y + BAR - 2.0, &format!("{value:.1}{unit}"), "normal");
            }
            y += BAR;
        }
        y += 5.0;
    }
    y + 10.0
}

/// The chart of how fast devices were: in each row the fastest fills the width.
pub fn of_rates(tables: &[Rates]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for table in tables {
        y += 14.0;
        let title = format!("{} vCPU{}: rates (longer is better)", table.cpus, if table.cpus == 1 { "" } else { "s" });
        text(&mut body, 10.0, y, &title, "bold");
        y += 18.0;
        for ((index, subject), colour) in table.subjects.iter().enumerate().zip(COLOURS.iter().cycle()) {
            let x = 10.0 + 120.0 * index as f64;
            rectangle(&mut body, (x, y - 9.0), (10.0, 10.0), colour);
            text(&mut body, x + 14.0, y, subject, "normal");
        }
        y += 10.0;
        for measure in &table.measures {
            let rates = table.subjects.iter().map(|subject| table.rate(measure.name, subject));
            let most = rates.clone().flatten().fold(1e-9, f64::max);
            text(&mut body, 10.0, y + BAR, measure.name, "normal");
            for (rate, colour) in rates.zip(COLOURS.iter().cycle()) {
                if let Some(rate) = rate {
                    let width = rate / most * WIDTH;
                    rectangle(&mut body, (LEFT, y), (width, BAR - 1.0), colour);
                    text(
                        &mut body,
                        LEFT + width + 4.0,
                        y + BAR - 2.0,
                        &format!("{rate:.0} {}", measure.unit),
                        "normal",
                    );
                }
                y += BAR;
            }
            y += 5.0;
        }
        y += 10.0;
    }
    framed(&body, y)
}

fn framed(body: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n",
        LEFT + WIDTH + 90.0
    )
}

// A string takes whatever is written into it.

fn text(out: &mut String, x: f64, y: f64, text: &str, weight: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" font-weight=\"{weight}\">{text}</text>");
}

fn rectangle(out: &mut String, at: (f64, f64), size: (f64, f64), colour: &str) {
    let ((x, y), (width, height)) = (at, size);
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    );
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::devices::STORAGE;
    use super::super::subject::{Rated, Run};
    use super::*;

    #[test]
    fn the_fastest_fills_the_row() {
        let mut rates = Rates::new(2, vec!["vmm".into(), "qemu".into()], STORAGE[..1].to_vec());
        for (subject, rate) in [("vmm", 800.0), ("qemu", 200.0)] {
            let rated = vec![Rated { name: STORAGE[0].name.into(), rate, cost: 1.0 }];
            rates.enter(subject, &Run { rated, ..Run::default() });
        }
        let svg = of_rates(&[rates]);
        assert!(
            svg.contains("width=\"720.0\"") && svg.contains("width=\"180.0\"") && svg.contains("800 MiB/s"),
            "{svg}"
        );
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let mut table = Table::new(1, vec![NATIVE.into(), "vmm".into(), "q<1>".into()], vec!["gzip".into()]);
        for (subject, time) in [(NATIVE, 1), ("vmm", 2), ("q<1>", 8)] {
            table.enter_time(subject, "gzip", Duration::from_secs(time));
        }
        let svg = svg(&[table]);
        assert!(svg.contains("width=\"720.0\"") && svg.contains("width=\"180.0\"") && svg.contains("q&lt;1>"), "{svg}");
    }
}
