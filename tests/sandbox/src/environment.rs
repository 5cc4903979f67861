//! The execution environment: its processes, and the state shared by its phases and APIs.
//!
//! The phases are [`crate::init`], [`crate::invoke`] and [`crate::shutdown`]; this file starts, freezes and thaws processes.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::RwLock;
use tokio::task::{JoinHandle, JoinSet};

use crate::address::API_PORT;
use crate::board::Board;
use crate::clock;
use crate::collector::Received;
use crate::delivery::Courier;
use crate::error::Error;
use crate::extension::{Extension, Stdout};
use crate::extensions_api::NextCall;
use crate::faults::Faults;
use crate::function::builtin::Runtime;
use crate::function::{Exporter, Function, Kind};
use crate::journal::{Journal, OutputLine};
use crate::ledger::Ledger;
use crate::process::{Handle, Process};
use crate::settings::{LogFormat, Settings};
use crate::state::State;
use crate::subscription::Subscription;
use crate::telemetry::Telemetry;
use crate::variables;

/// A callback for each `/next`, called before the call has any effect.
pub(crate) type Hook = Box<dyn Fn(&NextCall) + Send + Sync>;

/// The state shared by the phases and the APIs.
pub(crate) struct Environment {
    pub(crate) settings: Settings,
    pub(crate) ip: Ipv4Addr,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) function: Function,
    pub(crate) state: Board<State>,
    pub(crate) journal: Board<Journal>,
    pub(crate) telemetry: Telemetry,
    pub(crate) ledger: Ledger,
    pub(crate) faults: Faults,
    pub(crate) collector: Option<Board<Received>>,
    pub(crate) on_next: Option<Hook>,
    pub(crate) couriers: Couriers,
    /// The extensions' processes of this init, to act on them during a phase.
    pub(crate) handles: Mutex<Vec<Handle>>,
    /// The lock that serializes phases: a task holds it to change the phase. Invocations of managed instances share it.
    pub(crate) processes: RwLock<Processes>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("ip", &self.ip).finish_non_exhaustive()
    }
}

/// The running processes and their state.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    pub(crate) extensions: Vec<(String, Process)>,
    pub(crate) function: Option<RunningFunction>,
    pub(crate) frozen: bool,
    /// True if a failure ended the environment: the next invocation starts with an init.
    pub(crate) reset: bool,
    /// The duration of a cold start: set by the init, taken by the first invocation.
    pub(crate) cold: Option<Duration>,
    /// SnapStart: true until the snapshot is restored.
    pub(crate) snapshot: bool,
}

/// A running function. When dropped, it ends.
#[derive(Debug)]
pub(crate) enum RunningFunction {
    Task(Vec<JoinHandle<()>>),
    Process(Process),
}

impl Drop for RunningFunction {
    fn drop(&mut self) {
        if let Self::Task(tasks) = self {
            for task in tasks {
                task.abort();
            }
        }
    }
}

/// The deliveries to the listeners of this init, and their tasks.
#[derive(Debug, Default)]
pub(crate) struct Couriers(Mutex<(Vec<Courier>, JoinSet<()>)>);

impl Couriers {
    pub(crate) fn clear(&self) {
        let (couriers, _) = &mut *self.lock();
        couriers.clear();
    }

