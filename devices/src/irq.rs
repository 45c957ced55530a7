//! Interrupt lines: the wire between a device and the interrupt controller.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::lock;

/// The interrupt controller's end of the shared-peripheral wires.
pub trait InterruptSink: Send + Sync {
    /// Drives SPI `spi` (0 is INTID 32) to `level`. Numbers that do not exist are ignored.
    fn set_spi(&self, spi: u32, level: bool);
}

/// One wire from a device to the interrupt controller. Clones drive the same wire: the last one to speak wins.
#[derive(Clone)]
pub struct IrqLine {
    sink: Option<Arc<dyn InterruptSink>>,
    spi: u32,
}

impl IrqLine {
    /// The wire to input `spi` (0 is INTID 32) of `sink`.
    pub fn new(sink: Arc<dyn InterruptSink>, spi: u32) -> IrqLine {
        IrqLine { sink: Some(sink), spi }
    }

    /// A wire that ends nowhere, for a device whose interrupt is not connected on this board.
    pub fn disconnected() -> IrqLine {
        IrqLine { sink: None, spi: 0 }
    }

    /// Drives the wire high (`true`, asserted) or low.
    pub fn set(&self, level: bool) {
        if let Some(sink) = &self.sink {
            sink.set_spi(self.spi, level);
        }
    }

    /// Drives the wire high and low again: one interrupt if the input is configured as edge triggered.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }
}

/// Several wires joined: the output is high while any input is.
pub struct WiredOr {
    output: IrqLine,
    /// One bit for each input.
    high: Mutex<u64>,
}

impl WiredOr {
    /// Joins up to 64 wires into `output`.
    pub fn new(output: IrqLine) -> Arc<WiredOr> {
        Arc::new(WiredOr { output, high: Mutex::new(0) })
    }

    /// Input `input` (0 to 63): a wire of its own for one device.
    pub fn input(self: &Arc<Self>, input: u32) -> IrqLine {
        IrqLine::new(Arc::clone(self) as Arc<dyn InterruptSink>, input)
    }
}

impl InterruptSink for WiredOr {
    fn set_spi(&self, input: u32, level: bool) {
        let Some(bit) = 1u64.checked_shl(input) else { return };
        let mut high = lock(&self.high);
        let before = *high;
        *high = if level { before | bit } else { before & !bit };
        if (before != 0) != (*high != 0) {
            self.output.set(*high != 0);
        }
    }
}

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sink {
            Some(_) => write!(f, "IrqLine(SPI {})", self.spi),
            None => write!(f, "IrqLine(disconnected)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Wire;

    #[test]
    fn joined_wires_are_high_while_one_is() {
        let wire = Wire::new();
        let joined = WiredOr::new(wire.line());
        let (a, b) = (joined.input(0), joined.input(63));
        a.set(true);
        b.set(true);
        a.set(false);
        assert!(wire.level());
        b.set(false);
        assert!(!wire.level());
        joined.input(64).set(true);
        assert!(!wire.level(), "no such input");
        assert_eq!(wire.changes(), 2);
    }
}
