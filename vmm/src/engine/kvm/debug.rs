//! A debugger's places as the hardware has them: KVM_SET_GUEST_DEBUG with breakpoint and watchpoint registers of the host
//! (Arm ARM D2). Plain data, tested on every host.

use cpu::{DebugEvent, DebugPoints, Watched, Watchpoint};

/// DBGBCR.E and DBGWCR.E.
const ENABLED: u64 = 1;
/// DBGBCR.PMC and DBGWCR.PAC: at EL1 and EL0.
const EL1_AND_EL0: u64 = 3 << 1;
/// DBGBCR.BAS: a whole A64 instruction.
const WHOLE_INSTRUCTION: u64 = 0xf << 5;
/// Where DBGWCR has BAS, LSC and MASK.
const BAS: u32 = 5;
const LSC: u32 = 3;
const MASK: u32 = 24;
/// The largest range of one watchpoint: MASK has five bits.
const LARGEST: u64 = 1 << 31;

/// Exception classes of what KVM_EXIT_DEBUG returns for, as taken from EL1 or EL0.
const BREAKPOINT: u32 = 0x30;
const STEP: u32 = 0x32;
const WATCHPOINT: u32 = 0x34;

/// Registers of the host in pairs of control and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HardwarePoints {
    pub(super) breakpoints: Vec<(u64, u64)>,
    pub(super) watchpoints: Vec<(u64, u64)>,
}

/// The registers' contents; `breakpoints` and `watchpoints` say how many of each the host has.
pub(super) fn hardware(points: &DebugPoints, breakpoints: usize, watchpoints: usize) -> Result<HardwarePoints, String> {
    for (what, wanted, most) in
        [("breakpoints", points.breakpoints.len(), breakpoints), ("watchpoints", points.watchpoints.len(), watchpoints)]
    {
        if wanted > most {
            return Err(format!("{wanted} {what}: this host's processor has {most}"));
        }
    }
    Ok(HardwarePoints {
        breakpoints: points.breakpoints.iter().map(|&pc| (ENABLED | EL1_AND_EL0 | WHOLE_INSTRUCTION, pc)).collect(),
        watchpoints: points.watchpoints.iter().map(watchpoint).collect::<Result<_, _>>()?,
    })
}

fn watchpoint(point: &Watchpoint) -> Result<(u64, u64), String> {
    let Watchpoint { address, len, on } = *point;
    let direction = match on {
        Watched::Loads => 1,
        Watched::Stores => 2,
        Watched::Both => 3,
    };
    let control = ENABLED | EL1_AND_EL0 | direction << LSC;
    let first = address & 7;
    if (1..=8).contains(&len) && first + len <= 8 {
        let bytes = ((1u64 << len) - 1) << first;
        return Ok((control | bytes << BAS, address & !7));
    }
    if len.is_power_of_two() && len <= LARGEST && address.is_multiple_of(len) {
        return Ok((control | 0xff << BAS | u64::from(len.trailing_zeros()) << MASK, address));
    }
    Err(format!(
        "a watchpoint of {len} bytes at {address:#x}: this host's processor watches bytes of one doubleword, or a power of two of bytes at a multiple of it"
    ))
}

/// What KVM_EXIT_DEBUG tells by its syndrome and fault address; nothing for a class that was not asked for.
pub(super) fn event(syndrome: u32, address: u64, points: &DebugPoints) -> Option<DebugEvent> {
    match syndrome >> 26 {
        BREAKPOINT => Some(DebugEvent::Breakpoint),
        STEP => Some(DebugEvent::Step),
        WATCHPOINT => Some(DebugEvent::Watchpoint(first_watched(address, points))),
        _ => None,
    }
}

/// The processor tells where the access begins, or anywhere in it: the watched byte from there on is meant.
fn first_watched(address: u64, points: &DebugPoints) -> u64 {
    let distance = |point: &Watchpoint| {
        if address.wrapping_sub(point.address) < point.len { 0 } else { point.address.wrapping_sub(address) }
    };
    points
        .watchpoints
        .iter()
        .map(|point| address.wrapping_add(distance(point)))
        .min_by_key(|at| at.wrapping_sub(address))
        .unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(address: u64, len: u64, on: Watched) -> DebugPoints {
        DebugPoints { watchpoints: vec![Watchpoint { address, len, on }], ..DebugPoints::default() }
    }

    #[test]
    fn registers_of_points() {
        let breakpoints = DebugPoints { breakpoints: vec![0xffff_8000_0000_1234], ..DebugPoints::default() };
        let found = hardware(&breakpoints, 2, 0).unwrap();
        assert_eq!(found.breakpoints, [(0x1e7, 0xffff_8000_0000_1234)]);
        let one = |points: DebugPoints| hardware(&points, 0, 1).unwrap().watchpoints[0];
        assert_eq!(one(watch(0x1004, 4, Watched::Stores)), (0xf0 << 5 | 2 << 3 | 7, 0x1000));
        assert_eq!(one(watch(0x1000, 8, Watched::Both)), (0xff << 5 | 3 << 3 | 7, 0x1000));
        assert_eq!(one(watch(0x1007, 1, Watched::Loads)), (0x80 << 5 | 1 << 3 | 7, 0x1000));
        assert_eq!(one(watch(0x2000, 4096, Watched::Both)), (12 << 24 | 0xff << 5 | 3 << 3 | 7, 0x2000));
    }

    #[test]
    fn what_the_host_has_not_is_named() {
        let two = DebugPoints { breakpoints: vec![0, 4], ..DebugPoints::default() };
        assert!(hardware(&two, 1, 4).unwrap_err().contains("2 breakpoints: this host's processor has 1"));
        assert!(hardware(&watch(0, 1, Watched::Both), 6, 0).unwrap_err().contains("has 0"));
        for (address, len) in [(0x1006, 4), (0x1000, 24), (0x1008, 16), (0, 1 << 32), (0x1000, 0)] {
            assert!(hardware(&watch(address, len, Watched::Both), 6, 4).is_err(), "{address:#x} {len}");
        }
    }

    #[test]
    fn events() {
        let points = watch(0x1004, 4, Watched::Both);
        assert_eq!(event(0x30 << 26 | 0x22, 0, &points), Some(DebugEvent::Breakpoint));
        assert_eq!(event(0x32 << 26 | 0x22, 0, &points), Some(DebugEvent::Step));
        assert_eq!(event(0x34 << 26 | 0x22, 0x1000, &points), Some(DebugEvent::Watchpoint(0x1004)));
        assert_eq!(event(0x34 << 26 | 0x22, 0x1006, &points), Some(DebugEvent::Watchpoint(0x1006)));
        assert_eq!(event(0x3c << 26, 0, &points), None, "nobody asked for BRK");
    }
}
