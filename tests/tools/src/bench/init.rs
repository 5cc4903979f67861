//! From the start of the process until it rests: times, CPU, memory, instructions.

use std::time::Duration;

use lambda_sandbox::{Function, Journal, Operation, Sandbox, ShutdownReason};
use serde_json::Value;

use super::BenchError;
use super::figure::{Unit, millions, milliseconds};
use super::share::Share;
use super::subject::{Setting, Subject, World};
use super::table::{Cell, Row};
use crate::account::complain;
use crate::valgrind::{self, CountError};

/// So long after the first `/next` CPU and memory are looked at.
const AFTER: Duration = Duration::from_millis(50);
/// Where it is counted and not timed, few runs say the same as many.
const COUNTED_RUNS: usize = 5;
/// Counts are the same however busy the machine is; valgrind makes everything slow, the shutdown included.
const PATIENCE: Duration = Duration::from_secs(30);

/// One start.
#[derive(Clone, Copy, Debug)]
struct Start {
    registered: Option<Duration>,
    subscribed: Option<Duration>,
    next: Duration,
    cpu: Duration,
    resident: u64,
}

/// Starts of all subjects, by subject.
type Starts = Vec<Vec<Start>>;

/// The rows of one setting.
pub(crate) async fn rows(
    subjects: &[Subject],
    setting: Setting,
    share: Option<&Share>,
    runs: usize,
) -> Result<Vec<Row>, BenchError> {
    let name = name(setting, share);
    complain(&format!("measuring init, {name} …"));
    let starts = starts(subjects, setting, share, runs).await?;
    let row = |what: &str, of: fn(&Start) -> Option<Duration>| {
        let cells = starts
            .iter()
            .map(|starts| Cell::of(starts.iter().filter_map(of).map(milliseconds).collect(), "never"));
        Row::new(format!("exec → {what}, {name}"), Unit::Milliseconds, cells.collect())
    };
    let next = row("first /next", |start| Some(start.next));
    let floor = subjects.iter().position(|subject| subject.is_floor).and_then(|at| next.cells.get(at));
    let next = match (setting, floor.and_then(Cell::median)) {
        (Setting::Https, Some(floor)) if share.is_none() => {
            next.at_most_because(1.5 * floor, " (1.5 × floor)")
        }
        _ => next,
    };
    let cpu = row("CPU 50 ms after it", |start| Some(start.cpu));
    let cpu = Row { what: format!("CPU 50 ms after the first /next, {name}"), ..cpu };
    let target = setting == Setting::Https && share.is_none();
    let cpu = if target { cpu.at_most(3.0) } else { cpu };
    if share.is_some() {
        return Ok(vec![next, cpu]);
    }
    let steps = [row("registered", |start| start.registered), row("subscribed", |start| start.subscribed)];
    let mut rows: Vec<Row> = steps.into_iter().chain([next, cpu]).collect();
    if setting == Setting::Http {
        rows.push(instructions(subjects, Setting::Nowhere).await?);
    }
    if setting != Setting::Secrets {
        rows.push(instructions(subjects, setting).await?);
    }
    if target {
        let memory = starts
            .iter()
            .map(|starts| Cell::of(starts.iter().map(|start| millions(start.resident)).collect(), "never"));
        rows.push(
            Row::new(format!("RSS after init, {name}"), Unit::Megabytes, memory.collect()).at_most(4.0),
        );
    }
    Ok(rows)
}

/// Why there are no rows of a share of a core, as rows.
pub(crate) fn unmeasured(subjects: &[Subject], reason: &str) -> Vec<Row> {
    let cells = || subjects.iter().map(|_| Cell::Unmeasured(reason.to_owned())).collect();
    ["exec → first /next, 7 % of a core", "CPU 50 ms after the first /next, 7 % of a core"]
        .map(|what| Row::new(what, Unit::Milliseconds, cells()))
        .into()
}

fn name(setting: Setting, share: Option<&Share>) -> String {
    let name = match setting {
        Setting::Nowhere => "no endpoint",
        Setting::Http => "http",
        Setting::Https => "https",
        Setting::Secrets => "3 secrets",
    };
    let of_core = if share.is_some() { ", 7 % of a core" } else { "" };
    format!("{name}{of_core}")
}

