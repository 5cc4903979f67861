//! The cost of an invocation with ten log lines and ten spans, gzip over http.

use std::time::Duration;

use lambda_sandbox::{Function, Sandbox, ShutdownReason, Status, Transport};
use serde_json::Value;

use super::BenchError;
use super::figure::{Unit, millions, milliseconds};
use super::subject::{Setting, Subject, World};
use super::table::{Cell, Row};
use crate::account::complain;
use lambda_sandbox::Failure;

const ITEMS: usize = 10;
/// Invocations of one environment.
const INVOCATIONS: u32 = 100;
/// The first invocations, which are not counted because one-time work is still pending.
const WARM_UP: u32 = 3;
const FLOOR: &str = "–";

/// One environment's life.
struct Life {
    after_delivery: Vec<f64>,
    cpu: f64,
    resident: f64,
    peak: f64,
}

/// Measures the rows of this benchmark.
pub(crate) async fn rows(subjects: &[Subject], runs: usize) -> Result<Vec<Row>, BenchError> {
    complain("measuring invocations …");
    let mut lives: Vec<Vec<Life>> = subjects.iter().map(|_| Vec::new()).collect();
    for run in 0..runs {
        for turn in 0..subjects.len() {
            let at = (run + turn) % subjects.len();
            if let (Some(subject), Some(lives)) = (subjects.get(at), lives.get_mut(at))
                && !subject.is_floor
            {
                lives.push(live(subject).await?);
            }
        }
    }
    let cells = |of: fn(&Life) -> f64| {
        lives.iter().map(|lives| Cell::of(lives.iter().map(of).collect(), FLOOR)).collect::<Vec<_>>()
    };
    let waits = lives.iter().map(|lives| {
        let all: Vec<f64> = lives.iter().flat_map(|life| life.after_delivery.clone()).collect();
        Cell::of(all, if lives.is_empty() { FLOOR } else { "does not wait for it" })
    });
    let waits: Vec<Cell> = waits.collect();
    let done = "runtimeDone delivered → /next, 10 logs and 10 spans";
    Ok(vec![
        Row::new(format!("{done}: median"), Unit::Milliseconds, waits.clone()).at_most(1.0),
        Row::new(format!("{done}: p95"), Unit::Milliseconds, waits).p95_at_most(3.0),
        Row::new(
            "CPU per invocation, 10 logs and 10 spans, gzip, http",
            Unit::Milliseconds,
            cells(|life| life.cpu),
        )
        .at_most(0.6),
        Row::new("RSS after 100 invocations", Unit::Megabytes, cells(|life| life.resident)).at_most(6.0),
        Row::new("peak over 100 invocations", Unit::Megabytes, cells(|life| life.peak)),
    ])
}

async fn live(subject: &Subject) -> Result<Life, BenchError> {
    let world = World::new(Setting::Http).await?;
    let function = Function::builtin(|context| async move {
        context.log_lines(ITEMS);
        let sent = context.send_spans(Transport::HttpProtobuf, ITEMS).await;
        sent.map_err(|error| Failure::new("ExportError", error.to_string()))?;
        Ok(Value::Null)
    });
    let sandbox = Sandbox::builder().extension(world.extension(subject)).function(function).start().await?;
    for _ in 0..WARM_UP {
        invoke(&sandbox, subject).await?;
    }
    let before = sandbox.cpu_time();
    let mut after_delivery = Vec::new();
    for _ in 0..INVOCATIONS {
        after_delivery.extend(invoke(&sandbox, subject).await?.map(milliseconds));
    }
    let cpu = milliseconds(sandbox.cpu_time().saturating_sub(before)) / f64::from(INVOCATIONS);
    let life = Life {
        after_delivery,
        cpu,
        resident: millions(sandbox.resident_bytes()),
        peak: millions(sandbox.peak_resident_bytes()),
    };
    sandbox.shutdown(ShutdownReason::Spindown).await?;
    // It may send later than at the end, but it must have sent all by now.
    let spans = usize::try_from(WARM_UP + INVOCATIONS).unwrap_or(usize::MAX) * ITEMS;
    let arrived = world.collector.counts().spans;
    if arrived < spans {
        return Err(BenchError::Lost { path: subject.path.clone(), arrived, spans });
    }
    Ok(life)
}

async fn invoke(sandbox: &Sandbox, subject: &Subject) -> Result<Option<Duration>, BenchError> {
    let invocation = sandbox.invoke(Value::Null).await?;
    if invocation.status != Status::Success {
        let answer = format!("{:?}", invocation.answer);
        return Err(BenchError::Invocation { path: subject.path.clone(), answer });
    }
    Ok(invocation.added_after_delivery)
}
