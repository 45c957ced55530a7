//! `--break` and `--watch`: places at which registers are told.

use crate::debugger::{Place, Point, Then};
use crate::engine::{Watched, Watchpoint};

/// Most instructions that one point tells.
const MOST_STEPS: u32 = 1_000_000;

/// A virtual address, in hexadecimal with 0x or in decimal.
pub fn address(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("{text:?} is no address; write it as 0xffff800080010000"))
}

/// The virtual address of an instruction.
pub fn instruction(text: &str) -> Result<u64, String> {
    let address = address(text)?;
    if address.is_multiple_of(4) {
        Ok(address)
    } else {
        Err(format!("{address:#x} is no multiple of 4, where instructions are"))
    }
}

fn steps(text: &str) -> Result<u32, String> {
    let steps = text.parse().ok().filter(|steps| *steps <= MOST_STEPS);
    steps.ok_or_else(|| format!("steps={text}: expected a number up to {MOST_STEPS}"))
}

/// `ADDRESS[,steps=N]`.
pub fn parse_break(text: &str) -> Result<Point, String> {
    let mut parts = text.split(',');
    let address = instruction(parts.next().unwrap_or_default())?;
    let mut point = Point { place: Place::Instruction(address), then: Then::GoOn { steps: 0 } };
    for part in parts {
        match part.split_once('=') {
            Some(("steps", number)) => point.then = Then::GoOn { steps: steps(number)? },
            _ => return Err(format!("{part:?} is not known; expected steps=N")),
        }
    }
    Ok(point)
}

/// `ADDRESS[,len=BYTES][,on=load|store|both][,steps=N]`.
pub fn parse_watch(text: &str) -> Result<Point, String> {
    let mut parts = text.split(',');
    let address = address(parts.next().unwrap_or_default())?;
    let mut watchpoint = Watchpoint { address, len: 8, on: Watched::Both };
    let mut then = Then::GoOn { steps: 0 };
    for part in parts {
        match part.split_once('=') {
            Some(("steps", number)) => then = Then::GoOn { steps: steps(number)? },
            Some(("len", bytes)) => watchpoint.len = len(bytes)?,
            Some(("on", "load")) => watchpoint.on = Watched::Loads,
            Some(("on", "store")) => watchpoint.on = Watched::Stores,
            Some(("on", "both")) => watchpoint.on = Watched::Both,
            _ => return Err(format!("{part:?} is not known; expected len=BYTES, on=load|store|both, steps=N")),
        }
    }
    Ok(Point { place: Place::Access(watchpoint), then })
}

/// Bytes that are watched.
pub fn len(text: &str) -> Result<u64, String> {
    let len = address(text).ok().filter(|len| (1..=1 << 31).contains(len));
    len.ok_or_else(|| format!("{text:?}: expected 1 to {} bytes", 1u64 << 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points() {
        let point = parse_break("0xffff800080010000,steps=3").unwrap();
        assert_eq!(point.place, Place::Instruction(0xffff_8000_8001_0000));
        assert_eq!(point.then, Then::GoOn { steps: 3 });
        let Place::Access(watch) = parse_watch("0x100,len=4,on=store").unwrap().place else { panic!("no access") };
        assert_eq!(watch, Watchpoint { address: 0x100, len: 4, on: Watched::Stores });
        for wrong in ["", "x", "0x", "0x101", "0x100,4", "0x100,steps=x", "0x100,len=4"] {
            assert!(parse_break(wrong).is_err(), "{wrong}");
        }
        for wrong in ["0x100,on=exec", "0x100,len=0", "0x100,len=0x100000000", "0x100,steps=9999999"] {
            assert!(parse_watch(wrong).is_err(), "{wrong}");
        }
    }
}
