//! Delivery to the backends: buffering, sending, retries and counts.

mod admission;
pub mod breaker;
pub mod budget;
pub mod buffer;
pub mod cadence;
mod connection;
pub mod connection_failure;
pub mod event;
mod flush;
pub mod health;
pub mod own_telemetry;
pub mod probe_budget;
mod reporter;
mod round_trip;
mod routes;
pub mod sender;
pub mod senders;
mod setup;
mod signal_state;
pub mod tally;
mod timers;
pub mod verdict;
mod window;
