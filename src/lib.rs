//! `rotel-extension`: an AWS Lambda extension that forwards logs, traces and metrics to ClickStack over OTLP.
//!
//! # Three floors, imports only downward: `app → edge → core`
//!
//! **[`core`]** decides: pure functions and plain state machines, without tokio, sockets, files, environment or clock; time
//! comes in as an argument. **[`edge`]** touches the world: one file per neighbour, none importing another except the
//! shared HTTP and TLS pieces. **[`app`]** wires the two and owns the tasks. `tests/floor_plan.rs` fails on a breach. `core`
//! is two crates: `rotel-core`, through which all bytes pass, optimized for speed; and above it, in `src/core/config`,
//! `rotel-config`, which reads the settings once, with what follows from them, optimized for nothing but size.
//!
//! # The way of the data
//!
//! ```text
//! function's SDK ──OTLP──▶ edge::receiver ──▶ app::sdk ──────┐ validated, still encoded
//!                                                            ▼
//!                                                      app::pipeline ──▶ edge::exporter ──▶ ClickStack
//!                                                            ▲    one queue, the flush barrier
//! Telemetry API ──POST──▶ edge::telemetry_listener ──▶ app::intake ── runtimeDone ──┐
//!                                                            ▲ INVOKE, SHUTDOWN     ▼
//! Extensions API ◀──/next── edge::extensions_api ◀──────── app::driver ◀──▶ core::lifecycle
//! ```
//!
//! Telemetry travels encoded: protobuf messages merge by concatenation, so that what an SDK sends is validated, counted
//! and kept as the bytes that came, and a request to the backend is such chunks laid end to end. Everything that comes in
//! is bounded: bodies share one byte budget ([`core::body_budget`]), a request that would grow to more than about four times its
//! size is refused, and what is accepted has room reserved in the senders' buffers, unless a backend is down.
//!
//! [`core::delivery`] decides what is sent, probed, cancelled and tried again: a sender for each backend, without IO. The
//! pipeline task owns the senders and carries out their actions. Telemetry and flushes come through one channel, so that a
//! flush covers all that was enqueued before it, and the intake enqueues the log records of a delivery before it hands that
//! delivery's `runtimeDone` to the driver. The driver asks for the next event once the flush is over or its deadline has come.
//! An invocation that does not flush is not held: the driver asks for the next event at once, and what the platform delivers
//! of that invocation is taken during a later one.
//!
//! A delivery of the Telemetry API is answered 200 only once it is in the intake's queue; 503 makes Lambda repeat it. Lambda
//! cuts a record that is larger than a POST: the intake joins it with its rest, and recovers the events of a delivery that is
//! not JSON ([`core::telemetry`]).
//!
//! What the platform's events tell, the intake turns into metrics, spans and log records of its own ([`core::platform`]),
//! which go the same way.
//!
//! Each task's end or panic is an event of the lifecycle, which goes on answering `/next` without it: the death of the
//! extension would be the death of the customer's function.

pub mod app;
pub mod edge;

pub use rotel_core as core;
