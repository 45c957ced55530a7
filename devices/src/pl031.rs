//! PL031 real-time clock: seconds, with an alarm.
//!
//! The guest sees the host's wall clock plus an offset that it may set. The offset survives a reset, as a clock with a
//! battery does, and is what is saved: a restored guest that asks for the time gets the time.

mod spec;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bus::{AccessError, MmioDevice};
use crate::irq::IrqLine;
use crate::state::{self, StateError};
use crate::{lock, primecell};

const NAME: &str = "pl031";
const VERSION: u64 = 1;

/// The host's wall clock, and a timer on it.
pub trait WallClock: Send + Sync {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    fn seconds(&self) -> u64;
    /// Asks for a call of [`Pl031::alarm`] when [`seconds`](Self::seconds) reaches `at`; instead of what was asked for
    /// before. With `None` no call is wanted. Called under the device's lock: do not call the device from here.
    fn set_alarm(&self, at: Option<u64>);
}

/// The device.
pub struct Pl031 {
    irq: IrqLine,
    clock: Arc<dyn WallClock>,
    state: Mutex<State>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    /// Guest time less host time, modulo 2^32 seconds.
    offset: u32,
    /// `RTCMR`.
    matches: u32,
    /// `RTCLR`.
    load: u32,
    /// `RTCIMSC`, 1 bit.
    imsc: u32,
    /// `RTCRIS`, 1 bit.
    ris: u32,
    /// Host time at which the alarm is due.
    due: Option<u64>,
    #[serde(skip)]
    level: bool,
}

impl Pl031 {
    /// A clock that shows the time of `clock`, with its interrupt on `irq`.
    pub fn new(irq: IrqLine, clock: Arc<dyn WallClock>) -> Arc<Pl031> {
        Arc::new(Pl031 { irq, clock, state: Mutex::new(State::default()) })
    }

    /// The time that was asked for with [`WallClock::set_alarm`] has come. Calls that come too early or too late are
    /// harmless.
    pub fn alarm(&self) {
        self.change(|_, _| {});
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = lock(&self.state);
        let now = self.clock.seconds();
        let due = state.due;
        state.expire(now);
        let result = change(&mut state, now);
        state.expire(now);
        if state.due != due {
            self.clock.set_alarm(state.due);
        }
        let level = state.ris & state.imsc != 0;
        if level != state.level {
            state.level = level;
            self.irq.set(level);
        }
        result
    }
}

impl State {
    fn count(&self, now: u64) -> u32 {
        (now as u32).wrapping_add(self.offset)
    }

    /// Raises the interrupt if the alarm is due.
    fn expire(&mut self, now: u64) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.ris = 1;
        }
    }

    /// The alarm is due when the count comes to the match value, which it does once in 2^32 seconds.
    fn arm(&mut self, now: u64) {
        self.due = Some(now.saturating_add(self.matches.wrapping_sub(self.count(now)).into()));
    }

    fn read(&self, register: u64, now: u64) -> u32 {
        match register {
            spec::DR => self.count(now),
            spec::MR => self.matches,
            spec::LR => self.load,
            spec::CR => 1,
            spec::IMSC => self.imsc,
            spec::RIS => self.ris,
            spec::MIS => self.ris & self.imsc,
            _ => primecell::id_register(register, spec::PERIPH_ID).unwrap_or(0),
        }
    }

    fn write(&mut self, register: u64, value: u32, now: u64) {
        match register {
            spec::MR => {
                self.matches = value;
                self.arm(now);
            }
            spec::LR => {
                self.load = value;
                self.offset = value.wrapping_sub(now as u32);
                self.arm(now);
            }
            spec::IMSC => self.imsc = value & 1,
            spec::ICR => self.ris &= !value,
            // CR: the clock runs and cannot be stopped but by a reset.
            _ => {}
        }
    }
}

impl MmioDevice for Pl031 {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        let value = self.change(|state, now| state.read(offset & !3, now));
        Ok(primecell::read_part(value, offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        if let Some(value) = primecell::written(offset, size, value) {
            self.change(|state, now| state.write(offset, value, now));
        }
        Ok(())
    }

    fn reset(&self) {
        self.change(|state, _| {
            *state = State { offset: state.offset, load: state.load, level: state.level, ..State::default() };
        });
    }

    fn save(&self) -> Value {
        state::pack(VERSION, &*lock(&self.state))
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: State = state::unpack(NAME, VERSION, value)?;
        self.change(|state, now| {
            *state = State { imsc: saved.imsc & 1, ris: saved.ris & 1, level: state.level, due: None, ..saved };
            if saved.due.is_some_and(|due| due <= now) {
                state.ris = 1; // it came while the guest was saved
            } else {
                state.due = saved.due;
            }
        });
        Ok(())
    }
}
