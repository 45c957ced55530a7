//! The machine under test: one PE that runs a block at EL0, with an identity map of the same addresses as the reference.
#![expect(unsafe_code, reason = "guest RAM is host memory behind a raw pointer")]

use super::block::{Block, CODE, DATA, DATA_LEN, Outcome, Signal, State, fill, hash};
use cpu::{BusFault, Clock, Conduit, CpuConfig, Outside, Ram, SgiGroup, SmcccOutcome, Stop, Vcpu, VmShared};
use std::sync::Arc;

/// Page tables and the exception vectors.
const SYSTEM: u64 = 0x3000_0000;
const SYSTEM_LEN: usize = 0x1_0000;
const CODE_BASE: u64 = CODE & !0xffff;
const CODE_LEN: usize = 0x1_0000;
const VECTORS: u64 = SYSTEM + 0x8000;

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

/// Host memory of one range of guest RAM; never freed, since the PE holds pointers to it.
#[derive(Clone, Copy, Debug)]
struct Window {
    base: u64,
    host: *mut u8,
    len: usize,
}

impl Window {
    fn new(base: u64, len: usize) -> Window {
        let pages = vec![Page([0; 4096]); len.div_ceil(4096)].leak();
        Window { base, host: pages.as_mut_ptr().cast(), len }
    }

