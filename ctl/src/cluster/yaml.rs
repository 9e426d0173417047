//! The one file that knows how YAML is written.

use serde::Serialize;

use crate::exit::Failure;

/// A value as a YAML document.
pub fn write<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_yaml::to_string(value).map_err(|error| Failure::fault("failed to write YAML").because(error))
}
