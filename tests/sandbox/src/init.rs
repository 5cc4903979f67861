//! The init phase: extensions, then the runtime. It ends when all of them have called `/next`.

use std::time::Instant;

use serde_json::{Value, json};

use crate::clock;
use crate::environment::{Environment, Processes};
use crate::error::Error;
use crate::outcome::{Init, ShutdownReason, Status};
use crate::settings::{Initialization, VERSION};
use crate::state::{Answer, Phase, State};
use crate::telemetry::set;

/// The reason why an init failed.
#[derive(Clone, Debug)]
struct Fault {
    status: Status,
    error_type: String,
    who: String,
}

impl Environment {
    /// Runs the init phase.
    pub(crate) async fn init(&self, processes: &mut Processes) -> Result<Init, Error> {
        let start = clock::now();
        *processes = Processes::default();
        self.couriers.clear();
        self.handles().clear();
        self.telemetry.begin();
        let names: Vec<String> = self.extensions.iter().map(|extension| extension.name.clone()).collect();
        self.state.write(|state| state.begin(&names, start));
        self.telemetry.emit("platform.initStart", self.init_start());
        let ended = self.bring_up(processes, start).await?;
        let took = start.elapsed();
        self.telemetry.close_subscriptions();
        let (status, error_type) = match &ended {
            Ok(()) => (Status::Success, None),
            Err(fault) => (fault.status, Some(&fault.error_type)),
        };
        self.telemetry.emit("platform.initReport", {
            let mut record = self.init_record(status, error_type);
            set(&mut record, "metrics", json!({"durationMs": clock::millis(took)}));
            record
        });
        let extensions = self.state.read(|state| {
            let first_next = |of: &crate::state::Extension| of.first_next.map(|at| at - of.started);
            state.extensions.iter().map(|of| (of.name.clone(), first_next(of))).collect()
        });
        let (error, shutdown) = match ended {
            Ok(()) => {
                self.state.write(|state| state.phase = Phase::Ready);
                processes.cold = Some(took);
                self.rest_after_init(processes).await?;
                (None, None)
            }
            Err(fault) => {
                let shutdown = self.shut_down(processes, ShutdownReason::Failure).await;
                (Some(format!("{}: {}", fault.who, fault.error_type)), Some(shutdown))
            }
        };
        Ok(Init { status, error, took, extensions, shutdown })
    }

    async fn bring_up(&self, processes: &mut Processes, start: Instant) -> Result<Result<(), Fault>, Error> {
        let deadline = start + self.settings.init_limit();
        self.start_extensions(processes)?;
        if let Err(fault) = self.until(deadline, State::all_registered).await {
            return Ok(Err(fault));
        }
        self.start_function(processes)?;
        let ready = self.until(deadline, |state| state.runtime.ready || state.runtime.before_restore).await;
        let (status, error_type) = match &ready {
            Ok(()) => (Status::Success, None),
            Err(fault) => (fault.status, Some(&fault.error_type)),
        };
        self.telemetry.emit("platform.initRuntimeDone", self.init_record(status, error_type));
        if ready.is_err() {
            return Ok(ready);
        }
        let waiting = self.until(deadline, State::all_waiting).await;
        if waiting.is_ok() {
            let extensions = self.state.read(|state| {
                state.extensions.iter().map(|of| (of.name.clone(), of.events.clone())).collect::<Vec<_>>()
            });
            for (name, events) in extensions {
                let record = json!({"name": name, "state": "Ready", "events": events});
                self.telemetry.emit("platform.extension", record);
            }
        }
        Ok(waiting)
    }

    /// Waits for a step of the init, or for a fault that makes it impossible.
    async fn until(&self, deadline: Instant, so: impl Fn(&State) -> bool) -> Result<(), Fault> {
        let ended = self.state.wait_before(deadline, |state| match fault(state) {
            Some(fault) => Some(Err(fault)),
            None => so(state).then_some(Ok(())),
        });
        ended.await.unwrap_or_else(|| {
            let who = self.state.read(|state| {
                let late = |of: &&crate::state::Extension| of.first_next.is_none();
                state.extensions.iter().find(late).map_or("the runtime".to_owned(), |of| of.name.clone())
            });
            Err(Fault { status: Status::Timeout, error_type: "Sandbox.Timedout".to_owned(), who })
        })
    }

    /// Freezes the environment until the first invocation, where Lambda does so.
    async fn rest_after_init(&self, processes: &mut Processes) -> Result<(), Error> {
        processes.snapshot = self.settings.initialization == Initialization::SnapStart;
        match self.settings.initialization {
            // On demand, an invocation is already waiting; managed instances are never frozen.
            Initialization::OnDemand | Initialization::ManagedInstances => Ok(()),
            Initialization::ProvisionedConcurrency | Initialization::SnapStart => {
                self.freeze(processes).await
            }
        }
    }

    /// Restores the snapshot (SnapStart). Simplified: the same processes continue.
    pub(crate) async fn restore(&self, processes: &mut Processes) {
        let start = clock::now();
        self.thaw(processes).await;
        processes.snapshot = false;
        self.telemetry.emit("platform.restoreStart", self.identity());
        self.state.write(|state| state.runtime.before_restore = false);
        // A runtime without restore hooks is already ready; the invocation detects one that fails here.
        let ready = |state: &State| (state.runtime.ready || state.runtime.exit.is_some()).then_some(());
        let deadline = start + self.settings.init_limit();
        let _ = self.state.wait_before(deadline, ready).await;
        self.telemetry.emit("platform.restoreRuntimeDone", json!({"status": "success", "spans": []}));
        let metrics = json!({"durationMs": clock::millis(start.elapsed())});
        let record = json!({"status": "success", "metrics": metrics, "spans": []});
        self.telemetry.emit("platform.restoreReport", record);
    }

    fn init_start(&self) -> Value {
        let mut record = self.identity();
        set(&mut record, "initializationType", self.settings.initialization.name());
        set(&mut record, "phase", "init");
        record
    }

    fn identity(&self) -> Value {
        json!({
            "functionName": self.settings.function_name,
            "functionVersion": VERSION,
            "runtimeVersion": "sandbox.v1",
            "runtimeVersionArn": "arn:aws:lambda:us-east-1::runtime:sandbox",
            "instanceId": crate::id::uuid(),
            "instanceMaxMemory": u64::from(self.settings.memory_mb) * 1_048_576,
        })
    }

    fn init_record(&self, status: Status, error_type: Option<&String>) -> Value {
        let mut record = json!({
            "initializationType": self.settings.initialization.name(),
            "phase": "init",
            "status": status.name(),
            "spans": [],
        });
        if let Some(error_type) = error_type {
            set(&mut record, "errorType", error_type.as_str());
        }
        record
    }
}

fn fault(state: &State) -> Option<Fault> {
    if let Some((who, error_type)) = state.crashed_extension() {
        return Some(Fault { status: Status::Error, error_type, who });
    }
    if let Some(Answer::Error { error_type, .. }) = &state.runtime.init_error {
        let who = "the function".to_owned();
        return Some(Fault { status: Status::Error, error_type: error_type.clone(), who });
    }
    let reason = state.runtime.exit.as_ref()?;
    let who = format!("the function ({reason})");
    Some(Fault { status: Status::Error, error_type: "Runtime.ExitError".to_owned(), who })
}
