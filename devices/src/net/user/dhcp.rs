//! The DHCP server (RFC 2131): one address for whoever asks.

use std::net::Ipv4Addr;

use super::addresses::{DNS4, GATEWAY4, GUEST4, NETMASK4};
use crate::net::wire;

/// Port of the server.
pub(super) const SERVER_PORT: u16 = 67;
/// Port of the client.
pub(super) const CLIENT_PORT: u16 = 68;
/// Seconds that the address is given for: a day.
const LEASE: u32 = 86400;
/// Length of a message before its options, with the cookie.
const FIXED: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Shortest message that old clients take.
const LEAST: usize = 300;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const INFORM: u8 = 8;

/// What an answer needs to know beside the question.
pub(super) struct Settings<'a> {
    pub(super) mtu: u16,
    pub(super) search: &'a [String],
}

/// An answer and where it goes.
pub(super) struct Answer {
    pub(super) message: Vec<u8>,
    /// The client's address, or everybody.
    pub(super) to: Ipv4Addr,
}

/// Answers a client's message, if it asks for something.
pub(super) fn answer(message: &[u8], settings: &Settings<'_>) -> Option<Answer> {
    let [op, kind, length, _]: [u8; 4] = wire::array(message, 0)?;
    let client: Ipv4Addr = wire::array::<4>(message, 12)?.into();
    if (op, kind, length) != (1, 1, 6) || wire::array::<4>(message, FIXED - 4)? != COOKIE {
        return None;
    }
    let options = message.get(FIXED..)?;
    let wants = |number| option(options, number);
    let asked = wants(53)?.first().copied()?;
    let address = |number| wants(number).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
    if address(54).is_some_and(|server| server != GATEWAY4) {
        // Another server was chosen: there is none, but the client may think so.
        return None;
    }
    let wanted = address(50).unwrap_or(client);
    let (kind, yours) = match asked {
        DISCOVER => (OFFER, GUEST4),
        REQUEST if wanted == GUEST4 => (ACK, GUEST4),
        REQUEST => (NAK, Ipv4Addr::UNSPECIFIED),
        INFORM => (ACK, Ipv4Addr::UNSPECIFIED),
        _ => return None,
    };
    let broadcast = wire::be16(message, 10)? & 0x8000 != 0;
    let to = match (kind, asked) {
        (NAK, _) => Ipv4Addr::BROADCAST,
        (_, INFORM) => client,
        _ if !client.is_unspecified() => client,
        _ if broadcast => Ipv4Addr::BROADCAST,
        _ => yours,
    };
    let mut reply = vec![0; FIXED];
    // Transaction, flags, the client's own address and card.
    for range in [4..8, 10..16, 28..44] {
        wire::put(&mut reply, range.start, message.get(range)?);
    }
    wire::put(&mut reply, 0, &[2, 1, 6, 0]);
    wire::put(&mut reply, 16, &yours.octets());
    wire::put(&mut reply, 20, &GATEWAY4.octets());
    wire::put(&mut reply, FIXED - 4, &COOKIE);
    add(&mut reply, 53, &[kind]);
    add(&mut reply, 54, &GATEWAY4.octets());
    if kind != NAK {
        if asked != INFORM {
            add(&mut reply, 51, &LEASE.to_be_bytes());
        }
        add(&mut reply, 1, &NETMASK4.octets());
        add(&mut reply, 3, &GATEWAY4.octets());
        add(&mut reply, 6, &DNS4.octets());
        add(&mut reply, 26, &settings.mtu.to_be_bytes());
        if let Some(domain) = settings.search.first() {
            add(&mut reply, 15, domain.as_bytes());
        }
    }
    reply.push(255);
    reply.resize(reply.len().max(LEAST), 0);
    Some(Answer { message: reply, to })
}

fn add(reply: &mut Vec<u8>, number: u8, data: &[u8]) {
    // Longest: a domain name of 253 bytes.
    if let Ok(len) = u8::try_from(data.len()) {
        reply.extend([number, len]);
        reply.extend(data);
    }
}

/// The option `number` among `options`.
fn option(mut options: &[u8], number: u8) -> Option<&[u8]> {
    loop {
        let (&this, rest) = options.split_first()?;
        match this {
            0 => options = rest,
            255 => return None,
            _ => {
                let (&len, rest) = rest.split_first()?;
                let data = rest.get(..len.into())?;
                if this == number {
                    return Some(data);
                }
                options = rest.get(len.into()..)?;
            }
        }
    }
}

/// The body of the fuzz target.
pub fn fuzz(data: &[u8]) {
    let search = ["example.org".to_owned()];
    if let Some(answer) = answer(data, &Settings { mtu: 1500, search: &search }) {
        assert!(answer.message.len() >= LEAST && answer.message.len() <= 600);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; FIXED];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[4..8].copy_from_slice(b"XIDX");
        message[28..34].copy_from_slice(&[0x52, 0x54, 0, 1, 2, 3]);
        message[FIXED - 4..].copy_from_slice(&COOKIE);
        add(&mut message, 53, &[kind]);
        options.iter().for_each(|(number, data)| add(&mut message, *number, data));
        message.push(255);
        message
    }

    fn ask(kind: u8, options: &[(u8, &[u8])]) -> Option<Answer> {
        answer(&message(kind, options), &Settings { mtu: 1500, search: &["example.org".to_owned()] })
    }

    #[test]
    fn a_client_gets_its_address() {
        let offer = ask(DISCOVER, &[]).unwrap();
        assert_eq!(offer.to, GUEST4);
        assert_eq!(offer.message[16..20], GUEST4.octets());
        assert_eq!(&offer.message[4..8], b"XIDX");
        let options = &offer.message[FIXED..];
        assert_eq!(option(options, 53).unwrap(), [OFFER]);
        assert_eq!(option(options, 3).unwrap(), GATEWAY4.octets());
        assert_eq!(option(options, 6).unwrap(), DNS4.octets());
        assert_eq!(option(options, 26).unwrap(), 1500u16.to_be_bytes());
        assert_eq!(option(options, 15).unwrap(), b"example.org");
        let ack = ask(REQUEST, &[(50, &GUEST4.octets()), (54, &GATEWAY4.octets())]).unwrap();
        assert_eq!(option(&ack.message[FIXED..], 53).unwrap(), [ACK]);
        let nak = ask(REQUEST, &[(50, &[10, 0, 2, 77])]).unwrap();
        assert_eq!(option(&nak.message[FIXED..], 53).unwrap(), [NAK]);
        assert_eq!(nak.to, Ipv4Addr::BROADCAST);
        assert!(ask(REQUEST, &[(50, &GUEST4.octets()), (54, &[10, 0, 2, 9])]).is_none());
        assert!(ask(7, &[]).is_none());
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let good = message(DISCOVER, &[]);
        for (at, value) in [(0, 2), (1, 6), (2, 7), (FIXED - 1, 0)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(answer(&bad, &Settings { mtu: 1500, search: &[] }).is_none(), "{at}");
        }
        (0..good.len() - 1).for_each(|len| drop(answer(&good[..len], &Settings { mtu: 1500, search: &[] })));
    }

    proptest! {
        #[test]
        fn any_options_are_survived(tail in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = message(DISCOVER, &[]);
            bytes.truncate(FIXED);
            bytes.extend(tail);
            fuzz(&bytes);
        }
    }
}