    pub(crate) fn first(&self) -> Option<Courier> {
        let (couriers, _) = &*self.lock();
        couriers.first().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<Courier>, JoinSet<()>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Environment {
    /// A client to the extension's receiver, as functions use it.
    pub(crate) fn exporter(&self) -> Exporter {
        let address =
            |name, port| variables::receiver(&self.settings, self.ip, self.extensions.first(), name, port);
        Exporter::new(address("ROTEL_OTLP_GRPC_ENDPOINT", 4317), address("ROTEL_OTLP_HTTP_ENDPOINT", 4318))
    }

    pub(crate) fn handles(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to deliver to a new subscriber.
    pub(crate) fn deliver_to(
        &self,
        subscription: &Subscription,
        courier: impl FnOnce(Board<Journal>) -> Courier,
    ) {
        let courier = courier(self.journal.clone());
        let mut subscription = subscription.clone();
        if self.settings.prompt_telemetry {
            subscription.buffering.timeout = Duration::ZERO;
        }
        if let Some(max_bytes) = self.settings.telemetry_max_bytes {
            subscription.buffering.max_bytes = max_bytes;
        }
        let queue = self.telemetry.subscribe(&subscription);
        let (couriers, tasks) = &mut *self.couriers.lock();
        couriers.push(courier.clone());
        tasks.spawn(courier.run(queue, self.faults.clone()));
    }

    /// Starts the extensions that are processes.
    pub(crate) fn start_extensions(&self, processes: &mut Processes) -> Result<(), Error> {
        for extension in &self.extensions {
            let Some(program) = &extension.program else { continue };
            let variables = variables::of_extension(&self.settings, self.ip, extension);
            let started = extension.wrapper.as_ref().map_or(program, |(wrapper, _)| wrapper);
            let mut command = Command::new(started);
            if let Some((_, arguments)) = &extension.wrapper {
                command.args(arguments).arg(program);
            }
            command.env_clear().envs(variables);
            let (journal, telemetry) = (self.journal.clone(), self.telemetry.clone());
            let (name, json) = (extension.name.clone(), self.settings.log_format == LogFormat::Json);
            let on_line = move |text: String| {
                let line = OutputLine { at: clock::now(), extension: name.clone(), text: text.clone() };
                journal.write(|journal| journal.output.push(line));
                telemetry.emit_line("extension", text, json);
            };
            let (state, name) = (self.state.clone(), extension.name.clone());
            let generation = state.write(|state| {
                for started in state.extensions.iter_mut().filter(|started| started.name == name) {
                    started.started = clock::now();
                }
                state.generation
            });
            let on_exit = move |exit| state.write(|state| state.extension_exited(generation, &name, exit));
            let process = Process::spawn(command, extension.stdout, on_line, on_exit)
                .map_err(|source| spawn_error(started, source))?;
            self.handles().push(process.handle().clone());
            processes.extensions.push((extension.name.clone(), process));
        }
        Ok(())
    }

    /// Starts the function.
    pub(crate) fn start_function(&self, processes: &mut Processes) -> Result<(), Error> {
        let state = self.state.clone();
        let generation = state.read(|state| state.generation);
        processes.function = match &self.function.0 {
            Kind::External => None,
            Kind::Builtin(handler) => {
                let runtime = Runtime {
                    api: format!("http://{}:{API_PORT}/2018-06-01/runtime", self.ip),
                    telemetry: self.telemetry.clone(),
                    ledger: self.ledger.clone(),
                    exporter: self.exporter(),
                };
                let workers = if self.settings.managed() { self.settings.concurrency } else { 1 };
                let worker = || {
                    let (running, ended) = (runtime.clone().run(Arc::clone(handler)), state.clone());
                    tokio::spawn(async move {
                        let mut end =
                            End { state: ended, generation, reason: "the handler panicked".to_owned() };
                        end.reason = running.await;
                    })
                };
                Some(RunningFunction::Task((0..workers).map(|_| worker()).collect()))
            }
            Kind::Command(spec) => {
                let mut command = Command::new(&spec.program);
                command.args(spec.arguments.iter().map(|argument| variables::fill(argument, self.ip)));
                command.env_clear().envs(variables::of_function(&self.settings, self.ip, &spec.variables));
                let (telemetry, json) = (self.telemetry.clone(), self.settings.log_format == LogFormat::Json);
                let on_line = move |text| telemetry.emit_line("function", text, json);
                let on_exit = move |exit: crate::process::Exit| {
                    state.write(|state| state.runtime_exited(generation, exit.text()));
                };
                let process = Process::spawn(command, Stdout::Read, on_line, on_exit);
                Some(RunningFunction::Process(process.map_err(|source| spawn_error(&spec.program, source))?))
            }
        };
        Ok(())
    }

    /// Stops all processes and deliveries until [`Self::thaw`]. A built-in function is a task of the sandbox and is waiting for
    /// work now, so it needs no stopping.
    pub(crate) async fn freeze(&self, processes: &mut Processes) -> Result<(), Error> {
        self.telemetry.pause(true);
        processes.frozen = true;
        if !self.settings.freeze {
            return Ok(());
        }
        for (_, process) in &processes.extensions {
            process.handle().freeze().await.map_err(Error::Signal)?;
        }
        if let Some(RunningFunction::Process(process)) = &processes.function {
            process.handle().freeze().await.map_err(Error::Signal)?;
        }
        Ok(())
    }

    /// Resumes all processes and deliveries.
    pub(crate) async fn thaw(&self, processes: &mut Processes) {
        for (_, process) in &processes.extensions {
            process.handle().thaw().await;
        }
        if let Some(RunningFunction::Process(process)) = &processes.function {
            process.handle().thaw().await;
        }
        processes.frozen = false;
        self.telemetry.pause(false);
    }
}

/// Reports the end of a built-in function, even if it panics.
struct End {
    state: Board<State>,
    generation: u64,
    reason: String,
}

impl Drop for End {
    fn drop(&mut self) {
        let reason = std::mem::take(&mut self.reason);
        self.state.write(|state| state.runtime_exited(self.generation, reason));
    }
}

fn spawn_error(path: &Path, source: std::io::Error) -> Error {
    Error::Spawn { path: path.to_owned(), source }
}
