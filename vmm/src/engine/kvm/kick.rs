//! Makes a vCPU leave the kernel: a flag that it looks at before it enters, and a signal while it is inside.
#![expect(unsafe_code, reason = "writing a byte of the page shared with the kernel, and sending a signal to a thread")]

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::exit::Failure;

/// A vCPU that runs, or may run soon.
struct Target {
    /// `kvm_run.immediate_exit`: not 0 makes `KVM_RUN` return at once.
    immediate_exit: *const AtomicU8,
    thread: libc::pid_t,
}

// SAFETY: the pointer is to a page that stays mapped until `Kick::disarm`, which takes the lock that every user holds;
// it is only used for atomic accesses.
unsafe impl Send for Target {}

/// The means to interrupt one vCPU; called from any thread.
#[derive(Default)]
pub struct Kick {
    target: Mutex<Option<Target>>,
    pause: AtomicBool,
}

extern "C" fn on_signal(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // Its arrival is all that matters: KVM_RUN returns EINTR.
}

/// Registers the signal that interrupts KVM_RUN.
pub fn install_handler() -> Result<(), Failure> {
    register_signal_handler(SIGRTMIN(), on_signal)
        .map_err(|e| Failure::backend(format!("no handler for the vCPUs' signal: {e}")))
}

impl Kick {
    /// The calling thread runs `vcpu` from now on. [`Kick::disarm`] has to be called before `vcpu` goes.
    pub fn arm(self: &Arc<Self>, vcpu: &mut VcpuFd) -> Armed {
        let byte = &raw mut vcpu.get_kvm_run().immediate_exit;
        // SAFETY: gettid has no preconditions.
        let thread = unsafe { libc::gettid() };
        let target = Target { immediate_exit: byte.cast_const().cast(), thread };
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
        Armed(Arc::clone(self))
    }

    /// Makes the vCPU stop soon.
    pub fn request_pause(&self) {
        self.pause.store(true, Ordering::SeqCst);
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(target) = &*target else { return };
        // SAFETY: the page is mapped (see `Target`), and the kernel reads the byte only.
        unsafe { &*target.immediate_exit }.store(1, Ordering::SeqCst);
        // SAFETY: a signal to a thread of this process that has a handler for it. The thread lives: it disarms before it ends.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), target.thread, SIGRTMIN()) };
    }

    /// True if a pause is wanted.
    pub fn is_pause_wanted(&self) -> bool {
        self.pause.load(Ordering::SeqCst)
    }

    /// Takes the request.
    pub fn take_pause(&self) -> bool {
        self.pause.swap(false, Ordering::SeqCst)
    }
}

/// Keeps a vCPU interruptible. Declared before the vCPU in the struct that has both, so that it is dropped first.
pub struct Armed(Arc<Kick>);

impl Armed {
    /// The vCPU's requests.
    pub fn kick(&self) -> &Kick {
        &self.0
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        *self.0.target.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
