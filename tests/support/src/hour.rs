//! An hour of outage at ten invocations a second, in virtual time: how much of it is logged.

use std::time::Duration;

use rotel_core::delivery::health::Health;
use rotel_core::delivery::verdict::Verdict;
use rotel_core::signal::{PerSignal, Signal};

const INVOCATIONS: u32 = 36_000;

/// The verdict of the exporter on what an invocation sent of a signal.
pub type Verdicts = fn(u32, Signal) -> Verdict;

/// The outages, worst last: attempts with every invocation, where a breaker would let few of them be.
pub const OUTAGES: [(&str, Verdicts); 4] = [
    ("every attempt fails alike", |_, _| Verdict::of_http(503, None)),
    ("every attempt fails otherwise", |invocation, signal| {
        let turn =
            invocation + u32::from(signal == Signal::Metrics) + 2 * u32::from(signal == Signal::Traces);
        let status = match turn % 5 {
            0 => 503,
            1 => 401,
            2 => 429,
            3 => 404,
            _ => 502,
        };
        Verdict::of_http(status, None)
    }),
    ("one signal fails, the others do not", |_, signal| {
        Verdict::of_http(if signal == Signal::Metrics { 404 } else { 200 }, None)
    }),
    ("every second attempt fails", |invocation, _| {
        Verdict::of_http(if invocation % 2 == 0 { 503 } else { 200 }, None)
    }),
];

/// The lines that are written in an hour of such verdicts, with a buffer that is full all the time.
pub fn lines_of(verdicts: Verdicts) -> usize {
    let mut health = Health::default();
    let mut lines = 0;
    for invocation in 0..INVOCATIONS {
        let wall = Duration::from_hours(500_000) + Duration::from_millis(100) * invocation;
        for signal in Signal::ALL {
            let verdict = verdicts(invocation, signal);
            lines += usize::from(health.on_verdict(signal, 10, &verdict, wall).is_some());
        }
        let dropped = PerSignal { logs: 10, metrics: 10, traces: 10 };
        lines += usize::from(health.on_dropped(dropped, wall).is_some());
    }
    lines
}
