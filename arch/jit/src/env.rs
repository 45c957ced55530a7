//! Where generated code finds things: displacements from r15, which points into [`JitCpu`](crate::JitCpu).

use std::mem::offset_of;

use cpu::{ArchState, Vcpu};

use crate::machine::{Hot, JitCpu};
use crate::tlb::{Buckets, Context, Filled, Slot, SlotTable};

/// r15 = address of the `JitCpu` + this, so that X0 to X30 and SP have displacements of one byte.
pub const BIAS: i32 = 128;

/// Slots of sites that access with EL0's rights; a power of two, as [`SLOTS_EL1`].
pub const SLOTS_EL0: u32 = 4096;
/// Slots of sites that access with EL1's rights.
pub const SLOTS_EL1: u32 = 2048;
/// Bytes of one slot.
pub const SLOT_BYTES: u32 = size_of::<Slot>() as u32;
/// Fields of a slot.
pub const SLOT_RPAGE: i32 = offset_of!(Slot, rpage) as i32;
/// See [`Slot`].
pub const SLOT_WPAGE: i32 = offset_of!(Slot, wpage) as i32;
/// From a page of a slot to its addend.
pub const PAGE_TO_ADDEND: i32 = offset_of!(Slot, raddend) as i32 - SLOT_RPAGE;
const _: () = assert!(SLOT_WPAGE + PAGE_TO_ADDEND == offset_of!(Slot, waddend) as i32);
// The cold path passes a slot's number in 24 bits.
const _: () = assert!(SLOTS_EL0.is_power_of_two() && SLOTS_EL1.is_power_of_two() && SLOT_BYTES == 32);

const ARCH: usize = offset_of!(JitCpu, vcpu) + offset_of!(Vcpu, arch);
const HOT: usize = offset_of!(JitCpu, hot);

const fn arch(offset: usize) -> i32 {
    (ARCH + offset) as i32 - BIAS
}
const fn hot(offset: usize) -> i32 {
    (HOT + offset) as i32 - BIAS
}

/// X`n`, 0..=30.
#[must_use]
pub const fn x(n: u8) -> i32 {
    arch(offset_of!(ArchState, x)) + n as i32 * 8
}
/// V`n`.
#[must_use]
pub const fn v(n: u8) -> i32 {
    arch(offset_of!(ArchState, v)) + n as i32 * 16
}
/// A system register with plain storage.
#[must_use]
pub const fn sys(slot: cpu::sysreg::Slot) -> i32 {
    arch(offset_of!(ArchState, sys)) + slot as i32 * 8
}
/// Current stack pointer.
pub const SP: i32 = arch(offset_of!(ArchState, sp));
/// Banked stack pointers.
pub const SP_EL: i32 = arch(offset_of!(ArchState, sp_el));
/// Program counter; only valid outside generated code.
pub const PC: i32 = arch(offset_of!(ArchState, pc));
/// PSTATE.DAIF.
pub const DAIF: i32 = arch(offset_of!(ArchState, daif));
/// Interrupts pending.
pub const PENDING: i32 = arch(offset_of!(ArchState, pending));
/// FPCR.
pub const FPCR: i32 = arch(offset_of!(ArchState, fpcr));
/// FPSR.
pub const FPSR: i32 = arch(offset_of!(ArchState, fpsr));
/// Exclusive monitor.
pub const EXCLUSIVE: i32 = arch(offset_of!(ArchState, exclusive));

