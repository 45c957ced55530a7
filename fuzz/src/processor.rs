//! The processor: any words, any translation tables, any program on any registers.

use std::sync::Arc;

use cpu::mmu::walk::{Controls, walk};
use cpu::mmu::{AccessKind, Privilege};
use cpu::sysreg::ROWS;
use cpu::{BusFault, Clock, Conduit, CpuConfig, Outside, Ram, SgiGroup, SmcccOutcome, Stop, Vcpu, VmShared};

use crate::bytes::Bytes;

const RAM: u64 = 0x4000_0000;
const LEN: u64 = 1 << 16;

/// Decodes, disassembles, encodes.
pub fn decoder(data: &[u8]) {
    let mut bytes = Bytes(data);
    while let Some(word) = bytes.u32() {
        let insn = isa::decode(word, isa::Features::ALL);
        let none = isa::decode(word, isa::Features::NONE);
        assert!(none == insn || none == isa::Insn::Undefined, "fewer features take away, never change: {word:#010x}");
        assert!(!isa::disasm::disasm(word, 0x1000).is_empty());
        assert!(
            isa::encoding(word).is_some() || insn == isa::Insn::Undefined,
            "{word:#010x} has a meaning but no encoding"
        );
    }
}

fn ram_with(data: &[u8]) -> Ram {
    let ram = Ram::allocated(&[(RAM, LEN)]).expect("a range of pages");
    // Descriptors in every page: the bytes again and again.
    if !data.is_empty() {
        let page: Vec<u8> = data.iter().copied().cycle().take(4096).collect();
        (0..LEN / 4096).for_each(|p| assert!(ram.write_bytes(RAM + p * 4096, &page)));
    }
    ram
}

/// Walks any tables under any controls: ends, stays in RAM, and finds what it found before when nothing changed.
pub fn walker(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut take = || bytes.u64().unwrap_or(0);
    let (tcr, low, high, mair, sctlr) = (take(), take(), take(), take(), take());
    let controls = Controls {
        tcr,
        ttbr0: RAM | low & 0xffff,
        ttbr1: RAM | high & 0xffff,
        mair,
        sctlr: sctlr | 1,
        pa_bits: 44,
        hardware_af: low >> 16 & 1 != 0,
        hardware_dirty: low >> 17 & 1 != 0,
    };
    let ram = ram_with(bytes.0);
    while let Some(va) = bytes.u64() {
        let who = Privilege { el1: va & 1 != 0, pan: va & 2 != 0 };
        let kind = [AccessKind::Read, AccessKind::Write, AccessKind::Execute][(va >> 2) as usize % 3];
        let found = walk(&ram, &controls, va, kind, who);
        if let Ok(w) = found {
            assert!(w.pa >> 44 == 0 && ram.load_u64(w.descriptor_pa).is_some());
        }
        let again = walk(&ram, &controls, va, kind, who);
        // An update of the access flag may have hit a table of the same walk: only when it did not may nothing differ.
        if let (Ok(a), Ok(b)) = (found, again)
            && a.descriptor == b.descriptor
        {
            assert_eq!(a, b);
        }
    }
}

/// A machine with nothing in it.
struct Nothing;

impl Outside for Nothing {
    fn mmio_read(&self, _: usize, pa: u64, _: u8) -> Result<u64, BusFault> {
        if pa & 1 << 20 == 0 { Ok(pa) } else { Err(BusFault) }
    }
    fn mmio_write(&self, _: usize, pa: u64, _: u8, _: u64) -> Result<(), BusFault> {
        if pa & 1 << 20 == 0 { Ok(()) } else { Err(BusFault) }
    }
    fn gic_acknowledge(&self, _: usize, intid: u32) -> bool {
        intid & 1 != 0
    }
    fn gic_deactivate(&self, _: usize, _: u32) {}
    fn gic_send_sgi(&self, _: usize, _: u64, _: SgiGroup) {}
    fn gic_set_ppi(&self, _: usize, _: u32, _: bool) {}
    fn smccc(&self, _: usize, _: Conduit, _: u16, regs: &mut [u64; 18]) -> SmcccOutcome {
        regs[0] = u64::MAX;
        SmcccOutcome::Continue
    }
}

/// Runs the bytes as a program on registers made of them.
pub fn processing_element(data: &[u8]) {
    let mut bytes = Bytes(data);
    let Some(count) = bytes.u8() else { return };
    let vm = VmShared::new(ram_with(&[]), Arc::new(Clock::new()), 1, CpuConfig::max());
    // An interrupt is always pending, so that WFI does not wait.
    vm.vcpus[0].publish_irq(1, Some((0xf0, 33)));
    let mut v = Vcpu::new(0, vm.clone(), Arc::new(Nothing));
    v.reset(RAM, [0; 4]);
    v.gic.set_pmr(0xff);
    v.gic.set_group_enabled(1, 1);
    for _ in 0..count & 15 {
        let (Some(row), Some(value)) = (bytes.u8(), bytes.u64()) else { return };
        // A refusal is no matter.
        let _ = v.msr(ROWS[usize::from(row) % ROWS.len()].enc, 0, value);
    }
    let words: Vec<u8> = bytes
        .0
        .chunks_exact(4)
        .flat_map(|w| {
            // Waiting for a counter value or an interrupt that never comes is the guest's right, but no test.
            let word = u32::from_le_bytes([w[0], w[1], w[2], w[3]]);
            let waits = matches!(isa::decode(word, isa::Features::ALL), isa::Insn::Wfi | isa::Insn::Wfit { .. });
            if waits { 0xd503_201fu32.to_le_bytes() } else { word.to_le_bytes() }
        })
        .collect();
    if !words.is_empty() {
        let page: Vec<u8> = words.iter().copied().cycle().take(4096).collect();
        (0..LEN / 4096).for_each(|p| assert!(vm.ram.write_bytes(RAM + p * 4096, &page)));
    }
    let stop = v.run_budget(500);
    assert!(matches!(stop, Stop::Budget), "{stop:?}");
    let saved = v.save();
    v.load(&saved).expect("what was saved can be loaded");
}
