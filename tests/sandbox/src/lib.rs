//! An emulated Lambda execution environment, to run an extension in. The command `lambda-sandbox` (`tests/tools`) is built
//! on it.
//!
//! A [`Sandbox`] is one environment. It serves the Runtime, Extensions and Telemetry API on port 9001 of a loopback
//! address of its own, starts extensions and a function with the variables that Lambda shows them, and leads them through
//! the phases: init, invocations with a freeze between them, shutdown. A [`Collector`] is the OTLP endpoint at the other
//! end, [`aws::Aws`] what keeps secrets, a [`Proxy`] what may stand before either. All are as strict as what they stand
//! for, and fail on demand ([`Fault`], [`collector::Behaviour`], [`aws::Behaviour`]).
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
//! // Everything that this invocation emitted was at the collector when the extension said that it was done.
//! let at_next = invocation.collector_at_next.expect("a collector is attached");
//! assert!(sandbox.ledger().compare_invocation(&invocation.request_id, &at_next).is_exact());
//! assert!(sandbox.shutdown(ShutdownReason::Spindown).await?.is_clean());
//! assert!(sandbox.violations().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Who decides what, inside:
//!
//! - `state` is the legal-state table, a state machine without IO. `extensions_api` and `runtime_api` put HTTP before it.
//! - `init`, `invoke` and `shutdown` are the phases. They push the state on and wait for what they need of it;
//!   `environment` has what they share.
//! - `telemetry` turns what happens into records and buffers them per `subscription`; `delivery` posts them; `faults`
//!   stands between the two.
//! - `function` has the customer's side: handlers built in, with a real OTLP client, and commands. What they emit is
//!   entered in the `ledger`, which is held against what the collector received.
//!
//! No wait in here polls: shared values are `board`s, which wake who waits at each change. It uses
//! nothing of the extension, so that no mistake of one is repeated in the other: facts are AWS's and OTLP's, decoding is
//! `opentelemetry-proto`'s.
//!
//! What is simpler than Lambda: CPU shares and memory limits are not enforced, a frozen process's monotonic clock goes
//! on, and a snapshot is restored into the processes that it was taken of.

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