    /// The bytes, while the PE does not run.
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: leaked, mapped for `len` bytes, and the one vCPU runs on this thread only inside `Subject::run`, never
        // while the slice lives (it borrows the subject).
        unsafe { std::slice::from_raw_parts_mut(self.host, self.len) }
    }

    fn write_u32(&mut self, address: u64, words: &[u32]) {
        let at = (address - self.base) as usize;
        for (slot, word) in self.bytes()[at..].chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn write_u64(&mut self, address: u64, value: u64) {
        let at = (address - self.base) as usize;
        self.bytes()[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// No devices; the hypercall of the vectors ends the run.
#[derive(Debug)]
struct Nothing;

impl Outside for Nothing {
    fn mmio_read(&self, _: usize, _: u64, _: u8) -> Result<u64, BusFault> {
        Err(BusFault)
    }
    fn mmio_write(&self, _: usize, _: u64, _: u8, _: u64) -> Result<(), BusFault> {
        Err(BusFault)
    }
    fn gic_acknowledge(&self, _: usize, _: u32) -> bool {
        false
    }
    fn gic_deactivate(&self, _: usize, _: u32) {}
    fn gic_send_sgi(&self, _: usize, _: u64, _: SgiGroup) {}
    fn gic_set_ppi(&self, _: usize, _: u32, _: bool) {}
    fn smccc(&self, _: usize, _: Conduit, _: u16, _: &mut [u64; 18]) -> SmcccOutcome {
        SmcccOutcome::Shutdown
    }
}

/// How a PE is run until the block's end.
pub trait Engine {
    /// Looks for tininess after rounding, as x86 does: FPSR.UFC may stay clear where a result was rounded up to the smallest normal number.
    const LATE_TININESS: bool = false;
    /// The PE.
    fn vcpu(&mut self) -> &mut Vcpu;
    /// Runs it until it stops.
    fn run(&mut self) -> Stop;
}

/// The interpreter.
#[derive(Debug)]
pub struct Interpreter(Box<Vcpu>);

impl Engine for Interpreter {
    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.0
    }
    fn run(&mut self) -> Stop {
        self.0.run()
    }
}

/// The translator.
#[derive(Debug)]
pub struct Translator(jit::HugeBox<jit::JitCpu>);

impl Engine for Translator {
    const LATE_TININESS: bool = true;

    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.0.vcpu
    }
    fn run(&mut self) -> Stop {
        self.0.run()
    }
}

/// The machine under test.
#[derive(Debug)]
pub struct Subject<E> {
    engine: E,
    vm: Arc<VmShared>,
    data: Window,
    code: Window,
    /// What the data window is filled with, and from which seed that was made.
    pristine: Vec<u8>,
    pristine_seed: u64,
}

impl Subject<Interpreter> {
    /// On the interpreter.
    #[must_use]
    pub fn interpreter() -> Self {
        Subject::new(Interpreter)
    }
}

impl Subject<Translator> {
    /// On the translator; the reason if this host has none.
    ///
    /// # Errors
    /// What the translator says of this host.
    pub fn translator() -> Result<Self, jit::Unsupported> {
        Subject::translator_with(jit::Optimisations::ALL)
    }

    /// The translator with some of its optimisations.
    ///
    /// # Errors
    /// The host has no translator.
    ///
    /// # Panics
    /// Without executable memory.
    pub fn translator_with(optimise: jit::Optimisations) -> Result<Self, jit::Unsupported> {
        let options = jit::Options { cache_bytes: 16 << 20, optimise, ..jit::Options::default() };
        let shared = jit::JitShared::new(options)?;
        Ok(Subject::new(|vcpu| Translator(jit::JitCpu::new(vcpu, shared).expect("executable memory"))))
    }
}

/// Encodings of the system registers that are set up.
fn enc(op1: u32, crn: u32, crm: u32, op2: u32) -> cpu::sysreg::SysEnc {
    cpu::sysreg::SysEnc::new(3, op1 as _, crn as _, crm as _, op2 as _)
}

impl<E: Engine> Subject<E> {
    /// A machine whose PE the closure gives to an engine.
    ///
    /// # Panics
    /// When the PE refuses its set-up.
    pub fn new(make: impl FnOnce(Box<Vcpu>) -> E) -> Self {
        let data = Window::new(DATA, DATA_LEN);
        let code = Window::new(CODE_BASE, CODE_LEN);
        let mut system = Window::new(SYSTEM, SYSTEM_LEN);
        // Level 1 (1 GiB entries of a 39-bit space), then 2 MiB blocks: AF, inner shareable, normal memory.
        let block = |pa: u64, user: bool| pa | 1 << 10 | 3 << 8 | u64::from(user) << 6 | 1;
        system.write_u64(SYSTEM, (SYSTEM + 0x1000) | 3);
        for (base, user) in [(DATA, true), (CODE_BASE, true), (SYSTEM, false)] {
            system.write_u64(SYSTEM + 0x1000 + (base >> 21) * 8, block(base & !0x1f_ffff, user));
        }
        system.write_u32(VECTORS + 0x400, &[0xd400_0002]); // HVC #0
        let ranges = [data, code, system].map(|window| (window.base, window.len as u64, window.host));
        // SAFETY: the windows are leaked and nobody keeps a reference to their bytes across a run.
        let ram = unsafe { Ram::new(&ranges) }.expect("aligned, disjoint ranges");
        let vm = VmShared::new(ram, Arc::new(Clock::new()), 1, CpuConfig::max());
        let mut vcpu = Vcpu::new(0, vm.clone(), Arc::new(Nothing));
        for (register, value) in [
            (enc(0, 10, 2, 0), 0xff),                                               // MAIR_EL1
            (enc(0, 2, 0, 2), 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32), // TCR_EL1
            (enc(0, 2, 0, 0), SYSTEM),                                              // TTBR0_EL1
            (enc(0, 12, 0, 0), VECTORS),                                            // VBAR_EL1
            (enc(0, 1, 0, 2), 3 << 20),                                             // CPACR_EL1
            (enc(0, 1, 0, 0), 1 | 1 << 2 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26), // SCTLR_EL1
        ] {
            vcpu.msr(register, 0, value).expect("a register of EL1");
        }
        Subject { engine: make(vcpu), vm, data, code, pristine: vec![0; DATA_LEN], pristine_seed: 0 }
    }

    /// Runs a block.
    ///
    /// # Panics
    /// When the PE stops in any way but at the vectors.
    pub fn run(&mut self, block: &Block) -> Outcome {
        if self.pristine_seed != block.window_seed {
            fill(&mut self.pristine, block.window_seed);
            self.pristine_seed = block.window_seed;
        }
        self.data.bytes().copy_from_slice(&self.pristine);
        self.code.write_u32(CODE, &block.words);
        let end = CODE + 4 * block.words.len() as u64;
        self.code.write_u32(end, &[0xd400_0001]); // SVC #0
        self.vm.code.invalidate_range(&self.vm.ram, CODE_BASE, CODE_LEN as u64);
        let vcpu = self.engine.vcpu();
        vcpu.arch.set_el_sp(1, 1);
        vcpu.arch.x = block.start.x;
        vcpu.arch.v = block.start.v;
        vcpu.arch.fpcr = block.start.fpcr as u32;
        vcpu.arch.fpsr = block.start.fpsr as u32;
        vcpu.arch.nzcv = 0;
        vcpu.arch.set_sp_of(0, block.start.sp);
        vcpu.msr(enc(0, 4, 0, 0), 0, block.start.nzcv).expect("SPSR_EL1"); // EL0t
        vcpu.msr(enc(0, 4, 0, 1), 0, CODE).expect("ELR_EL1");
        // An ERET starts it: what the PE derives from EL and PC is then derived as a guest would have it.
        vcpu.eret();
        let stop = self.engine.run();
        assert_eq!(stop, Stop::Shutdown, "the block ends at the vectors");
        let window_hash = hash(self.data.bytes());
        let vcpu = self.engine.vcpu();
        let esr = vcpu.mrs(enc(0, 5, 2, 0), 0).expect("ESR_EL1");
        let elr = vcpu.mrs(enc(0, 4, 0, 1), 0).expect("ELR_EL1");
        let nzcv = vcpu.mrs(enc(0, 4, 0, 0), 0).expect("SPSR_EL1") & 0xf000_0000;
        let (signal, pc) = match esr >> 26 & 0x3f {
            0x15 => (Signal::None, elr - 4),
            0x00 | 0x0e => (Signal::Illegal, elr),
            0x24 if esr & 0x3f == 0x21 => (Signal::Alignment, elr),
            0x20 | 0x24 => (Signal::Fault, elr),
            0x22 | 0x26 => (Signal::Alignment, elr),
            0x3c => (Signal::Trap, elr),
            other => (Signal::Other(1000 + other), elr),
        };
        let arch = &vcpu.arch;
        Outcome {
            signal,
            window_hash,
            end: State {
                x: arch.x,
                sp: arch.sp_of(0),
                nzcv,
                fpcr: u64::from(arch.fpcr),
                fpsr: u64::from(arch.fpsr),
                pc,
                v: arch.v,
            },
        }
    }
}
