//! PL011 UART: the console of the board.
//!
//! Characters are sent at once, so the transmit FIFO is always empty. What is typed is kept on the host until the
//! guest wants it ([`Pl011::receive`] says how much it took), so that nothing is lost to a driver that empties the
//! FIFO as it starts, and nothing overruns.

mod spec;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bus::{AccessError, MmioDevice};
use crate::irq::IrqLine;
use crate::state::{self, StateError};
use crate::{lock, primecell};

const NAME: &str = "pl011";
const VERSION: u64 = 1;
/// This many reads of `FR` in a row, with nothing to read and nothing sent, are a guest that waits for input by
/// polling. A driver that looks whether it may send, or drains the FIFO as it starts, never comes so far.
const POLLS_THAT_WAIT: u8 = 8;

/// The host's end of a serial line.
pub trait CharSink: Send + Sync {
    /// The guest sent `bytes`. Called on the thread of the vCPU: it must not wait long for whoever reads them.
    fn write(&self, bytes: &[u8]);
    /// The guest takes characters again, after [`Pl011::receive`] took fewer than were offered: offer the rest.
    fn input_wanted(&self) {}
}

/// The device. Registers as in Arm DDI 0183; the modem lines are not connected.
pub struct Pl011 {
    irq: IrqLine,
    out: Arc<dyn CharSink>,
    state: Mutex<State>,
}

#[derive(Clone, Serialize, Deserialize)]
struct State {
    /// Received characters with their error bits, as `DR` shows them.
    fifo: VecDeque<u16>,
    /// Characters were lost; the next one that is received says so.
    overrun: bool,
    rsr: u32,
    ilpr: u32,
    ibrd: u32,
    fbrd: u32,
    lcr_h: u32,
    cr: u32,
    ifls: u32,
    imsc: u32,
    ris: u32,
    dmacr: u32,
    /// Modem lines as `FR` has them.
    modem: u32,
    /// Reads of `FR` in a row that found nothing.
    polls: u8,
    /// The receive interrupt has just been enabled and nothing has come since.
    #[serde(default)]
    opening: bool,
    /// The host has characters that were not taken. The host of another process has its own.
    #[serde(skip)]
    owed: bool,
    /// Level of the interrupt line.
    #[serde(skip)]
    level: bool,
}

impl State {
    fn new() -> State {
        State {
            fifo: VecDeque::with_capacity(spec::FIFO_DEPTH),
            overrun: false,
            rsr: 0,
            ilpr: 0,
            ibrd: 0,
            fbrd: 0,
            lcr_h: 0,
            cr: spec::CR_RESET,
            ifls: spec::IFLS_RESET,
            imsc: 0,
            ris: 0,
            dmacr: 0,
            modem: 0,
            polls: 0,
            opening: false,
            owed: false,
            level: false,
        }
    }

    /// How many characters the receive FIFO holds.
    fn depth(&self) -> usize {
        if self.lcr_h & spec::LCR_FEN != 0 { spec::FIFO_DEPTH } else { 1 }
    }

    /// How many characters raise the receive interrupt.
    fn trigger(&self) -> usize {
        let level = match self.ifls >> 3 & 7 {
            0 => spec::FIFO_DEPTH / 8,
            1 => spec::FIFO_DEPTH / 4,
            2 => spec::FIFO_DEPTH / 2,
            3 => spec::FIFO_DEPTH * 3 / 4,
            _ => spec::FIFO_DEPTH * 7 / 8,
        };
        level.min(self.depth())
    }

    /// Characters interrupt the guest.
    fn listens(&self) -> bool {
        self.imsc & (spec::INT_RX | spec::INT_RT) != 0
    }

    /// Sets the interrupt mask. Linux enables the receive interrupt for a moment before it resets the port and throws
    /// away what has come: the first offer after that moment is refused, unless the line was configured since.
    fn write_mask(&mut self, value: u32) {
        let listened = self.listens();
        self.imsc = value & spec::INT_ALL;
        self.opening = self.listens() && (self.opening || !listened);
    }

    /// How many characters from outside the guest wants now.
    fn room(&self) -> usize {
        let waits = self.listens() && !self.opening || self.polls >= POLLS_THAT_WAIT;
        if waits && self.cr & (spec::CR_RXE | spec::CR_LBE) == spec::CR_RXE {
            self.depth().saturating_sub(self.fifo.len())
        } else {
            0
        }
    }

