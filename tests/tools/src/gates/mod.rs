//! Figures that must not grow: counts, which do not depend on how busy the machine is, compared with a committed baseline.
//!
//! Times are left to `bench`, because they fluctuate. The things a count does depend on are stored with the baseline,
//! and differences are reported ([`toolchain`]).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use lambda_sandbox::collector::Protocol;
use lambda_sandbox::{Collector, Error, Extension, Sandbox};

use super::account::say;
use super::valgrind::{self, Count, CountError};
use baseline::{Baseline, BaselineError, MAY_GROW, Verdict};
use toolchain::Toolchain;

mod baseline;
mod toolchain;

/// The hot paths of core, as `tests/bench/paths.rs` names them, with their descriptions.
const PATHS: [(&str, Count, &str); 8] = [
    ("parse", Count::Instructions, "instructions: parse 1,000 records"),
    ("splice", Count::Instructions, "instructions: validate and splice 1,000 spans"),
    ("find", Count::Instructions, "instructions: find the span of an invocation among 1,000 spans"),
    ("find-none", Count::Instructions, "instructions: look for spans of invocations in 1,000 spans"),
    ("cut", Count::Instructions, "instructions: cut 1,000 spans"),
    ("encode", Count::Instructions, "instructions: encode 1,000 log records"),
    ("invocation", Count::Instructions, "instructions: core's part of an invocation, 10 logs and 10 spans"),
    ("invocation", Count::Allocations, "allocations: core's part of an invocation, 10 logs and 10 spans"),
];
/// The numbers of iterations of a path; the difference excludes one-time work.
const TIMES: [u64; 2] = [2, 12];
/// The number of inits, of which the median counts: most differ by a thousandth, but which event wakes a process first
/// is chance.
const INITS: usize = 9;

/// The binaries to measure, and the baseline to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) extension: PathBuf,
    pub(crate) paths: PathBuf,
    pub(crate) baseline: PathBuf,
    /// True if the measured figures become the baseline.
    pub(crate) accept: bool,
}

/// The reason why the gates have no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    #[error(transparent)]
    Count(#[from] CountError),
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    #[error(transparent)]
    Sandbox(#[from] Error),
    #[error("{path}: {source}", path = path.display())]
    Binary { path: PathBuf, source: io::Error },
}

/// Measures and compares. Returns true if nothing has grown.
pub(crate) async fn run(arguments: &Arguments) -> Result<bool, GateError> {
    let toolchain = Toolchain::current().await?;
    let accepted = Baseline::read(&arguments.baseline)?;
    let figures = measure(arguments).await?;
    if arguments.accept {
        Baseline { toolchain, figures }.write(&arguments.baseline)?;
        say(&format!("accepted: {}", arguments.baseline.display()));
        return Ok(true);
    }
    let mut well = true;
    say(&format!("{:7} | {:72} | {:>12} | {:>12} | {:>8}", "", "", "figure", "baseline", "change"));
    for (name, figure) in &figures {
        let (verdict, baseline) = accepted.judge(name, *figure);
        well &= matches!(verdict, Verdict::Holds | Verdict::Better);
        let word = match verdict {
            Verdict::Holds => "ok",
            Verdict::Better => "better",
            Verdict::Grown => "GROWN",
            Verdict::New => "NEW",
        };
        let was = baseline.map_or_else(|| "-".to_owned(), |baseline| baseline.to_string());
        say(&format!("{word:7} | {name:72} | {figure:>12} | {was:>12} | {:>8}", change(*figure, baseline)));
    }
    for name in accepted.figures.keys().filter(|name| !figures.contains_key(*name)) {
        say(&format!("GONE    | {name}"));
        well = false;
    }
    for difference in toolchain.differences(&accepted.toolchain) {
        say(&format!("{difference}: what differs may be its doing"));
    }
    if well {
        say(&format!("nothing has grown by more than {MAY_GROW} %"));
    } else {
        say(&format!(
            "FAILED: a figure has grown by more than {MAY_GROW} %, or is new or gone; `make gates ACCEPT=1` accepts what \
             is measured into {}, to be committed with the reason",
            arguments.baseline.display()
        ));
    }
    Ok(well)
}

async fn measure(arguments: &Arguments) -> Result<BTreeMap<String, u64>, GateError> {
    let mut figures = BTreeMap::new();
    for (path, count, name) in PATHS {
        figures.insert(name.to_owned(), once(&arguments.paths, path, count).await?);
    }
    // Where there is an endpoint, the way to it is opened once `/next` has been called; without one there is hardly more than
    // what stands before that.
    for (name, scheme) in [("no", None), ("http", Some("http")), ("https", Some("https"))] {
        let name = format!("instructions: init, {name} endpoint");
        figures.insert(name, init(&arguments.extension, scheme).await?);
    }
    let file = std::fs::metadata(&arguments.extension)
        .map_err(|source| GateError::Binary { path: arguments.extension.clone(), source })?;
    figures.insert("bytes: the binary".to_owned(), file.len());
    Ok(figures)
}

/// The cost of one iteration of a path.
async fn once(program: &Path, path: &str, count: Count) -> Result<u64, CountError> {
    let [few, many] = TIMES;
    let of_few = valgrind::of_program(count, program, &[path, &few.to_string()]).await?;
    let of_many = valgrind::of_program(count, program, &[path, &many.to_string()]).await?;
    Ok(of_many.saturating_sub(of_few) / (many - few))
}

/// The instructions of an init. Nothing is sent yet, so the certificate behind `https` does not matter.
async fn init(path: &Path, scheme: Option<&str>) -> Result<u64, GateError> {
    let mut counts = Vec::new();
    for _ in 0..INITS {
        let collector = Collector::start().await?;
        let mut extension = Extension::binary(path);
        if let Some(scheme) = scheme {
            let url = collector.url(Protocol::Grpc).replacen("http", scheme, 1);
            extension = extension.env("ROTEL_OTLP_EXPORTER_ENDPOINT", url);
        }
        let builder = |extension| Sandbox::builder().extension(extension);
        counts.push(valgrind::of_init(extension, builder).await?);
    }
    counts.sort_unstable();
    Ok(counts.get(INITS / 2).copied().unwrap_or_default())
}

/// Formats a ratio in percent, to a hundredth.
fn change(figure: u64, baseline: Option<u64>) -> String {
    let Some(baseline) = baseline.filter(|baseline| *baseline > 0) else { return "-".to_owned() };
    let (grown, by) = if figure >= baseline { ('+', figure - baseline) } else { ('-', baseline - figure) };
    let hundredths = by * 10_000 / baseline;
    format!("{grown}{}.{:02} %", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_is_shown_with_sign() {
        assert_eq!(change(1_031, Some(1_000)), "+3.10 %");
        assert_eq!(change(999, Some(1_000)), "-0.10 %");
        assert_eq!(change(7, None), "-");
    }
}
