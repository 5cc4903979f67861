//! An emulated Lambda execution environment for running an extension. The command `lambda-sandbox` (`tests/tools`) is built on
//! it.
//!
//! A [`Sandbox`] is one environment. It serves the Runtime, Extensions and Telemetry APIs on port 9001 of its own loopback
//! address. It starts extensions and a function with the variables that Lambda sets, and runs them through the phases: init,
//! invocations with a freeze between them, shutdown. A [`Collector`] is the OTLP backend, [`aws::Aws`] holds secrets, and a
//! [`Proxy`] may stand in front of either. All are as strict as the originals, and fail on demand ([`Fault`],
//! [`collector::Behaviour`], [`aws::Behaviour`]).
//!
//! ```no_run
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! use lambda_sandbox::collector::Protocol;
//! use lambda_sandbox::{Collector, Extension, Function, Sandbox, ShutdownReason, Transport};
//! use serde_json::{Value, json};
//!
//! let collector = Collector::start().await?;
//! let sandbox = Sandbox::builder()
//!     .extension(
//!         Extension::binary("target/debug/rotel-extension")
//!             .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(Protocol::Grpc)),
//!     )
//!     .function(Function::builtin(|context| async move {
//!         context.log_lines(50);
//!         context.send_spans(Transport::Grpc, 20).await.expect("the extension takes spans");
//!         Ok(Value::Null)
//!     }))
//!     .collector(&collector)
//!     .start()
//!     .await?;
//! let invocation = sandbox.invoke(json!({})).await?;
//! // Everything that this invocation emitted had reached the collector when the extension called `/next`.
//! let at_next = invocation.collector_at_next.expect("a collector is attached");
//! assert!(sandbox.ledger().compare_invocation(&invocation.request_id, &at_next).is_exact());
//! assert!(sandbox.shutdown(ShutdownReason::Spindown).await?.is_clean());
//! assert!(sandbox.violations().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! The modules and their responsibilities:
//!
//! - `state` is the legal-state table, a state machine without IO. `extensions_api` and `runtime_api` serve it over HTTP.
//! - `init`, `invoke` and `shutdown` are the phases. They advance the state and wait for the states they need;
//!   `environment` has what they share.
//! - `telemetry` turns events into records and buffers them per `subscription`; `delivery` posts them; `faults` sits
//!   between the two.
//! - `function` has the customer's side: built-in handlers, with a real OTLP client, and commands. Built-in handlers record
//!   their items in the `ledger`, which is compared with what the collector received.
//!
//! No wait in this crate polls: shared values are `board`s, which wake their waiters at each change. The crate uses no code of
//! the extension, so that neither repeats the other's mistakes: the facts come from AWS and OTLP, the decoding from
//! `opentelemetry-proto`.
//!
//! Some behaviour is simpler than Lambda's: CPU shares and memory limits are not enforced, a frozen process's monotonic clock
//! continues, and a snapshot is restored into the processes it was taken from.

pub use collector::Collector;
pub use error::Error;
pub use extension::Extension;
pub use extensions_api::NextCall;
pub use faults::{Edit, Fault};
pub use function::{Context, ExportError, Exporter, Failure, Function, Transport};
pub use journal::{Call, Delivery, ErrorReport, Journal, Operation, OutputLine};
pub use ledger::{Comparison, Entry, Ledger};
pub use otlp::{Payload, Signal};
pub use outcome::{ExtensionEnd, Init, Invocation, Shutdown, ShutdownReason, Status};
pub use process::Exit;
pub use proxy::{Passage, Proxy};
pub use sandbox::{Builder, Sandbox};
pub use settings::{Initialization, LogFormat};
pub use state::Answer;

mod address;
pub mod aws;
mod board;
mod clock;
pub mod collector;
mod delivery;
mod environment;
mod error;
mod extension;
mod extensions_api;
mod faults;
mod function;
mod id;
mod init;
mod invoke;
mod journal;
mod ledger;
pub mod otlp;
mod outcome;
mod process;
mod proxy;
mod runtime_api;
mod sandbox;
mod settings;
mod shutdown;
mod state;
mod subscription;
mod telemetry;
mod variables;
mod web;
