//! `rotel-extension`: an AWS Lambda extension that forwards logs, traces and metrics to ClickStack over OTLP.
//!
//! # Three floors, imports only downward: `app → edge → core`
//!
//! **[`core`](rotel_core)** decides: pure functions and plain state machines, without tokio, sockets, files, environment or clock; time
//! comes in as an argument. It is a crate of its own, `rotel-core`, whose manifest names nothing that could do IO.
//! **[`edge`]** touches the world: one file or folder per neighbour, none importing another except the shared HTTP, TLS,
//! file and clock pieces. **[`app`]** wires the two and owns the tasks. `tests/floor_plan.rs` fails on a breach.
//!
//! Beside them, `src/cli` is `rotel-lambda`, a command for people that attaches the layer to functions. It is a crate of its own,
//! which uses `core` alone.
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
//! Extensions API ◀──/next── edge::extensions_api ◀──────── app::driver ◀──▶ core::lambda::lifecycle
//! ```
//!
//! Telemetry travels encoded. Protobuf messages merge by concatenation, so a request from an SDK is validated, counted and
//! kept as the bytes that came, and a request to the backend is such chunks laid end to end. Everything that comes in is
//! bounded: bodies share one byte budget ([`rotel_core::body_budget`]), a request that would grow to more than about four times its
//! size is refused, and accepted telemetry has room reserved in the senders' buffers, unless a backend is down.
//!
//! [`rotel_core::delivery`] decides when to send, probe, cancel and retry: one sender per backend, without IO. The pipeline task
//! owns the senders and carries out their actions. Telemetry and flushes share one channel, so a flush covers all that was
//! enqueued before it. The intake enqueues a delivery's log records before it hands that delivery's `runtimeDone` to the
//! driver. The driver calls `/next` once the flush is over or its deadline has come. An invocation that does not flush is
//! not held: the driver calls `/next` at once, and the platform delivers the rest of that invocation during a later one.
//!
//! A delivery of the Telemetry API is answered 200 only once it is in the intake's queue; 503 makes Lambda repeat it. Lambda
//! cuts a record that is larger than a POST: the intake joins it with its rest, and recovers the events of a delivery that is
//! not JSON ([`rotel_core::lambda::telemetry_api`]). It turns the platform's events into metrics, spans and log records
//! ([`rotel_core::lambda::platform`]).
//!
//! A task that ends or panics is an event of the lifecycle, which goes on calling `/next` without it: the death of the
//! extension would be the death of the customer's function.

pub mod app;
pub mod edge;
