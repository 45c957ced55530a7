//! What a person reads when the engines disagree.
#![expect(unsafe_code, reason = "prints the bytes of generated code")]

use std::fmt::{self, Display, Formatter};

use cpu::ArchState;
use cpu::rehearsal::MemoryDifference;
use cpu::state::ExclusiveMonitor;
use cpu::sysreg::Slot;

use super::{Shape, UFC};
use crate::machine::JitCpu;

/// True if two states agree in everything that an instruction can see. `flags`: NZCV too; `late`: but for FPSR.UFC.
pub fn same_registers(a: &ArchState, b: &ArchState, flags: bool, late: bool) -> bool {
    let fpsr = if late { !UFC } else { !0 };
    let other = 1 - a.sp_bank();
    a.x == b.x
        && a.sp == b.sp
        && a.pc == b.pc
        && a.v == b.v
        && (!flags || a.nzcv == b.nzcv)
        && a.fpsr & fpsr == b.fpsr & fpsr
        && (a.fpcr, a.daif, a.el, a.spsel, a.pan) == (b.fpcr, b.daif, b.el, b.spsel, b.pan)
        && (a.dit, a.ssbs, a.il, a.ss) == (b.dit, b.ssbs, b.il, b.ss)
        && a.sp_el[other] == b.sp_el[other]
        && same_monitor(&a.exclusive, &b.exclusive)
        && a.sys == b.sys
}

/// The high half is what it was before, unless the access is of 16 bytes.
fn same_monitor(a: &ExclusiveMonitor, b: &ExclusiveMonitor) -> bool {
    a.size == b.size && (a.size == 0 || (a.pa, a.low) == (b.pa, b.low) && (a.size < 16 || a.high == b.high))
}

/// Everything about one difference.
pub struct Report<'a> {
    pub cpu: &'a JitCpu,
    pub shape: &'a Shape,
    pub host: u64,
    /// Physical address of the guest code.
    pub pa: u64,
    pub start: &'a ArchState,
    pub reference: &'a ArchState,
    pub how: String,
    pub differences: Vec<MemoryDifference>,
}

impl Report<'_> {
    /// The instruction words of the unit, as RAM has them now.
    fn words(&self) -> Vec<(u64, u32)> {
        let first = self.start.pc;
        let mut words = [0u32; 64];
        let n = self.cpu.vcpu.vm.ram.read_code_words(self.pa, &mut words);
        let count = n.min(self.shape.insns as usize);
        words.iter().take(count).enumerate().map(|(i, w)| (first.wrapping_add(4 * i as u64), *w)).collect()
    }

    fn registers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (a, b, s) = (self.reference, &self.cpu.vcpu.arch, self.start);
        let mut row = |name: &str, a: u64, b: u64, s: u64| {
            if a == b {
                return Ok(());
            }
            writeln!(f, "  {name:<10} interpreter {a:#018x}  translator {b:#018x}  before {s:#018x}")
        };
        for n in 0..31 {
            row(&format!("x{n}"), a.x[n], b.x[n], s.x[n])?;
        }
        row("sp", a.sp, b.sp, s.sp)?;
        row("pc", a.pc, b.pc, s.pc)?;
        row("nzcv", a.nzcv.into(), b.nzcv.into(), s.nzcv.into())?;
        row("fpsr", a.fpsr.into(), b.fpsr.into(), s.fpsr.into())?;
        row("fpcr", a.fpcr.into(), b.fpcr.into(), s.fpcr.into())?;
        row("daif", a.daif.into(), b.daif.into(), s.daif.into())?;
        row("pstate", a.spsr(), b.spsr(), s.spsr())?;
        for n in 0..a.sys.len() {
            row(Slot::name(n).unwrap_or("?"), a.sys[n], b.sys[n], s.sys[n])?;
        }
        for n in 0..32 {
            if a.v[n] != b.v[n] {
                writeln!(f, "  v{n:<9} interpreter {:#034x}  translator {:#034x}", a.v[n], b.v[n])?;
                writeln!(f, "  {:<10} before      {:#034x}", "", s.v[n])?;
            }
        }
        if a.exclusive != b.exclusive {
            writeln!(f, "  monitor    interpreter {:x?}  translator {:x?}", a.exclusive, b.exclusive)?;
        }
        Ok(())
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (v, s) = (&self.cpu.vcpu, self.start);
        writeln!(f, "the translator and the interpreter disagree: {}", self.how)?;
        writeln!(
            f,
            " vCPU {}, EL{}, unit {} of this run, {} guest instructions at {:#x}:",
            v.index, s.el, self.cpu.counters.check_units, self.shape.insns, s.pc
        )?;
        for (pc, word) in self.words() {
            writeln!(f, "  {pc:#x}: {word:08x}  {}", isa::disasm::disasm(word, pc))?;
        }
        writeln!(f, " differs:")?;
        self.registers(f)?;
        for d in &self.differences {
            let who = if d.is_written() { "" } else { " (not written by the interpreter)" };
            writeln!(
                f,
                "  [PA {:#x}] interpreter {:#018x}  translator {:#018x}  before {:#018x}{who}",
                d.pa, d.rehearsed, d.found, d.before
            )?;
        }
        writeln!(f, " registers before:")?;
        for (n, x) in s.x.iter().enumerate() {
            write!(f, "  x{n:<2} {x:#018x}{}", if n % 4 == 3 { "\n" } else { "" })?;
        }
        writeln!(f, "  sp  {:#018x}  nzcv {:x}  fpcr {:#x}  fpsr {:#x}", s.sp, s.nzcv >> 28, s.fpcr, s.fpsr)?;
        writeln!(f, " host code at {:#x}, {} bytes:", self.host, self.shape.host_len)?;
        let len = (self.shape.host_len as usize).min(4096);
        // SAFETY: the fragment was just executed at this address and its hot code is this long; the cache is mapped readable while the CPU lives.
        let code =
            unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(self.host as usize), len) };
        for line in code.chunks(32) {
            let hex: String = line.iter().map(|b| format!("{b:02x}")).collect();
            writeln!(f, "  {hex}")?;
        }
        writeln!(f, " to bisect: run again with --jit-opt no-NAME for one optimisation after the other")
    }
}
