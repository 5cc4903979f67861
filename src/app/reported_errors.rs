//! ReportedErrors, each told once.

use crate::core::echo;

/// Those that are known.
#[derive(Clone, Default)]
pub(super) struct ReportedErrors(Vec<String>);

impl ReportedErrors {
    /// Takes these in; answers with those that are new.
    pub(super) fn add_new<F: ToString>(&mut self, errors: impl IntoIterator<Item = F>) -> Vec<String> {
        let known = self.0.len();
        for error in errors {
            // Whoever wrote a part of it, it is one line of the log.
            let error = echo::one_line(&error.to_string());
            if !self.0.contains(&error) {
                self.0.push(error);
            }
        }
        self.0.get(known..).unwrap_or_default().to_vec()
    }

    /// Writes a line of the log for each that is new.
    pub(super) fn log_new<F: ToString>(&mut self, errors: impl IntoIterator<Item = F>) {
        for error in self.add_new(errors) {
            tracing::error!("{error}");
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them in one line; none where there are none.
    pub(super) fn joined(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }
}
