//! The main thread while a machine runs: guest power-off and reset, keys, monitor commands, signals, the time limit.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::cli::SaveAfter;
use crate::console::backend::ConsoleEvent;
use crate::console::escape::{self, Escape};
use crate::console::monitor::{self, Command};
use crate::console::output::OutputQueue;
use crate::console::terminal;
use crate::debugger::{Debugger, Place, Point, Then, Told};
use crate::engine::Stop;
use crate::exit::{ExitStatus, Failure};
use crate::machine::Machine;
use crate::machine::vcpus::Stopped;
use crate::signals::Request;

/// How often a guest that is paused for want of room is let try again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// What is said where there is no balloon.
const NO_BALLOON: &str = "the machine has no balloon; start it with --balloon";

/// What the main thread waits for.
#[derive(Debug)]
pub enum Event {
    /// A vCPU stopped.
    Stopped(Stopped),
    /// A key, a monitor line, or the console's end.
    Console(ConsoleEvent),
    /// A host signal.
    Signal(Request),
    /// The host has no room for what the guest writes to this disk.
    DiskFull(PathBuf),
    /// The guest printed what `--save-on` waits for.
    Marked,
}

/// Why the run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// The status to end with.
    pub status: ExitStatus,
    /// One word or phrase, for `--json`.
    pub reason: &'static str,
}

impl End {
    fn new(status: ExitStatus, reason: &'static str) -> End {
        End { status, reason }
    }
}

