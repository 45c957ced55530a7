//! What the threads that execute the guest may ask of the host kernel.
//!
//! A vCPU thread computes, touches guest RAM and wakes other threads; files, sockets and processes are the business of
//! threads that no guest instruction runs on. A seccomp filter holds it to that, on every engine alike: who breaks out of
//! the translator's code, or of a device model, finds a process in which this thread can open nothing and start nothing.
//!
//! Two filters work together, and the stricter answer wins. The first refuses with an error what the standard library
//! tries while it reports a panic and can do without. The second ends the process at every call that is not listed.
#![expect(unsafe_code, reason = "a signal handler that prints and ends the process")]

use std::collections::BTreeMap;
use std::sync::Arc;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::console::terminal;
use crate::exit::Failure;

/// Allowed whatever the arguments: memory that is there, waiting, time, files that are open, other threads' attention,
/// the thread's and the process' end.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_futex,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_shutdown,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    #[cfg(target_arch = "x86_64")] // arm64 has ppoll only
    libc::SYS_poll,
];

/// Refused without ending the process: a backtrace looks for files, and does without.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    #[cfg(target_arch = "x86_64")] // arm64 has none of these
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")] // as above
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")] // as above
    libc::SYS_stat,
];

/// Looking at a file by its name is refused, by its descriptor (AT_EMPTY_PATH) allowed: the call, and where its flags are.
const BY_NAME: [(libc::c_long, u8); 2] = [(libc::SYS_newfstatat, 3), (libc::SYS_statx, 2)];

/// Requests to an open /dev/kvm, virtual machine, vCPU or device of one: KVMIO in bits 15:8.
const KVM_REQUESTS: (u64, u64) = (0xff00, 0xae00);

/// What an engine needs beyond what all need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Requests to KVM.
    pub kvm: bool,
}

/// A compiled pair of filters.
#[derive(Clone)]
pub struct Sandbox(Arc<[BpfProgram; 2]>);

