//! The monitor: a few commands typed at the console (Ctrl-A c) while the guest runs or stands.

use crate::cli::debug;
use crate::engine::{Watched, Watchpoint};

/// The prompt that the monitor shows.
pub const PROMPT: &str = "(vmm) ";

/// What `help` prints.
pub const HELP: &str = "\
info registers   all vCPUs: PC, exception level, registers, last exceptions
info gic         the interrupt controller
info devices     what stands at which address, and how often it was used
info balloon     memory that the guest has given back, and how it uses the rest
info status      running or paused, time, instructions
pause, cont      stop and continue the vCPUs and the guest's clock
break 0x402000   hold the machine when a vCPU is about to execute the instruction at this virtual address
watch 0x402000   hold it when one accesses these 8 bytes; a second number is how many
points, delete   list these, take them all away
step 0           execute one instruction of a vCPU
balloon 512M     leave the guest with 512 MiB of its memory (needs --balloon)
power            press the power button
reset            reset the machine
quit             end the machine
Ctrl-A c         back to the guest's console
";

/// A parsed command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Print [`HELP`].
    Help,
    /// `info registers`.
    Registers,
    /// `info gic`.
    Gic,
    /// `info devices`.
    Devices,
    /// `info balloon`.
    BalloonReport,
    /// `info status`.
    Status,
    /// Stop the vCPUs.
    Pause,
    /// Let them go on.
    Continue,
    /// `balloon SIZE`: leave the guest with this many bytes.
    Balloon(u64),
    /// `break ADDRESS`.
    Break(u64),
    /// `watch ADDRESS [BYTES]`.
    Watch(Watchpoint),
    /// List both.
    Points,
    /// Take both away.
    Delete,
    /// `step VCPU`: one instruction.
    Step(usize),
    /// Press the power button.
    Power,
    /// Reset the machine.
    Reset,
    /// End the program.
    Quit,
}

/// Reads a command line; `Ok(None)` for an empty one.
pub fn parse(line: &str) -> Result<Option<Command>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let command = match words.as_slice() {
        [] => return Ok(None),
        ["help" | "h" | "?"] => Command::Help,
        ["info", "registers" | "regs" | "cpus"] => Command::Registers,
        ["info", "gic" | "pic"] => Command::Gic,
        ["info", "devices" | "mtree" | "qtree"] => Command::Devices,
        ["info", "balloon"] => Command::BalloonReport,
        ["balloon", size] => Command::Balloon(crate::cli::size::parse(size)?),
        ["info", "status" | "stats"] => Command::Status,
        ["pause" | "stop"] => Command::Pause,
        ["cont" | "c" | "continue"] => Command::Continue,
        ["break" | "b", at] => Command::Break(debug::instruction(at)?),
        ["watch", at] => Command::Watch(watch(at, "8")?),
        ["watch", at, len] => Command::Watch(watch(at, len)?),
        ["points"] => Command::Points,
        ["delete"] => Command::Delete,
        ["step" | "s"] => Command::Step(0),
        ["step" | "s", vcpu] => Command::Step(vcpu.parse().map_err(|_| format!("{vcpu:?} is no vCPU"))?),
        ["power" | "system_powerdown"] => Command::Power,
        ["reset" | "system_reset"] => Command::Reset,
        ["quit" | "q" | "exit"] => Command::Quit,
        _ => return Err(format!("{line:?} is not a command; `help` lists them")),
    };
    Ok(Some(command))
}

fn watch(at: &str, len: &str) -> Result<Watchpoint, String> {
    Ok(Watchpoint { address: debug::address(at)?, len: debug::len(len)?, on: Watched::Both })
}

/// The longest line that is taken.
const LONGEST: usize = 256;

/// A line being typed on a raw terminal.
#[derive(Default, Debug)]
pub struct LineEditor {
    line: String,
}

/// What a key did.
#[derive(PartialEq, Eq, Debug)]
pub struct Typed {
    /// Bytes to show.
    pub echo: Vec<u8>,
    /// The finished line.
    pub line: Option<String>,
}

impl LineEditor {
    /// Takes one key.
    pub fn feed(&mut self, byte: u8) -> Typed {
        let (echo, line): (&[u8], _) = match byte {
            b'\r' | b'\n' => (b"\r\n", Some(std::mem::take(&mut self.line))),
            0x08 | 0x7f if self.line.pop().is_some() => (b"\x08 \x08", None),
            0x15 => {
                // Ctrl-U: the whole line
                let echo = b"\x08 \x08".repeat(self.line.len());
                self.line.clear();
                return Typed { echo, line: None };
            }
            b' '..=b'~' if self.line.len() < LONGEST => {
                self.line.push(char::from(byte));
                return Typed { echo: vec![byte], line: None };
            }
            _ => (b"", None),
        };
        Typed { echo: echo.to_vec(), line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_help_is_known() {
        for line in HELP.lines() {
            let name = line.split("  ").next().unwrap();
            for command in name.split(", ").filter(|c| !c.starts_with("Ctrl")) {
                assert!(matches!(parse(command), Ok(Some(_))), "{command}");
            }
        }
        assert_eq!(parse("  "), Ok(None));
        assert!(parse("info").unwrap_err().contains("help"));
    }

    #[test]
    fn editing() {
        let mut editor = LineEditor::default();
        let mut line = None;
        for &byte in b"\x7fquix\x7ft\x1b\r" {
            line = editor.feed(byte).line.or(line);
        }
        assert_eq!(line.as_deref(), Some("quit"));
        for &byte in b"abc\x15" {
            editor.feed(byte);
        }
        assert_eq!(editor.feed(b'\r').line.as_deref(), Some(""));
        for _ in 0..1000 {
            editor.feed(b'x');
        }
        assert_eq!(editor.feed(b'\n').line.map(|l| l.len()), Some(LONGEST));
    }
}
