//! The command.

use std::process::ExitCode;

use arguments::{Arguments, Request};

mod account;
mod arguments;
mod session;

/// Runs the command with these arguments.
pub(crate) async fn main(arguments: Vec<String>) -> ExitCode {
    let arguments = match Arguments::parse(arguments) {
        Ok(Request::Run(arguments)) => arguments,
        Ok(Request::Help) => {
            account::say(arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            account::complain(&format!("lambda-sandbox: {error}\n\n{}", arguments::HELP));
            return ExitCode::from(2);
        }
    };
    match session::run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            account::complain(&format!("lambda-sandbox: {error}"));
            ExitCode::FAILURE
        }
    }
}
