//! The process: one thread, one runtime, one life in a Lambda execution environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;
use rotel_lambda_extension::app::check::{self, CheckScope};
use rotel_lambda_extension::app::startup;
use rotel_lambda_extension::core::config::{self, Variables};
use rotel_lambda_extension::core::echo;
use rotel_lambda_extension::edge::logging;

/// The layer is linked with musl, whose own allocator takes twice the CPU for a burst of spans; mimalloc takes 8 MB more of
/// memory.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

const USAGE: &str = "\
rotel-extension is started by Lambda, without arguments. For people it knows

  --check            check the configuration: read it, fetch its secrets, send a test record of each signal
  --check --offline  the same without the network
  --help             this, and every variable
  --version          the version

The exit code of a check is 0 if all is well, and 1 if not.
";

/// What a person asks for.
enum CliCommand {
    Check(CheckScope),
    Help,
    Version,
}

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let executable = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    if arguments.is_empty() {
        let end = run(startup::run(variables(), &executable)).unwrap_or(ExitCode::FAILURE);
        logging::drain();
        return end;
    }
    match request(&arguments) {
        Some(request) => answer(&request),
        None => refuse(&arguments),
    }
}

/// What the arguments ask for, if they are understood.
fn request(arguments: &[OsString]) -> Option<CliCommand> {
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_str()).collect::<Option<_>>()?;
    match arguments.as_slice() {
        ["--check"] => Some(CliCommand::Check(CheckScope::Full)),
        ["--check", "--offline"] | ["--offline", "--check"] => Some(CliCommand::Check(CheckScope::Offline)),
        ["--help" | "-h"] => Some(CliCommand::Help),
        ["--version" | "-V"] => Some(CliCommand::Version),
        _ => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where the environment is read")]
fn variables() -> Variables {
    let mut variables = Variables::new();
    // To collect them would be to sort them first, which is nine kilobytes of code.
    variables.extend(
        env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    variables
}

/// Runs to the end; `None` where the system gives no runtime.
fn run<T>(task: impl Future<Output = T>) -> Option<T> {
    // One thread: the extension lives on a share of a core that the function needs, and nothing here computes for long.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().ok()?;
    let end = runtime.block_on(task);
    // A name lookup that hangs would hold the exit up.
    runtime.shutdown_background();
    Some(end)
}

#[expect(clippy::print_stdout, reason = "a person asked, outside Lambda")]
fn answer(request: &CliCommand) -> ExitCode {
    match request {
        CliCommand::Check(extent) => {
            let well = run(check::run(variables(), *extent, &mut io::stdout().lock()));
            return if matches!(well, Some(Ok(true))) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        CliCommand::Help => println!("{USAGE}\n{}", config::help()),
        CliCommand::Version => println!("rotel-extension {}", env!("CARGO_PKG_VERSION")),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "a person asked, outside Lambda")]
fn refuse(arguments: &[OsString]) -> ExitCode {
    let arguments = arguments.join(OsStr::new(" "));
    let arguments = echo::one_line(&arguments.display().to_string());
    eprintln!("{arguments}: no such arguments\n\n{USAGE}");
    ExitCode::FAILURE
}
