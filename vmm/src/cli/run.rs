//! `vmm run`: from options to a running machine, and to its end.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::sync::mpsc;

use serde_json::{Value, json};

use super::{RunArgs, StatsForm, print_out};
use crate::console::SerialLine;
use crate::console::backend::Console;
use crate::console::terminal;
use crate::counted::{self, Executed};
use crate::engine;
use crate::engine::emu::has_pmu;
use crate::exit::{ExitStatus, Failure};
use crate::machine::boot::{Boot, BootSource};
use crate::machine::ram::GuestRam;
use crate::machine::vcpus::StopSink;
use crate::machine::virtio::{DiskConfig, VirtioConfig};
use crate::machine::{Machine, MachineConfig};
use crate::signals;
use crate::supervisor::{End, Event, Policy, Supervisor};
use crate::trace::Tracer;

/// Runs the command.
pub fn run(args: RunArgs) -> Result<ExitStatus, Failure> {
    if args.cpu == "help" {
        print_out(&cpu::CpuConfig::MODELS.join("\n"));
        return Ok(ExitStatus::Success);
    }
    let engine = engine::by_choice(args.engine, &args.translator)?;
    // Before the guest, which may take minutes to make at its first use.
    let cpu = engine.cpu(&args.cpu)?;
    let (boot, root) = boot_source(&args)?;
    let config = MachineConfig {
        boot,
        vcpus: usize::from(args.cpus),
        memory: args.memory,
        cpu,
        virtio: VirtioConfig {
            transport: args.transport,
            disks: args.disk.iter().cloned().chain(root).collect(),
            nets: args.net.iter().flatten().cloned().collect(),
            ports: args.port.clone(),
            vsock: args.vsock.clone(),
            balloon: args.balloon,
            folders: args.fs.clone(),
            rng: !args.no_rng,
            faults: args.inject.clone(),
        },
        sandbox: !args.no_sandbox,
    };
    if let Some(path) = &args.dump_dtb {
        return dump_tree(&config, path);
    }
    let tracer = Arc::new(Tracer::open(&args.trace.clone().unwrap_or_default())?);
    let (events, queue) = mpsc::channel();
    let line = SerialLine::default();
    let stops = events.clone();
    let stops: StopSink = Arc::new(move |stopped| drop(stops.send(Event::Stopped(stopped))));
    let mut machine = Machine::new(config, &*engine, &line, Arc::clone(&tracer), &stops)?;
    if let Some(path) = &args.load {
        let file = File::open(path).map_err(|e| Failure::usage(format!("--load {}: {e}", path.display())))?;
        machine.load(BufReader::new(file))?;
    }
    let from_disks = events.clone();
    let full = move |path: &std::path::Path| drop(from_disks.send(Event::DiskFull(path.to_owned())));
    machine.board().full_disks.set(Box::new(full));
    if let Some(save) = &args.save_on {
        let from_guest = events.clone();
        line.mark.wait_for(&save.text, Box::new(move || drop(from_guest.send(Event::Marked))));
    }
    let from_signals = events.clone();
    signals::spawn(move |request| drop(from_signals.send(Event::Signal(request))))
        .map_err(|e| Failure::backend(format!("no signal handling: {e}")))?;
    // Everything that can be wrong with the options has been said: now the terminal becomes raw.
    let console = Console::open(&args.console, &line, Arc::new(move |event| drop(events.send(Event::Console(event)))))?;
    let policy = Policy {
        no_reboot: args.no_reboot,
        timeout: args.timeout,
        save_after: args.save_after.clone(),
        save_on: args.save_on.as_ref().map(|save| save.file.clone()),
        save_live: args.save_live,
        points: args.breakpoints.iter().chain(&args.watchpoints).copied().collect(),
    };
    let end = Supervisor::new(&mut machine, queue, Arc::clone(&line.output), policy).run();
    let stats = args.stats.map(|form| (form, machine.stats()));
    // The console first: a vCPU that waits for room in its queue is freed by it.
    drop(console);
    drop(machine);
    // A full disk has been said by the file's own error already, or lost the last lines of a trace.
    let _ = tracer.flush();
    finish(end, stats, args.json)
}

/// Prints what is to be said at the end.
fn finish(end: Result<End, Failure>, stats: Option<(StatsForm, Value)>, as_json: bool) -> Result<ExitStatus, Failure> {
    if let Some((form, stats)) = stats {
        match form {
            StatsForm::Json => terminal::message(&stats.to_string()),
            StatsForm::Text => terminal::message(stats_text(&stats).trim_end()),
        }
    }
    let end = end?;
    if as_json {
        terminal::message(&json!({ "end": { "reason": end.reason, "status": end.status.code() } }).to_string());
    } else if end.status == ExitStatus::GuestPanic {
        terminal::message("vmm: the guest kernel panicked");
    }
    Ok(end.status)
}

/// Counters for people: nested names become lines.
fn stats_text(stats: &Value) -> String {
    fn lines(name: &str, value: &Value, text: &mut String) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(field, value)| {
                lines(&format!("{name}{}{field}", if name.is_empty() { "" } else { "." }), value, text)
            }),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, value)| lines(&format!("{name}.{index}"), value, text))
            }
            Value::Null => {}
            _ => text
                .push_str(&format!("{name:44} {}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned))),
        }
    }
    let mut text = String::new();
    lines("", stats, &mut text);
    let executed = Executed::of(stats);
    let instructions = executed.map_or_else(|| counted::sum(stats, "/instructions"), |executed| executed.all);
    if let Some(executed) = executed {
        text.push_str(&format!("{:44} {instructions}\n", "guest instructions"));
        text.push_str(&format!("{:44} {:.4}\n", "of them interpreted, percent", executed.percent()));
    }
    let seconds = stats["seconds"].as_f64().unwrap_or(0.0);
    if seconds > 0.0 {
        text.push_str(&format!(
            "{:44} {:.1}\n",
            "million instructions per second",
            instructions as f64 / seconds / 1e6
        ));
    }
    text
}

/// What the guest boots from, and the disk that comes with it.
fn boot_source(args: &RunArgs) -> Result<(BootSource, Option<DiskConfig>), Failure> {
    let mut source = BootSource {
        append: args.append.clone(),
        dtb: args.dtb.clone(),
        initrd: args.initrd.clone(),
        modules: args.modules.clone(),
        ..BootSource::default()
    };
    let root = match &args.kernel {
        Some(kernel) => {
            source.kernel.clone_from(kernel);
            None
        }
        None if args.initrd.is_some() => {
            return Err(Failure::usage("--initrd is given without a kernel; add --kernel FILE"));
        }
        None => super::demo::prepare(args, &mut source)?,
    };
    Ok((source, root))
}

fn dump_tree(config: &MachineConfig, path: &std::path::Path) -> Result<ExitStatus, Failure> {
    config.check()?;
    let boot = Boot::open(&config.boot, config.vcpus, has_pmu(&config.cpu), &config.virtio)?;
    let tree = boot.dump_tree(&GuestRam::new(config.memory)?)?;
    std::fs::write(path, tree).map_err(|e| Failure::backend(format!("--dump-dtb {}: {e}", path.display())))?;
    Ok(ExitStatus::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_lines() {
        let text = stats_text(
            &json!({ "engine": "interp", "seconds": 2.0, "vcpus": [{ "instructions": 4_000_000, "exceptions": { "svc": 3 } }] }),
        );
        assert!(text.contains("vcpus.0.exceptions.svc"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("million instructions") && line.ends_with(" 2.0")), "{text}");
    }
}
