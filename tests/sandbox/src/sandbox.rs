//! The sandbox's interface for tests and the command.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use crate::address::{self, API_PORT};
use crate::board::Board;
use crate::clock;
use crate::collector::{Collector, Received};
use crate::environment::{Environment, Hook};
use crate::error::Error;
use crate::extension::Extension;
use crate::extensions_api::{self, NextCall};
use crate::faults::{Fault, Faults};
use crate::function::{Exporter, Function};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::outcome::{Init, Invocation, Shutdown, ShutdownReason};
use crate::runtime_api;
use crate::settings::{Initialization, LogFormat, Settings};
use crate::state::State;
use crate::telemetry::Telemetry;
use crate::web;

/// An emulated execution environment. When dropped, its processes are killed.
#[derive(Debug)]
pub struct Sandbox {
    environment: Arc<Environment>,
    server: JoinHandle<()>,
}

/// The builder of a [`Sandbox`].
pub struct Builder {
    settings: Settings,
    extensions: Vec<Extension>,
    function: Function,
    collector: Option<Board<Received>>,
    on_next: Option<Hook>,
    faults: Vec<Fault>,
}

impl Builder {
    /// Runs this extension. May be called more than once.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Runs this function; the default only answers.
    #[must_use]
    pub fn function(mut self, function: Function) -> Self {
        self.function = function;
        self
    }

    /// Attaches a collector, whose requests are recorded at each `/next`.
    #[must_use]
    pub fn collector(mut self, collector: &Collector) -> Self {
        self.collector = Some(collector.watch());
        self
    }

    /// Sets a callback for each `/next`, called before the call has any effect.
    #[must_use]
    pub fn on_next(mut self, hook: impl Fn(&NextCall) + Send + Sync + 'static) -> Self {
        self.on_next = Some(Box::new(hook));
        self
    }

    /// Sets a variable of the function's configuration: its processes and the extensions see it.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.variables.push((name.into(), value.into()));
        self
    }

    /// Keeps the extensions' default listen addresses instead of the environment's own address. Such tests share 127.0.0.1 with
    /// all other programs.
    #[must_use]
    pub fn without_default_endpoints(mut self) -> Self {
        self.settings.default_endpoints = false;
        self
    }

    /// Sets `AWS_LAMBDA_FUNCTION_NAME`; default: `sandbox-function`.
    #[must_use]
    pub fn function_name(mut self, name: impl Into<String>) -> Self {
        self.settings.function_name = name.into();
        self
    }

    /// Sets the memory in MB; default: 128.
    #[must_use]
    pub fn memory_mb(mut self, memory: u32) -> Self {
        self.settings.memory_mb = memory;
        self
    }

    /// Sets the function's timeout; default: 15 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sets the time limit of the init; default: Lambda's.
    #[must_use]
    pub fn init_timeout(mut self, timeout: Duration) -> Self {
        self.settings.init_timeout = Some(timeout);
        self
    }

    /// Sets the initialization type of environments; default: on demand.
    #[must_use]
    pub fn initialization(mut self, initialization: Initialization) -> Self {
        self.settings.initialization = initialization;
        self
    }

    /// Sets the number of invocations that a built-in function handles at once (managed instances).
    #[must_use]
    pub fn concurrency(mut self, workers: usize) -> Self {
        self.settings.concurrency = workers;
        self
    }

    /// Sets the log format; default: text.
    #[must_use]
    pub fn log_format(mut self, format: LogFormat) -> Self {
        self.settings.log_format = format;
        self
    }

    /// Does not stop processes between invocations. Telemetry is paused anyway.
    #[must_use]
    pub fn without_freeze(mut self) -> Self {
        self.settings.freeze = false;
        self
    }

    /// Delivers telemetry at once, not after the subscription's `timeoutMs`: for many invocations in a short time.
    #[must_use]
    pub fn prompt_telemetry(mut self) -> Self {
        self.settings.prompt_telemetry = true;
        self
    }

    /// Buffers telemetry and cuts large records at this size, whatever the subscription's `maxBytes`.
    #[must_use]
    pub fn telemetry_max_bytes(mut self, bytes: usize) -> Self {
        self.settings.telemetry_max_bytes = Some(bytes);
        self
    }

    /// Sets the faults that are active from the start.
    #[must_use]
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }

    /// Claims an address and listens; nothing is started yet.
    pub async fn open(self) -> Result<Sandbox, Error> {
        let (ip, listener) = address::claim().await.map_err(Error::Listen)?;
        let faults = Faults::default();
        faults.set(self.faults);
        let managed = self.settings.managed();
        let environment = Arc::new(Environment {
            settings: self.settings,
            ip,
            extensions: self.extensions,
            function: self.function,
            state: Board::new(State { managed, ..State::default() }),
            journal: Board::new(Journal::default()),
            telemetry: Telemetry::default(),
            ledger: Ledger::default(),
            faults,
            collector: self.collector,
            on_next: self.on_next,
            couriers: crate::environment::Couriers::default(),
            handles: std::sync::Mutex::default(),
            processes: RwLock::default(),
        });
        let shared = Arc::clone(&environment);
        let server = tokio::spawn(web::serve(listener, move |request| {
            let environment = Arc::clone(&shared);
            async move {
                let path = request.uri().path().to_owned();
                match path.strip_prefix("/2018-06-01/runtime/") {
                    Some(rest) => runtime_api::respond(&environment, rest, request).await,
                    None => extensions_api::respond(&environment, request).await,
                }
            }
        }));
        Ok(Sandbox { environment, server })
    }

    /// Calls [`Self::open`], then [`Sandbox::init`]; a failed init is an error.
    pub async fn start(self) -> Result<Sandbox, Error> {
        let sandbox = self.open().await?;
        let init = sandbox.init().await?;
        match init.error {
            None => Ok(sandbox),
            Some(error) => Err(Error::Init(format!("{error}{}", last_lines(&sandbox.journal())))),
        }
    }
}

