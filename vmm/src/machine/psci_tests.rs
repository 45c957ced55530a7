use super::*;
use proptest::prelude::*;

/// RAM from 1 GiB to 2 GiB; remembers what was started.
#[derive(Default)]
struct Board {
    started: Mutex<Vec<(usize, u64, u64)>>,
    dry: bool,
}

impl Machine for Board {
    fn start_vcpu(&self, vcpu: usize, entry: u64, context: u64) {
        self.started.lock().unwrap().push((vcpu, entry, context));
    }
    fn is_ram(&self, address: u64) -> bool {
        (1 << 30..2 << 30).contains(&address)
    }
    fn entropy(&self, bytes: &mut [u8]) -> bool {
        bytes.fill(0xff);
        !self.dry
    }
}

fn call(psci: &Psci, board: &Board, vcpu: usize, args: [u64; 4]) -> (i64, Outcome, [u64; 18]) {
    let mut regs = [0xdead; 18];
    regs[..4].copy_from_slice(&args);
    let outcome = psci.call(vcpu, &mut regs, board);
    (regs[0] as i64, outcome, regs)
}

#[test]
fn turning_a_vcpu_on_and_off() {
    let (psci, board) = (Psci::new(20), Board::default());
    let entry = 0x4020_0000;
    let info = |aff| call(&psci, &board, 0, [0xc400_0004, aff, 0, 0]).0;
    assert_eq!((info(0), info(1), info(0x103)), (0, 1, 1));
    assert_eq!(call(&psci, &board, 0, [0xc400_0003, 0x103, entry, 7]).0, 0);
    assert_eq!(*board.started.lock().unwrap(), [(19, entry, 7)]);
    assert_eq!(info(0x103), 2);
    assert_eq!(call(&psci, &board, 0, [0xc400_0003, 0x103, entry, 7]).0, -5);
    psci.started(19);
    assert_eq!(info(0x103), 0);
    assert_eq!(call(&psci, &board, 0, [0xc400_0003, 0x103, entry, 7]).0, -4);
    assert_eq!(call(&psci, &board, 19, [0x8400_0002, 0, 0, 0]).1, Outcome::CpuOff);
    assert_eq!(info(0x103), 1);
}

#[test]
fn bad_targets_and_entries() {
    let (psci, board) = (Psci::new(4), Board::default());
    assert_eq!(call(&psci, &board, 0, [0xc400_0003, 4, 0x4020_0000, 0]).0, -2);
    assert_eq!(call(&psci, &board, 0, [0xc400_0003, 1, 0x1000, 0]).0, -9);
    assert_eq!(call(&psci, &board, 0, [0xc400_0003, 1, 0x4020_0002, 0]).0, -9);
    assert_eq!(call(&psci, &board, 0, [0xc400_0004, 9, 0, 0]).0, -2);
    assert_eq!(call(&psci, &board, 0, [0xc400_0004, 0, 1, 0]).0, -2);
    // The 32-bit form looks at W registers only.
    assert_eq!(call(&psci, &board, 0, [0x8400_0003, 0xffff_ffff_0000_0001, 0x1_4020_0000, 0x5_0000_0006]).0, 0);
    assert_eq!(*board.started.lock().unwrap(), [(1, 0x4020_0000, 6)]);
}

#[test]
fn versions_and_probes() {
    let (psci, board) = (Psci::new(1), Board::default());
    let x0 = |id, arg| call(&psci, &board, 0, [id, arg, 0, 0]).0;
    assert_eq!(x0(0x8400_0000, 0), 0x1_0001);
    assert_eq!(x0(0x8000_0000, 0), 0x1_0001);
    assert_eq!(x0(0x8400_000a, 0x8000_0000), 0); // how a kernel learns that SMCCC_VERSION may be called
    assert_eq!(x0(0x8400_000a, 0xc400_0001), 0);
    assert_eq!(x0(0x8400_000a, 0xc400_000e), -1); // SYSTEM_SUSPEND
    assert_eq!(x0(0x8000_0001, 0x8000_8000), 1);
    assert_eq!(x0(0x8000_0001, 0x8000_7fff), -2);
    assert_eq!(x0(0x8400_0006, 0), 2);
    assert_eq!(x0(0x8600_ff01, 0), -1);
    // Upper halves of X0 are no part of the identifier.
    assert_eq!(x0(0xffff_ffff_8400_0000, 0), 0x1_0001);
}

#[test]
fn ends_of_the_machine() {
    let (psci, board) = (Psci::new(1), Board::default());
    assert_eq!(call(&psci, &board, 0, [0x8400_0008, 0, 0, 0]).1, Outcome::SystemOff);
    assert_eq!(call(&psci, &board, 0, [0x8400_0009, 0, 0, 0]).1, Outcome::SystemReset);
    assert_eq!(call(&psci, &board, 0, [0xc400_0012, 0, 0, 0]).1, Outcome::SystemReset);
    let (result, outcome, _) = call(&psci, &board, 0, [0xc400_0012, 0x8000_0000, 0, 0]);
    assert_eq!((result, outcome), (-2, Outcome::Continue));
    assert_eq!(call(&psci, &board, 0, [0xc400_0001, 0, 0, 0]).1, Outcome::Suspend);
}

#[test]
fn random_numbers_by_the_bit() {
    let (psci, mut board) = (Psci::new(1), Board::default());
    let (result, _, regs) = call(&psci, &board, 0, [0xc400_0053, 70, 9, 9]);
    assert_eq!((result, regs[1], regs[2], regs[3]), (0, 0, 0x3f, u64::MAX));
    let (result, _, regs) = call(&psci, &board, 0, [0x8400_0053, 96, 9, 9]);
    assert_eq!((result, regs[1], regs[2], regs[3]), (0, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff));
    for (id, bits) in [(0x8400_0053, 97), (0xc400_0053, 193), (0xc400_0053, 0)] {
        let (result, _, regs) = call(&psci, &board, 0, [id, bits, 9, 9]);
        assert_eq!((result, regs[1], regs[2], regs[3]), (-2, 0, 0, 0));
    }
    board.dry = true;
    assert_eq!(call(&psci, &board, 0, [0xc400_0053, 64, 0, 0]).0, -3);
}

#[test]
fn saved_states_must_fit() {
    let psci = Psci::new(2);
    assert!(!psci.restore(&[Power::On]));
    assert!(psci.restore(&[Power::Off, Power::On]));
    assert_eq!(psci.states(), [Power::Off, Power::On]);
    psci.reset();
    assert_eq!(psci.states(), [Power::On, Power::Off]);
}

proptest! {
    /// No call, however wild, touches X4 to X17 or panics.
    #[test]
    fn any_call(id in prop_oneof![any::<u64>(), (0u64..0x60).prop_map(|n| 0x8400_0000 + n), (0u64..0x60).prop_map(|n| 0xc400_0000 + n)], args in any::<[u64; 3]>(), vcpu in 0usize..5) {
        let (psci, board) = (Psci::new(4), Board::default());
        let (_, _, regs) = call(&psci, &board, vcpu, [id, args[0], args[1], args[2]]);
        prop_assert!(regs[4..].iter().all(|&x| x == 0xdead));
    }
}
