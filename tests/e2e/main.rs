//! Tests on real parts, one module for each. `make e2e` installs the parts that this machine can have, runs their modules
//! and names the others.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod attach;
mod clickhouse;
mod collector;
mod collector_yaml;
mod emulator;
mod java;
mod log_searches;
mod moto;
mod node;
mod otelcol;
mod python;
mod samples;
mod secrets;
#[cfg(feature = "soak")]
mod soak;

/// The root of the repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
