//! The decision logic: pure functions and plain state machines. No tokio, no sockets, no files, no environment,
//! no clock; time comes in as an argument. Cargo enforces this: the manifest names no crate that does IO.
//!
//! | module | its one job |
//! |---|---|
//! | [`config`] | variables, env file and `collector.yaml` → `Config`, with every error at once |
//! | [`lambda`] | the platform: lifecycle, Telemetry API, platform events, correlation of invocations and spans |
//! | [`logs`] | a Telemetry API record → a log record |
//! | [`otlp`] | the wire format: validate, count, edit, split |
//! | [`processors`] | a collector's processors on decoded telemetry |
//! | [`delivery`] | what is buffered, when it is sent, and how failures are handled |
//!
//! The other files hold types that all modules share.

pub mod body_budget;
pub mod chunk;
pub mod config;
pub mod delivery;
pub mod echo;
pub mod elapsed;
pub mod lambda;
pub mod logs;
pub mod otlp;
pub mod processors;
pub mod secret;
pub mod signal;
mod time;
pub mod trace_context;
