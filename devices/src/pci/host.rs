//! The host bridge: configuration space by ECAM, and two windows of guest physical addresses in which BARs answer.
//!
//! An access to configuration space or to a window that nobody answers reads all ones and is ignored, as the root complex
//! of a PC does; the guest takes no abort.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use serde_json::{Map, Value};

use super::config::{ConfigSpace, Identity, SavedConfig};
use super::shadow::Shadow;
use super::spec::{CONFIG_LEN, DEVICES};
use super::{ConfigMemory, Decoded, PciFunction};
use crate::bus::{AccessError, MmioDevice};
use crate::lock;
use crate::state::{self, StateError};

const VERSION: u64 = 1;
/// Bytes of ECAM for each bus.
pub const BUS_LEN: u64 = 1 << 20;
/// What QEMU's generic bridge says that it is: drivers know it.
const BRIDGE: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    class: 0x06_0000,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

/// A BAR that is decoded.
#[derive(Clone, Debug)]
struct Route {
    range: Range<u64>,
    slot: usize,
    bar: usize,
}

/// The bridge with its functions: device n of bus 0 is function n, device 0 is the bridge itself.
pub struct PciHost {
    bridge: Mutex<ConfigSpace>,
    functions: Vec<Arc<dyn PciFunction>>,
    /// Decoded BARs, sorted.
    routes: RwLock<Vec<Route>>,
    /// Once software reads configuration space as memory.
    shadow: OnceLock<Shadow>,
}

/// A window of guest physical addresses that the bridge decodes for memory.
pub struct PciWindow {
    host: Arc<PciHost>,
    name: String,
    base: u64,
}

impl PciHost {
    /// Most functions beside the bridge.
    pub const MAX_FUNCTIONS: usize = DEVICES - 1;

    /// A bridge with `functions` as devices 1, 2 and so on; those beyond [`MAX_FUNCTIONS`](Self::MAX_FUNCTIONS) have no
    /// device number and are never reached.
    pub fn new(functions: Vec<Arc<dyn PciFunction>>) -> Arc<PciHost> {
        let bridge = Mutex::new(ConfigSpace::new(BRIDGE));
        Arc::new(PciHost { bridge, functions, routes: RwLock::default(), shadow: OnceLock::new() })
    }

    /// Software reads configuration space in `memory` from now on, whenever it can.
    pub fn connect_memory(self: &Arc<Self>, memory: Arc<dyn ConfigMemory>) {
        self.shadow.get_or_init(|| Shadow::new(memory));
        let host = Arc::downgrade(self);
        let lost: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            if let Some(host) = host.upgrade() {
                host.shadow.get().into_iter().for_each(Shadow::withdraw);
            }
        });
        self.functions.iter().for_each(|function| function.when_not_plain(Arc::clone(&lost)));
        self.show(None);
    }

    /// The configuration space of this device, or of all, may have changed.
    fn show(&self, device: Option<usize>) {
        let Some(shadow) = self.shadow.get() else { return };
        let bytes = |device| match self.function(device) {
            Some(function) => function.config_bytes(),
            None => lock(&self.bridge).bytes().to_vec(),
        };
        let last = self.functions.len().min(Self::MAX_FUNCTIONS);
        shadow.update(device, last, bytes, || self.functions.iter().all(|function| function.is_plain()));
    }

    /// Requester ID of function `index` (0 is the first beside the bridge).
    pub const fn requester_id(index: usize) -> u32 {
        ((index as u32 + 1) & 0x1f) << 3
    }

    /// The window of ECAM. The state of the bridge and of all functions is saved with it.
    pub fn ecam(self: &Arc<Self>) -> Arc<dyn MmioDevice> {
        Arc::new(Ecam(Arc::clone(self)))
    }

    /// The window at guest physical address `base`.
    pub fn window(self: &Arc<Self>, base: u64) -> Arc<dyn MmioDevice> {
        Arc::new(PciWindow { host: Arc::clone(self), name: format!("pcie-window@{base:x}"), base })
    }

    /// A function, by its device number on bus 0.
    fn function(&self, device: usize) -> Option<&dyn PciFunction> {
        self.functions.get(device.checked_sub(1)?).filter(|_| device < DEVICES).map(|f| &**f)
    }

    fn read_config(&self, offset: u64, size: u8) -> u64 {
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        let Some((device, register)) = config_place(offset, size) else { return ones };
        match (device, self.function(device)) {
            (0, _) => lock(&self.bridge).read(register.into(), size).into(),
            (_, Some(function)) => function.read_config(register, size).into(),
            _ => ones,
        }
    }

    fn write_config(&self, offset: u64, size: u8, value: u32) {
        let Some((device, register)) = config_place(offset, size) else { return };
        match (device, self.function(device)) {
            (0, _) => lock(&self.bridge).write(register.into(), size, value),
            (_, Some(function)) => {
                function.write_config(register, size, value);
                self.route(device - 1);
            }
            _ => return,
        }
        self.show(Some(device));
    }

    /// The BARs of function `slot` may have moved.
    fn route(&self, slot: usize) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: of two that come here at once the later one sees what both have written.
        let decoded: Decoded = self.functions.get(slot).map(|f| f.decoded()).unwrap_or_default();
        routes.retain(|route| route.slot != slot);
        let bars = decoded.into_iter().enumerate();
        routes.extend(bars.filter_map(|(bar, range)| range.map(|range| Route { range, slot, bar })));
        routes.sort_by_key(|route| (route.range.start, route.slot, route.bar));
    }

    fn route_all(&self) {
        (0..self.functions.len()).for_each(|slot| self.route(slot));
    }

    /// The function, BAR and offset behind an address.
    fn find(&self, address: u64, size: u8) -> Option<(&dyn PciFunction, usize, u64)> {
        let end = address.checked_add(size.into())?;
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let after = routes.partition_point(|route| route.range.start <= address);
        // Where BARs overlap, which no sane software does, the one that starts last answers.
        let route = routes.get(after.checked_sub(1)?).filter(|route| end <= route.range.end)?;
        let (slot, bar, offset) = (route.slot, route.bar, address - route.range.start);
        drop(routes);
        self.functions.get(slot).map(|function| (&**function, bar, offset))
    }
}

