//! The process: one thread, one runtime, one life in a Lambda execution environment.

use std::env;
use std::process::ExitCode;

use rotel_lambda_extension::app::startup;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the environment is read")]
    let variables = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let executable = env::args_os().next().unwrap_or_default();
    // One thread: the extension lives on a share of a core that the function needs, and nothing here computes for long.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let exit = runtime.block_on(startup::run(&variables, &executable));
    // A name lookup that hangs would hold the exit up.
    runtime.shutdown_background();
    exit
}
