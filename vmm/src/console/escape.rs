//! The keys that are for `vmm` and not for the guest: Ctrl-A, then a letter, as QEMU users know them.

/// Ctrl-A.
const PREFIX: u8 = 0x01;

/// What Ctrl-A help prints (lines end with `\n`; the caller makes them fit a raw terminal).
pub const HELP: &str = "
Ctrl-A x   end the virtual machine
Ctrl-A c   switch between the guest's console and the monitor
Ctrl-A b   send a BREAK (with a following letter: the kernel's SysRq)
Ctrl-A s   hang report of all vCPUs on stderr
Ctrl-A p   press the power button
Ctrl-A h   this help
Ctrl-A Ctrl-A   send one Ctrl-A to the guest
";

/// A command given by a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Escape {
    /// Ctrl-A x: end the machine.
    Exit,
    /// Ctrl-A h or ?: print [`HELP`].
    Help,
    /// Ctrl-A b: BREAK on the serial line.
    Break,
    /// Ctrl-A c: switch between console and monitor.
    Monitor,
    /// Ctrl-A s: hang report.
    Report,
    /// Ctrl-A p: the power button.
    PowerButton,
}

/// What one input byte turned into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// A byte for the guest.
    Byte(u8),
    /// A command for `vmm`.
    Escape(Escape),
}

/// Splits a stream of key strokes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Keys {
    after_prefix: bool,
}

impl Keys {
    /// Takes the next byte; `None` when it is the start of a command, or an unknown command.
    pub fn feed(&mut self, byte: u8) -> Option<Item> {
        if !self.after_prefix {
            if byte == PREFIX {
                self.after_prefix = true;
                return None;
            }
            return Some(Item::Byte(byte));
        }
        self.after_prefix = false;
        match byte {
            PREFIX => Some(Item::Byte(PREFIX)),
            b'x' | b'X' => Some(Item::Escape(Escape::Exit)),
            b'h' | b'H' | b'?' => Some(Item::Escape(Escape::Help)),
            b'b' | b'B' => Some(Item::Escape(Escape::Break)),
            b'c' | b'C' => Some(Item::Escape(Escape::Monitor)),
            b's' | b'S' => Some(Item::Escape(Escape::Report)),
            b'p' | b'P' => Some(Item::Escape(Escape::PowerButton)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<Item> {
        let mut keys = Keys::default();
        input.iter().filter_map(|&byte| keys.feed(byte)).collect()
    }

    #[test]
    fn plain_bytes_pass() {
        assert_eq!(all(b"ls\r"), [Item::Byte(b'l'), Item::Byte(b's'), Item::Byte(b'\r')]);
    }

    #[test]
    fn commands_and_the_doubled_prefix() {
        assert_eq!(all(b"\x01x"), [Item::Escape(Escape::Exit)]);
        assert_eq!(all(b"a\x01\x01b"), [Item::Byte(b'a'), Item::Byte(1), Item::Byte(b'b')]);
        assert_eq!(all(b"\x01b\x01c"), [Item::Escape(Escape::Break), Item::Escape(Escape::Monitor)]);
    }

    #[test]
    fn unknown_commands_are_dropped_whole() {
        assert_eq!(all(b"\x01zx"), [Item::Byte(b'x')]);
    }
}
