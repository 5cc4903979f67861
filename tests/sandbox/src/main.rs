//! `lambda-sandbox`: runs an extension in an emulated Lambda environment and tells what happened.

use std::process::ExitCode;

mod cli;

#[tokio::main]
async fn main() -> ExitCode {
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        biased;
        // Dropping the session kills what it has started.
        _ = interrupted => ExitCode::from(130),
        code = cli::main(std::env::args().skip(1).collect()) => code,
    }
}
