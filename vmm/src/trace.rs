//! `--trace`: which events are logged, and where to.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use cpu::TraceEvent;

use crate::console::terminal;
use crate::exit::Failure;

/// A kind of event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Category {
    /// Exceptions taken and returned from.
    Exception,
    /// System register accesses.
    Sysreg,
    /// Accesses to devices.
    Mmio,
    /// Interrupts acknowledged, ended, sent.
    Irq,
    /// PSCI and SMCCC calls.
    Psci,
}

const ALL: [(Category, &str); 5] = [
    (Category::Exception, "exception"),
    (Category::Sysreg, "sysreg"),
    (Category::Mmio, "mmio"),
    (Category::Irq, "irq"),
    (Category::Psci, "psci"),
];

/// The value of `--trace`: `LIST[:FILE]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraceSpec {
    categories: u8,
    file: Option<PathBuf>,
}

impl TraceSpec {
    /// True if events of this category are wanted.
    pub fn wants(&self, category: Category) -> bool {
        self.categories & (1 << category as u8) != 0
    }
}

impl FromStr for TraceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<TraceSpec, String> {
        let (list, file) = match text.split_once(':') {
            Some((_, "")) => return Err("no file name after the colon".into()),
            Some((list, file)) => (list, Some(PathBuf::from(file))),
            None => (text, None),
        };
        let mut spec = TraceSpec { categories: 0, file };
        for word in list.split(',') {
            match ALL.iter().find(|(_, name)| *name == word) {
                Some((category, _)) => spec.categories |= 1 << *category as u8,
                None if word == "all" => spec.categories = u8::MAX,
                None => {
                    let known: Vec<&str> = ALL.iter().map(|(_, name)| *name).collect();
                    return Err(format!("{word:?} is not an event; known are {} and all", known.join(", ")));
                }
            }
        }
        Ok(spec)
    }
}

/// Where events go. Shared by all threads.
pub struct Tracer {
    spec: TraceSpec,
    start: Instant,
    file: Option<Mutex<BufWriter<File>>>,
}

impl Tracer {
    /// Opens the file that the option names.
    pub fn open(spec: &TraceSpec) -> Result<Tracer, Failure> {
        let file = match &spec.file {
            None => None,
            Some(path) => {
                let file = File::create(path)
                    .map_err(|e| Failure::backend(format!("--trace: {} cannot be created: {e}", path.display())))?;
                Some(Mutex::new(BufWriter::new(file)))
            }
        };
        Ok(Tracer { spec: spec.clone(), start: Instant::now(), file })
    }

    /// True if events of this category are wanted: ask before building a message.
    pub fn wants(&self, category: Category) -> bool {
        self.spec.wants(category)
    }

    /// The events that processing elements have to report (`cpu::outside::trace`).
    pub fn flags(&self) -> u32 {
        let flag = |category, flag| if self.wants(category) { flag } else { 0 };
        flag(Category::Exception, cpu::outside::trace::EXCEPTION)
            | flag(Category::Sysreg, cpu::outside::trace::SYSREG)
            | flag(Category::Mmio, cpu::outside::trace::MMIO)
            | flag(Category::Irq, cpu::outside::trace::IRQ)
    }

    /// Logs one line for a vCPU.
    pub fn log(&self, category: Category, vcpu: usize, text: &str) {
        if !self.wants(category) {
            return;
        }
        let name = ALL.iter().find(|(c, _)| *c == category).map_or("", |(_, name)| name);
        let line = format!("{:12.6} cpu{vcpu} {name}: {text}", self.start.elapsed().as_secs_f64());
        match &self.file {
            // A full disk loses the trace, not the guest.
            Some(file) => drop(writeln!(file.lock().unwrap_or_else(PoisonError::into_inner), "{line}")),
            None => terminal::message(&line),
        }
    }

    /// Writes out what is buffered.
    pub fn flush(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.lock().unwrap_or_else(PoisonError::into_inner).flush())
    }
}

/// A processing element's event as text.
pub fn describe(event: &TraceEvent<'_>) -> (Category, String) {
    match event {
        TraceEvent::Exception(record) => (Category::Exception, format!("{record}")),
        TraceEvent::ExceptionReturn { from, to, spsr } => {
            (Category::Exception, format!("return from {from:#x} to {to:#x}, SPSR {spsr:#x}"))
        }
        TraceEvent::SysReg { pc, enc, write, value } => {
            let arrow = if *write { "<-" } else { "->" };
            (Category::Sysreg, format!("{pc:#x}: {enc:?} {arrow} {value:#x}"))
        }
        TraceEvent::Mmio { pc, pa, size, write, value } => {
            let arrow = if *write { "<-" } else { "->" };
            let value = value.map_or_else(|| "external abort".into(), |value| format!("{value:#x}"));
            (Category::Mmio, format!("{pc:#x}: {pa:#x}/{size} {arrow} {value}"))
        }
        TraceEvent::Acknowledge { intid, group } => (Category::Irq, format!("acknowledge {intid}, group {group}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_files() {
        let spec: TraceSpec = "mmio,psci:t.txt".parse().unwrap();
        assert!(spec.wants(Category::Mmio) && spec.wants(Category::Psci) && !spec.wants(Category::Irq));
        assert_eq!(spec.file, Some("t.txt".into()));
        assert!("all".parse::<TraceSpec>().unwrap().wants(Category::Sysreg));
        assert!("mmoi".parse::<TraceSpec>().unwrap_err().contains("mmio"));
        assert!("mmio:".parse::<TraceSpec>().is_err());
    }

    #[test]
    fn only_wanted_events_reach_the_file() {
        let path = std::env::temp_dir().join(format!("vmm-trace-{}", std::process::id()));
        let spec: TraceSpec = format!("irq:{}", path.display()).parse().unwrap();
        let tracer = Tracer::open(&spec).unwrap();
        tracer.log(Category::Irq, 3, "acknowledge 27");
        tracer.log(Category::Mmio, 3, "read");
        tracer.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(text.contains("cpu3 irq: acknowledge 27") && !text.contains("mmio"), "{text}");
    }
}
