//! Figures of extensions, measured side by side in one run, so that what else the machine does strikes all alike.
//!
//! Each file measures one thing; [`subject`] has the extensions under test, [`table`] the output. [`functions`] only records
//! which functions run in the same settings.

use std::io;
use std::path::{Path, PathBuf};

use lambda_sandbox::Error;

use super::account::say;
use super::valgrind::CountError;
use share::Share;
use subject::{Setting, Subject};

mod burst;
mod comparison;
mod figure;
pub(crate) mod functions;
mod init;
mod invocations;
mod share;
mod size;
pub(crate) mod startup;
mod subject;
mod table;

/// Marks around the table in `docs/performance.md`.
const BEGIN: &str = "<!-- begin of the bench: make bench DOCS=1 writes it -->\n";
const END: &str = "<!-- end of the bench -->\n";

/// The arguments of `bench`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) extension: PathBuf,
    pub(crate) runs: usize,
    /// Others, to measure beside it.
    pub(crate) against: Vec<Other>,
    /// The zip that is published.
    pub(crate) zip: Option<PathBuf>,
    /// A checkout whose README and docs get the tables and the chart.
    pub(crate) docs: Option<PathBuf>,
    /// Missed targets are a failure.
    pub(crate) gate: bool,
}

/// Another extension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) label: String,
    pub(crate) path: PathBuf,
    pub(crate) variables: Vec<(String, String)>,
}

impl Other {
    /// Reads `PATH` or `NAME=PATH`.
    pub(crate) fn parse(text: &str) -> Self {
        let (label, path) = text.split_once('=').unwrap_or((text, text));
        Self { label: label.to_owned(), path: path.into(), variables: Vec::new() }
    }
}

/// The reason why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Sandbox(#[from] Error),
    #[error(transparent)]
    Count(#[from] CountError),
    #[error("{}: never called /next", .path.display())]
    NoNext { path: PathBuf },
    #[error("{}: did not fetch its secrets, so there is nothing to compare", .path.display())]
    NoSecrets { path: PathBuf },
    #[error("{}: nothing arrived at the endpoint; set the endpoint with --against-env", .path.display())]
    NothingArrived { path: PathBuf },
    #[error("{}: {arrived} of {spans} spans arrived", .path.display())]
    Lost { path: PathBuf, arrived: usize, spans: usize },
    #[error("{}: an invocation failed: {answer}", .path.display())]
    Invocation { path: PathBuf, answer: String },
    #[error("{}: an invocation does not end", .path.display())]
    Stuck { path: PathBuf },
    #[error("{}: has no symbols; build it with CARGO_PROFILE_RELEASE_STRIP=none", .path.display())]
    NoNames { path: PathBuf },
    #[error("cannot create a certificate")]
    NoCertificate,
    #[error("{}: has no marks for the table", .path.display())]
    NoPlace { path: PathBuf },
    #[error("the chart cannot be drawn: {0}")]
    Chart(String),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "floor-extension: missing beside this program; build it with `cargo build --package sandbox-tools --bins`"
    )]
    NoFloor,
}

/// Measures everything and prints the table. Returns whether it passed: always, unless targets are a gate.
pub(crate) async fn run(arguments: &Arguments) -> Result<bool, BenchError> {
    let subjects = subjects(arguments)?;
    let runs = arguments.runs;
    let mut rows = Vec::new();
    for setting in [Setting::Http, Setting::Https, Setting::Secrets] {
        rows.extend(init::rows(&subjects, setting, None, runs).await?);
    }
    match Share::new() {
        Ok(share) => rows.extend(init::rows(&subjects, Setting::Https, Some(&share), runs).await?),
        Err(reason) => rows.extend(init::unmeasured(&subjects, &reason)),
    }
    rows.extend(invocations::rows(&subjects, runs).await?);
    rows.extend(burst::rows(&subjects, runs).await?);
    rows.extend(size::rows(&subjects, arguments.zip.as_deref())?);
    let text = format!(
        "Medians of {runs} runs each; the extensions take turns. The range in brackets holds the middle half of the runs. \
         Instruction counts do not depend on the share of a core.\n\n{}",
        table::text(&subjects, &rows)
    );
    say(&text);
    if let Some(folder) = &arguments.docs {
        replace(&folder.join("docs/performance.md"), [BEGIN, END], &text)?;
        if !arguments.against.is_empty() {
            comparison::write(folder, &subjects, &rows)?;
        }
    }
    Ok(table::all_met(&rows) || !arguments.gate)
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> BenchError + use<'_> {
    |source| BenchError::File { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<String, BenchError> {
    std::fs::read_to_string(path).map_err(file_error(path))
}

/// Replaces the table between two marks of a file.
fn replace(path: &Path, marks: [&str; 2], table: &str) -> Result<(), BenchError> {
    let new = with_table(&read(path)?, marks, table);
    let new = new.ok_or_else(|| BenchError::NoPlace { path: path.to_owned() })?;
    std::fs::write(path, new).map_err(file_error(path))
}

/// A text with the table between its marks.
fn with_table(text: &str, [begin, end]: [&str; 2], table: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some([before, begin, "\n", table, "\n", end, after].concat())
}

/// Ours, the floor under all, and the others.
fn subjects(arguments: &Arguments) -> Result<Vec<Subject>, BenchError> {
    let here = std::env::current_exe().map_err(|_| BenchError::NoFloor)?;
    let floor = here.with_file_name("floor-extension");
    if !floor.exists() {
        return Err(BenchError::NoFloor);
    }
    let subject = |label: &str, path: &PathBuf| Subject {
        label: label.to_owned(),
        path: path.clone(),
        variables: Vec::new(),
        is_floor: false,
    };
    let ours = arguments.extension.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut subjects = vec![subject(&ours, &arguments.extension)];
    subjects.push(Subject { is_floor: true, ..subject("floor", &floor) });
    for other in &arguments.against {
        subjects.push(Subject { variables: other.variables.clone(), ..subject(&other.label, &other.path) });
    }
    Ok(subjects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let old = format!("a\n{BEGIN}old\n{END}b\n");
        let with_table = |text: &str| with_table(text, [BEGIN, END], "new\n");
        let new = with_table(&old).unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n\n{END}b\n"));
        assert_eq!(with_table(&new), Some(new));
        assert_eq!(with_table("a\n"), None);
    }
}