fn rule(argument: u8, length: SeccompCmpArgLen, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, Failure> {
    SeccompCondition::new(argument, length, compare, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|e| bad_rule(&e))
}

fn bad_rule(error: &seccompiler::BackendError) -> Failure {
    Failure::internal(format!("a rule of the sandbox: {error}"))
}

fn equals(argument: u8, value: u64) -> Result<SeccompRule, Failure> {
    rule(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// The bits of `mask` have this value.
fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompRule, Failure> {
    rule(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

/// Calls that are allowed with certain arguments.
fn conditional(needs: Needs) -> Result<BTreeMap<i64, Vec<SeccompRule>>, Failure> {
    let mut requests = vec![
        // A tap device is told what a network card's driver takes; a panic gives the terminal back.
        equals(1, libc::TUNSETOFFLOAD)?,
        equals(1, libc::TCGETS)?,
        equals(1, libc::TCSETS)?,
    ];
    if needs.kvm {
        requests.push(masked(1, KVM_REQUESTS.0, KVM_REQUESTS.1)?);
    }
    // No memory becomes executable: the translator's code is mapped before the guest runs.
    let data_only = || masked(2, libc::PROT_EXEC as u64, 0);
    let dword = SeccompCmpArgLen::Dword;
    let cut = [(1, libc::SOL_SOCKET), (2, libc::SO_LINGER)]
        .map(|(argument, value)| SeccompCondition::new(argument, dword.clone(), SeccompCmpOp::Eq, value as u64));
    let cut = SeccompRule::new(cut.into_iter().collect::<Result<_, _>>().map_err(|e| bad_rule(&e))?);
    let cut = cut.map_err(|e| bad_rule(&e))?;
    // Signals to threads of this process, one number of which is fixed.
    let own = equals(0, u64::from(std::process::id()))?;
    Ok(BTreeMap::from([
        (libc::SYS_ioctl, requests),
        (libc::SYS_mmap, vec![data_only()?]),
        (libc::SYS_mprotect, vec![data_only()?]),
        (libc::SYS_tgkill, vec![own]),
        // A network card is reset: its connections are cut.
        (libc::SYS_setsockopt, vec![cut]),
        // Another number for an event; whether a file is writable, and, in builds with assertions, open when it is closed.
        (libc::SYS_fcntl, commands([libc::F_DUPFD_CLOEXEC, libc::F_GETFL, libc::F_GETFD])?),
        // A fatal signal's handler gives it to the one that was there before.
        (libc::SYS_rt_sigaction, fatal_signals()?),
        (libc::SYS_prctl, names_and_slack()?),
    ]))
}

/// A new thread says what it is called, and how exactly it is to be woken.
fn names_and_slack() -> Result<Vec<SeccompRule>, Failure> {
    let options = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_TIMERSLACK];
    options.into_iter().map(|option| equals(0, option as u64)).collect()
}

fn commands(allowed: [libc::c_int; 3]) -> Result<Vec<SeccompRule>, Failure> {
    allowed.into_iter().map(|command| equals(1, command as u64)).collect()
}

fn fatal_signals() -> Result<Vec<SeccompRule>, Failure> {
    let signals = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];
    signals.into_iter().map(|signal| equals(0, signal as u64)).collect()
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Failure> {
    let failed = |e: seccompiler::BackendError| Failure::internal(format!("the sandbox has no filter: {e}"));
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    SeccompFilter::new(rules, otherwise, matched, arch).and_then(BpfProgram::try_from).map_err(failed)
}

impl Sandbox {
    /// The filters for vCPU threads of an engine. A call that is not allowed ends the process with a message.
    ///
    /// # Errors
    /// The host's architecture has no filters.
    pub fn new(needs: Needs) -> Result<Sandbox, Failure> {
        install_handler();
        Sandbox::with_action(needs, SeccompAction::Trap)
    }

    fn with_action(needs: Needs, otherwise: SeccompAction) -> Result<Sandbox, Failure> {
        let any = |calls: &[libc::c_long]| calls.iter().map(|&call| (call, Vec::new())).collect::<BTreeMap<_, _>>();
        let refuse = SeccompAction::Errno(libc::EACCES as u32);
        let mut refused = any(REFUSED);
        let by_descriptor = libc::AT_EMPTY_PATH as u64;
        for (call, flags) in BY_NAME {
            refused.insert(call, vec![masked(flags, by_descriptor, 0)?]);
        }
        let first = compile(refused, SeccompAction::Allow, refuse)?;
        let mut listed = conditional(needs)?;
        listed.extend(any(ALLOWED));
        listed.extend(any(REFUSED));
        listed.extend(BY_NAME.map(|(call, _)| (call, Vec::new())));
        let second = compile(listed, otherwise, SeccompAction::Allow)?;
        Ok(Sandbox(Arc::new([first, second])))
    }

    /// From here on the calling thread is inside, for ever.
    ///
    /// # Errors
    /// The host's kernel takes no filters.
    pub fn enter(&self) -> Result<(), Failure> {
        self.0.iter().try_for_each(|program| seccompiler::apply_filter(program)).map_err(|e| {
            Failure::backend(format!("the host gives vCPU threads no sandbox ({e}); --no-sandbox goes without"))
        })
    }
}

/// What a call that is not allowed ends with: a defect of this program, or somebody who broke into it.
const STATUS: libc::c_int = 255;

/// Says which call it was, and ends the process.
fn install_handler() {
    // SAFETY: all-zero bytes are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_violation as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the action is complete; its handler has the SA_SIGINFO signature and calls only async-signal-safe functions.
    unsafe { libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()) };
}

extern "C" fn on_violation(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    /// Where the kernel has the number of the system call: after signal, error and code, padding, and an address.
    const NUMBER: usize = 24;
    // SAFETY: `info` is the kernel's description of a SIGSYS, which has the number there; it is aligned to 8.
    let number = unsafe { info.byte_add(NUMBER).cast::<libc::c_int>().read() };
    terminal::restore();
    let mut text = *b"vmm: a vCPU thread made system call      , which its sandbox forbids\n";
    let mut rest = number.unsigned_abs();
    for place in (36..41).rev() {
        if let Some(byte) = text.get_mut(place) {
            *byte = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    // SAFETY: both are async-signal-safe, and the buffer is as long as is said.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::_exit(STATUS);
    }
}

#[cfg(test)]
mod tests;
