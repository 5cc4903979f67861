//! The process: one thread, one runtime, one life in a Lambda execution environment.

use std::env;
use std::ffi::OsStr;
use std::process::ExitCode;

use rotel_lambda_extension::app::startup;
use rotel_lambda_extension::core::config;

const USAGE: &str =
    "rotel-extension is started by Lambda, without arguments; of itself it knows --help and --version";

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let executable = arguments.next().unwrap_or_default();
    match arguments.next() {
        None => live(&executable),
        Some(argument) => answer(&argument),
    }
}

fn live(executable: &OsStr) -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the environment is read")]
    let variables = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    // One thread: the extension lives on a share of a core that the function needs, and nothing here computes for long.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let exit = runtime.block_on(startup::run(variables, executable));
    // A name lookup that hangs would hold the exit up.
    runtime.shutdown_background();
    exit
}

/// Answers a person.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a person asked, outside Lambda")]
fn answer(argument: &OsStr) -> ExitCode {
    match argument.to_str() {
        Some("--help" | "-h") => println!("{}", config::help()),
        Some("--version" | "-V") => println!("rotel-extension {}", env!("CARGO_PKG_VERSION")),
        _ => {
            eprintln!("{}: no such argument; {USAGE}", argument.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
