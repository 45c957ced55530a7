//! The command queue of the ITS: a ring of 32-byte commands in guest RAM.

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, GuestAddress};

use super::{Its, Registers, reg};

const COMMAND: usize = 32;

/// Command numbers.
mod command {
    pub(super) const MOVI: u8 = 0x01;
    pub(super) const INT: u8 = 0x03;
    pub(super) const CLEAR: u8 = 0x04;
    pub(super) const SYNC: u8 = 0x05;
    pub(super) const MAPD: u8 = 0x08;
    pub(super) const MAPC: u8 = 0x09;
    pub(super) const MAPTI: u8 = 0x0a;
    pub(super) const MAPI: u8 = 0x0b;
    pub(super) const INV: u8 = 0x0c;
    pub(super) const INVALL: u8 = 0x0d;
    pub(super) const MOVALL: u8 = 0x0e;
    pub(super) const DISCARD: u8 = 0x0f;
}

/// Bytes in the command queue; 0 if there is none.
pub(super) fn queue_length(r: &Registers) -> u64 {
    if r.cbaser & reg::CBASER_VALID == 0 { 0 } else { ((r.cbaser & reg::CBASER_SIZE) + 1) << 12 }
}

/// One command as four words.
struct Command([u64; 4]);

impl Command {
    fn number(&self) -> u8 {
        self.0[0] as u8
    }
    fn device(&self) -> u32 {
        (self.0[0] >> 32) as u32
    }
    fn event(&self) -> u32 {
        self.0[1] as u32
    }
    fn intid(&self) -> u32 {
        (self.0[1] >> 32) as u32
    }
    fn itt_size(&self) -> u64 {
        self.0[1] & 0x1f
    }
    fn itt(&self) -> u64 {
        self.0[2] & 0x000f_ffff_ffff_ff00
    }
    fn collection(&self) -> u16 {
        self.0[2] as u16
    }
    /// A processing element, in word 2 or 3.
    fn target(&self, word: usize) -> usize {
        (self.0.get(word).copied().unwrap_or(0) >> 16 & 0x7_ffff_ffff) as usize
    }
    fn valid(&self) -> bool {
        self.0[2] >> 63 != 0
    }
}

impl Its {
    /// Does what is in the queue. A command that makes no sense is left out; the queue has at most 32768 of them.
    pub(super) fn run_commands(&self, r: &mut Registers) {
        let length = queue_length(r);
        if !r.enabled || length == 0 {
            return;
        }
        let base = r.cbaser & reg::CBASER_ADDRESS;
        while r.creadr != r.cwriter {
            self.counters.commands.fetch_add(1, Ordering::Relaxed);
            let mut bytes = [0; COMMAND];
            // The base has 52 bits, the offset 20.
            let there = self.memory.read_slice(&mut bytes, GuestAddress(base + r.creadr)).is_ok();
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            if !there || self.run(r, &Command(words)).is_none() {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
            }
            r.creadr = (r.creadr + COMMAND as u64) % length;
        }
    }

    /// Does one command; none if it makes no sense.
    fn run(&self, r: &Registers, command: &Command) -> Option<()> {
        let (device, event) = (command.device(), command.event());
        let possible = |done: bool| done.then_some(());
        match command.number() {
            command::MAPD => {
                possible(self.map_device(r, device, command.valid().then_some((command.itt(), command.itt_size()))))
            }
            command::MAPC => {
                possible(self.map_collection(r, command.collection(), command.valid().then_some(command.target(2))))
            }
            command::MAPTI => possible(self.map_event(r, device, event, Some((command.intid(), command.collection())))),
            command::MAPI => possible(self.map_event(r, device, event, Some((event, command.collection())))),
            command::MOVI => self.move_event(r, device, event, command.collection()),
            command::DISCARD => {
                let target = self.translate(r, device, event);
                if let Some((vcpu, intid)) = target {
                    self.gic.change_lpis(vcpu, |lpis, _| lpis.clear(intid));
                }
                possible(self.map_event(r, device, event, None))
            }
            command::INT | command::CLEAR | command::INV => {
                let (vcpu, intid) = self.translate(r, device, event)?;
                self.gic.change_lpis(vcpu, |lpis, memory| match command.number() {
                    command::INT => lpis.set(intid, memory),
                    command::CLEAR => drop(lpis.clear(intid)),
                    _ => lpis.reload(intid, memory),
                })
            }
            command::INVALL => {
                let vcpu = self.collection(r, command.collection())?;
                self.gic.change_lpis(vcpu, |lpis, memory| lpis.reload_all(memory))
            }
            command::MOVALL => self.move_all(command.target(2), command.target(3)),
            // Each command is complete before the next begins.
            command::SYNC => Some(()),
            _ => None,
        }
    }

    /// `MOVI`: what is pending moves along.
    fn move_event(&self, r: &Registers, device: u32, event: u32, collection: u16) -> Option<()> {
        let (from, intid) = self.translate(r, device, event)?;
        let to = self.collection(r, collection)?;
        if !self.map_event(r, device, event, Some((intid, collection))) {
            return None;
        }
        if from != to && self.gic.change_lpis(from, |lpis, _| lpis.clear(intid))? {
            self.gic.change_lpis(to, |lpis, memory| lpis.set(intid, memory))?;
        }
        Some(())
    }

    fn move_all(&self, from: usize, to: usize) -> Option<()> {
        let vcpus = self.gic.vcpus();
        if from >= vcpus || to >= vcpus {
            return None;
        }
        if from != to {
            let mut moved = [0; super::super::LPI_COUNT / 64];
            self.gic.change_lpis(from, |lpis, _| lpis.drain(&mut moved))?;
            self.gic.change_lpis(to, |lpis, memory| lpis.merge(&moved, memory))?;
        }
        Some(())
    }
}
