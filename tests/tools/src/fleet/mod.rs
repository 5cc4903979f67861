//! The cost of each flush strategy for a fleet: environments simulated in virtual time, with the extension's own cadence.
//!
//! A model, not a measurement. It knows the times of invocations, the data each leaves to send, the path to the backend
//! and Lambda's prices. It assumes a backend that answers, and functions that do not wait for each other. Sending while
//! a function runs costs that function nothing here.

use std::time::Duration;

use rotel_core::delivery::cadence::Strategy;

pub(crate) use arrivals::Pattern;
pub(crate) use model::{Load, Model};

use super::account::say;

mod ages;
mod arrivals;
mod backend;
mod environment;
mod model;
mod prices;

/// The strategies, as `ROTEL_FLUSH_STRATEGY` names them.
const STRATEGIES: [(&str, Strategy); 3] = [
    ("end", Strategy::End),
    ("adaptive", Strategy::Adaptive),
    ("periodic,20s", Strategy::Periodic(Duration::from_secs(20))),
];

/// The loads simulated by default.
const LOADS: [Load; 4] = [
    Load { pattern: Pattern::Poisson, mean_gap: Duration::from_secs(1) },
    Load { pattern: Pattern::Poisson, mean_gap: Duration::from_mins(1) },
    Load { pattern: Pattern::Bursts, mean_gap: Duration::from_secs(5) },
    Load { pattern: Pattern::InStep, mean_gap: Duration::from_secs(10) },
];

/// The model and load to simulate.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) model: Model,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) mean_gap: Option<Duration>,
}

impl Arguments {
    fn loads(&self) -> Vec<Load> {
        if self.pattern.is_none() && self.mean_gap.is_none() {
            return LOADS.to_vec();
        }
        let [first, ..] = LOADS;
        vec![Load {
            pattern: self.pattern.unwrap_or(first.pattern),
            mean_gap: self.mean_gap.unwrap_or(first.mean_gap),
        }]
    }
}

/// Runs the simulation and prints a table in Markdown.
pub(crate) fn run(arguments: &Arguments) {
    let model = &arguments.model;
    say(&format!(
        "{} environments with {} MB for {}; a function of {} that writes ten lines and makes ten spans; {} to the endpoint and \
         back; {} until the platform announces the function's end, which only an invocation that flushes waits for; seed {}:\n",
        model.environments,
        model.memory_mb,
        text(model.span),
        text(model.function),
        text(model.round_trip),
        text(model.word),
        model.seed
    ));
    say(
        "| each environment is invoked | `ROTEL_FLUSH_STRATEGY` | requests/s, peak | MB/s, peak | age of the data at the backend: median, p95 | billed on top of the function | dollars for a million invocations |",
    );
    say("|---|---|---|---|---|---|---|");
    for load in arguments.loads() {
        for (name, strategy) in STRATEGIES {
            let summary = model.summary(&model.run(strategy, load));
            say(&format!(
                "| {} | `{name}` | {:.1}, {} | {:.2}, {:.2} | {}, {} | {:.1} ms | {:.3} |",
                described(load),
                summary.requests_per_second,
                summary.peak_requests,
                summary.megabytes_per_second,
                summary.peak_megabytes,
                text(summary.median_age),
                text(summary.p95_age),
                summary.billed,
                summary.dollars_per_million,
            ));
        }
    }
}

fn described(load: Load) -> String {
    let gap = text(load.mean_gap);
    match load.pattern {
        Pattern::Poisson => format!("once in {gap}, at random"),
        Pattern::Bursts => format!("once in {gap} in the mean, {} at a time", arrivals::BURST),
        Pattern::InStep => format!("every {gap}, all at once"),
    }
}

/// A duration in human-readable form.
fn text(duration: Duration) -> String {
    if duration >= Duration::from_mins(2) {
        format!("{:.0} min", duration.as_secs_f64() / 60.0)
    } else if duration >= Duration::from_secs(10) || duration.subsec_nanos() == 0 {
        format!("{:.0} s", duration.as_secs_f64())
    } else if duration >= Duration::from_secs(1) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