    /// Receives one character with its error bits.
    fn push(&mut self, mut character: u16) {
        if self.fifo.len() >= self.depth() {
            self.overrun = true;
            self.rsr |= u32::from(spec::DR_OE) >> 8;
            self.ris |= spec::INT_OE;
            return;
        }
        if std::mem::take(&mut self.overrun) {
            character |= spec::DR_OE;
        }
        // FE, PE, BE are bits 10:8 of the data register and bits 9:7 of the interrupt registers.
        self.ris |= u32::from(character & spec::DR_ERRORS) >> 1;
        self.fifo.push_back(character);
        if self.fifo.len() >= self.trigger() {
            self.ris |= spec::INT_RX;
        }
    }

    /// Reads `DR`.
    fn pop(&mut self) -> u32 {
        let Some(character) = self.fifo.pop_front() else { return 0 };
        self.rsr = u32::from(character >> 8);
        if self.fifo.len() < self.trigger() {
            self.ris &= !spec::INT_RX;
        }
        character.into()
    }

    /// The timeout interrupt: characters wait, and the receive interrupt does not say so. The 32 bit periods that
    /// hardware waits first are over at once here.
    fn settle_timeout(&mut self) {
        let waits = !self.fifo.is_empty() && self.ris & spec::INT_RX == 0;
        self.ris = if waits { self.ris | spec::INT_RT } else { self.ris & !spec::INT_RT };
    }

    fn flags(&self) -> u32 {
        let empty = if self.fifo.is_empty() { spec::FR_RXFE } else { 0 };
        let full = if self.fifo.len() >= self.depth() { spec::FR_RXFF } else { 0 };
        spec::FR_TXFE | empty | full | self.modem
    }

    /// In loop-back the modem outputs are the modem inputs.
    fn settle_modem(&mut self) {
        let mut lines = 0;
        if self.cr & spec::CR_LBE != 0 {
            let pairs = [
                (spec::CR_RTS, spec::FR_CTS),
                (spec::CR_DTR, spec::FR_DSR),
                (spec::CR_OUT1, spec::FR_DCD),
                (spec::CR_OUT2, spec::FR_RI),
            ];
            lines = pairs.iter().filter(|(out, _)| self.cr & out != 0).fold(0, |l, (_, input)| l | input);
        }
        let changed = lines ^ self.modem;
        let interrupts = [
            (spec::FR_RI, spec::INT_RI),
            (spec::FR_CTS, spec::INT_CTS),
            (spec::FR_DCD, spec::INT_DCD),
            (spec::FR_DSR, spec::INT_DSR),
        ];
        self.ris |= interrupts.iter().filter(|(line, _)| changed & line != 0).fold(0, |i, (_, int)| i | int);
        self.modem = lines;
    }

    fn read(&mut self, register: u64) -> u32 {
        match register {
            spec::DR => self.pop(),
            spec::RSR => self.rsr,
            spec::FR => {
                if self.fifo.is_empty() {
                    self.polls = self.polls.saturating_add(1);
                }
                self.flags()
            }
            spec::ILPR => self.ilpr,
            spec::IBRD => self.ibrd,
            spec::FBRD => self.fbrd,
            spec::LCR_H => self.lcr_h,
            spec::CR => self.cr,
            spec::IFLS => self.ifls,
            spec::IMSC => self.imsc,
            spec::RIS => self.ris,
            spec::MIS => self.ris & self.imsc,
            spec::DMACR => self.dmacr,
            _ => primecell::id_register(register, spec::PERIPH_ID).unwrap_or(0),
        }
    }

    /// Writes a register; the result is a character to send.
    fn write(&mut self, register: u64, value: u32) -> Option<u8> {
        match register {
            spec::DR => {
                self.polls = 0;
                // The FIFO passes its level as the character leaves it.
                self.ris |= spec::INT_TX;
                if self.cr & spec::CR_LBE == 0 {
                    return Some(value as u8);
                }
                self.push((value & 0xff) as u16);
            }
            spec::RSR => self.rsr = 0,
            spec::ILPR => self.ilpr = value & 0xff,
            spec::IBRD => self.ibrd = value & 0xffff,
            spec::FBRD => self.fbrd = value & 0x3f,
            spec::LCR_H => self.write_line_control(value & 0xff),
            spec::CR => {
                self.cr = value & spec::CR_FIELDS;
                self.opening &= self.cr & spec::CR_RXE == 0;
                self.settle_modem();
            }
            spec::IFLS => {
                self.ifls = value & 0x3f;
                if self.fifo.len() < self.trigger() {
                    self.ris &= !spec::INT_RX;
                }
            }
            spec::IMSC => self.write_mask(value),
            spec::ICR => self.ris &= !value,
            spec::DMACR => self.dmacr = value & 7,
            _ => {}
        }
        None
    }

