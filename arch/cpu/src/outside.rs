//! What a processing element needs of the rest of the machine, as one small trait. The machine (crate `vmm`) implements it.

/// An access that no device answered: the processing element takes a synchronous external abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusFault;

/// Group of a software generated interrupt, by the register that sent it (GICv3, security disabled: `ICC_ASGI1R_EL1` acts as group 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SgiGroup {
    /// `ICC_SGI0R_EL1`, `ICC_ASGI1R_EL1`.
    Group0,
    /// `ICC_SGI1R_EL1`.
    Group1,
}

/// The instruction of an SMC calling convention call (Arm DEN0028).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduit {
    /// `HVC #imm`.
    Hvc,
    /// `SMC #imm`.
    Smc,
}

/// What happens to the calling vCPU after an SMCCC call; the registers hold the results in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmcccOutcome {
    /// The next instruction runs.
    Continue,
    /// As `WFI`: parks until an interrupt is pending.
    Suspend,
    /// PSCI CPU_OFF: this vCPU stops with `Stop::CpuOff`.
    CpuOff,
    /// PSCI SYSTEM_OFF: stops with `Stop::Shutdown`.
    Shutdown,
    /// PSCI SYSTEM_RESET: stops with `Stop::Reset`.
    Reset,
    /// No such conduit here: the instruction is UNDEFINED.
    Undefined,
}

/// One event for `--trace`; only made when its flag of [`crate::VmShared::trace`] is set.
#[derive(Debug, Clone, Copy)]
pub enum TraceEvent<'a> {
    /// An exception was taken.
    Exception(&'a crate::exception::Record),
    /// An exception return.
    ExceptionReturn {
        /// PC of the ERET.
        from: u64,
        /// Where it went.
        to: u64,
        /// The SPSR it used.
        spsr: u64,
    },
    /// MRS or MSR of a system register.
    SysReg {
        /// PC of the instruction.
        pc: u64,
        /// Its encoding.
        enc: crate::sysreg::SysEnc,
        /// True for MSR.
        write: bool,
        /// The value read or written.
        value: u64,
    },
    /// A device access.
    Mmio {
        /// PC of the instruction.
        pc: u64,
        /// Physical address.
        pa: u64,
        /// Bytes.
        size: u8,
        /// True for a store.
        write: bool,
        /// The value, `None` when nobody answered.
        value: Option<u64>,
    },
    /// An interrupt was acknowledged.
    Acknowledge {
        /// Interrupt id.
        intid: u32,
        /// Group 0 or 1.
        group: usize,
    },
}

/// Bits of [`crate::VmShared::trace`].
pub mod trace {
    /// Exceptions and exception returns.
    pub const EXCEPTION: u32 = 1;
    /// System register accesses.
    pub const SYSREG: u32 = 2;
    /// Device accesses.
    pub const MMIO: u32 = 4;
    /// Interrupt acknowledges.
    pub const IRQ: u32 = 8;
}

/// The rest of the machine. Methods may be called from every vCPU thread at once.
pub trait Outside: Send + Sync {
    /// Device read of `size` (1, 2, 4, 8) bytes.
    ///
    /// # Errors
    /// [`BusFault`] when nobody answers: synchronous external abort.
    fn mmio_read(&self, vcpu: usize, pa: u64, size: u8) -> Result<u64, BusFault>;
    /// Device write of `size` (1, 2, 4, 8) bytes.
    ///
    /// # Errors
    /// [`BusFault`] when nobody answers: synchronous external abort.
    fn mmio_write(&self, vcpu: usize, pa: u64, size: u8, value: u64) -> Result<(), BusFault>;
    /// The interrupt was acknowledged: pending to active (edge: pending cleared) and the next best is published. False: it is not pending any more, look again.
    fn gic_acknowledge(&self, vcpu: usize, intid: u32) -> bool;
    /// Active to inactive.
    fn gic_deactivate(&self, vcpu: usize, intid: u32);
    /// `ICC_SGI1R_EL1` and its kin.
    fn gic_send_sgi(&self, vcpu: usize, sgir: u64, group: SgiGroup);
    /// Level of a private line: timers 27 and 30, PMU 23.
    fn gic_set_ppi(&self, vcpu: usize, intid: u32, level: bool);
    /// HVC or SMC; x0..x17 in and out.
    fn smccc(&self, vcpu: usize, conduit: Conduit, imm: u16, regs: &mut [u64; 18]) -> SmcccOutcome;
    /// The vCPU is about to sleep, on the thread that runs it: what was put off until then is to be done.
    fn before_sleep(&self, _vcpu: usize) {}
    /// One trace event.
    fn trace(&self, _vcpu: usize, _event: &TraceEvent<'_>) {}
}

/// Interrupt id of the virtual timer.
pub const PPI_VIRTUAL_TIMER: u32 = 27;
/// Interrupt id of the (non-secure) physical timer.
pub const PPI_PHYSICAL_TIMER: u32 = 30;
/// Interrupt id of the performance monitors.
pub const PPI_PMU: u32 = 23;
