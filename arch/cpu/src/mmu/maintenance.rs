//! TLB maintenance operations: their encodings, and what they remove.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::shared::{TLBI_QUEUE_LIMIT, req};
use crate::sysreg::{Slot, SysEnc};
use crate::vcpu::Vcpu;

/// Looks at whether another PE has answered, before this one sleeps: a few microseconds.
const ANSWER_SPINS: u32 = 200;
/// Longest sleep until another PE has answered; it is roused earlier.
const ANSWER_NAP: Duration = Duration::from_millis(1);

/// Which entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlbiKind {
    /// All of the EL1&0 regime.
    All,
    /// All non-global ones of an ASID.
    Asid,
    /// Those of a VA range with this ASID, or global.
    Va,
    /// Those of a VA range with any ASID.
    VaAllAsids,
}

/// One maintenance operation, as it travels between vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlbiOp {
    /// Which entries.
    pub kind: TlbiKind,
    /// The ASID, for those kinds that have one.
    pub asid: u16,
    /// First byte of the range, sign-extended from bit 55.
    pub start: u64,
    /// Last byte of the range.
    pub last: u64,
}

impl TlbiOp {
    /// Everything.
    pub const ALL: TlbiOp = TlbiOp { kind: TlbiKind::All, asid: 0, start: 0, last: u64::MAX };

    /// It concerns no address of the upper half, or an address space as a whole.
    fn last_is_low(&self) -> bool {
        self.kind == TlbiKind::Asid || self.last >> 55 & 1 == 0
    }

    /// Number of 4 KiB pages in the range (saturating).
    pub fn pages(&self) -> u64 {
        ((self.last >> 12).wrapping_sub(self.start >> 12)).saturating_add(1)
    }
}

/// Sign-extends a VA from bit 55.
pub const fn canonical(va: u64) -> u64 {
    ((va << 8) as i64 >> 8) as u64
}

/// Decodes TLBI instructions (op0 1, op1 0, CRn 8 or 9) with their operand; the flag says "broadcast". `None`: not a TLBI of EL1.
pub fn decode(enc: SysEnc, value: u64, asid_bits_16: bool) -> Option<(TlbiOp, bool)> {
    if enc.op0() != 1 || enc.op1() != 0 || enc.crn() != 8 {
        return None;
    }
    let asid_mask = if asid_bits_16 { 0xffff } else { 0xff };
    let asid = (value >> 48 & asid_mask) as u16;
    // CRm: 1 outer shareable, 3 inner shareable, 7 local; ranges: 5 outer, 2 inner, 6 local.
    let broadcast = match enc.crm() {
        1 | 2 | 3 | 5 => true,
        6 | 7 => false,
        _ => return None,
    };
    let range = matches!(enc.crm(), 2 | 5 | 6);
    let kind = match (enc.op2(), range) {
        (0, false) => return Some((TlbiOp::ALL, broadcast)),
        (2, false) => return Some((TlbiOp { kind: TlbiKind::Asid, asid, start: 0, last: u64::MAX }, broadcast)),
        (1 | 5, _) => TlbiKind::Va,
        (3 | 7, _) => TlbiKind::VaAllAsids,
        _ => return None,
    };
    let (start, last) = if range { range_of(value)? } else { single(value) };
    Some((TlbiOp { kind, asid, start, last }, broadcast))
}

/// VA forms: bits 43:0 hold VA[55:12]. With larger granules low bits are ignored by hardware: the blocks' own size takes care here.
fn single(value: u64) -> (u64, u64) {
    let start = canonical((value & 0xfff_ffff_ffff) << 12);
    (start, start | 0xfff)
}

/// Range forms (FEAT_TLBIRANGE): BaseADDR 36:0, TTL 38:37, NUM 43:39, SCALE 45:44, TG 47:46. A reserved TG invalidates nothing sure: everything goes.
fn range_of(value: u64) -> Option<(u64, u64)> {
    let shift = match value >> 46 & 3 {
        1 => 12,
        2 => 14,
        3 => 16,
        _ => return Some((0, u64::MAX)),
    };
    let base = value & 0x1f_ffff_ffff;
    // BaseADDR holds VA[48 or so : shift], sign-extended.
    let start = (((base << 27) as i64 >> 27) as u64) << shift;
    let num = value >> 39 & 31;
    let scale = value >> 44 & 3;
    let bytes = ((num + 1) << (5 * scale + 1)) << shift;
    Some((start, start.saturating_add(bytes - 1)))
}

