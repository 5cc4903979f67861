//! The invoke phase. It ends when the function is done and every extension has called `/next` again.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::clock;
use crate::environment::{Environment, Processes};
use crate::error::Error;
use crate::function::KILLED;
use crate::id;
use crate::outcome::{Invocation, ShutdownReason, Status};
use crate::settings::VERSION;
use crate::state::{Answer, Invoke, Phase, Running, State};
use crate::telemetry::set;

/// The end of the function, or of the wait for extensions after it.
#[derive(Clone, Debug)]
enum End {
    Done,
    RuntimeExit(String),
    ExtensionCrash(String, String),
    Timeout,
}

/// A running invocation, as its phase sees it.
struct Under {
    invoke: Arc<Invoke>,
    start: Instant,
    time: SystemTime,
    deadline: Instant,
}

impl Environment {
    /// Runs one invocation.
    pub(crate) async fn invoke(
        &self,
        processes: &mut Processes,
        payload: &Value,
    ) -> Result<Invocation, Error> {
        if processes.reset {
            let init = self.init(processes).await?;
            if let Some(error) = init.error {
                processes.reset = true;
                return Err(Error::Init(error));
            }
        }
        if self.state.read(|state| state.phase) != Phase::Ready {
            return Err(Error::Phase("not initialised"));
        }
        if processes.snapshot {
            self.restore(processes).await;
        } else {
            self.thaw(processes).await;
        }
        let cold = processes.cold.take();
        let under = self.begin(payload);
        let ended = self.until_function_done(&under).await;
        let function_end = self.function_end(&under);
        self.emit_runtime_done(&under, &ended, function_end);
        let ended = match ended {
            End::Done => self.until_extensions_done(&under).await,
            other => other,
        };
        let mut invocation = self.conclude(&under, &ended, function_end, cold);
        match ended {
            End::Done if self.settings.managed() => {}
            End::Done => self.freeze(processes).await?,
            End::Timeout => {
                invocation.reset = Some(self.shut_down(processes, ShutdownReason::Timeout).await);
                processes.reset = true;
            }
            End::RuntimeExit(_) | End::ExtensionCrash(..) => {
                invocation.reset = Some(self.shut_down(processes, ShutdownReason::Failure).await);
                processes.reset = true;
            }
        }
        Ok(invocation)
    }

    /// Runs one of several concurrent invocations of a managed instance. Extensions are not notified of them.
    pub(crate) async fn invoke_managed(&self, payload: &Value) -> Result<Invocation, Error> {
        if self.state.read(|state| state.phase) != Phase::Ready {
            return Err(Error::Phase("not initialised"));
        }
        let under = self.begin(payload);
        let ended = self.until_function_done(&under).await;
        let function_end = self.function_end(&under);
        Ok(self.conclude(&under, &ended, function_end, None))
    }

    fn begin(&self, payload: &Value) -> Under {
        let (start, time) = (clock::now(), clock::wall());
        let invoke = Arc::new(Invoke {
            request_id: id::uuid(),
            deadline_ms: clock::epoch_millis(time + self.settings.timeout),
            arn: self.settings.arn(),
            trace: id::trace_header(clock::epoch_millis(time) / 1_000),
            payload: Bytes::from(payload.to_string()),
        });
        let mut tracing = tracing(&invoke);
        set(&mut tracing, "spanId", format!("{:016x}", id::random()));
        let record = json!({"requestId": invoke.request_id, "version": VERSION, "tracing": tracing});
        self.telemetry.emit("platform.start", record);
        let event = json!({
            "eventType": "INVOKE",
            "deadlineMs": invoke.deadline_ms,
            "requestId": invoke.request_id,
            "invokedFunctionArn": invoke.arn,
            "tracing": self::tracing(&invoke),
        });
        self.state.write(|state| {
            state.invocations.insert(invoke.request_id.clone(), Running::default());
            state.dispatch("INVOKE", &event);
            state.runtime.pending.push_back(Arc::clone(&invoke));
        });
        Under { invoke, start, time, deadline: start + self.settings.timeout }
    }

    async fn until_function_done(&self, under: &Under) -> End {
        let id = &under.invoke.request_id;
        let ended = self.state.wait_before(under.deadline, |state| {
            crash(state).or_else(|| {
                state.invocations.get(id).is_some_and(|one| one.done.is_some()).then_some(End::Done)
            })
        });
        ended.await.unwrap_or(End::Timeout)
    }

    async fn until_extensions_done(&self, under: &Under) -> End {
        let ended = self.state.wait_before(under.deadline, |state| {
            crash(state).or_else(|| state.all_waiting().then_some(End::Done))
        });
        ended.await.unwrap_or(End::Timeout)
    }

    fn function_end(&self, under: &Under) -> Instant {
        let done = |state: &State| state.invocations.get(&under.invoke.request_id).and_then(|one| one.done);
        self.state.read(done).unwrap_or_else(clock::now)
    }

    fn emit_runtime_done(&self, under: &Under, ended: &End, function_end: Instant) {
        // Platform: managed instances have no such event.
        if self.settings.managed() {
            return;
        }
        let answer = self.answer(under, ended);
        let (status, error_type) = verdict(ended, &answer);
        let duration = function_end - under.start;
        let bytes = match &answer {
            Answer::Response(body) | Answer::Error { body, .. } => body.len(),
            Answer::Timeout => 0,
        };
        let mut record = json!({
            "requestId": under.invoke.request_id,
            "status": status.name(),
            "metrics": {"durationMs": clock::millis(duration), "producedBytes": bytes},
            "spans": self.phases(under, duration),
            "tracing": tracing(&under.invoke),
        });
        if let Some(error_type) = error_type {
            set(&mut record, "errorType", error_type);
        }
        self.telemetry.emit("platform.runtimeDone", record);
    }

