//! Tells a guest kernel's panic from a program that prints the same words.
//!
//! The rule and its reasons are in `docs/design/exit-codes.md`.

/// Longest line start that is looked at.
const LONGEST: usize = 120;
const PANIC: &[u8] = b"Kernel panic - not syncing";
/// The kernel prints these on orderly ways out (`kernel_restart`, `kernel_power_off`, `kernel_halt`), and never after a panic.
const ORDERLY: &[u8] = b"reboot: ";

/// What was seen when the panic line was complete.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Suspicion {
    /// The vCPU that wrote the line.
    vcpu: usize,
    /// Its returns to EL0 at that time.
    own_returns: u64,
    /// Returns to EL0 of all vCPUs at the suspect's last output.
    all_returns: Vec<u64>,
}

/// Watches the console's output and the ways out.
#[derive(Default, Debug)]
pub struct PanicWatch {
    line: Vec<u8>,
    line_done: bool,
    suspicion: Option<Suspicion>,
    /// The guest's pvpanic driver reported a panic.
    reported: bool,
}

impl PanicWatch {
    /// Looks at console output that `vcpu` wrote; `returns_to_el0` are all vCPUs' counters now.
    pub fn output(&mut self, vcpu: usize, bytes: &[u8], returns_to_el0: &dyn Fn() -> Vec<u64>) {
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                self.line.clear();
                self.line_done = false;
                self.refresh(vcpu, returns_to_el0);
                continue;
            }
            if self.line_done {
                continue;
            }
            self.line.push(byte);
            if self.line.len() > LONGEST {
                self.line_done = true;
                continue;
            }
            let text = after_stamp(&self.line);
            if text == PANIC {
                self.line_done = true;
                let all_returns = returns_to_el0();
                let own_returns = all_returns.get(vcpu).copied().unwrap_or(0);
                self.suspicion = Some(Suspicion { vcpu, own_returns, all_returns });
            } else if text == ORDERLY {
                self.line_done = true;
                self.suspicion = None;
            }
        }
    }

    /// A suspect that prints on without having returned to EL0 is still in its report: other vCPUs may have run until now.
    fn refresh(&mut self, vcpu: usize, returns_to_el0: &dyn Fn() -> Vec<u64>) {
        let Some(suspicion) = &mut self.suspicion else { return };
        if suspicion.vcpu != vcpu {
            return;
        }
        let all = returns_to_el0();
        if all.get(vcpu) == Some(&suspicion.own_returns) {
            suspicion.all_returns = all;
        } else {
            self.suspicion = None;
        }
    }

    /// The guest's pvpanic driver reported a panic.
    pub fn report(&mut self) {
        self.reported = true;
    }

    /// `vcpu` asked for reset or power-off: is that the end of a panic?
    pub fn is_panic(&self, vcpu: usize, returns_to_el0: &[u64]) -> bool {
        self.reported || self.suspicion.as_ref().is_some_and(|s| s.vcpu == vcpu && s.all_returns == returns_to_el0)
    }

    /// The machine starts again.
    pub fn reset(&mut self) {
        *self = PanicWatch::default();
    }
}

/// The line without the kernel's `[   12.345678] ` (or `[   12.345678][    T1] `).
fn after_stamp(mut line: &[u8]) -> &[u8] {
    while let [b'[', rest @ ..] = line {
        let Some(end) = rest.iter().position(|&b| b == b']') else { return line };
        let (stamp, after) = rest.split_at(end);
        if !stamp.iter().all(|b| b.is_ascii_digit() || matches!(b, b' ' | b'.' | b'T' | b'C')) {
            return line;
        }
        line = after.get(1..).unwrap_or_default();
    }
    line.trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"[    1.500000] Kernel panic - not syncing: sysrq triggered crash\r\n";

    fn watch(steps: &[(usize, &[u8], [u64; 2])]) -> PanicWatch {
        let mut watch = PanicWatch::default();
        for (vcpu, bytes, returns) in steps {
            for byte in bytes.chunks(1) {
                watch.output(*vcpu, byte, &|| returns.to_vec());
            }
        }
        watch
    }

    #[test]
    fn a_panic_and_reset_on_the_same_vcpu() {
        // The other vCPU runs user code until the kernel stops it, then the report goes on.
        let watch = watch(&[(1, LINE, [10, 20]), (1, b"[ 1.6] SMP: stopping secondary CPUs\r\n", [15, 20])]);
        assert!(watch.is_panic(1, &[15, 20]));
        assert!(!watch.is_panic(0, &[15, 20]), "another vCPU's reset is no end of this panic");
        assert!(!watch.is_panic(1, &[16, 20]), "user code ran on after the report");
        assert!(!watch.is_panic(1, &[15, 21]));
    }

    #[test]
    fn a_program_that_prints_the_words() {
        let watch1 = watch(&[(0, b"Kernel panic - not syncing: fake\r\n", [5, 0])]);
        assert!(!watch1.is_panic(0, &[6, 0]), "the program went on");
        // Its line comes from a vCPU that stays in the kernel, where the reset ends up as well.
        let watch2 = watch(&[(0, LINE, [5, 9]), (0, b"[    2.0] reboot: Power down\r\n", [5, 9])]);
        assert!(!watch2.is_panic(0, &[5, 9]));
        // It prints more after having returned to EL0, then the machine is reset.
        let watch3 = watch(&[(0, LINE, [5, 9]), (0, b"bye\r\n", [6, 9])]);
        assert!(!watch3.is_panic(0, &[6, 9]));
    }

    #[test]
    fn the_words_count_only_at_the_start_of_a_line() {
        let watch = watch(&[(0, b"# echo Kernel panic - not syncing\r\n[x] Kernel panic - not syncing\r\n", [5, 9])]);
        assert!(!watch.is_panic(0, &[5, 9]));
        assert_eq!(after_stamp(b"[    1.5][    T1] hello"), b"hello");
        assert_eq!(after_stamp(b"[    1.5"), b"[    1.5");
    }

    #[test]
    fn pvpanic_needs_no_text_and_a_reset_forgets() {
        let mut watch = PanicWatch::default();
        assert!(!watch.is_panic(0, &[1]));
        watch.report();
        assert!(watch.is_panic(0, &[1]));
        watch.reset();
        assert!(!watch.is_panic(0, &[1]));
    }
}