/// NZCV in the format of `t1::flags`.
pub const FLAGS: i32 = hot(offset_of!(Hot, flags));
/// The host's CF inverted, where the other flags are not wanted: 0 or 1 (a byte).
pub const CARRY: i32 = hot(offset_of!(Hot, carry));
/// Guest virtual address of the current code page.
pub const PC_PAGE: i32 = hot(offset_of!(Hot, pc_page));
/// Pointer to the request word.
pub const REQ: i32 = hot(offset_of!(Hot, req));
/// A zero.
pub const ZERO: i32 = hot(offset_of!(Hot, zero));
/// The addend of the empty half of a slot.
pub const EMPTY_ADDEND: i32 = hot(offset_of!(Hot, empty_addend));
/// Context of EL0.
pub const CTX_EL0: i32 = hot(offset_of!(Hot, ctx_el0));
/// Context of EL1.
pub const CTX_EL1: i32 = hot(offset_of!(Hot, ctx_el1));
/// Context of the current Exception level.
pub const CTX: i32 = hot(offset_of!(Hot, ctx));
/// Pointer to the count of code changes.
pub const CHANGES: i32 = hot(offset_of!(Hot, changes));
/// The count that fragments are up to date with.
pub const CHANGES_SEEN: i32 = hot(offset_of!(Hot, changes_seen));
/// Pointer to the line by which the counter is read.
pub const CLOCK: i32 = hot(offset_of!(Hot, clock));
/// Instructions executed, if they are counted.
pub const EXECUTED: i32 = hot(offset_of!(Hot, executed));
/// In a lockstep run: passes over loop heads that are left.
pub const PASSES: i32 = hot(offset_of!(Hot, passes));
/// The address space or a control changed.
pub const CONTEXT_DIRTY: i32 = (offset_of!(JitCpu, vcpu) + offset_of!(Vcpu, context_dirty)) as i32 - BIAS;
/// A broadcast TLBI waits for its DSB.
pub const SHOOT_PENDING: i32 = (offset_of!(JitCpu, vcpu) + offset_of!(Vcpu, shoot_pending)) as i32 - BIAS;
/// A store-release waits for its fence (a byte).
pub const FENCE: i32 = hot(offset_of!(Hot, fence));
/// Scratch of thunks.
pub const TMP: i32 = hot(offset_of!(Hot, tmp));
/// Exit taken.
pub const EXIT: i32 = hot(offset_of!(Hot, exit));
/// MXCSR of the guest while generated code does not run.
pub const MXCSR: i32 = hot(offset_of!(Hot, mxcsr));
/// MXCSR of the VMM.
pub const HOST_MXCSR: i32 = hot(offset_of!(Hot, host_mxcsr));
/// Floating-point constants, see `t1::lower::fp`.
pub const FP_CONSTANTS: i32 = hot(offset_of!(Hot, fp_constants));
/// The table of vector constants.
pub const CONSTANTS: i32 = hot(offset_of!(Hot, constants));
/// Pointer to the second-level TLB.
pub const SECOND: i32 = hot(offset_of!(Hot, second));
/// Count of pages of the EL1 context that belong to the address space; behind it the pages.
pub const LOCAL: i32 = hot(offset_of!(Hot, local));
/// Count of the accesses that missed their slot.
pub const SLOT_MISSES: i32 = hot(offset_of!(Hot, slot_misses));
/// Count of those that the second-level TLB knew.
pub const SECOND_HITS: i32 = hot(offset_of!(Hot, second_hits));
/// Count of the indirect branches that the victim cache knew.
pub const VICTIM_HITS: i32 = hot(offset_of!(Hot, victim_hits));
/// Numbers of the contexts: privileged and unprivileged, each by VA[55].
pub const CONTEXTS: i32 = hot(offset_of!(Hot, inline) + offset_of!(crate::exceptions::Inline, contexts));
/// The EL1 context has pages made while PAN was 0 (a byte).
pub const PAN_OPEN: i32 = hot(offset_of!(Hot, inline) + offset_of!(crate::exceptions::Inline, pan_open));
/// PSTATE.PAN (a byte).
pub const PAN: i32 = arch(offset_of!(ArchState, pan));
/// PSTATE.EL (a byte).
pub const EL: i32 = arch(offset_of!(ArchState, el));
/// Slots of sites that access with EL0's rights.
pub const L0_EL0: i32 = hot(offset_of!(Hot, l0_el0)) + SLOTS_AT;
/// Slots of sites that access with EL1's rights.
pub const L0_EL1: i32 = hot(offset_of!(Hot, l0_el1)) + SLOTS_AT;
/// From the slots to the count of those filled; see [`Filled`].
pub const SLOTS_TO_FILLED: i32 = -SLOTS_AT;
/// From the slots to the counts of the buckets and to their names; see [`Buckets`].
pub const SLOTS_TO_BUCKETS: [i32; 2] = [
    (offset_of!(SlotTable<1>, buckets) + offset_of!(Buckets, counts)) as i32 - SLOTS_AT,
    (offset_of!(SlotTable<1>, buckets) + offset_of!(Buckets, names)) as i32 - SLOTS_AT,
];
const SLOTS_AT: i32 = offset_of!(SlotTable<1>, slots) as i32;
/// In [`Filled`]: the offsets.
pub const FILLED_OFFSETS: i32 = offset_of!(Filled, offsets) as i32;
const _: () = assert!(offset_of!(SlotTable<1>, filled) == 0 && offset_of!(Filled, count) == 0);

/// Jump cache hash: `((va >> JC_SHIFT) ^ va) & JC_MASK` is four times the index.
pub const JC_SHIFT: u8 = crate::tlb::JC_BITS;
/// See [`JC_SHIFT`].
pub const JC_MASK: i32 = ((crate::tlb::JC_ENTRIES - 1) << 2) as i32;

/// Victim cache hash, in the same way.
pub const VICTIM_SHIFT: u8 = crate::tlb::VICTIM_BITS + 2;
/// See [`VICTIM_SHIFT`].
pub const VICTIM_MASK: i32 = ((crate::tlb::VICTIMS - 1) << 2) as i32;
/// Jump cache in a context.
pub const CTX_JUMPS: i32 = offset_of!(Context, jumps) as i32;
/// Victim cache in a context.
pub const CTX_VICTIMS: i32 = offset_of!(Context, victims) as i32;

/// log2 of the size of an entry of the first-level table.
pub const ENTRY_SHIFT: u8 = size_of::<Slot>().trailing_zeros() as u8;
/// An address shifted right by this and masked by [`L1_MASK`] is the offset of its entry in the first-level table.
pub const PAGE_TO_ENTRY: u8 = 12 - ENTRY_SHIFT;
/// See [`PAGE_TO_ENTRY`].
pub const L1_MASK: i32 = (crate::tlb::L1_ENTRIES as i32 - 1) << ENTRY_SHIFT;
/// First-level table in a context.
pub const CTX_PAGES: i32 = offset_of!(Context, pages) as i32;
/// Which entries of the first-level table were filled.
pub const CTX_FILLED: i32 = offset_of!(Context, filled) as i32;

const _: () = assert!(CTX_PAGES == 0 && x(0) == -128 && SP == 120);
