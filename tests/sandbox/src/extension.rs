//! An extension to run with the function.

use std::path::PathBuf;

/// The extension's program, and the name under which it must register.
#[derive(Clone, Debug)]
pub struct Extension {
    pub(crate) name: String,
    /// The executable; none if a test plays the extension.
    pub(crate) program: Option<PathBuf>,
    pub(crate) variables: Vec<(String, String)>,
    /// A program with its arguments that is started instead, with the extension's path as an argument.
    pub(crate) wrapper: Option<(PathBuf, Vec<String>)>,
    pub(crate) stdout: Stdout,
}

/// The reader of an extension's standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// Lambda, which reads every line.
    #[default]
    Read,
    /// No reader: a pipe that is full from the start.
    Unread,
}

impl Extension {
    /// An executable file. Platform: its registered name is its file name.
    pub fn binary(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, program: Some(path), variables: Vec::new(), wrapper: None, stdout: Stdout::Read }
    }

    /// An extension that a test plays: nothing is started, and the test calls the Extensions API under this name.
    pub fn external(name: impl Into<String>) -> Self {
        Self { name: name.into(), program: None, variables: Vec::new(), wrapper: None, stdout: Stdout::Read }
    }

    /// Sets an environment variable; it takes precedence over the sandbox's own. `{ip}` in it is replaced by the environment's
    /// address.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Connects its standard output to a full pipe that nobody reads.
    #[must_use]
    pub fn unread_output(mut self) -> Self {
        self.stdout = Stdout::Unread;
        self
    }

    /// Starts it with this program, which gets these arguments and then the extension's path. It must become the extension
    /// without a new process, as `valgrind` does.
    #[must_use]
    pub fn under<S: Into<String>>(
        mut self,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        self.wrapper = Some((program.into(), arguments.into_iter().map(Into::into).collect()));
        self
    }
}
