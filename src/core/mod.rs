//! The floor that decides: pure functions and plain state machines.

pub mod chunk;
pub mod otlp;
pub mod signal;
