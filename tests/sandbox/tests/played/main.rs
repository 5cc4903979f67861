//! Tests of the sandbox with extensions and functions that the test plays itself.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail as tests do"
)]

mod extensions_api;
mod functions;
mod player;
mod telemetry_api;
