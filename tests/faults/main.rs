//! `make faults`: what an endpoint that fails costs, measured on the sandbox, as a table; each figure against its target.
//!
//! Not one of the tests that run by themselves: its targets are those of the release binary on a machine that is otherwise
//! at rest, and ten thousand invocations take a minute or two.

#![expect(clippy::expect_used, reason = "without its parts the measurement has no sense")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

mod measures;
#[path = "../support/mod.rs"]
mod support;

/// A promise, and what came of it.
struct Row {
    what: &'static str,
    target: &'static str,
    figure: String,
    met: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let extension = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => PathBuf::from(env!("CARGO_BIN_EXE_rotel-extension")),
        (Some("--extension"), Some(path)) => PathBuf::from(path),
        _ => {
            say("usage: faults [--extension PATH]");
            return ExitCode::from(2);
        }
    };
    say(&format!("what an endpoint that fails costs, with {}\n", extension.display()));
    let rows = measures::all(&extension).await;
    let missed = rows.iter().filter(|row| !row.met).count();
    print(&rows);
    if missed > 0 {
        say(&format!("\n{missed} of {} targets missed", rows.len()));
        return ExitCode::FAILURE;
    }
    say("\nall targets met");
    ExitCode::SUCCESS
}

fn print(rows: &[Row]) {
    let widest =
        |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0);
    let (what, target) = (widest(|row| row.what), widest(|row| row.target));
    say(&format!("     | {:what$} | {:target$} | measured", "", "target"));
    say(&format!("-----|-{:-<what$}-|-{:-<target$}-|---------", "", ""));
    for row in rows {
        let verdict = if row.met { "ok" } else { "MISS" };
        say(&format!("{verdict:4} | {:what$} | {:target$} | {}", row.what, row.target, row.figure));
    }
}

fn say(line: &str) {
    // A reader that has gone away, as `head` does, is no fault of the measurement.
    let _ = writeln!(std::io::stdout(), "{line}");
}
