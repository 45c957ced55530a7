use super::*;
use proptest::prelude::*;

fn segment<'a>(seq: u32, ack: u32, flags: u8, window: u16, data: &'a [u8]) -> Tcp<'a> {
    Tcp { source: 1, destination: 2, seq, ack, flags, window, options: &[], data }
}

/// A connection that the guest asked for and that is open; its numbers begin at 100 and 5000.
fn open() -> Connection {
    let options = [2, 4, 5, 0xb4, 3, 3, 0, 0];
    let syn = Tcp { options: &options, ..segment(99, 0, flag::SYN, 60000, &[]) };
    let mut connection = Connection::asked(&syn, 4999, 1460);
    assert_eq!(connection.emit(0, 65000), None, "the host has no connection yet");
    connection.answer();
    let answer = connection.emit(0, 65000).unwrap();
    assert_eq!((answer.seq, answer.ack, answer.flags), (4999, 100, flag::SYN | flag::ACK));
    assert_eq!(answer.options, Some((1460, Some(SCALE))));
    connection.take(&segment(100, 5000, flag::ACK, 60000, &[]));
    assert_eq!(connection.phase, Phase::Open);
    connection
}

#[test]
fn data_are_cut_at_the_window_and_sent_again_when_lost() {
    let mut connection = open();
    connection.outgoing.push(&[1; 65536]);
    let first = connection.emit(0, 1460 * 40).unwrap();
    assert_eq!((first.seq, first.data), (5000, (0, 58400)));
    // The rest of the window is too small to be worth a segment while something is under way.
    let rest = connection.emit(0, 1460 * 40).unwrap();
    assert_eq!(rest.data, (58400, 1600));
    assert_eq!(connection.emit(0, 58400), None);
    connection.on_time(RETRANSMIT - 1);
    assert_eq!(connection.emit(RETRANSMIT - 1, 58400), None);
    connection.on_time(RETRANSMIT);
    assert_eq!(connection.emit(RETRANSMIT, 58400).unwrap().seq, 5000);
    // An acknowledgement of more than was sent again since is right too.
    connection.take(&segment(100, 65000, flag::ACK, 60000, &[]));
    assert_eq!(connection.outgoing.len(), 5536);
    assert_eq!(connection.emit(400, 58400).unwrap().seq, 65000);
    // Three times the same: what follows was lost.
    for _ in 0..3 {
        connection.take(&segment(100, 65000, flag::ACK, 60000, &[]));
    }
    assert_eq!(connection.emit(400, 58400).unwrap().seq, 65000);
}

#[test]
fn a_closed_window_is_asked_for_and_kept_open_for_ever() {
    let mut connection = open();
    connection.take(&segment(100, 5000, flag::ACK, 0, &[]));
    connection.outgoing.push(&[1; 100]);
    assert_eq!(connection.emit(0, 1460), None);
    let mut now = 0;
    for _ in 0..40 {
        now = connection.due().expect("a question is due");
        connection.on_time(now);
        let probe = connection.emit(now, 1460).unwrap();
        assert_eq!((probe.seq, probe.data), (5000, (0, 1)));
        connection.take(&segment(100, 5000, flag::ACK, 0, &[]));
    }
    connection.take(&segment(100, 5001, flag::ACK, 1000, &[]));
    assert_eq!(connection.emit(now, 1460).unwrap().data, (0, 99));
}

#[test]
fn a_guest_that_never_answers_is_given_up() {
    let mut connection = open();
    connection.outgoing.push(&[1; 100]);
    let (mut now, mut sent) = (0, 0);
    while connection.phase == Phase::Open {
        sent += usize::from(connection.emit(now, 1460).is_some());
        if let Some(due) = connection.due() {
            now = due;
            connection.on_time(now);
        }
    }
    assert_eq!(sent, 1 + PATIENCE as usize + 1, "the last one is the reset");
    assert!(connection.is_over());
}

#[test]
fn both_sides_end_in_either_order() {
    for guest_first in [false, true] {
        let mut connection = open();
        let guest_ends = |connection: &mut Connection, ack| {
            connection.take(&segment(100, ack, flag::ACK | flag::FIN, 60000, &[]));
            assert!(connection.guest_fin);
        };
        if guest_first {
            guest_ends(&mut connection, 5000);
            let answer = connection.emit(0, 1460).unwrap();
            assert_eq!((answer.ack, answer.flags), (101, flag::ACK));
        }
        connection.outgoing.push(b"last");
        connection.host_fin = true;
        let last = connection.emit(0, 1460).unwrap();
        assert_eq!((last.flags & flag::FIN, last.data), (flag::FIN, (0, 4)));
        assert!(!connection.is_over());
        if guest_first {
            connection.take(&segment(101, 5005, flag::ACK, 60000, &[]));
        } else {
            guest_ends(&mut connection, 5005);
            assert_eq!(connection.emit(0, 1460).unwrap().ack, 101);
        }
        assert!(connection.is_over(), "guest first: {guest_first}");
    }
}

