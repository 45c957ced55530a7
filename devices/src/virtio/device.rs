//! What a VIRTIO device is to the common configuration.

use serde_json::Value;

use super::queue::{ActiveQueue, QueueError};
use super::worker::{Bell, ConfigurationBell};
use crate::state::StateError;

/// A device type: features, configuration space, and a handler for each queue. It knows no transport and no thread.
pub trait VirtioDevice: Send + Sync {
    /// Device type number (VIRTIO 1.2 section 5).
    fn device_type(&self) -> u32;
    /// Name of the type for saved state, threads and reports: `virtio-blk`.
    fn type_name(&self) -> &'static str;
    /// Feature bits of the device type; the common configuration adds its own.
    fn features(&self) -> u64;
    /// Greatest size of each queue: powers of two up to 32768.
    fn queue_sizes(&self) -> Vec<u16>;
    /// Makes what serves queue `index`; called once for each queue.
    fn handler(&self, index: u16) -> Box<dyn QueueHandler>;
    /// Takes the doorbells of all queues; called once, before any request is served. A device whose handlers wait for
    /// the host keeps them.
    fn connect(&self, bells: Vec<Bell>) {
        drop(bells);
    }
    /// Takes what tells the driver of changes in the configuration space; called once, before any request is served.
    fn connect_configuration(&self, bell: ConfigurationBell) {
        drop(bell);
    }
    /// Fills `data` from the configuration space at `offset`; bytes beyond its end stay zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// The driver writes the configuration space; what cannot be written is ignored.
    fn write_config(&self, offset: u64, data: &[u8]) {
        let _ = (offset, data);
    }
    /// The driver has accepted `features`; called before any request is served.
    fn activate(&self, features: u64) {
        let _ = features;
    }
    /// Back to the state at power-on. No handler runs.
    fn reset(&self) {}
    /// What it counts beside its queues' requests, for reports.
    fn counters(&self) -> Value {
        Value::Null
    }
    /// State that a reset would lose, beside features and queues. No handler runs.
    fn save(&self) -> Value {
        Value::Null
    }
    /// Takes over what [`save`](Self::save) gave. No handler runs.
    fn load(&self, value: &Value) -> Result<(), StateError> {
        let _ = value;
        Ok(())
    }
}

/// Why a handler stopped serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It took every request that there was.
    All,
    /// It left requests until something on the host happens, and its doorbell is then rung.
    Waiting,
}

/// Serves the requests of one queue, on that queue's worker thread.
pub trait QueueHandler: Send {
    /// Serves what is there: [`ActiveQueue::pop`] until it gives nothing, [`ActiveQueue::complete`] for each. An error
    /// means that the driver is broken; the device then needs a reset.
    fn serve(&mut self, queue: &mut ActiveQueue<'_>) -> Result<Served, QueueError>;
    /// The queue is taken out of use: requests that the handler remembers are no more. None is under way.
    fn forget(&mut self) {}
    /// The state is about to be saved: requests that the handler remembers between two calls of
    /// [`serve`](Self::serve) are answered now, somehow, for the rings to tell all.
    fn give_up(&mut self, queue: &mut ActiveQueue<'_>) -> Result<(), QueueError> {
        let _ = queue;
        Ok(())
    }
}
