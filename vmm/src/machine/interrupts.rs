//! The interrupt controller as the board sees it: emulated in this process, or the host kernel's (KVM).

use std::sync::Arc;

use devices::pci::{ConfigMemory, MsiSink};
use devices::virtio::KernelDoorbells;
use devices::{CpuInterfaceSink, Gic, IrqLine, Its, MmioDevice};

use super::layout;
use crate::exit::Failure;

/// A register window for the bus: base, length in bytes, device.
pub type Window = (u64, u64, Arc<dyn MmioDevice>);

/// Where devices' interrupts go.
pub trait InterruptController: Send + Sync {
    /// The wire to SPI `spi` (0 is INTID 32).
    fn spi_line(&self, spi: u32) -> IrqLine;
    /// Distributor and redistributors. Those of a kernel's controller take no accesses here, but are saved and reset.
    fn windows(&self) -> Vec<Window>;
    /// The interrupt translation service and where messages to it go; none on a machine without LPIs.
    fn its(&self) -> Option<(Window, Arc<dyn MsiSink>)>;
    /// The kernel, if it can ring doorbells of devices.
    fn doorbells(&self) -> Option<Arc<dyn KernelDoorbells>> {
        None
    }
    /// Memory for the reads of a bridge's configuration space (ECAM) at `address` with `functions` functions, if the kernel
    /// can show it.
    fn config_memory(&self, address: u64, functions: usize) -> Option<Arc<dyn ConfigMemory>> {
        let _ = (address, functions);
        None
    }
    /// What is pending and active, in words.
    fn report(&self) -> String;
}

/// The controller of crate `devices`.
pub struct Emulated {
    gic: Arc<Gic>,
    its: Option<Arc<Its>>,
}

impl Emulated {
    /// A controller for `vcpus`, with an ITS or without; offers go to `sink`.
    pub fn new(
        vcpus: usize,
        lpis: bool,
        sink: Arc<dyn CpuInterfaceSink>,
        ram: &super::ram::GuestRam,
    ) -> Result<Emulated, Failure> {
        let gic = if lpis {
            Gic::with_lpis(vcpus, layout::SPIS, sink, ram.shared_memory())
        } else {
            Gic::new(vcpus, layout::SPIS, sink)
        };
        let gic = gic.map_err(|e| Failure::internal(format!("the board cannot be built: {e}")))?;
        let its = if lpis { Its::new(&gic, layout::ITS) } else { None };
        Ok(Emulated { gic, its })
    }

    /// For the processing elements' side.
    pub fn gic(&self) -> &Arc<Gic> {
        &self.gic
    }
}

impl InterruptController for Emulated {
    fn spi_line(&self, spi: u32) -> IrqLine {
        self.gic.spi_line(spi)
    }

    fn windows(&self) -> Vec<Window> {
        let redistributors = devices::gic::REDISTRIBUTOR_LEN * self.gic.vcpus() as u64;
        vec![
            (layout::GICD, devices::gic::DISTRIBUTOR_LEN, self.gic.distributor()),
            (layout::GICR, redistributors, self.gic.redistributors()),
        ]
    }

    fn its(&self) -> Option<(Window, Arc<dyn MsiSink>)> {
        let its = self.its.as_ref()?;
        let window: Window = (layout::ITS, devices::gic::its::ITS_LEN, Arc::clone(its) as Arc<dyn MmioDevice>);
        Some((window, Arc::clone(its) as Arc<dyn MsiSink>))
    }

    fn report(&self) -> String {
        self.gic.report()
    }
}