impl Vcpu {
    /// Applies a TLBI to this PE's caches.
    pub fn apply_tlbi(&mut self, op: &TlbiOp) {
        self.tlb.invalidate(op);
        self.counters.tlbi += 1;
        if let Some(log) = &mut self.tlbi_log {
            log.push(*op);
        }
        // The current code page's translation may be what was removed.
        self.fetch_stale();
    }

    /// As [`Vcpu::apply_tlbi`]; where nothing of an address space, or nothing at all, is cached then, others need not ask about it any more.
    fn apply_and_forget(&mut self, op: &TlbiOp) {
        self.apply_tlbi(op);
        let (shared, current) = (&self.shared, self.asid());
        match op.kind {
            TlbiKind::All => {
                shared.asids.clear();
                shared.asids.add(current);
            }
            TlbiKind::Asid if op.asid != current => shared.asids.remove(op.asid),
            _ => {}
        }
    }

    /// Applies what other PEs queued.
    pub(crate) fn drain_tlbi(&mut self) {
        let shared = self.shared.clone();
        let (ops, number) = shared.shoot.take();
        let current = self.asid();
        for op in &ops {
            match op.kind {
                // An address space that is not used here now goes as a whole, so that it is not asked for again.
                TlbiKind::Asid | TlbiKind::Va if op.asid != current && op.last_is_low() => {
                    self.apply_tlbi(op);
                    if op.kind == TlbiKind::Va {
                        self.apply_tlbi(&TlbiOp { kind: TlbiKind::Asid, asid: op.asid, start: 0, last: u64::MAX });
                    }
                    shared.asids.remove(op.asid);
                }
                _ => self.apply_and_forget(op),
            }
        }
        self.vm.stress.point();
        if number != 0 {
            self.vm.rouse(shared.shoot.applied(number));
        }
    }

    /// TLBI instruction. False: not one.
    pub(crate) fn tlbi(&mut self, enc: SysEnc, value: u64) -> bool {
        let wide = self.arch.sys(Slot::TCR_EL1) & (1 << 36) != 0;
        let Some((op, broadcast)) = decode(enc, value, wide) else { return false };
        // Also of this PE alone: a kernel runs on an identity map of global translations once, and ends that by a local operation.
        self.apply_and_forget(&op);
        if broadcast && self.vm.vcpus.len() > 1 {
            let vm = self.vm.clone();
            for (i, v) in vm.vcpus.iter().enumerate() {
                if i != self.index && v.is_concerned(&op) {
                    vm.stress.point();
                    self.shoot_waits[i] = v.post_tlbi(op);
                    self.shoot_pending = true;
                    self.counters.shootdowns += 1;
                }
            }
            self.announce(&op);
        }
        true
    }

    /// Remembers what others were told, for an engine that shares what it makes of translations.
    fn announce(&mut self, op: &TlbiOp) {
        if self.tlbi_log.is_none() || op.last_is_low() {
            return;
        }
        let range = (canonical(op.start), op.last);
        let many = self.announced.len() >= TLBI_QUEUE_LIMIT;
        match self.announced.last_mut() {
            // One range that holds both; what lies between them is forgotten without need.
            Some(last) if many => *last = (last.0.min(range.0), last.1.max(range.1)),
            _ => self.announced.push(range),
        }
    }

    /// DSB: waits until every broadcast TLBI of this PE can have no effect elsewhere any more. Serves its own queue meanwhile, so two PEs may wait for each other.
    pub(crate) fn complete_tlbi(&mut self) {
        if !self.shoot_pending {
            return;
        }
        self.shoot_pending = false;
        self.vm.stress.point();
        let vm = self.vm.clone();
        for (i, v) in vm.vcpus.iter().enumerate() {
            let seq = std::mem::take(&mut self.shoot_waits[i]);
            if i == self.index || seq == 0 {
                continue;
            }
            if v.shoot.done(seq) {
                continue;
            }
            let (mut spins, begin) = (0u32, std::time::Instant::now());
            while !v.shoot.done(seq) {
                if self.shared.req().load(Ordering::Relaxed) & req::SHOOT != 0 {
                    self.shared.req().fetch_and(!req::SHOOT, Ordering::SeqCst);
                    self.drain_tlbi();
                }
                spins += 1;
                if spins < ANSWER_SPINS {
                    std::hint::spin_loop();
                } else {
                    // The host runs something else in its place: let it have this processor.
                    self.counters.shootdown_sleeps += 1;
                    self.shared.park_for_answer(|| v.shoot.done_or_rouse(seq, self.index), ANSWER_NAP);
                }
            }
            let waited = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.counters.shootdown_ns = self.counters.shootdown_ns.saturating_add(waited);
        }
        self.completed.append(&mut self.announced);
    }
}