async fn starts(
    subjects: &[Subject],
    setting: Setting,
    share: Option<&Share>,
    runs: usize,
) -> Result<Starts, BenchError> {
    let mut starts: Starts = subjects.iter().map(|_| Vec::new()).collect();
    for run in 0..runs {
        // None is always the one that comes after the same other.
        for turn in 0..subjects.len() {
            let at = (run + turn) % subjects.len();
            if let (Some(subject), Some(starts)) = (subjects.get(at), starts.get_mut(at)) {
                starts.push(start(subject, setting, share).await?);
            }
        }
    }
    Ok(starts)
}

async fn start(subject: &Subject, setting: Setting, share: Option<&Share>) -> Result<Start, BenchError> {
    let world = World::new(setting).await?;
    let extension = world.extension(subject);
    let extension = match share {
        Some(share) => share.of(extension),
        None => extension,
    };
    let function = Function::builtin(|context| async move {
        context.log_lines(1);
        Ok(Value::Null)
    });
    let sandbox = Sandbox::builder().extension(extension).function(function).open().await?;
    let init = sandbox.init().await?;
    let no_next = || BenchError::NoNext { path: subject.path.clone() };
    let next = init.extensions.into_iter().find_map(|(_, next)| next).ok_or_else(no_next)?;
    let journal = sandbox.journal();
    let at = |what| called(&journal, what);
    let next_at = at(Operation::Next).ok_or_else(no_next)?;
    tokio::time::sleep(AFTER.saturating_sub(next_at.elapsed())).await;
    let (cpu, resident) = (sandbox.cpu_time(), sandbox.resident_bytes());
    let before_next = |what| Some(next.saturating_sub(next_at.saturating_duration_since(at(what)?)));
    let start = Start {
        registered: before_next(Operation::Register),
        subscribed: before_next(Operation::Subscribe),
        next,
        cpu,
        resident,
    };
    sandbox.invoke(Value::Null).await?;
    sandbox.shutdown(ShutdownReason::Spindown).await?;
    // Else nothing was measured but how soon it gives up.
    if !subject.is_floor && world.collector.counts() == lambda_sandbox::collector::Counts::default() {
        return Err(BenchError::NothingArrived { path: subject.path.clone() });
    }
    if !subject.is_floor && !world.has_been_asked() {
        return Err(BenchError::NoSecrets { path: subject.path.clone() });
    }
    Ok(start)
}

fn called(journal: &Journal, what: Operation) -> Option<std::time::Instant> {
    journal.calls.iter().find(|call| call.what == what && call.refusal.is_none()).map(|call| call.at)
}

async fn instructions(subjects: &[Subject], setting: Setting) -> Result<Row, BenchError> {
    let mut cells = Vec::new();
    for subject in subjects {
        cells.push(match counted(subject, setting).await {
            Ok(counts) => Cell::of(counts, "never"),
            Err(BenchError::Count(error @ CountError::Missing(_))) => {
                Cell::Unmeasured(format!("not measured: {error}"))
            }
            Err(error) => return Err(error),
        });
    }
    let row = |extent| {
        Row::new(format!("instructions of init, {}{extent}", name(setting, None)), Unit::Millions, cells)
    };
    Ok(match setting {
        Setting::Nowhere => row(": nothing to send to"),
        Setting::Http | Setting::Secrets => row(", with what is put off past it").at_most(1.0),
        // A handshake is most of what is counted, where one is made so early; it is the library's.
        Setting::Https => row(", with its handshake"),
    })
}

async fn counted(subject: &Subject, setting: Setting) -> Result<Vec<f64>, BenchError> {
    let mut counts = Vec::new();
    for _ in 0..COUNTED_RUNS {
        let world = World::new(setting).await?;
        let builder = |extension| Sandbox::builder().extension(extension).timeout(PATIENCE);
        counts.push(millions(valgrind::of_init(world.extension(subject), builder).await?));
    }
    Ok(counts)
}
