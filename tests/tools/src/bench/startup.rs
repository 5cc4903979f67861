//! The time to the first `/next` with and without secrets. The time they may add is a promise; exceeding it fails a build.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lambda_sandbox::aws::{Action, Aws, Behaviour};
use lambda_sandbox::collector::Protocol;
use lambda_sandbox::{Collector, Extension, Sandbox, ShutdownReason};
use serde_json::Value;

use super::BenchError;
use super::subject::{AWS_DELAY, SECRETS};
use crate::account::{self, milliseconds};

/// The maximum time that secrets may add to the time to the first `/next`.
const SECRETS_MAY_ADD: Duration = Duration::from_millis(1);

/// The extension to measure, and the number of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) extension: PathBuf,
    pub(crate) runs: usize,
}

/// Measures the time from the start of the process to its first `/next`, with and without secrets. Returns true if
/// secrets add no more than they may.
pub(crate) async fn run(arguments: &Arguments) -> Result<bool, BenchError> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for run in 0..arguments.runs {
        // Neither is always the one that comes after the other.
        for has_secrets in [run % 2 == 0, run % 2 != 0] {
            let times = if has_secrets { &mut with } else { &mut without };
            times.push(time_to_next(&arguments.extension, has_secrets).await?);
        }
    }
    account::heading(&format!("From exec to the first /next, {} runs each, alternating", arguments.runs));
    account::say("                          median   middle half             lowest    highest");
    let (without, with) = (Figures::of(without), Figures::of(with));
    without.say("without secrets");
    with.say(&format!("with {} secrets", SECRETS.len()));
    let added = with.median.as_secs_f64() - without.median.as_secs_f64();
    let is_well = added <= SECRETS_MAY_ADD.as_secs_f64();
    account::say(&format!(
        "  secrets add {:.2} ms, AWS answering after {}; {} {}",
        added * 1_000.0,
        milliseconds(AWS_DELAY),
        if is_well { "they may add" } else { "FAILED, they may add" },
        milliseconds(SECRETS_MAY_ADD),
    ));
    Ok(is_well)
}

async fn time_to_next(path: &Path, has_secrets: bool) -> Result<Duration, BenchError> {
    let collector = Collector::start().await?;
    let aws = Aws::start().await?;
    for action in [Action::BatchGetSecretValue, Action::GetParameters] {
        aws.behave(action, Behaviour::Late(AWS_DELAY));
    }
    let headers = SECRETS.iter().enumerate().map(|(number, arn)| {
        aws.keep(*arn, "value");
        let value = if has_secrets { format!("${{{arn}}}") } else { "value".to_owned() };
        format!("X-Header-{number}={value}")
    });
    let extension = Extension::binary(path)
        .env("ROTEL_OTLP_EXPORTER_ENDPOINT", collector.url(Protocol::Grpc))
        .env("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", headers.collect::<Vec<_>>().join(","));
    let extension =
        aws.variables().into_iter().fold(extension, |extension, (name, value)| extension.env(name, value));
    let sandbox = Sandbox::builder().extension(extension).open().await?;
    let init = sandbox.init().await?;
    let first_next = init.extensions.into_iter().find_map(|(_, first_next)| first_next);
    let first_next = first_next.ok_or_else(|| BenchError::NoNext { path: path.to_owned() })?;
    sandbox.invoke(Value::Null).await?;
    sandbox.shutdown(ShutdownReason::Spindown).await?;
    if has_secrets && aws.calls().is_empty() {
        return Err(BenchError::NoSecrets { path: path.to_owned() });
    }
    Ok(first_next)
}

/// The summary of measured times.
struct Figures {
    lowest: Duration,
    lower_quartile: Duration,
    median: Duration,
    upper_quartile: Duration,
    highest: Duration,
}

impl Figures {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        // The nearest rank; between the two in the middle of an even number lies the median.
        let at = |quarter: usize| times.get((times.len() * quarter / 4).min(times.len().saturating_sub(1)));
        let rank = |quarter| at(quarter).copied().unwrap_or_default();
        let below = times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        Self {
            lowest: rank(0),
            lower_quartile: rank(1),
            median: (below + rank(2)) / 2,
            upper_quartile: rank(3),
            highest: rank(4),
        }
    }

    fn say(&self, of: &str) {
        let middle =
            format!("{} to {}", milliseconds(self.lower_quartile), milliseconds(self.upper_quartile));
        account::say(&format!(
            "  {of:20} {:>9}   {middle:20} {:>9}  {:>9}",
            milliseconds(self.median),
            milliseconds(self.lowest),
            milliseconds(self.highest),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_sort_their_times() {
        let figures = |times: &[u64]| {
            let Figures { lowest, lower_quartile, median, upper_quartile, highest } =
                Figures::of(times.iter().map(|time| Duration::from_millis(*time)).collect());
            [lowest, lower_quartile, median, upper_quartile, highest].map(|time| time.as_micros())
        };
        assert_eq!(figures(&[4, 1, 3, 2]), [1_000, 2_000, 2_500, 4_000, 4_000]);
        assert_eq!(figures(&[5, 1, 3]), [1_000, 1_000, 3_000, 5_000, 5_000]);
        assert_eq!(figures(&[7]), [7_000; 5]);
    }
}
