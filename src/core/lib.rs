//! The floor that decides: pure functions and plain state machines. No tokio, no sockets, no files, no environment, no
//! clock; time comes in as an argument. Cargo forbids the rest: the manifest names no crate that could do IO.
//!
//! | room | its one job |
//! |---|---|
//! | [`config`] | variables, env file and `collector.yaml` → `Config`, every error at once |
//! | [`lambda`] | the platform: lifecycle, Telemetry API, platform events, correlation of invocation and span |
//! | [`logs`] | a record of the Telemetry API → a log record |
//! | [`otlp`] | the wire format: validate, count, edit, split |
//! | [`delivery`] | what is kept, when it is sent, and what a failure means |
//!
//! The files beside the rooms are what all of them share.

pub mod body_budget;
pub mod chunk;
pub mod config;
pub mod delivery;
pub mod echo;
pub mod elapsed;
pub mod lambda;
pub mod logs;
pub mod otlp;
pub mod secret;
pub mod signal;
mod time;
pub mod trace_context;
