//! The floor that decides: pure functions and plain state machines. No tokio, no sockets, no files, no environment, no
//! clock; time comes in as an argument. What people set, and what follows from that, is the crate `rotel-config`, above
//! this one.

pub mod attribute;
pub mod body_budget;
pub mod cadence;
pub mod chunk;
pub mod connection;
pub mod correlation;
pub mod delivery;
pub mod echo;
pub mod elapsed;
pub mod lifecycle;
pub mod logs;
pub mod otlp;
pub mod own_telemetry;
pub mod platform;
pub mod probe;
pub mod request;
pub mod secret;
pub mod secret_ref;
pub mod signal;
pub mod telemetry;
mod time;
pub mod trace_context;
pub mod xray;
