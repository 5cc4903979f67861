//! The customer's function: built in, or any process that speaks the Runtime API.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

pub use context::Context;
pub use otlp::{ExportError, Exporter, Transport};

pub(crate) mod builtin;
mod context;
mod otlp;
mod sample;

/// The exit text of a process killed by SIGKILL.
pub(crate) const KILLED: &str = "signal 9";

/// The function that the environment runs.
#[derive(Clone)]
pub struct Function(pub(crate) Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Builtin(Handler),
    Command(Command),
    External,
}

pub(crate) type Handler = Arc<dyn Fn(Context) -> Answering + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>>;

/// A process to start.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
}

/// The failure of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `errorType`.
    pub error_type: String,
    /// `errorMessage`; for a process that ends, the way it ends.
    pub message: String,
    /// True if the whole process ends without a report to the Runtime API.
    pub exits: bool,
}

impl Failure {
    /// An error that the function's handler raised.
    pub fn new(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self { error_type: error_type.into(), message: message.into(), exits: false }
    }

    /// The end of the function's process, as by `exit(1)`.
    pub fn exit() -> Self {
        Self { error_type: String::new(), message: "exit status 1".to_owned(), exits: true }
    }

    /// The end of the function's process when it runs out of memory.
    pub fn out_of_memory() -> Self {
        Self { message: KILLED.to_owned(), ..Self::exit() }
    }
}

impl Function {
    /// A handler within the sandbox's own process. It is called over the Runtime API like any other.
    pub fn builtin<F, R>(handler: F) -> Self
    where
        F: Fn(Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, Failure>> + Send + 'static,
    {
        Self(Kind::Builtin(Arc::new(move |context| Box::pin(handler(context)))))
    }

    /// A function that answers and does nothing else.
    pub fn idle() -> Self {
        Self::builtin(|_| async { Ok(Value::Null) })
    }

    /// The demo function: plain and JSON log lines, an error with fields, and spans and a counter sent with this transport. A
    /// payload `{"fail": true}` makes it fail.
    pub fn sample(transport: Transport) -> Self {
        Self::builtin(move |context| sample::handle(context, transport))
    }

    /// A process that speaks the Runtime API. In arguments and variables `{ip}` is replaced by the environment's
    /// address: `OTEL_EXPORTER_OTLP_ENDPOINT=http://{ip}:4318`.
    pub fn command<S: Into<String>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self(Kind::Command(Command { program: program.into(), arguments, variables: Vec::new() }))
    }

    /// A function that a test plays: nothing is started, and the test calls the Runtime API itself.
    pub fn external() -> Self {
        Self(Kind::External)
    }

    /// Sets an environment variable of a command. A built-in function has none.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Kind::Command(command) = &mut self.0 {
            command.variables.push((name.into(), value.into()));
        }
        self
    }
}
