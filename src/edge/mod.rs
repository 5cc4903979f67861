//! Everything that does IO: one file or folder per neighbour.

pub mod body;
pub mod clock;
pub mod exporter;
pub mod extensions_api;
pub mod files;
pub mod http;
pub mod http_client;
pub mod logging;
pub mod pages;
pub mod receiver;
pub mod secrets;
pub mod signals;
pub mod telemetry_listener;
pub mod tls;
