//! PL061 GPIO: eight lines, of which one is the power button.

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

const NAME: &str = "pl061";
const VERSION: u64 = 1;
/// The line that the board's power button pulls high.
pub const POWER_BUTTON_LINE: u8 = 3;

/// The device.
pub struct Pl061 {
    irq: IrqLine,
    state: Mutex<State>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    /// What the guest wrote to the data register: the level of lines that are outputs.
    data: u8,
    /// What the board drives: the level of lines that are inputs.
    inputs: u8,
    /// 1: output.
    dir: u8,
    /// 1: level-sensitive, 0: edge triggered.
    is: u8,
    /// 1: both edges, 0: the one that `iev` says.
    ibe: u8,
    /// 1: rising edge or high level.
    iev: u8,
    /// Interrupts that are let through.
    ie: u8,
    /// Edges seen.
    edges: u8,
    afsel: u8,
    #[serde(skip)]
    level: bool,
}

impl State {
    /// The level of all lines.
    fn lines(&self) -> u8 {
        self.inputs & !self.dir | self.data & self.dir
    }

    /// `GPIORIS`.
    fn raised(&self) -> u8 {
        self.edges & !self.is | !(self.lines() ^ self.iev) & self.is
    }

    fn read(&self, register: u64) -> u32 {
        let value = match register {
            // Bits 9:2 of the address choose the lines that are seen.
            0..=spec::DATA_LAST => self.lines() & (register >> 2) as u8,
            spec::DIR => self.dir,
            spec::IS => self.is,
            spec::IBE => self.ibe,
            spec::IEV => self.iev,
            spec::IE => self.ie,
            spec::RIS => self.raised(),
            spec::MIS => self.raised() & self.ie,
            spec::AFSEL => self.afsel,
            _ => return primecell::id_register(register, spec::PERIPH_ID).unwrap_or(0),
        };
        value.into()
    }

    fn write(&mut self, register: u64, value: u8) {
        match register {
            0..=spec::DATA_LAST => {
                let chosen = (register >> 2) as u8;
                self.data = self.data & !chosen | value & chosen & self.dir;
            }
            spec::DIR => self.dir = value,
            spec::IS => self.is = value,
            spec::IBE => self.ibe = value,
            spec::IEV => self.iev = value,
            spec::IE => self.ie = value,
            spec::IC => self.edges &= !value,
            spec::AFSEL => self.afsel = value,
            _ => {}
        }
    }
}

impl Pl061 {
    /// A GPIO in its reset state with all inputs low, and its interrupt on `irq`.
    pub fn new(irq: IrqLine) -> Arc<Pl061> {
        Arc::new(Pl061 { irq, state: Mutex::new(State::default()) })
    }

    /// The board drives input `line` (0 to 7) to `level`. Without effect on what the guest sees while it uses the line
    /// as output.
    pub fn set_input(&self, line: u8, level: bool) {
        let bit = if line < 8 { 1 << line } else { 0 };
        self.change(|state| state.inputs = if level { state.inputs | bit } else { state.inputs & !bit });
    }

    /// Presses the power button. A guest debounces it: [`release_power_button`](Self::release_power_button) should come
    /// 100 ms later, not at once.
    pub fn press_power_button(&self) {
        self.set_input(POWER_BUTTON_LINE, true);
    }

    /// Lets the power button go.
    pub fn release_power_button(&self) {
        self.set_input(POWER_BUTTON_LINE, false);
    }

    /// Changes the state, notes the edges on the lines, and drives the interrupt line.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let before = state.lines();
        let result = change(&mut state);
        let (after, changed) = (state.lines(), before ^ state.lines());
        // An edge counts for lines that are edge triggered: both, or the one to the level of `iev`.
        state.edges |= changed & !state.is & (state.ibe | !(after ^ state.iev));
        let level = state.raised() & state.ie != 0;
        if level != state.level {
            state.level = level;
            self.irq.set(level);
        }
        result
    }
}

impl MmioDevice for Pl061 {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        Ok(primecell::read_part(lock(&self.state).read(offset & !3), offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        if let Some(value) = primecell::written(offset, size, value) {
            self.change(|state| state.write(offset, value as u8));
        }
        Ok(())
    }

    fn reset(&self) {
        self.change(|state| *state = State { inputs: state.inputs, level: state.level, ..State::default() });
    }

    fn save(&self) -> Value {
        state::pack(VERSION, &*lock(&self.state))
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: State = state::unpack(NAME, VERSION, value)?;
        self.change(|state| *state = State { level: state.level, ..saved.clone() });
        // What was noted as an edge on the way is none.
        self.change(|state| state.edges = saved.edges);
        Ok(())
    }
}
