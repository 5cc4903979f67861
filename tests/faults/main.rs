//! `make faults`: what an endpoint that fails costs, measured on the sandbox, as a table; each figure against its target.
//!
//! Not one of the tests that run by themselves: its targets are those of the release binary on a machine that is
//! otherwise at rest, and ten thousand invocations take a minute or two.

#![expect(clippy::expect_used, reason = "without its parts the measurement has no sense")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

mod delivery;
mod measures;

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
    print("", "", "target", "measured");
    print(&"-".repeat(4), &"-".repeat(WHAT), &"-".repeat(TARGET), "--------");
    let (mut rows, mut missed) = (0, 0);
    for measure in measures::ALL {
        for row in measure(extension.clone()).await {
            print(if row.met { "ok" } else { "MISS" }, row.what, row.target, &row.figure);
            rows += 1;
            missed += usize::from(!row.met);
        }
    }
    if missed > 0 {
        say(&format!("\n{missed} of {rows} targets missed"));
        return ExitCode::FAILURE;
    }
    say("\nall targets met");
    ExitCode::SUCCESS
}

/// The widths of the columns; each row is printed as soon as it is measured.
const WHAT: usize = 86;
const TARGET: usize = 33;

fn print(verdict: &str, what: &str, target: &str, figure: &str) {
    say(&format!("{verdict:4} | {what:WHAT$} | {target:TARGET$} | {figure}"));
}

fn say(line: &str) {
    // A reader that has gone away, as `head` does, is no fault of the measurement.
    let _ = writeln!(std::io::stdout(), "{line}");
}
