//! Counting by valgrind: instructions and allocations, which are the same on a busy machine and on one at rest.

use std::io;
use std::path::Path;
use std::time::Duration;

use lambda_sandbox::{Builder, Error, Extension, Sandbox};
use tokio::process::Command;

use super::rest;

/// The maximum wait for anything. Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_mins(2);

/// The reason why there is no count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    #[error("valgrind: cannot start: {0}; install Debian's package valgrind")]
    Missing(io::Error),
    #[error("{what}: valgrind printed no count: {log}")]
    NoCount { what: String, log: String },
    #[error("valgrind's log: {0}")]
    Log(io::Error),
    #[error(transparent)]
    Sandbox(#[from] Error),
    #[error("{what}: never called /next under valgrind")]
    NoNext { what: String },
}

/// The quantity that is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Instructions,
    Allocations,
}

impl Count {
    fn options(self) -> [&'static str; 2] {
        match self {
            Self::Instructions => ["--tool=callgrind", "--callgrind-out-file=/dev/null"],
            Self::Allocations => ["--tool=dhat", "--dhat-out-file=/dev/null"],
        }
    }

    /// Parses `==7== Collected : 300630` or `==7== Total:     7,890 bytes in 56 blocks`.
    fn find(self, log: &str) -> Option<u64> {
        let number = |text: &str| text.replace(',', "").trim().parse().ok();
        log.lines().find_map(|line| match self {
            Self::Instructions => number(line.split_once("Collected :")?.1),
            Self::Allocations => {
                number(line.split_once("Total:")?.1.split_once(" in ")?.1.strip_suffix("blocks")?)
            }
        })
    }
}

/// The output of `valgrind --version`, such as `valgrind-3.19.0`.
pub(crate) async fn version() -> Result<String, CountError> {
    let ran = Command::new("valgrind").arg("--version").output().await.map_err(CountError::Missing)?;
    Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned())
}

/// Runs a program to its end.
pub(crate) async fn of_program(count: Count, program: &Path, arguments: &[&str]) -> Result<u64, CountError> {
    let mut command = Command::new("valgrind");
    let ran = command.args(count.options()).arg(program).args(arguments).output().await;
    let log = String::from_utf8_lossy(&ran.map_err(CountError::Missing)?.stderr).into_owned();
    count.find(&log).ok_or_else(|| CountError::NoCount { what: program.display().to_string(), log })
}

/// An extension in a sandbox that is ready for invocations. Callgrind writes the functions that run to a file when the
/// extension is stopped.
pub(crate) async fn start(
    extension: Extension,
    profile: &Path,
    builder: impl FnOnce(Extension) -> Builder,
) -> Result<Sandbox, CountError> {
    let out = format!("--callgrind-out-file={}", profile.display());
    let extension = extension.under("valgrind", ["--quiet", "--tool=callgrind", "--demangle=no", &out]);
    Ok(builder(extension).init_timeout(PATIENCE).start().await?)
}

/// The instructions of an extension from its start until it has called `/next` and is idle: work it defers until after
/// the call counts as init too.
pub(crate) async fn of_init(
    extension: Extension,
    builder: impl FnOnce(Extension) -> Builder,
) -> Result<u64, CountError> {
    let folder = tempfile::tempdir().map_err(CountError::Log)?;
    let log = folder.path().join("valgrind.log");
    let [tool, out] = Count::Instructions.options();
    let options = [tool.to_owned(), out.to_owned(), format!("--log-file={}", log.display())];
    let sandbox = builder(extension.under("valgrind", options)).init_timeout(PATIENCE).open().await?;
    let init = sandbox.init().await?;
    if let Some((name, _)) = init.extensions.iter().find(|(_, first_next)| first_next.is_none()) {
        return Err(CountError::NoNext { what: name.clone() });
    }
    rest::until_at_rest(&sandbox).await;
    // A process that does not end has printed no count.
    let _ = tokio::time::timeout(PATIENCE, sandbox.interrupt()).await;
    let log = std::fs::read_to_string(log).map_err(CountError::Log)?;
    Count::Instructions
        .find(&log)
        .ok_or_else(|| CountError::NoCount { what: "the extension".to_owned(), log })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_valgrinds_output() {
        let callgrind =
            "==7== Events    : Ir\n==7== Collected : 300630\n==7== \n==7== I   refs:      300,630\n";
        assert_eq!(Count::Instructions.find(callgrind), Some(300_630));
        let dhat = "==7== Total:     1,234,567 bytes in 5,678 blocks\n==7== At t-gmax: 7 bytes in 1 blocks\n";
        assert_eq!(Count::Allocations.find(dhat), Some(5_678));
        assert_eq!(Count::Instructions.find(dhat), None);
    }
}
