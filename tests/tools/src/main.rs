//! `lambda-sandbox`: runs an extension in the emulated Lambda environment and reports what happened; measures, counts and
//! simulates extensions.

use std::process::ExitCode;

use arguments::{Arguments, Request};

mod account;
mod arguments;
mod bench;
mod fleet;
mod gates;
mod rest;
mod session;
mod valgrind;

#[tokio::main]
async fn main() -> ExitCode {
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        biased;
        // Dropping the session kills the processes that it has started.
        _ = interrupted => ExitCode::from(130),
        code = run(std::env::args().skip(1).collect()) => code,
    }
}

/// Runs the command with these arguments.
async fn run(arguments: Vec<String>) -> ExitCode {
    match Arguments::parse(arguments) {
        Ok(Request::Run(arguments)) => exit_code(session::run(&arguments).await),
        Ok(Request::BenchStartup(arguments)) => exit_code(bench::startup::run(&arguments).await),
        Ok(Request::Bench(arguments)) => exit_code(bench::run(&arguments).await),
        Ok(Request::BenchFunctions(arguments)) => exit_code(bench::functions::run(&arguments).await),
        Ok(Request::Gates(arguments)) => exit_code(gates::run(&arguments).await),
        Ok(Request::Fleet(arguments)) => {
            fleet::run(&arguments);
            ExitCode::SUCCESS
        }
        Ok(Request::Help) => {
            account::say(arguments::HELP);
            ExitCode::SUCCESS
        }
        Err(error) => {
            account::complain(&format!("lambda-sandbox: {error}\n\n{}", arguments::HELP));
            ExitCode::from(2)
        }
    }
}

fn exit_code(passed: Result<bool, impl std::fmt::Display>) -> ExitCode {
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            account::complain(&format!("lambda-sandbox: {error}"));
            ExitCode::FAILURE
        }
    }
}