#[test]
fn only_what_is_new_and_in_order_and_has_room_is_taken() {
    let mut connection = open();
    assert_eq!(connection.take(&segment(100, 5000, flag::ACK, 1, b"abc")), b"abc");
    assert_eq!(connection.take(&segment(101, 5000, flag::ACK, 1, b"bcde")), b"de");
    assert_eq!(connection.take(&segment(106, 5000, flag::ACK, 1, b"gap")), b"");
    assert_eq!(connection.emit(0, 1460).unwrap().ack, 105);
    assert_eq!(connection.take(&segment(90, 5000, flag::ACK, 1, b"old")), b"");
    assert_eq!(connection.take(&segment(105, 6000, flag::ACK, 1, b"acks the future")), b"");
    let much = vec![7; 70_000];
    let taken = connection.take(&segment(105, 5000, flag::ACK | flag::FIN, 1, &much)).len();
    assert_eq!(taken, FIRST_LIMIT);
    connection.incoming.push(&much[..taken]);
    assert!(!connection.guest_fin, "its FIN is beyond the window");
    assert_eq!(connection.emit(0, 1460).unwrap().window, 0);
    connection.incoming.consume(taken);
    connection.drained();
    assert_eq!(connection.emit(0, 1460).unwrap().window, (FIRST_LIMIT >> SCALE) as u16);
}

#[test]
fn resets_count_only_at_the_right_number() {
    let mut connection = open();
    connection.take(&segment(101, 5000, flag::RST, 0, &[]));
    assert_eq!(connection.phase, Phase::Open);
    assert_eq!(connection.emit(0, 1460).unwrap().flags, flag::ACK);
    connection.take(&segment(100, 5000, flag::RST, 0, &[]));
    assert!(connection.is_over());
    let mut asked = Connection::asked(&segment(9, 0, flag::SYN, 1, &[]), 77, 1460);
    asked.reset();
    let refused = asked.emit(0, 1460).unwrap();
    assert_eq!((refused.seq, refused.ack, refused.flags), (0, 10, flag::RST | flag::ACK));
    assert!(asked.is_over());
}

#[test]
fn a_guest_is_asked_until_it_answers() {
    let mut connection = Connection::asking(700, 1460);
    let syn = connection.emit(0, 1460).unwrap();
    assert_eq!((syn.seq, syn.flags), (700, flag::SYN));
    assert_eq!(connection.emit(10, 1460), None);
    connection.on_time(RETRANSMIT);
    assert_eq!(connection.emit(RETRANSMIT, 1460).unwrap().seq, 700);
    connection.take(&segment(5, 699, flag::SYN | flag::ACK, 100, &[]));
    assert_eq!(connection.phase, Phase::Asking);
    connection.take(&segment(5, 701, flag::SYN | flag::ACK, 100, &[]));
    assert_eq!(connection.phase, Phase::Open);
    assert_eq!(connection.emit(400, 1460).unwrap().ack, 6);
    let mut refused = Connection::asking(700, 1460);
    refused.emit(0, 1460).unwrap();
    refused.take(&segment(0, 701, flag::RST | flag::ACK, 0, &[]));
    assert!(refused.is_over());
}

proptest! {
    #[test]
    fn no_order_of_events_breaks_it(
        steps in prop::collection::vec((0u8..7, -5i64..70_000, any::<u8>(), any::<u16>(), 0usize..3000), 1..120)
    ) {
        let mut connection = open();
        let (mut now, mut expected, mut highest) = (0u64, 100u32, 5000u32);
        let data = vec![3u8; 3000];
        for (what, number, flags, window, len) in steps {
            match what {
                0 => drop(connection.outgoing.push(&data[..len])),
                1 => { connection.incoming.consume(len); connection.drained(); }
                2 => { now += number.unsigned_abs(); connection.on_time(now); }
                3 => connection.host_fin = flags & 1 != 0 || connection.host_fin,
                4 | 5 => {
                    let ack = 5000u32.wrapping_add(number as u32);
                    let seq = if what == 4 { expected } else { expected.wrapping_add(number as u32) };
                    let was_fin = connection.guest_fin;
                    let taken = connection.take(&segment(seq, ack, flags & !flag::RST, window, &data[..len])).len();
                    prop_assert!(taken <= connection.incoming.free() && !(was_fin && taken > 0));
                    connection.incoming.push(&data[..taken]);
                    expected = expected.wrapping_add(taken as u32 + u32::from(connection.guest_fin && !was_fin));
                }
                _ => if let Some(out) = connection.emit(now, 1460 * 3) {
                    prop_assert!(out.data.1 <= 1460 * 3);
                    prop_assert!(out.data.0 + out.data.1 <= connection.outgoing.len());
                    if out.flags & flag::ACK != 0 { prop_assert_eq!(out.ack, expected); }
                    let end = out.seq.wrapping_add(out.data.1 as u32 + u32::from(out.flags & flag::FIN != 0));
                    if after(end, highest) { highest = end; }
                },
            }
            prop_assert!(!after(connection.una, highest) && !after(connection.next, highest));
        }
    }
}