    fn write_line_control(&mut self, value: u32) {
        let changed = self.lcr_h ^ value;
        self.lcr_h = value;
        if changed & spec::LCR_FEN != 0 {
            self.fifo.clear();
            self.ris &= !spec::INT_RX;
        }
        if changed & value & spec::LCR_BRK != 0 && self.cr & spec::CR_LBE != 0 {
            self.push(spec::DR_BE);
        }
    }
}

impl Pl011 {
    /// A UART in its reset state, with its interrupt on `irq`, that sends to `out`.
    pub fn new(irq: IrqLine, out: Arc<dyn CharSink>) -> Arc<Pl011> {
        Arc::new(Pl011 { irq, out, state: Mutex::new(State::new()) })
    }

    /// Offers `bytes` as typed characters. Returns how many of them, from the front, the guest took; it calls
    /// [`CharSink::input_wanted`] when it takes more.
    pub fn receive(&self, bytes: &[u8]) -> usize {
        self.change(|state| {
            let taken = state.room().min(bytes.len());
            bytes.iter().take(taken).for_each(|&b| state.push(b.into()));
            // A refusal because the port is opening is not called off by the next register access: the host offers
            // again after a while.
            state.owed = taken < bytes.len() && !std::mem::take(&mut state.opening);
            taken
        })
    }

    /// How many characters the guest would take now.
    pub fn can_receive(&self) -> usize {
        lock(&self.state).room()
    }

    /// The other end of the line sends a break (Linux: magic SysRq). False if the guest has no room for it.
    pub fn send_break(&self) -> bool {
        self.change(|state| {
            let room = state.room() > 0;
            if room {
                state.push(spec::DR_BE);
            }
            room
        })
    }

    /// Changes the state, then drives the interrupt line and calls for input as the change demands.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        state.settle_timeout();
        let level = state.ris & state.imsc != 0;
        if level != state.level {
            state.level = level;
            self.irq.set(level);
        }
        result
    }

    /// True, once, when the guest has room for characters that it did not take before.
    fn claims_owed(&self, state: &mut State) -> bool {
        state.owed && state.room() > 0 && std::mem::take(&mut state.owed)
    }
}

impl MmioDevice for Pl011 {
    fn name(&self) -> &str {
        NAME
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        let (value, wanted) = self.change(|state| (state.read(offset & !3), self.claims_owed(state)));
        if wanted {
            self.out.input_wanted();
        }
        Ok(primecell::read_part(value, offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        let Some(value) = primecell::written(offset, size, value) else { return Ok(()) };
        let (sent, wanted) = self.change(|state| (state.write(offset, value), self.claims_owed(state)));
        // Outside the lock: the host side may be slow, and the guest orders its own writes.
        if let Some(byte) = sent {
            self.out.write(&[byte]);
        }
        if wanted {
            self.out.input_wanted();
        }
        Ok(())
    }

    fn reset(&self) {
        self.change(|state| *state = State { level: state.level, owed: state.owed, ..State::new() });
    }

    fn save(&self) -> Value {
        state::pack(VERSION, &*lock(&self.state))
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let saved: State = state::unpack(NAME, VERSION, value)?;
        if saved.fifo.len() > spec::FIFO_DEPTH {
            let reason = format!("{} characters in a FIFO of {}", saved.fifo.len(), spec::FIFO_DEPTH);
            return Err(StateError::malformed(NAME, reason));
        }
        self.change(|state| {
            let mut fifo = VecDeque::with_capacity(spec::FIFO_DEPTH);
            fifo.extend(saved.fifo.iter().map(|c| c & 0xfff));
            *state = State {
                fifo,
                overrun: saved.overrun,
                rsr: saved.rsr & 0xf,
                ilpr: saved.ilpr & 0xff,
                ibrd: saved.ibrd & 0xffff,
                fbrd: saved.fbrd & 0x3f,
                lcr_h: saved.lcr_h & 0xff,
                cr: saved.cr & spec::CR_FIELDS,
                ifls: saved.ifls & 0x3f,
                imsc: saved.imsc & spec::INT_ALL,
                ris: saved.ris & spec::INT_ALL,
                dmacr: saved.dmacr & 7,
                modem: saved.modem & spec::FR_MODEM,
                polls: saved.polls,
                opening: saved.opening,
                owed: state.owed,
                level: state.level,
            };
        });
        Ok(())
    }
}