impl Sandbox {
    /// A builder for an environment without extensions and with a function that does nothing.
    pub fn builder() -> Builder {
        Builder {
            settings: Settings::default(),
            extensions: Vec::new(),
            function: Function::idle(),
            collector: None,
            on_next: None,
            faults: Vec::new(),
        }
    }

    /// Runs the init phase.
    pub async fn init(&self) -> Result<Init, Error> {
        let mut processes = self.environment.processes.write().await;
        if self.environment.state.read(|state| state.phase) != crate::state::Phase::Stopped {
            return Err(Error::Phase("initialised already"));
        }
        self.environment.init(&mut processes).await
    }

    /// Waits until extensions can register, in an init that another task runs: for tests that play extensions.
    pub async fn wait_for_init(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = clock::now() + timeout;
        let begun = |state: &State| (state.phase == crate::state::Phase::Init).then_some(());
        let found = self.environment.state.wait_before(deadline, begun).await;
        found.ok_or_else(|| Error::Timeout(timeout, "no init has begun".to_owned()))
    }

    /// Runs one invocation. It waits for a running one, except in managed instances. After a timeout or crash the environment
    /// was reset, and the invocation begins with an init.
    pub async fn invoke(&self, payload: Value) -> Result<Invocation, Error> {
        if self.environment.settings.managed() {
            let _running = self.environment.processes.read().await;
            return self.environment.invoke_managed(&payload).await;
        }
        let mut processes = self.environment.processes.write().await;
        self.environment.invoke(&mut processes, &payload).await
    }

    /// Runs the shutdown phase, with or without invocations before it.
    pub async fn shutdown(&self, reason: ShutdownReason) -> Result<Shutdown, Error> {
        let mut processes = self.environment.processes.write().await;
        if self.environment.state.read(|state| state.phase) != crate::state::Phase::Ready {
            return Err(Error::Phase("not initialised"));
        }
        Ok(self.environment.shut_down(&mut processes, reason).await)
    }

    /// Stops all processes, as between invocations.
    pub async fn freeze(&self) -> Result<(), Error> {
        self.environment.freeze(&mut *self.environment.processes.write().await).await
    }

    /// Continues all processes, as the next event does.
    pub async fn thaw(&self) {
        self.environment.thaw(&mut *self.environment.processes.write().await).await;
    }

    /// Leaves a frozen environment frozen for this time.
    pub async fn rest(&self, length: Duration) -> Result<(), Error> {
        let processes = self.environment.processes.read().await;
        if !processes.frozen {
            return Err(Error::Phase("not at rest"));
        }
        tokio::time::sleep(length).await;
        Ok(())
    }

    /// Stops the extensions' processes for this time, in the middle of their work; [`Self::freeze`] waits for the end of the
    /// phase. `before_they_go_on` runs just before they continue.
    pub async fn stall<R>(
        &self,
        length: Duration,
        before_they_go_on: impl Future<Output = R>,
    ) -> Result<R, Error> {
        let handles = self.environment.handles().clone();
        for handle in &handles {
            handle.freeze().await.map_err(Error::Signal)?;
        }
        tokio::time::sleep(length).await;
        let result = before_they_go_on.await;
        for handle in &handles {
            handle.thaw().await;
        }
        Ok(result)
    }

