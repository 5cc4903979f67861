//! The command.

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

/// Runs the command with these arguments.
pub(crate) async fn main(arguments: Vec<String>) -> ExitCode {
    match Arguments::parse(arguments) {
        Ok(Request::Run(arguments)) => ended(session::run(&arguments).await),
        Ok(Request::BenchStartup(arguments)) => ended(bench::startup::run(&arguments).await),
        Ok(Request::Bench(arguments)) => ended(bench::run(&arguments).await),
        Ok(Request::BenchFunctions(arguments)) => ended(bench::functions::run(&arguments).await),
        Ok(Request::Gates(arguments)) => ended(gates::run(&arguments).await),
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

fn ended(all_was_well: Result<bool, impl std::fmt::Display>) -> ExitCode {
    match all_was_well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            account::complain(&format!("lambda-sandbox: {error}"));
            ExitCode::FAILURE
        }
    }
}
