//! The floor that touches the world: one file per neighbour.

pub mod http;
pub mod receiver;
pub mod telemetry_listener;
