//! A whole machine to and from a [`container`](super::container): vCPUs, devices, interrupt controller, firmware state, clock, RAM.
//!
//! A machine is loaded into one that was made with the same configuration; kernel and initrd files play no part in it.

use std::io::{self, Read, Write};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vm_memory::{Bytes, GuestAddress};

use super::container::{ContainerError, Reader, Writer};
use super::dirty::Tracking;
use super::psci::Power;
use super::{Machine, layout};
use crate::exit::{Failure, explain};

/// RAM is looked at in pieces of this size; pieces of zeros are left out.
const PIECE: usize = 64 << 10;

/// What has to be equal in the machine that was saved and the one that takes it over.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Shape {
    vcpus: usize,
    memory: u64,
    cpu_model: String,
    counter_frequency: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedVcpu {
    on: bool,
    state: Value,
}

#[derive(Serialize, Deserialize)]
struct SavedClock {
    counter: u64,
    /// Guest time of day, nanoseconds since 1970.
    wall: u64,
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|e| Failure::internal(format!("state has no JSON form: {e}")))
}

fn parse<T: for<'a> Deserialize<'a>>(section: &str, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|e| Failure::usage(format!("section {section:?} of the saved machine is malformed: {e}")))
}

fn refused(error: &ContainerError) -> Failure {
    Failure::usage(explain(error))
}

fn failed(error: io::Error) -> Failure {
    Failure::backend(format!("the saved machine cannot be written: {error}"))
}

impl Machine {
    fn shape(&self) -> Shape {
        Shape {
            vcpus: self.config.vcpus,
            memory: self.config.memory,
            cpu_model: self.config.cpu.model.clone(),
            counter_frequency: self.clock.frequency(),
        }
    }

    /// Writes the state of the machine, which must be paused.
    pub fn save(&self, out: impl Write) -> Result<(), Failure> {
        if !self.is_paused() {
            return Err(Failure::internal("a machine is paused before it is saved"));
        }
        let mut writer = Writer::new(out).map_err(failed)?;
        writer.section("machine", &[&json(&self.shape())?]).map_err(failed)?;
        self.save_all_but_ram(&mut writer)?;
        self.save_range(&mut writer, self.ram.range(), false).map_err(failed)?;
        writer.finish().map(drop).map_err(failed)
    }

    /// Writes the state of a machine that runs, and pauses it: RAM first, while the guest changes it, then the machine stands,
    /// and what was written meanwhile follows. Gives the ranges of those pages.
    pub fn save_live(&self, out: impl Write) -> Result<Vec<Range<u64>>, Failure> {
        let log = self.vm.dirty_log().ok_or_else(|| {
            Failure::usage(format!(
                "--save-live: engine {} does not log what the guest writes; leave it out",
                self.engine
            ))
        })?;
        let tracking = Tracking::start(log, &self.ram)?;
        let mut writer = Writer::new(out).map_err(failed)?;
        writer.section("machine", &[&json(&self.shape())?]).map_err(failed)?;
        self.save_range(&mut writer, self.ram.range(), false).map_err(failed)?;
        self.pause()?;
        self.save_all_but_ram(&mut writer)?;
        // After the devices: the kernel's ITS keeps its tables in RAM.
        let written = tracking.take()?;
        for range in &written {
            self.save_range(&mut writer, range.clone(), true).map_err(failed)?;
        }
        writer.finish().map(drop).map_err(failed)?;
        Ok(written)
    }

    fn save_all_but_ram<W: Write>(&self, writer: &mut Writer<W>) -> Result<(), Failure> {
        let vcpus = self.vcpus.each(|_, seat| {
            let on = seat.vcpu.is_on().unwrap_or(seat.on);
            seat.vcpu.save().map(|state| SavedVcpu { on, state })
        });
        for (index, vcpu) in vcpus.into_iter().enumerate() {
            let vcpu = vcpu.ok_or_else(|| Failure::internal(format!("vCPU {index} does not answer")))??;
            writer.section(&format!("vcpu{index}"), &[&json(&vcpu)?]).map_err(failed)?;
        }
        writer.section("devices", &[&json(&self.board.bus.save())?]).map_err(failed)?;
        writer.section("psci", &[&json(&self.power())?]).map_err(failed)?;
        let clock = SavedClock {
            counter: self.clock.counter(),
            wall: u64::try_from(self.clock.wall().as_nanos()).unwrap_or(0),
        };
        writer.section("clock", &[&json(&clock)?]).map_err(failed)
    }