/// Device number on bus 0 and register of an ECAM offset, if the access is whole.
fn config_place(offset: u64, size: u8) -> Option<(usize, u16)> {
    let whole = matches!(size, 1 | 2 | 4) && offset.is_multiple_of(size.into());
    let device = (offset >> 15) as usize;
    let first_function = offset >> 12 & 7 == 0;
    (whole && device < DEVICES && first_function).then_some((device, (offset & (CONFIG_LEN as u64 - 1)) as u16))
}

/// The ECAM window.
struct Ecam(Arc<PciHost>);

impl MmioDevice for Ecam {
    fn name(&self) -> &str {
        "pcie-host"
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        if size == 8 {
            let (low, high) = (self.0.read_config(offset, 4), self.0.read_config(offset.wrapping_add(4), 4));
            return Ok(low | high << 32);
        }
        Ok(self.0.read_config(offset, size))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        if size == 8 {
            self.0.write_config(offset, 4, value as u32);
            self.0.write_config(offset.wrapping_add(4), 4, (value >> 32) as u32);
        } else {
            self.0.write_config(offset, size, value as u32);
        }
        Ok(())
    }

    fn reset(&self) {
        lock(&self.0.bridge).reset();
        self.0.functions.iter().for_each(|function| function.reset());
        self.0.route_all();
        self.0.show(None);
    }

    fn pause(&self) {
        self.0.functions.iter().for_each(|function| function.pause());
    }

    fn resume(&self) {
        self.0.functions.iter().for_each(|function| function.resume());
    }

    fn counters(&self) -> Value {
        let each = self.0.functions.iter().map(|f| (f.name().to_owned(), f.counters()));
        Value::Object(each.collect::<Map<_, _>>())
    }

    fn save(&self) -> Value {
        let functions = self.0.functions.iter().map(|f| (f.name().to_owned(), f.save()));
        let functions = Value::Object(functions.collect::<Map<_, _>>());
        let bridge = lock(&self.0.bridge).save();
        state::pack(VERSION, &(bridge, functions))
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        let (bridge, saved): (SavedConfig, Map<String, Value>) = state::unpack(self.name(), VERSION, value)?;
        let functions = &self.0.functions;
        if let Some(name) = saved.keys().find(|name| !functions.iter().any(|f| f.name() == name.as_str())) {
            return Err(StateError::machine(name, "was saved, but this machine has no such function"));
        }
        let lacking = functions.iter().find(|f| !saved.contains_key(f.name()));
        if let Some(function) = lacking {
            return Err(StateError::machine(function.name(), "was not part of the saved machine"));
        }
        // As on the bus: after an error the caller resets the machine or gives it up.
        let loaded = functions.iter().try_for_each(|f| saved.get(f.name()).map_or(Ok(()), |state| f.load(state)));
        if loaded.is_ok() {
            lock(&self.0.bridge).load(&bridge);
        }
        self.0.route_all();
        self.0.show(None);
        loaded
    }
}

impl MmioDevice for PciWindow {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, size: u8) -> Result<u64, AccessError> {
        let ones = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        let found = self.base.checked_add(offset).and_then(|address| self.host.find(address, size));
        Ok(found.map_or(ones, |(function, bar, offset)| function.read_bar(bar, offset, size)))
    }

    fn write(&self, offset: u64, size: u8, value: u64) -> Result<(), AccessError> {
        let found = self.base.checked_add(offset).and_then(|address| self.host.find(address, size));
        if let Some((function, bar, offset)) = found {
            function.write_bar(bar, offset, size, value);
        }
        Ok(())
    }

    fn reset(&self) {}

    fn save(&self) -> Value {
        // Everything is saved with the ECAM window.
        state::pack(VERSION, &())
    }

    fn load(&self, value: &Value) -> Result<(), StateError> {
        state::unpack(&self.name, VERSION, value)
    }
}
