//! Saved device state: self-describing JSON values that carry the version of their form.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Why saved state was refused. The device keeps the state that it had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The saved form is of another version than this program reads.
    #[error(
        "Saved state of {device} has version {found}, this program reads version {expected}: restore it with the program that saved it"
    )]
    Version {
        /// Name of the device.
        device: String,
        /// The version found.
        found: u64,
        /// The version that this program reads.
        expected: u64,
    },
    /// The saved form misses a field or holds one of a wrong type or range.
    #[error("Saved state of {device} is malformed: {reason}")]
    Malformed {
        /// Name of the device.
        device: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine has a device that the saved state does not know, or the other way round.
    #[error(
        "Saved state and machine differ: {device} {reason}. Restore with the options that the machine was saved with"
    )]
    Machine {
        /// Name of the device.
        device: String,
        /// In what they differ.
        reason: String,
    },
}

impl StateError {
    /// A [`StateError::Malformed`] of `device`.
    pub fn malformed(device: &str, reason: impl Into<String>) -> StateError {
        StateError::Malformed { device: device.to_owned(), reason: reason.into() }
    }

    /// A [`StateError::Machine`] of `device`.
    pub fn machine(device: &str, reason: impl Into<String>) -> StateError {
        StateError::Machine { device: device.to_owned(), reason: reason.into() }
    }
}

/// Wraps the plain data of a device with the version of its form.
pub fn pack(version: u64, state: &impl Serialize) -> Value {
    // Plain structs of numbers, strings and vectors always have a JSON form; were it not so, `unpack` refuses the null.
    json!({ "version": version, "state": serde_json::to_value(state).unwrap_or(Value::Null) })
}

/// Unwraps what [`pack`] made, if it has exactly the version `expected`.
pub fn unpack<T: DeserializeOwned>(device: &str, expected: u64, value: &Value) -> Result<T, StateError> {
    let found = value
        .get("version")
        .and_then(Value::as_u64)
        .ok_or_else(|| StateError::malformed(device, "no version number in it"))?;
    if found != expected {
        return Err(StateError::Version { device: device.to_owned(), found, expected });
    }
    let state = value.get("state").ok_or_else(|| StateError::malformed(device, "no state in it"))?;
    T::deserialize(state).map_err(|e| StateError::malformed(device, e.to_string()))
}
