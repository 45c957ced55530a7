//! Data accesses of the interpreter: fast table, then translation, alignment rules, page crossing, devices, exclusives.

use std::sync::atomic::Ordering;

use crate::exception::Syndrome;
use crate::hostmem::{HostAddress, Rmw};
use crate::mmu::{AccessKind, Fault, Privilege, Translation};
use crate::outside::{TraceEvent, trace};
use crate::sysreg::{Slot, ZVA_BYTES};
use crate::vcpu::{Trap, Vcpu};

/// SCTLR_EL1.A: alignment of all accesses is checked.
const SCTLR_A: u64 = 1 << 1;

/// Bytes of the page from `va` on.
#[inline(always)]
fn fits(va: u64, size: u64) -> bool {
    va & 0xfff <= 4096 - size
}

/// Where an access ends up.
enum Target {
    Ram(HostAddress),
    Device(u64),
}

impl Vcpu {
    /// Plain load of 1, 2, 4 or 8 bytes with the current privilege.
    ///
    /// # Errors
    /// A fault was raised.
    #[inline(always)]
    pub fn read(&mut self, va: u64, size: u64) -> Result<u64, Trap> {
        if fits(va, size)
            && let Some(host) = self.tlb.fast_read(va)
        {
            return Ok(HostAddress::from_ram(host).load(size));
        }
        self.load_slow(va, size, self.privilege(), false)
    }

    /// Plain store of 1, 2, 4 or 8 bytes with the current privilege.
    ///
    /// # Errors
    /// A fault was raised.
    #[inline(always)]
    pub fn write(&mut self, va: u64, size: u64, value: u64) -> Result<(), Trap> {
        if fits(va, size)
            && let Some(host) = self.tlb.fast_write(va)
        {
            HostAddress::from_ram(host).store(size, value);
            return Ok(());
        }
        self.store_slow(va, size, value, self.privilege(), false)
    }

    /// Plain load of 16 bytes.
    ///
    /// # Errors
    /// A fault was raised.
    #[inline(always)]
    pub fn read128(&mut self, va: u64) -> Result<u128, Trap> {
        if fits(va, 16)
            && let Some(host) = self.tlb.fast_read(va)
        {
            return Ok(HostAddress::from_ram(host).load128());
        }
        self.load128_slow(va)
    }

    /// Plain store of 16 bytes.
    ///
    /// # Errors
    /// A fault was raised.
    #[inline(always)]
    pub fn write128(&mut self, va: u64, value: u128) -> Result<(), Trap> {
        if fits(va, 16)
            && let Some(host) = self.tlb.fast_write(va)
        {
            HostAddress::from_ram(host).store128(value);
            return Ok(());
        }
        self.store128_slow(va, value)
    }

    #[cold]
    fn load128_slow(&mut self, va: u64) -> Result<u128, Trap> {
        let who = self.privilege();
        self.check_alignment(va, 16, false, false)?;
        let low = self.load_slow(va, 8, who, false)?;
        let high = self.load_slow(va.wrapping_add(8), 8, who, false)?;
        Ok(u128::from(low) | u128::from(high) << 64)
    }

    #[cold]
    fn store128_slow(&mut self, va: u64, value: u128) -> Result<(), Trap> {
        let who = self.privilege();
        self.check_alignment(va, 16, false, true)?;
        // The second half must not fault after the first was written.
        self.translate_access(va.wrapping_add(8), 8, AccessKind::Write, who)?;
        self.store_slow(va, 8, value as u64, who, false)?;
        self.store_slow(va.wrapping_add(8), 8, (value >> 64) as u64, who, false)
    }

