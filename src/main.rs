//! The process: one thread and one tokio runtime for the lifetime of a Lambda execution environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;
use rotel_core::config::{self, Variables};
use rotel_core::echo;
use rotel_lambda_extension::app::check::{self, CheckOptions, ReportForm};
use rotel_lambda_extension::app::startup;
use rotel_lambda_extension::edge::logging;

/// The layer is linked with musl. Its own allocator needs twice the CPU for a burst of spans, and mimalloc 8 MB more memory.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;

const USAGE: &str = "\
Forwards logs, traces and metrics of a Lambda function to ClickStack. Lambda starts it without arguments.

Usage: rotel-extension [OPTION]

  --check            check the configuration, fetch its secrets, and send one test record per signal
    --offline        without network access
    --all            print the defaults, too
    --json           print one JSON object, for other programs
  --help             print this help, with all environment variables
  --version          print the version

--check exits with 0 if there are no errors, and with 1 otherwise.
";

/// The command in the arguments.
enum CliCommand {
    Check(CheckOptions),
    Help,
    Version,
}

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let executable = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    if arguments.is_empty() {
        let exit_code = run(startup::run(variables(), &executable)).unwrap_or(ExitCode::FAILURE);
        logging::drain();
        return exit_code;
    }
    match parse_arguments(&arguments) {
        Some(command) => run_command(&command),
        None => reject_arguments(&arguments),
    }
}

/// Returns the options of `--check`, or `None` if one is unknown.
fn check_options(arguments: &[&str]) -> Option<CheckOptions> {
    let mut options = CheckOptions::default();
    for argument in arguments {
        match *argument {
            "--check" => {}
            "--offline" => options.is_offline = true,
            "--all" => options.shows_defaults = true,
            "--json" => options.form = ReportForm::Json,
            _ => return None,
        }
    }
    Some(options)
}

/// Returns the command, or `None` if the arguments are invalid.
fn parse_arguments(arguments: &[OsString]) -> Option<CliCommand> {
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_str()).collect::<Option<_>>()?;
    match arguments.as_slice() {
        options if options.contains(&"--check") => check_options(options).map(CliCommand::Check),
        ["--help" | "-h"] => Some(CliCommand::Help),
        ["--version" | "-V"] => Some(CliCommand::Version),
        _ => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where the environment is read")]
fn variables() -> Variables {
    let mut variables = Variables::new();
    // `collect` would sort them first, which adds 9 KB of code.
    variables.extend(
        env::vars_os()
            // The configuration reports values that are not UTF-8.
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            }),
    );
    variables
}

/// Runs the task to completion; `None` if the runtime cannot be created.
fn run<T>(task: impl Future<Output = T>) -> Option<T> {
    // One thread: the extension shares a fraction of a core with the function, and has no long computations.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().ok()?;
    let output = runtime.block_on(task);
    // A pending name lookup must not delay the exit.
    runtime.shutdown_background();
    Some(output)
}

#[expect(clippy::print_stdout, reason = "output for a person, outside Lambda")]
fn run_command(command: &CliCommand) -> ExitCode {
    match command {
        CliCommand::Check(options) => {
            let (variables, mut options) = (variables(), *options);
            let has_colors = io::stdout().is_terminal() && !variables.contains_key("NO_COLOR");
            if has_colors && options.form == ReportForm::Text {
                options.form = ReportForm::ColoredText;
            }
            let result = run(check::run(variables, options, &mut io::stdout().lock()));
            return if matches!(result, Some(Ok(true))) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        CliCommand::Help => println!("{USAGE}\n{}", config::help()),
        CliCommand::Version => println!("rotel-extension {}", env!("CARGO_PKG_VERSION")),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "output for a person, outside Lambda")]
fn reject_arguments(arguments: &[OsString]) -> ExitCode {
    let arguments = arguments.join(OsStr::new(" "));
    let arguments = echo::one_line(&arguments.display().to_string());
    eprintln!("{arguments}: invalid arguments\n\n{USAGE}");
    ExitCode::FAILURE
}