    /// The spans of the function's duration; empty if it did not answer.
    fn phases(&self, under: &Under, duration: Duration) -> Value {
        let answered =
            |state: &State| state.invocations.get(&under.invoke.request_id).and_then(|one| one.answered);
        let Some(answered) = self.state.read(answered) else { return json!([]) };
        let latency = answered.saturating_duration_since(under.start).min(duration);
        json!([
            span("responseLatency", under.time, latency),
            span("responseDuration", under.time + latency, Duration::ZERO),
            span("runtimeOverhead", under.time + latency, duration.saturating_sub(latency)),
        ])
    }

    /// Reports the invocation to the platform's stream and to the caller.
    fn conclude(
        &self,
        under: &Under,
        ended: &End,
        function_end: Instant,
        cold: Option<Duration>,
    ) -> Invocation {
        let answer = self.answer(under, ended);
        let (status, error_type) = verdict(ended, &answer);
        let request_id = under.invoke.request_id.clone();
        let last_next = self.state.write(|state| {
            state.invocations.remove(&request_id);
            let of_this = state.extensions.iter().filter(|extension| extension.takes("INVOKE"));
            of_this.filter_map(|extension| extension.last_next.clone()).max_by_key(|(at, _)| *at)
        });
        let last_next = last_next.filter(|(at, _)| *at >= under.start);
        let added =
            last_next.as_ref().map_or(Duration::ZERO, |(at, _)| at.saturating_duration_since(function_end));
        let delivered =
            self.journal.read(|journal| journal.runtime_done(&request_id).map(|delivery| delivery.at));
        let added_after_delivery = last_next
            .as_ref()
            .zip(delivered)
            .and_then(|((next, _), delivered)| next.checked_duration_since(delivered));
        let (function, total) = (function_end - under.start, under.start.elapsed());
        self.telemetry.emit(
            "platform.report",
            self.report(under, ended, (status, error_type.as_deref()), (function, total, cold)),
        );
        Invocation {
            request_id,
            cold_start: cold.is_some(),
            answer,
            status,
            error_type,
            function,
            added,
            added_after_delivery,
            total,
            collector_at_next: last_next.and_then(|(_, collector)| collector),
            reset: None,
        }
    }

    fn report(
        &self,
        under: &Under,
        ended: &End,
        (status, error_type): (Status, Option<&str>),
        (function, total, cold): (Duration, Duration, Option<Duration>),
    ) -> Value {
        let request_id = &under.invoke.request_id;
        // Platform: a function that runs out of memory is killed, and nothing else kills a running function.
        let exhausted = matches!(ended, End::RuntimeExit(reason) if reason == KILLED);
        let memory_used = if exhausted { self.settings.memory_mb } else { self.settings.memory_mb / 2 };
        if self.settings.managed() {
            return json!({
                "requestId": request_id,
                "status": status.name(),
                "metrics": {"durationMs": clock::millis(function)},
                "spans": [span("responseLatency", under.time, function)],
            });
        }
        let mut metrics = json!({
            "billedDurationMs": total.as_millis() + 1,
            "durationMs": clock::millis(total),
            "maxMemoryUsedMB": memory_used,
            "memorySizeMB": self.settings.memory_mb,
        });
        if let Some(cold) = cold {
            set(&mut metrics, "initDurationMs", clock::millis(cold));
        }
        let overhead = total.saturating_sub(function);
        let mut record = json!({
            "requestId": request_id,
            "status": status.name(),
            "metrics": metrics,
            "spans": [span("extensionOverhead", under.time + function, overhead)],
            "tracing": tracing(&under.invoke),
        });
        if let Some(error_type) = error_type {
            set(&mut record, "errorType", error_type);
        }
        record
    }

    /// The answer for the caller: the function's own, if there is one.
    fn answer(&self, under: &Under, ended: &End) -> Answer {
        let given = |state: &State| {
            state.invocations.get(&under.invoke.request_id).and_then(|one| one.answer.clone())
        };
        if let Some(answer) = self.state.read(given) {
            return answer;
        }
        let error = |error_type: &str, message: String| Answer::Error {
            error_type: error_type.to_owned(),
            body: json!({"errorType": error_type, "errorMessage": message}).to_string().into(),
        };
        match ended {
            End::Done | End::Timeout => Answer::Timeout,
            End::RuntimeExit(reason) => error("Runtime.ExitError", reason.clone()),
            End::ExtensionCrash(name, error_type) => error(error_type, format!("extension {name} is gone")),
        }
    }
}

fn crash(state: &State) -> Option<End> {
    if let Some((name, error_type)) = state.crashed_extension() {
        return Some(End::ExtensionCrash(name, error_type));
    }
    state.runtime.exit.clone().map(End::RuntimeExit)
}

fn verdict(ended: &End, answer: &Answer) -> (Status, Option<String>) {
    match (ended, answer) {
        (End::Timeout, _) => (Status::Timeout, Some("Sandbox.Timedout".to_owned())),
        (End::RuntimeExit(_), _) => (Status::Error, Some("Runtime.ExitError".to_owned())),
        (End::ExtensionCrash(_, error_type), _) | (End::Done, Answer::Error { error_type, .. }) => {
            (Status::Error, Some(error_type.clone()))
        }
        (End::Done, _) => (Status::Success, None),
    }
}

fn tracing(invoke: &Invoke) -> Value {
    json!({"type": "X-Amzn-Trace-Id", "value": invoke.trace})
}

fn span(name: &str, start: SystemTime, duration: Duration) -> Value {
    json!({"name": name, "start": clock::rfc3339(start), "durationMs": clock::millis(duration)})
}