/// What the command line says about ends.
#[derive(Clone, Default, Debug)]
pub struct Policy {
    /// `--no-reboot`.
    pub no_reboot: bool,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--save-after`.
    pub save_after: Option<SaveAfter>,
    /// The file of `--save-on`.
    pub save_on: Option<PathBuf>,
    /// `--save-live`.
    pub save_live: bool,
    /// `--break` and `--watch`.
    pub points: Vec<Point>,
}

/// Supervises one machine.
pub struct Supervisor<'a> {
    machine: &'a mut Machine,
    events: Receiver<Event>,
    pending: VecDeque<Event>,
    output: Arc<OutputQueue>,
    policy: Policy,
    /// Paused because a disk is full: when to try again.
    retry: Option<Instant>,
    /// When the last full disk was said.
    said_full: Option<Instant>,
    debugger: Debugger,
}

impl<'a> Supervisor<'a> {
    /// For a machine that has not been started yet; monitor answers go to `output`.
    pub fn new(
        machine: &'a mut Machine,
        events: Receiver<Event>,
        output: Arc<OutputQueue>,
        policy: Policy,
    ) -> Supervisor<'a> {
        Supervisor {
            machine,
            events,
            pending: VecDeque::new(),
            output,
            policy,
            retry: None,
            said_full: None,
            debugger: Debugger::default(),
        }
    }

    /// Starts the machine and stays with it until it ends.
    pub fn run(mut self) -> Result<End, Failure> {
        // A limit that is too far away for the clock is none.
        let start = Instant::now();
        let limit = self.policy.timeout.and_then(|limit| start.checked_add(limit));
        let save = self.policy.save_after.as_ref().and_then(|save| start.checked_add(save.after));
        let deadline = [limit, save].into_iter().flatten().min();
        self.debugger = Debugger::new(self.machine, &self.policy.points)?;
        self.machine.resume();
        loop {
            let event = match self.next([deadline, self.retry].into_iter().flatten().min()) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) if self.retry.is_some_and(|at| at <= Instant::now()) => {
                    self.retry = None;
                    self.machine.resume();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) if save.is_some() && deadline == save => {
                    let file = self.policy.save_after.as_ref().map(|save| save.file.clone());
                    return self.save(&file.unwrap_or_default());
                }
                Err(RecvTimeoutError::Timeout) => return Ok(self.timed_out()),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::internal("all event sources are gone")),
            };
            let end = match event {
                Event::Stopped(stopped) => self.stopped(stopped)?,
                Event::Marked => Some(self.save(&self.policy.save_on.clone().unwrap_or_default())?),
                Event::Signal(Request::Report) => self.report(),
                Event::Signal(Request::End(signal)) => Some(End::new(ExitStatus::Signal(signal), "signal")),
                Event::DiskFull(path) => self.disk_full(&path)?,
                Event::Console(ConsoleEvent::Key(key)) => self.key(key),
                Event::Console(ConsoleEvent::MonitorLine(line)) => self.monitor_line(&line)?,
                Event::Console(ConsoleEvent::OutputFailed(error)) => Some(output_failed(&error)),
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    fn next(&mut self, deadline: Option<Instant>) -> Result<Event, RecvTimeoutError> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(event);
        }
        match deadline {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.events.recv_timeout(at.saturating_duration_since(Instant::now())),
        }
    }

    fn timed_out(&self) -> End {
        let limit = self.policy.timeout.unwrap_or_default();
        terminal::message(&format!(
            "{}\nvmm: --timeout of {} s ran out",
            self.machine.hang_report(),
            limit.as_secs_f64()
        ));
        End::new(ExitStatus::Timeout, "timeout")
    }

    fn save(&self, path: &Path) -> Result<End, Failure> {
        let create = || {
            File::create(path)
                .map_err(|e| Failure::backend(format!("the machine is not saved: {}: {e}", path.display())))
        };
        if self.policy.save_live {
            let written = self.machine.save_live(BufWriter::new(create()?))?;
            terminal::message(&format!("vmm: saved while it ran; written meanwhile: {}", pages_text(&written)));
        } else {
            self.machine.pause()?;
            self.machine.save(BufWriter::new(create()?))?;
        }
        Ok(End::new(ExitStatus::Success, "saved"))
    }

    fn stopped(&mut self, stopped: Stopped) -> Result<Option<End>, Failure> {
        let Stopped { vcpu, stop } = stopped;
        match stop {
            Stop::Shutdown | Stop::Reset if self.machine.board().ended_in_panic(vcpu) => {
                Ok(Some(End::new(ExitStatus::GuestPanic, "guest-panic")))
            }
            Stop::Shutdown => Ok(Some(End::new(ExitStatus::Success, "poweroff"))),
            Stop::Reset if self.policy.no_reboot => Ok(Some(End::new(ExitStatus::Success, "reboot"))),
            Stop::Reset => {
                self.reset()?;
                Ok(None)
            }
            Stop::Internal(what) => {
                terminal::message(&self.machine.hang_report());
                Err(Failure::internal(format!("vCPU {vcpu}: {what}")))
            }
            Stop::Debug(event) => {
                match self.debugger.stopped(self.machine, vcpu, event)? {
                    Told::GoesOn(text) => terminal::message(&format!("vmm: {text}")),
                    Told::Held(text) => self.answer(&format!("\n{text}\ncont or step goes on")),
                }
                Ok(None)
            }
            other => {
                Err(Failure::internal(format!("vCPU {vcpu} stopped for a reason that nobody asked for: {other:?}")))
            }
        }
    }

    /// Resets the machine and starts it. Stops that came before belong to the old run.
    fn reset(&mut self) -> Result<(), Failure> {
        self.machine.reset()?;
        self.debugger.restart(self.machine)?;
        let events: Vec<Event> = self.events.try_iter().filter(|event| !matches!(event, Event::Stopped(_))).collect();
        self.pending.retain(|event| !matches!(event, Event::Stopped(_)));
        self.pending.extend(events);
        self.machine.resume();
        Ok(())
    }

    /// Pauses until there may be room again. Said once, not at every try.
    fn disk_full(&mut self, path: &Path) -> Result<Option<End>, Failure> {
        // Several queues may find the same; and what a person paused stays paused.
        if self.machine.is_paused() {
            return Ok(None);
        }
        self.machine.pause()?;
        let now = Instant::now();
        if self.said_full.is_none_or(|last| now.saturating_duration_since(last) > 4 * FULL_RETRY) {
            terminal::message(&format!(
                "vmm: the host has no room for what the guest writes to {}: the guest is paused, and goes on when there is",
                path.display()
            ));
        }
        self.said_full = Some(now);
        self.retry = now.checked_add(FULL_RETRY);
        Ok(None)
    }

    fn report(&self) -> Option<End> {
        terminal::message(&self.machine.hang_report());
        None
    }

    fn key(&self, key: Escape) -> Option<End> {
        match key {
            Escape::Exit => return Some(End::new(ExitStatus::Success, "user")),
            Escape::Help => terminal::message(escape::HELP.trim_end()),
            Escape::Report => drop(self.report()),
            Escape::PowerButton => self.machine.board().press_power_button(),
            // Served where the keys are read.
            Escape::Break | Escape::Monitor => {}
        }
        None
    }

    fn monitor_line(&mut self, line: &str) -> Result<Option<End>, Failure> {
        let answer = match monitor::parse(line) {
            Err(error) => error,
            Ok(None) => String::new(),
            Ok(Some(Command::Quit)) => return Ok(Some(End::new(ExitStatus::Success, "user"))),
            Ok(Some(command)) => self.monitor_command(command)?,
        };
        self.answer(&answer);
        Ok(None)
    }

    /// Shows text in the monitor.
    fn answer(&self, answer: &str) {
        let mut text = answer.trim_end().replace('\n', "\r\n");
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(monitor::PROMPT);
        self.output.push(text.as_bytes());
    }

    fn monitor_command(&mut self, command: Command) -> Result<String, Failure> {
        Ok(match command {
            Command::Help => monitor::HELP.to_owned(),
            Command::Registers => self.machine.register_report(),
            Command::Gic => self.machine.board().interrupts.report(),
            Command::Devices => self.machine.device_report(),
            Command::BalloonReport => self.machine.board().balloon.as_ref().map_or(NO_BALLOON.into(), |b| b.report()),
            Command::Balloon(bytes) => match &self.machine.board().balloon {
                Some(balloon) => {
                    balloon.set_target(bytes);
                    String::new()
                }
                None => NO_BALLOON.to_owned(),
            },
            Command::Status => self.machine.status(),
            Command::Pause => {
                self.retry = None;
                self.machine.pause()?;
                "paused; cont goes on".to_owned()
            }
            Command::Continue => {
                self.retry = None;
                self.debugger.release(self.machine);
                self.machine.resume();
                String::new()
            }
            Command::Break(_) | Command::Watch(_) | Command::Delete | Command::Points | Command::Step(_) => {
                // What a person typed wrong ends no machine.
                self.debugger_command(command).unwrap_or_else(|failure| failure.message)
            }
            Command::Power => {
                self.machine.board().press_power_button();
                String::new()
            }
            Command::Reset => {
                self.reset()?;
                String::new()
            }
            // Handled by the caller.
            Command::Quit => String::new(),
        })
    }
}

impl Supervisor<'_> {
    fn debugger_command(&mut self, command: Command) -> Result<String, Failure> {
        match command {
            Command::Break(address) => {
                self.debugger.add(self.machine, Point { place: Place::Instruction(address), then: Then::Hold })?;
            }
            Command::Watch(watchpoint) => {
                self.debugger.add(self.machine, Point { place: Place::Access(watchpoint), then: Then::Hold })?;
            }
            Command::Delete => self.debugger.clear(self.machine)?,
            Command::Points => return Ok(self.debugger.list()),
            Command::Step(vcpu) => {
                self.debugger.step(self.machine, vcpu)?;
                self.machine.resume();
            }
            _ => {}
        }
        Ok(String::new())
    }
}

/// Ranges of pages, the first few by their addresses.
fn pages_text(ranges: &[Range<u64>]) -> String {
    const SHOWN: usize = 8;
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    let shown: Vec<String> =
        ranges.iter().take(SHOWN).map(|range| format!("{:#x}..{:#x}", range.start, range.end)).collect();
    let more = if ranges.len() > SHOWN { ", ..." } else { "" };
    format!("{} KiB in {} ranges: {}{more}", bytes >> 10, ranges.len(), shown.join(", "))
}

/// Nobody reads the output any more: as a filter in a pipe would, the run ends as if by SIGPIPE.
fn output_failed(error: &std::io::Error) -> End {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return End::new(ExitStatus::Signal(13), "console-closed");
    }
    terminal::message(&format!("vmm: console output failed: {error}"));
    End::new(ExitStatus::Backend, "console-failed")
}
