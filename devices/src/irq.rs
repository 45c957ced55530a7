//! Interrupt lines: the wire between a device and the interrupt controller.

use std::fmt;
use std::sync::Arc;

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

impl fmt::Debug for IrqLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sink {
            Some(_) => write!(f, "IrqLine(SPI {})", self.spi),
            None => write!(f, "IrqLine(disconnected)"),
        }
    }
}
