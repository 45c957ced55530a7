//! Register by register against QEMU's `virt` machine: the same random accesses to both, the same answers from both.
//!
//! QEMU's CPUs are stopped; its test protocol (`readl`, `writel` on its standard input) does the accesses. What differs
//! on purpose is named where it is left out. Needs `qemu-system-aarch64`; run with
//! `cargo test -p devices --test against_qemu -- --ignored`.
#![expect(clippy::unwrap_used, reason = "a failure of the test's own plumbing is a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use devices::{Bus, CharSink, CpuInterfaceSink, Gic, IrqLine, Pl011, Pl031, Pl061, WallClock};

const GICD: u64 = 0x0800_0000;
const GICR: u64 = 0x080a_0000;
const SGI: u64 = GICR + 0x1_0000;
const UART: u64 = 0x0900_0000;
const RTC: u64 = 0x0901_0000;
const GPIO: u64 = 0x0903_0000;
const VCPUS: u64 = 3;

/// QEMU with its CPUs stopped.
struct Qemu {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Qemu {
    fn start() -> Qemu {
        let mut child = Command::new("qemu-system-aarch64")
            .args(["-M", "virt,gic-version=3", "-cpu", "max", "-smp", &VCPUS.to_string(), "-m", "64", "-nodefaults"])
            .args(["-display", "none", "-serial", "null", "-S", "-qtest", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("qemu-system-aarch64 starts (Debian: qemu-system-arm)");
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Qemu { child, to, from }
    }

    fn command(&mut self, line: &str) -> String {
        writeln!(self.to, "{line}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        assert!(answer.starts_with("OK"), "{line}: {answer}");
        answer.trim_start_matches("OK").trim().to_owned()
    }

    fn read(&mut self, address: u64, size: u8) -> u64 {
        let answer = self.command(&format!("read{} {address:#x}", letter(size)));
        u64::from_str_radix(answer.trim_start_matches("0x"), 16).unwrap()
    }

    fn write(&mut self, address: u64, size: u8, value: u64) {
        let mask = u64::MAX >> (64 - 8 * u32::from(size));
        self.command(&format!("write{} {address:#x} {:#x}", letter(size), value & mask));
    }
}

fn letter(size: u8) -> char {
    match size {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        _ => 'q',
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Nowhere;

impl CpuInterfaceSink for Nowhere {
    fn publish(&self, _vcpu: usize, _group: usize, _best: Option<(u8, u32)>) {}
}

impl CharSink for Nowhere {
    fn write(&self, _bytes: &[u8]) {}
}

impl WallClock for Nowhere {
    fn seconds(&self) -> u64 {
        std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
    }
    fn set_alarm(&self, _at: Option<u64>) {}
}

/// Our board, as far as it is compared.
fn board() -> Bus {
    let gic = Gic::new(VCPUS as usize, 256, Arc::new(Nowhere)).unwrap();
    let mut bus = Bus::new();
    bus.insert(GICD, 0x1_0000, gic.distributor()).unwrap();
    bus.insert(GICR, 0x2_0000 * VCPUS, gic.redistributors()).unwrap();
    bus.insert(UART, 0x1000, Pl011::new(gic.spi_line(1), Arc::new(Nowhere))).unwrap();
    bus.insert(RTC, 0x1000, Pl031::new(gic.spi_line(2), Arc::new(Nowhere))).unwrap();
    bus.insert(GPIO, 0x1000, Pl061::new(IrqLine::disconnected())).unwrap();
    bus
}

/// xorshift64*: the runs are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 32) % n
    }
    /// Register values that touch few, many or all bits.
    fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => 1 << self.below(32),
            2 => u64::MAX,
            _ => self.next() & self.next(),
        }
    }
}

/// One machine of each kind.
struct Pair {
    qemu: Qemu,
    ours: Bus,
    log: Vec<String>,
}

impl Pair {
    fn new() -> Pair {
        Pair { qemu: Qemu::start(), ours: board(), log: vec![] }
    }

    fn write(&mut self, address: u64, size: u8, value: u64) {
        self.log.push(format!("write {size} {address:#x} {value:#x}"));
        self.qemu.write(address, size, value);
        self.ours.write(address, size, value).unwrap();
    }

