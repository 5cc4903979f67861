//! An extension to run beside the function.

use std::path::PathBuf;

/// What is started, and under which name it must register.
#[derive(Clone, Debug)]
pub struct Extension {
    pub(crate) name: String,
    /// None: somebody else speaks for it.
    pub(crate) program: Option<PathBuf>,
    pub(crate) variables: Vec<(String, String)>,
    /// A program with its arguments that is started in its place, with its path as an argument.
    pub(crate) wrapper: Option<(PathBuf, Vec<String>)>,
    pub(crate) stdout: Stdout,
}

/// The reader of an extension's standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// Lambda.
    #[default]
    Read,
    /// Nobody: a pipe that is full from the start.
    Unread,
}

impl Extension {
    /// An executable file. Platform: its registered name is its file name.
    pub fn binary(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, program: Some(path), variables: Vec::new(), wrapper: None, stdout: Stdout::Read }
    }

    /// Nothing is started: a test speaks the Extensions API itself, under this name.
    pub fn external(name: impl Into<String>) -> Self {
        Self { name: name.into(), program: None, variables: Vec::new(), wrapper: None, stdout: Stdout::Read }
    }

    /// A variable of its environment, stronger than the sandbox's own. `{ip}` in it is replaced by the environment's
    /// address.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Its standard output is a full pipe that nobody reads.
    #[must_use]
    pub fn unread_output(mut self) -> Self {
        self.stdout = Stdout::Unread;
        self
    }

    /// Started by this program, which gets these arguments and then the extension's path, and becomes the extension
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
