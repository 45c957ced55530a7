//! Inside the sandbox a thread can do what a vCPU does, and nothing else.

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use super::*;

/// What a call gives, on a thread of its own inside the sandbox; calls that are not listed give EPERM here.
fn inside<T: Send + 'static>(needs: Needs, act: impl FnOnce() -> T + Send + 'static) -> T {
    let sandbox = Sandbox::with_action(needs, SeccompAction::Errno(libc::EPERM as u32)).unwrap();
    thread::spawn(move || {
        sandbox.enter().unwrap();
        act()
    })
    .join()
    .unwrap()
}

fn error(result: libc::c_long) -> Option<i32> {
    (result < 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

#[test]
fn a_vcpu_computes_waits_and_prints() {
    let (sender, receiver) = mpsc::channel();
    let (reader, writer) = std::io::pipe().unwrap();
    let sum: u64 = inside(Needs::default(), move || {
        let numbers: Vec<u64> = (0..2_000_000).collect();
        sender.send(numbers.len()).unwrap();
        thread::sleep(std::time::Duration::from_millis(1));
        use std::io::Write;
        let mut writer = writer;
        writer.write_all(b"guest").unwrap();
        // What a file is can be asked of its descriptor, as a shared folder does when it is reset.
        assert!(rustix::fs::fstat(&writer).is_ok());
        assert!(std::fs::metadata("/").is_err());
        // Files are closed on this thread, with the assertions of the standard library.
        drop(writer.try_clone().unwrap());
        drop(writer);
        numbers.iter().sum()
    });
    assert_eq!(sum, 1_999_999_000_000);
    assert_eq!(receiver.recv().unwrap(), 2_000_000);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "guest");
}

#[test]
fn nothing_is_opened_started_or_made_executable() {
    let refused = inside(Needs::default(), || {
        let exec = libc::PROT_READ | libc::PROT_EXEC;
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: system calls with plain numbers that are refused; none of them would touch this process' memory.
        unsafe {
            [
                error(libc::syscall(libc::SYS_openat, libc::AT_FDCWD, c"/etc/passwd".as_ptr(), libc::O_RDONLY)),
                error(libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0)),
                error(libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0)),
                error(libc::syscall(libc::SYS_execve, c"/bin/true".as_ptr(), null, null)),
                error(libc::syscall(libc::SYS_mmap, null, 4096, exec, anonymous, -1, 0)),
                error(libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSTI, null)),
                error(libc::syscall(libc::SYS_ioctl, 0, 0xae80, 0)),
                error(libc::syscall(libc::SYS_tgkill, 1, 1, 0)),
                error(libc::syscall(libc::SYS_rt_sigaction, libc::SIGTERM, null, null, 8)),
            ]
        }
    });
    let eperm = Some(libc::EPERM);
    assert_eq!(refused, [Some(libc::EACCES), eperm, eperm, eperm, eperm, eperm, eperm, eperm, eperm]);
}

#[test]
fn only_kvm_gets_requests_to_kvm() {
    // SAFETY: KVM_RUN on a number that is no descriptor does nothing.
    let answer = |needs| inside(needs, || error(unsafe { libc::syscall(libc::SYS_ioctl, -1, 0xae80, 0) }));
    assert_eq!(answer(Needs { kvm: true }), Some(libc::EBADF));
    assert_eq!(answer(Needs::default()), Some(libc::EPERM));
}

#[test]
fn a_panic_is_still_reported() {
    let caught =
        inside(Needs::default(), || std::panic::catch_unwind(|| panic!("in the sandbox: this is a test")).is_err());
    assert!(caught);
}

const CHILD: &str = "VMM_TEST_SANDBOX";

#[test]
fn a_call_that_is_not_listed_ends_the_process_with_a_message() {
    if std::env::var_os(CHILD).is_some() {
        let sandbox = Sandbox::new(Needs::default()).unwrap();
        let thread = thread::spawn(move || {
            sandbox.enter().unwrap();
            // SAFETY: makes a socket, which the sandbox forbids.
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
        });
        let _ = thread.join();
        std::process::exit(0);
    }
    let name = "sandbox::tests::a_call_that_is_not_listed_ends_the_process_with_a_message";
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(255), "{text}");
    let number = libc::SYS_socket;
    assert!(text.contains(&format!("system call {number:>5}, which its sandbox forbids")), "{text}");
}