    /// The resident memory of the extensions' processes, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.environment.handles().iter().filter_map(crate::process::Handle::resident_bytes).sum()
    }

    /// The sum of the peak resident memory of each of the extensions' processes, in bytes.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.environment.handles().iter().filter_map(crate::process::Handle::peak_resident_bytes).sum()
    }

    /// The CPU time that the extensions' processes have used, to the nanosecond.
    pub fn cpu_time(&self) -> Duration {
        self.environment.handles().iter().filter_map(crate::process::Handle::cpu_time).sum()
    }

    /// Sends SIGTERM to the extensions' processes, lets them run, and waits for their exit. Returns each exit code; none for a
    /// process killed by a signal.
    pub async fn terminate(&self) -> Vec<Option<i32>> {
        self.end_by(Signal::SIGTERM).await;
        let exits = self
            .environment
            .state
            .read(|state| state.extensions.iter().map(|extension| extension.exit).collect::<Vec<_>>());
        exits.into_iter().map(|exit| exit?.status.code()).collect()
    }

    /// Ends the extensions' processes without a shutdown, and waits for their exit: for measuring tools, which report at
    /// the end and would count the shutdown as well.
    pub async fn interrupt(&self) {
        // Its default action ends a process; unlike SIGINT and SIGHUP, no shell makes its children ignore it.
        self.end_by(Signal::SIGUSR1).await;
    }

    async fn end_by(&self, signal: Signal) {
        let handles = self.environment.handles().clone();
        for handle in &handles {
            handle.signal(signal).await;
            handle.thaw().await;
        }
        for handle in &handles {
            handle.ended().await;
        }
    }

    /// Returns true if the environment is frozen. It is frozen between invocations, so a test that acts there acts "while
    /// frozen".
    pub async fn is_frozen(&self) -> bool {
        self.environment.processes.read().await.frozen
    }

    /// Sets the faults that are active from now on, replacing the earlier ones.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.environment.faults.set(faults.into_iter().collect());
    }

    /// Posts any body to the first subscriber at once, bypassing all buffers. Returns the status of the answer, if any.
    pub async fn inject(&self, body: impl Into<Bytes>) -> Result<Option<u16>, Error> {
        let courier = self.environment.couriers.first().ok_or(Error::NoSubscription)?;
        Ok(courier.attempt(body.into(), 0, 0, Vec::new()).await)
    }

    /// Writes a record into the platform's streams, as if the event had happened.
    pub fn emit(&self, kind: &str, record: Value) {
        self.environment.telemetry.emit(kind, record);
    }

    /// The address of this sandbox alone.
    pub fn ip(&self) -> Ipv4Addr {
        self.environment.ip
    }

    /// The address in `AWS_LAMBDA_RUNTIME_API`.
    pub fn api(&self) -> SocketAddr {
        SocketAddrV4::new(self.environment.ip, API_PORT).into()
    }

    /// A new client to the extension's receiver, as functions use it.
    pub fn exporter(&self) -> Exporter {
        self.environment.exporter()
    }

    /// The sandbox's observations so far.
    pub fn journal(&self) -> Journal {
        self.environment.journal.read(Clone::clone)
    }

    /// Calls that an extension must not make.
    pub fn violations(&self) -> Vec<String> {
        self.environment.journal.read(Journal::violations)
    }

    /// The output lines of the extensions.
    pub fn extension_output(&self) -> Vec<String> {
        self.environment.journal.read(|journal| journal.output.iter().map(|line| line.text.clone()).collect())
    }

    /// The number of lines written by functions of any kind.
    pub fn function_records(&self) -> usize {
        self.environment.telemetry.function_records()
    }

    /// The items that the built-in function emitted.
    pub fn ledger(&self) -> &Ledger {
        &self.environment.ledger
    }

    /// Waits for a condition on the sandbox's observations.
    pub async fn wait_until(
        &self,
        mut holds: impl FnMut(&Journal) -> bool,
        timeout: Duration,
    ) -> Result<(), Error> {
        let deadline = clock::now() + timeout;
        let found =
            self.environment.journal.wait_before(deadline, |journal| holds(journal).then_some(())).await;
        found.ok_or_else(|| {
            let journal = self.journal();
            let calls: Vec<_> = journal.calls.iter().map(|call| call.what).collect();
            Error::Timeout(timeout, format!("calls {calls:?}{}", last_lines(&journal)))
        })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
        // The lock is free, unless an invocation was cancelled midway; then the processes end with the runtime.
        if let Ok(mut processes) = self.environment.processes.try_write() {
            *processes = crate::environment::Processes::default();
        }
    }
}

/// The last output lines of the extensions, for errors.
fn last_lines(journal: &Journal) -> String {
    let from = journal.output.len().saturating_sub(10);
    journal.output.iter().skip(from).fold(String::new(), |text, line| text + "\n  " + &line.text)
}