    fn compare(&mut self, address: u64, size: u8) {
        self.compare_bits(address, size, u64::MAX);
    }

    fn compare_bits(&mut self, address: u64, size: u8, bits: u64) {
        let (theirs, ours) = (self.qemu.read(address, size), self.ours.read(address, size).unwrap());
        if (theirs ^ ours) & bits != 0 {
            let tail = self.log.len().saturating_sub(12);
            panic!("{size} bytes at {address:#x}: QEMU {theirs:#x}, ours {ours:#x}, after {:#?}", &self.log[tail..]);
        }
    }
}

/// The five bits of each priority that we have; QEMU's distributor keeps all eight.
const PRIORITIES: u64 = 0xf8f8_f8f8;

/// Registers of one bit for each interrupt, by their first offset.
const BITS: [u64; 7] = [0x80, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380];

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn gic_registers() {
    let mut pair = Pair::new();
    let mut random = Random(1);
    let compare_all = |pair: &mut Pair| {
        pair.compare(GICD, 4);
        for bank in 1..9 {
            BITS.iter().for_each(|base| pair.compare(GICD + base + 4 * bank, 4));
            (0..8).for_each(|i| pair.compare_bits(GICD + 0x400 + 32 * bank + 4 * i, 4, PRIORITIES));
            (0..2).for_each(|i| pair.compare(GICD + 0xc00 + 8 * bank + 4 * i, 4));
        }
        (32..288).step_by(5).for_each(|intid| pair.compare(GICD + 0x6000 + 8 * intid, 8));
        for vcpu in 0..VCPUS {
            let frame = SGI + vcpu * 0x2_0000;
            BITS.iter().for_each(|base| pair.compare(frame + base, 4));
            (0..8).for_each(|i| pair.compare_bits(frame + 0x400 + 4 * i, 4, PRIORITIES));
            pair.compare(frame + 0xc04, 4);
            pair.compare(GICR + vcpu * 0x2_0000 + 0x14, 4);
        }
    };
    compare_all(&mut pair);
    for round in 0..4000 {
        let value = random.value();
        match random.below(10) {
            0..=3 => {
                let base = BITS[random.below(7) as usize];
                pair.write(GICD + base + 4 * random.below(10), 4, value);
            }
            4 => {
                let base = BITS[random.below(7) as usize];
                pair.write(SGI + random.below(VCPUS) * 0x2_0000 + base, 4, value);
            }
            5 => {
                let size = [1, 4][random.below(2) as usize];
                let intid = random.below(292) & if size == 4 { !3 } else { !0 };
                let frame = if random.below(4) == 0 { SGI } else { GICD };
                let intid = if frame == SGI { intid & 31 } else { intid };
                pair.write(frame + 0x400 + intid, size, value);
            }
            6 => pair.write(GICD + 0xc00 + 4 * random.below(18), 4, value),
            7 => pair.write(SGI + random.below(VCPUS) * 0x2_0000 + 0xc04, 4, value),
            // Affinities only: QEMU has no 1-of-N.
            8 => pair.write(GICD + 0x6000 + 8 * (32 + random.below(256)), 8, value & 0xff_00ff_ffff),
            _ => match random.below(3) {
                0 => pair.write(GICD, 4, value & 3),
                _ => pair.write(GICR + random.below(VCPUS) * 0x2_0000 + 0x14, 4, value & 2),
            },
        }
        if round % 200 == 199 {
            compare_all(&mut pair);
        }
    }
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn gic_identification() {
    let mut pair = Pair::new();
    // LPIS, IDbits, NMI, MBIS and No1N differ: QEMU has an ITS and NMIs, we have messages and 1-of-N.
    pair.compare_bits(GICD + 4, 4, !(1 << 17 | 1 << 9 | 0x1f << 19 | 1 << 16 | 1 << 25));
    pair.compare(GICD + 8, 4);
    (0xffd0..0x1_0000).step_by(4).for_each(|offset| pair.compare(GICD + offset, 4));
    for vcpu in 0..VCPUS {
        let frame = GICR + vcpu * 0x2_0000;
        // But for PLPIS to DirectLPI and CommonLPIAff, which are about LPIs.
        pair.compare_bits(frame + 8, 8, !(0xf | 3 << 24));
        pair.compare_bits(frame + 8, 4, 1 << 4);
        pair.compare(frame + 4, 4);
        (0xffe8..0xffec).step_by(4).for_each(|offset| pair.compare(frame + offset, 4));
    }
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn pl061_registers() {
    let mut pair = Pair::new();
    let mut random = Random(2);
    // No line is driven; QEMU's pull-ups make undriven inputs high where ours are low, so all lines are outputs or
    // the data is left out.
    for _ in 0..3000 {
        let register = [0x404, 0x408, 0x40c, 0x410, 0x41c, 0x420][random.below(6) as usize];
        let value = random.value() & 0xff;
        if random.below(3) == 0 {
            pair.write(GPIO + 0x400, 4, 0xff);
            pair.write(GPIO + 4 * random.below(256), 4, value);
        } else {
            pair.write(GPIO + register, 4, value);
        }
        pair.compare(GPIO + 4 * random.below(256), 4);
        for register in [0x400, 0x404, 0x408, 0x40c, 0x410, 0x420] {
            pair.compare(GPIO + register, 4);
        }
    }
    (0xfe0..0x1000).step_by(4).for_each(|offset| pair.compare(GPIO + offset, 4));
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn pl031_registers() {
    let mut pair = Pair::new();
    (0xfe0..0x1000).step_by(4).for_each(|offset| pair.compare(RTC + offset, 4));
    for register in [4, 8, 0xc, 0x10, 0x14, 0x18] {
        pair.compare(RTC + register, 4);
    }
    for time in [0u64, 1, 0x7fff_ffff, 0xffff_fff0, 1_790_000_000] {
        pair.write(RTC + 8, 4, time);
        let theirs = pair.qemu.read(RTC, 4);
        let ours = pair.ours.read(RTC, 4).unwrap();
        assert!(theirs.abs_diff(ours) <= 1 && ours.abs_diff(time) <= 1, "{theirs} {ours}");
        pair.compare(RTC + 8, 4);
        pair.write(RTC + 4, 4, time.wrapping_sub(100) & 0xffff_ffff);
        pair.compare(RTC + 4, 4);
        pair.write(RTC + 0x10, 4, 1);
        [0x10, 0x14, 0x18].iter().for_each(|r| pair.compare(RTC + r, 4));
    }
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn pl011_registers() {
    let mut pair = Pair::new();
    let mut random = Random(3);
    (0xfe0..0x1000).step_by(4).for_each(|offset| pair.compare(UART + offset, 4));
    // Interrupts of the receiver differ: QEMU raises RX for each character, hardware at the level of IFLS and RT below.
    // Modem lines differ: QEMU leaves them as they were when loop-back ends.
    const INTERRUPTS: u64 = 0x7ff & !(1 << 4 | 1 << 6) & !0xf;
    const FLAGS: u64 = 0x1ff & !0x107;
    for _ in 0..4000 {
        let value = random.value();
        let register = [0x00, 0x04, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x44, 0x48][random.below(10) as usize];
        match register {
            // No overruns: QEMU replaces a character that waits, hardware loses the new one.
            0x00 if pair.ours.read(UART + 0x18, 4).unwrap() & 0x40 != 0 => {}
            // Without break and with the FIFO as it was: QEMU takes a break for a character without an error here.
            0x2c => pair.write(UART + 0x2c, 4, value & 0xfe),
            // No DMA: QEMU only logs that it has none.
            0x30 => pair.write(UART + register, 4, value & 0xff87),
            // QEMU keeps bits of interrupts and levels that do not exist.
            0x34 => pair.write(UART + register, 4, value & 0x3f),
            0x38 => pair.write(UART + register, 4, value & 0x7ff),
            _ => pair.write(UART + register, 4, value & 0xffff),
        }
        // An empty FIFO reads as whatever was there.
        if random.below(3) == 0 && pair.ours.read(UART + 0x18, 4).unwrap() & 0x10 == 0 {
            pair.compare(UART, 4);
        }
        pair.compare_bits(UART + 0x18, 4, FLAGS);
        for register in [0x04, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38] {
            pair.compare(UART + register, 4);
        }
        pair.compare_bits(UART + 0x3c, 4, INTERRUPTS);
        pair.compare_bits(UART + 0x40, 4, INTERRUPTS);
    }
}