    /// LDTR: as EL0, also at EL1.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn load_unprivileged(&mut self, va: u64, size: u64) -> Result<u64, Trap> {
        self.load_slow(va, size, Privilege { el1: false, pan: false }, false)
    }

    /// STTR: as EL0, also at EL1.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn store_unprivileged(&mut self, va: u64, size: u64, value: u64) -> Result<(), Trap> {
        self.store_slow(va, size, value, Privilege { el1: false, pan: false }, false)
    }

    /// Load-acquire: aligned, sequentially consistent.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn load_acquire(&mut self, va: u64, size: u64) -> Result<u64, Trap> {
        self.check_alignment(va, size, true, false)?;
        if let Some(host) = self.tlb.fast_read(va) {
            return Ok(HostAddress::from_ram(host).load_acquire(size));
        }
        self.load_slow(va, size, self.privilege(), true)
    }

    /// Store-release: aligned, sequentially consistent.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn store_release(&mut self, va: u64, size: u64, value: u64) -> Result<(), Trap> {
        self.check_alignment(va, size, true, true)?;
        if let Some(host) = self.tlb.fast_write(va) {
            HostAddress::from_ram(host).store_release(size, value);
            return Ok(());
        }
        self.store_slow(va, size, value, self.privilege(), true)
    }

    #[cold]
    fn data_fault(&mut self, fault: Fault, write: bool, va: u64) -> Trap {
        self.raise(Syndrome::data_abort(fault, write, false, va))
    }

    /// Alignment by SCTLR_EL1.A, or always for ordered and atomic accesses.
    #[inline]
    fn check_alignment(&mut self, va: u64, size: u64, always: bool, write: bool) -> Result<(), Trap> {
        if va & (size - 1) != 0 && (always || self.arch.sys(Slot::SCTLR_EL1) & SCTLR_A != 0) {
            return Err(self.data_fault(Fault::Alignment, write, va));
        }
        Ok(())
    }

    /// Translation of an access that does not cross a page, with watchpoints and the alignment rule of Device memory.
    fn translate_access(&mut self, va: u64, size: u64, kind: AccessKind, who: Privilege) -> Result<Translation, Trap> {
        let write = kind == AccessKind::Write;
        match self.translate(va, kind, who) {
            Ok(t) => {
                if t.attributes.is_device() && va & (size - 1) != 0 {
                    return Err(self.data_fault(Fault::Alignment, write, va));
                }
                self.check_watchpoints(va, size, write, u8::from(who.el1))?;
                Ok(t)
            }
            Err(fault) => Err(self.data_fault(fault, write, va)),
        }
    }

    /// As `translate_access`, down to RAM or device; RAM pages of Normal memory enter the fast table.
    fn target(&mut self, va: u64, size: u64, kind: AccessKind, who: Privilege) -> Result<Target, Trap> {
        let t = self.translate_access(va, size, kind, who)?;
        let Some(host) = self.vm.ram.host(t.pa, size.min(4096 - (t.pa & 0xfff))) else {
            return Ok(Target::Device(t.pa));
        };
        let host = host.expose_provenance();
        // The fast table answers without looking at alignment or watchpoints, so Device memory and watched times stay out of it.
        let plain =
            !t.attributes.is_device() && !self.debug.watchpoints && self.arch.sys(Slot::SCTLR_EL1) & SCTLR_A == 0;
        if plain && who == self.privilege() {
            self.tlb.fill_fast(va, host, t.readable, t.writable, false);
        }
        let host = self.backing(host, t.pa, kind == AccessKind::Write);
        Ok(Target::Ram(HostAddress::from_ram(host)))
    }

    #[cold]
    #[inline(never)]
    fn load_slow(&mut self, va: u64, size: u64, who: Privilege, ordered: bool) -> Result<u64, Trap> {
        self.check_alignment(va, size, ordered, false)?;
        if !fits(va, size) {
            return self.load_crossing(va, size, who);
        }
        match self.target(va, size, AccessKind::Read, who)? {
            Target::Ram(host) if ordered => Ok(host.load_acquire(size)),
            Target::Ram(host) => Ok(host.load(size)),
            Target::Device(pa) => self.device_read(va, pa, size),
        }
    }

    #[cold]
    #[inline(never)]
    fn store_slow(&mut self, va: u64, size: u64, value: u64, who: Privilege, ordered: bool) -> Result<(), Trap> {
        self.check_alignment(va, size, ordered, true)?;
        if !fits(va, size) {
            return self.store_crossing(va, size, value, who);
        }
        match self.target(va, size, AccessKind::Write, who)? {
            Target::Ram(host) if ordered => host.store_release(size, value),
            Target::Ram(host) => host.store(size, value),
            Target::Device(pa) => self.device_write(va, pa, size, value)?,
        }
        Ok(())
    }

    /// An unaligned access over a page end: both pages are translated first, then bytes move one by one.
    fn crossing(&mut self, va: u64, size: u64, kind: AccessKind, who: Privilege) -> Result<[Translation; 2], Trap> {
        let write = kind == AccessKind::Write;
        let second = (va | 0xfff).wrapping_add(1);
        let first = match self.translate(va, kind, who) {
            Ok(t) => t,
            Err(fault) => return Err(self.data_fault(fault, write, va)),
        };
        let next = match self.translate(second, kind, who) {
            Ok(t) => t,
            Err(fault) => return Err(self.data_fault(fault, write, second)),
        };
        if first.attributes.is_device() || next.attributes.is_device() {
            return Err(self.data_fault(Fault::Alignment, write, va));
        }
        self.check_watchpoints(va, size, write, u8::from(who.el1))?;
        Ok([first, next])
    }

    fn load_crossing(&mut self, va: u64, size: u64, who: Privilege) -> Result<u64, Trap> {
        let [first, next] = self.crossing(va, size, AccessKind::Read, who)?;
        let in_first = 4096 - (va & 0xfff);
        let mut value = 0;
        for i in 0..size {
            let pa = if i < in_first { first.pa + i } else { next.pa + (i - in_first) };
            let byte = match self.vm.ram.host(pa, 1) {
                Some(host) => {
                    let host = host.expose_provenance();
                    HostAddress::from_ram(self.backing(host, pa, false)).load(1)
                }
                None => self.device_read(va, pa, 1)?,
            };
            value |= byte << (8 * i);
        }
        Ok(value)
    }

    fn store_crossing(&mut self, va: u64, size: u64, value: u64, who: Privilege) -> Result<(), Trap> {
        let [first, next] = self.crossing(va, size, AccessKind::Write, who)?;
        let in_first = 4096 - (va & 0xfff);
        for i in 0..size {
            let pa = if i < in_first { first.pa + i } else { next.pa + (i - in_first) };
            let byte = value >> (8 * i) & 0xff;
            match self.vm.ram.host(pa, 1) {
                Some(host) => {
                    let host = host.expose_provenance();
                    HostAddress::from_ram(self.backing(host, pa, true)).store(1, byte);
                }
                None => self.device_write(va, pa, 1, byte)?,
            }
        }
        Ok(())
    }

    #[cold]
    fn device_read(&mut self, va: u64, pa: u64, size: u64) -> Result<u64, Trap> {
        if self.rehearsal.as_mut().is_some_and(|r| r.refuses_device()) {
            return Err(Trap::Exit);
        }
        self.counters.mmio += 1;
        let result = if va & (size - 1) == 0 {
            self.outside.mmio_read(self.index, pa, size as u8)
        } else {
            // Unaligned to Normal memory that is no RAM: bytes.
            (0..size).try_fold(0, |v, i| Ok(v | self.outside.mmio_read(self.index, pa + i, 1)? << (8 * i)))
        };
        if self.vm.trace.load(Ordering::Relaxed) & trace::MMIO != 0 {
            let event = TraceEvent::Mmio { pc: self.arch.pc, pa, size: size as u8, write: false, value: result.ok() };
            self.outside.trace(self.index, &event);
        }
        result.map_err(|_| self.data_fault(Fault::External, false, va))
    }

    #[cold]
    fn device_write(&mut self, va: u64, pa: u64, size: u64, value: u64) -> Result<(), Trap> {
        if self.rehearsal.as_mut().is_some_and(|r| r.refuses_device()) {
            return Err(Trap::Exit);
        }
        self.counters.mmio += 1;
        let value = if size < 8 { value & ((1 << (8 * size)) - 1) } else { value };
        let result = if va & (size - 1) == 0 {
            self.outside.mmio_write(self.index, pa, size as u8, value)
        } else {
            (0..size).try_for_each(|i| self.outside.mmio_write(self.index, pa + i, 1, value >> (8 * i) & 0xff))
        };
        if self.vm.trace.load(Ordering::Relaxed) & trace::MMIO != 0 {
            let event = TraceEvent::Mmio {
                pc: self.arch.pc,
                pa,
                size: size as u8,
                write: true,
                value: result.ok().map(|()| value),
            };
            self.outside.trace(self.index, &event);
        }
        result.map_err(|_| self.data_fault(Fault::External, true, va))
    }

    /// Host address and what the exclusive monitor calls the place (its physical address) for an atomic access: aligned, Normal memory, RAM.
    fn atomic_target(&mut self, va: u64, size: u64, kind: AccessKind) -> Result<(HostAddress, u64), Trap> {
        let write = kind == AccessKind::Write;
        self.check_alignment(va, size, true, write)?;
        let who = self.privilege();
        let t = self.translate_access(va, size, kind, who)?;
        match self.vm.ram.host(t.pa, size) {
            Some(host) if !t.attributes.is_device() || self.arch.sys(Slot::SCTLR_EL1) & 1 == 0 => {
                let host = host.expose_provenance();
                let backing = self.backing(host, t.pa, write);
                // Generated code keeps the virtual address in the monitor: where both run, so does the interpreter.
                let key = if self.rehearsal.is_some() { va } else { t.pa };
                Ok((HostAddress::from_ram(backing), key))
            }
            // With the MMU off all memory is Device: exclusives on RAM are let through, as common hardware does; elsewhere they abort.
            _ => Err(self.data_fault(Fault::UnsupportedAtomic, write, va)),
        }
    }

    /// Atomic read-modify-write: gives the old value.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn atomic_rmw(&mut self, va: u64, size: u64, op: Rmw, value: u64) -> Result<u64, Trap> {
        if va & (size - 1) == 0
            && let Some(host) = self.tlb.fast_write(va)
        {
            return Ok(HostAddress::from_ram(host).rmw(size, op, value));
        }
        let (host, _) = self.atomic_target(va, size, AccessKind::Write)?;
        self.warm_write(va, host);
        Ok(host.rmw(size, op, value))
    }

    /// The next write to the page goes by the fast table, when it may.
    fn warm_write(&mut self, va: u64, host: HostAddress) {
        if !self.debug.watchpoints && self.arch.sys(Slot::SCTLR_EL1) & (SCTLR_A | 1) == 1 {
            self.tlb.fill_fast(va, host.number(), true, true, false);
        }
    }

    /// CAS: gives the old value.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn compare_and_swap(&mut self, va: u64, size: u64, expected: u64, new: u64) -> Result<u64, Trap> {
        if va & (size - 1) == 0
            && let Some(host) = self.tlb.fast_write(va)
        {
            return Ok(HostAddress::from_ram(host).compare_exchange(size, expected, new));
        }
        let (host, _) = self.atomic_target(va, size, AccessKind::Write)?;
        self.warm_write(va, host);
        Ok(host.compare_exchange(size, expected, new))
    }

    /// CASP of two 64-bit registers: gives the old 16 bytes.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn compare_and_swap128(&mut self, va: u64, expected: u128, new: u128) -> Result<u128, Trap> {
        let (host, _) = self.atomic_target(va, 16, AccessKind::Write)?;
        Ok(host.compare_exchange128(expected, new))
    }

    /// Load-exclusive of 1, 2, 4, 8 or 16 bytes: sets the monitor.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn load_exclusive(&mut self, va: u64, size: u64) -> Result<u128, Trap> {
        let (host, pa) = self.atomic_target(va, size, AccessKind::Read)?;
        let value = if size == 16 {
            // A failing (or identical) exchange is a 16-byte atomic read.
            host.compare_exchange128(0, 0)
        } else {
            u128::from(host.load_acquire(size))
        };
        let m = &mut self.arch.exclusive;
        (m.pa, m.low, m.high, m.size) = (pa, value as u64, (value >> 64) as u64, size);
        Ok(value)
    }

    /// Store-exclusive: true when it stored. The monitor is open afterwards.
    ///
    /// # Errors
    /// A fault was raised.
    pub fn store_exclusive(&mut self, va: u64, size: u64, value: u128) -> Result<bool, Trap> {
        // With the monitor closed it fails without a look at the address (IMPLEMENTATION DEFINED; so does the translator).
        let m = self.arch.exclusive;
        self.arch.exclusive.size = 0;
        if m.size != size || self.rehearsal.is_some() && m.pa != va {
            return Ok(false);
        }
        self.check_alignment(va, size, true, true)?;
        let (host, pa) = self.atomic_target(va, size, AccessKind::Write)?;
        if pa != m.pa {
            return Ok(false);
        }
        if size == 16 {
            let expected = u128::from(m.low) | u128::from(m.high) << 64;
            Ok(host.compare_exchange128(expected, value) == expected)
        } else {
            let mask = if size < 8 { (1u64 << (8 * size)) - 1 } else { u64::MAX };
            Ok(host.compare_exchange(size, m.low, value as u64) == m.low & mask)
        }
    }

    /// DC ZVA.
    ///
    /// # Errors
    /// A fault was raised.
    pub(crate) fn zero_block(&mut self, va: u64) -> Result<(), Trap> {
        let start = va & !(ZVA_BYTES - 1);
        if let Some(host) = self.tlb.fast_write(start) {
            HostAddress::from_ram(host).zero64();
            return Ok(());
        }
        let who = self.privilege();
        let t = match self.translate(va, AccessKind::Write, who) {
            Ok(t) => t,
            Err(fault) => return Err(self.data_fault(fault, true, va)),
        };
        self.check_watchpoints(start, ZVA_BYTES, true, u8::from(who.el1))?;
        match self.vm.ram.host(t.pa & !(ZVA_BYTES - 1), ZVA_BYTES) {
            Some(host) if !t.attributes.is_device() => {
                let host = host.expose_provenance();
                let host = HostAddress::from_ram(self.backing(host, t.pa & !(ZVA_BYTES - 1), true));
                self.warm_write(start, host);
                host.zero64();
                Ok(())
            }
            _ => Err(self.data_fault(Fault::Alignment, true, va)),
        }
    }
}
