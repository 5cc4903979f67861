//! Figures of extensions, measured side by side in one run, so that what else the machine does strikes all alike.
//!
//! Each file is about one thing that is measured, [`subject`] what it is measured of, [`table`] how it is told. [`functions`]
//! measures nothing, and looks on in the same worlds.

use std::io;
use std::path::PathBuf;

use lambda_sandbox::Error;

use super::account::say;
use super::valgrind::CountError;
use share::Share;
use subject::{Setting, Subject};

mod burst;
mod figure;
pub(crate) mod functions;
mod init;
mod invocations;
mod share;
mod size;
pub(crate) mod startup;
mod subject;
mod table;

/// Where the table stands in a text.
const BEGIN: &str = "<!-- begin of the bench: make bench README=README.md writes it -->\n";
const END: &str = "<!-- end of the bench -->\n";

/// What to measure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) extension: PathBuf,
    pub(crate) runs: usize,
    /// Another one, to measure beside it.
    pub(crate) against: Option<PathBuf>,
    /// Variables of that one.
    pub(crate) against_variables: Vec<(String, String)>,
    /// The zip that is published.
    pub(crate) zip: Option<PathBuf>,
    /// A text that the table is to be written into.
    pub(crate) readme: Option<PathBuf>,
    /// Missed targets are a failure.
    pub(crate) gate: bool,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Sandbox(#[from] Error),
    #[error(transparent)]
    Count(#[from] CountError),
    #[error("{}: it never called /next", .path.display())]
    NoNext { path: PathBuf },
    #[error("{}: it did not fetch its secrets, so there is nothing to compare", .path.display())]
    NoSecrets { path: PathBuf },
    #[error("{}: nothing of it arrived at the endpoint; --against-env tells it where that is", .path.display())]
    NothingArrived { path: PathBuf },
    #[error("{}: {arrived} of {spans} spans arrived", .path.display())]
    Lost { path: PathBuf, arrived: usize, spans: usize },
    #[error("{}: an invocation failed: {answer}", .path.display())]
    Invocation { path: PathBuf, answer: String },
    #[error("{}: an invocation does not end", .path.display())]
    Stuck { path: PathBuf },
    #[error("{}: it has no symbols; build it with CARGO_PROFILE_RELEASE_STRIP=none", .path.display())]
    NoNames { path: PathBuf },
    #[error("no certificate could be made")]
    NoCertificate,
    #[error("{}: there are no marks to write the table between", .path.display())]
    NoPlace { path: PathBuf },
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(
        "floor-extension: not beside this program; build it with `cargo build --package lambda-sandbox --bins`"
    )]
    NoFloor,
}

/// Measures everything and prints the table. The answer is whether all is well: always, unless targets are a gate.
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
        "Medians of {runs} runs each, taking turns, and between what the middle half lies. Where instructions are counted, a \
         share of a core changes nothing.\n\n{}",
        table::text(&subjects, &rows)
    );
    say(&text);
    if let Some(readme) = &arguments.readme {
        let file = |source| BenchError::File { path: readme.clone(), source };
        let old = std::fs::read_to_string(readme).map_err(file)?;
        let new = with_table(&old, &text).ok_or_else(|| BenchError::NoPlace { path: readme.clone() })?;
        std::fs::write(readme, new).map_err(file)?;
    }
    Ok(table::all_met(&rows) || !arguments.gate)
}

/// A text with the table between its marks.
fn with_table(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some([before, BEGIN, "\n", table, "\n", END, after].concat())
}

/// Ours, the floor under all, and the other.
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
    if let Some(path) = &arguments.against {
        let variables = arguments.against_variables.clone();
        subjects.push(Subject { variables, ..subject(&path.display().to_string(), path) });
    }
    Ok(subjects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_one_before() {
        let old = format!("a\n{BEGIN}old\n{END}b\n");
        let new = with_table(&old, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n\n{END}b\n"));
        assert_eq!(with_table(&new, "new\n"), Some(new));
        assert_eq!(with_table("a\n", "new\n"), None);
    }
}
