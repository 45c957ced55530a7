//! What a person reads when a guest hangs: registers, interrupts, timers, the last exceptions, counters.

use std::fmt::Write;

use crate::gic::CpuInterface;
use crate::sysreg::Slot;
use crate::timer::Timer;
use crate::vcpu::Vcpu;

impl Vcpu {
    /// The state of this PE as text, many lines. Only its own thread (or nobody else) may run it meanwhile.
    pub fn report(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_report(&mut out);
        out
    }

    fn write_report(&self, out: &mut String) -> std::fmt::Result {
        let a = &self.arch;
        writeln!(out, "vCPU {}: PC {:#018x} EL{} PSTATE {:#010x} SP {:#018x}", self.index, a.pc, a.el, a.spsr(), a.sp)?;
        for (i, x) in a.x.iter().enumerate() {
            write!(out, " x{i:<2} {x:#018x}")?;
            if i % 4 == 3 || i == 30 {
                writeln!(out)?;
            }
        }
        writeln!(
            out,
            " SP_EL0 {:#018x} SP_EL1 {:#018x} FPCR {:#x} FPSR {:#x}",
            a.sp_of(0),
            a.sp_of(1),
            a.fpcr,
            a.fpsr
        )?;
        for slot in [
            Slot::SCTLR_EL1,
            Slot::TCR_EL1,
            Slot::TTBR0_EL1,
            Slot::TTBR1_EL1,
            Slot::VBAR_EL1,
            Slot::ELR_EL1,
            Slot::SPSR_EL1,
            Slot::ESR_EL1,
            Slot::FAR_EL1,
        ] {
            writeln!(out, " {:9} {:#018x}", Slot::name(slot as usize).unwrap_or_default(), a.sys(slot))?;
        }
        let g: &CpuInterface = &self.gic;
        writeln!(
            out,
            " GIC: PMR {:#x} running {:#x} groups {}{} best pending {:?} {:?}; signalled {:#x}",
            g.pmr(),
            g.running_priority(),
            g.group_enabled(0),
            g.group_enabled(1),
            self.shared.best_irq(0),
            self.shared.best_irq(1),
            a.pending
        )?;
        for timer in Timer::ALL {
            writeln!(
                out,
                " {timer:?} timer: CTL {} CVAL {:#x}, counter {:#x}",
                self.timer_ctl(timer),
                self.timer_cval(timer),
                self.counter()
            )?;
        }
        let c = &self.counters;
        writeln!(
            out,
            " {} instructions, {} interrupts, {} walks, {} of {} TLB lookups hit, {} TLBI, {} device accesses, {} parks{}",
            c.instructions,
            c.irqs,
            c.walks,
            c.tlb_hits,
            c.tlb_lookups,
            c.tlbi,
            c.mmio,
            c.parks,
            if self.shared.is_parked() { ", parked now" } else { "" }
        )?;
        for (enc, n) in c.unimplemented() {
            writeln!(out, " unimplemented system encoding {enc:?}: {n} times")?;
        }
        writeln!(out, " last exceptions, newest last:")?;
        for record in self.ring.iter() {
            writeln!(out, "  {record}")?;
        }
        Ok(())
    }

    /// The counters as a JSON object.
    pub fn counters(&self) -> serde_json::Value {
        let c = &self.counters;
        let exceptions: serde_json::Map<String, serde_json::Value> = c
            .exceptions
            .iter()
            .enumerate()
            .filter(|(_, n)| **n != 0)
            .map(|(ec, n)| (format!("{ec:#04x}"), (*n).into()))
            .collect();
        let unimplemented: serde_json::Map<String, serde_json::Value> =
            c.unimplemented().map(|(e, n)| (format!("{e:?}"), n.into())).collect();
        serde_json::json!({
            "instructions": c.instructions,
            "exceptions": exceptions,
            "interrupts": c.irqs,
            "walks": c.walks,
            "tlb_lookups": c.tlb_lookups,
            "tlb_hits": c.tlb_hits,
            "tlbi": c.tlbi,
            "tlbi_posted": c.shootdowns,
            "tlbi_slept": c.shootdown_sleeps,
            "tlbi_waited_ns": c.shootdown_ns,
            "code_invalidations": c.code_invalidations,
            "mmio": c.mmio,
            "pages_decoded": c.pages_decoded,
            "parks": c.parks,
            "parked_ns": self.shared.parked_ns.load(std::sync::atomic::Ordering::Relaxed),
            "eret_el0": self.shared.eret_el0.load(std::sync::atomic::Ordering::Relaxed),
            "unimplemented_system_encodings": unimplemented,
        })
    }
}
