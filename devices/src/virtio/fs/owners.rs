//! Whose files are whose: the guest's numbers of users and groups, and the host's.

use rustix::io::Errno;

/// Whom the guest sees where the host's owner has no number of its own: "nobody".
const NOBODY: u32 = 65534;

/// A run of numbers that are other numbers on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first in the guest.
    pub guest: u32,
    /// The first on the host.
    pub host: u32,
    /// How many.
    pub count: u32,
}

impl Range {
    /// All numbers are the same on both sides.
    pub const ALL: Range = Range { guest: 0, host: 0, count: u32::MAX };
}

fn shift(number: u32, from: u32, to: u32, count: u32) -> Option<u32> {
    number.checked_sub(from).filter(|&offset| offset < count).and_then(|offset| to.checked_add(offset))
}

/// The guest's number for a host's.
pub(super) fn to_guest(map: &[Range], host: u32) -> u32 {
    map.iter().find_map(|range| shift(host, range.host, range.guest, range.count)).unwrap_or(NOBODY)
}

/// The host's number for a guest's.
pub(super) fn to_host(map: &[Range], guest: u32) -> Result<u32, Errno> {
    map.iter().find_map(|range| shift(guest, range.guest, range.host, range.count)).ok_or(Errno::PERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        let map = [Range { guest: 0, host: 1000, count: 1 }, Range { guest: 1000, host: 100_000, count: 10 }];
        for (guest, host) in [(0, 1000), (1000, 100_000), (1009, 100_009)] {
            assert_eq!((to_host(&map, guest), to_guest(&map, host)), (Ok(host), guest));
        }
        assert_eq!((to_host(&map, 1), to_guest(&map, 0)), (Err(Errno::PERM), NOBODY));
        assert_eq!((to_host(&map, 1010), to_guest(&map, 100_010)), (Err(Errno::PERM), NOBODY));
        let high = [Range { guest: 0, host: u32::MAX, count: 10 }];
        assert_eq!(to_host(&high, 1), Err(Errno::PERM));
        assert_eq!(to_host(&[Range::ALL], 77), Ok(77));
    }
}