    /// The bytes of a range; pieces of zeros only if they may have been something else in what was written before.
    fn save_range<W: Write>(&self, writer: &mut Writer<W>, range: Range<u64>, zeros: bool) -> io::Result<()> {
        let mut piece = vec![0u8; PIECE];
        for address in range.clone().step_by(PIECE) {
            let len = usize::try_from(range.end - address).map_or(PIECE, |left| left.min(PIECE));
            let piece = piece.get_mut(..len).unwrap_or_default();
            self.ram.memory().read_slice(piece, GuestAddress(address)).map_err(io::Error::other)?;
            if zeros || piece.iter().any(|&byte| byte != 0) {
                writer.section("ram", &[&address.to_le_bytes(), piece])?;
            }
        }
        Ok(())
    }

    /// Takes over a saved state; the machine must be paused and of the same shape. After an error the machine must be reset or dropped.
    pub fn load(&mut self, input: impl Read) -> Result<(), Failure> {
        if !self.is_paused() {
            return Err(Failure::internal("a machine is paused before a state is loaded"));
        }
        let mut reader = Reader::new(input).map_err(|e| refused(&e))?;
        self.ram.clear();
        let mut seen = Vec::new();
        let mut vcpus: Vec<Option<SavedVcpu>> = (0..self.config.vcpus).map(|_| None).collect();
        while let Some((name, payload)) = reader.next_section().map_err(|e| refused(&e))? {
            if name != "ram" && seen.contains(&name) {
                return Err(Failure::usage(format!("the saved machine has two sections {name:?}")));
            }
            self.load_section(&name, &payload, &mut vcpus)?;
            if name != "ram" {
                seen.push(name);
            }
        }
        for needed in ["machine", "devices", "psci", "clock"] {
            if !seen.iter().any(|name| name == needed) {
                return Err(refused(&ContainerError::Missing(needed)));
            }
        }
        self.vm.forget_code();
        self.vm.adopt_ram()?;
        self.load_vcpus(vcpus)
    }

    fn load_section(&mut self, name: &str, payload: &[u8], vcpus: &mut [Option<SavedVcpu>]) -> Result<(), Failure> {
        match name {
            "machine" => {
                let found: Shape = parse(name, payload)?;
                let expected = self.shape();
                if found != expected {
                    return Err(Failure::usage(format!(
                        "the saved machine is {found:?}, this one is {expected:?}; use the options that it was saved with"
                    )));
                }
            }
            "devices" => {
                self.board.bus.load(&parse::<Value>(name, payload)?).map_err(|e| Failure::usage(explain(&e)))?
            }
            "psci" => {
                if !self.board.psci.restore(&parse::<Vec<Power>>(name, payload)?) {
                    return Err(Failure::usage("the saved machine has another number of vCPUs"));
                }
            }
            "clock" => {
                let clock: SavedClock = parse(name, payload)?;
                self.clock.set_counter(clock.counter);
                self.clock.set_wall(std::time::Duration::from_nanos(clock.wall));
            }
            "ram" => self.load_ram(payload)?,
            _ => {
                let slot = name
                    .strip_prefix("vcpu")
                    .and_then(|index| index.parse::<usize>().ok())
                    .and_then(|index| vcpus.get_mut(index));
                let slot = slot.ok_or_else(|| {
                    Failure::usage(format!("the saved machine has a section {name:?} that this program does not know"))
                })?;
                *slot = Some(parse(name, payload)?);
            }
        }
        Ok(())
    }

    fn load_ram(&self, payload: &[u8]) -> Result<(), Failure> {
        let damaged = || Failure::usage("the saved machine has RAM where this machine has none");
        let (address, bytes) = payload.split_first_chunk::<8>().ok_or_else(damaged)?;
        let address = u64::from_le_bytes(*address);
        if address < layout::RAM {
            return Err(damaged());
        }
        self.ram.memory().write_slice(bytes, GuestAddress(address)).map_err(|_| damaged())
    }

    fn load_vcpus(&self, saved: Vec<Option<SavedVcpu>>) -> Result<(), Failure> {
        let saved = std::sync::Mutex::new(saved);
        let serves_psci = self.vm.serves_psci();
        let answers = self.vcpus.each(move |index, seat| {
            let state = saved.lock().ok().and_then(|mut saved| saved.get_mut(index).and_then(Option::take));
            let state = state.ok_or_else(|| Failure::usage(format!("the saved machine lacks vCPU {index}")))?;
            seat.vcpu.load(&state.state)?;
            seat.vcpu.set_on(state.on)?;
            seat.on = state.on || serves_psci;
            seat.stopped = false;
            Ok(())
        });
        answers
            .into_iter()
            .try_for_each(|answer| answer.unwrap_or_else(|| Err(Failure::internal("a vCPU does not answer"))))
    }
}
