//! The configuration errors that have been reported, so that each is reported once.

use rotel_core::echo;

/// The errors that have been reported.
#[derive(Clone, Default)]
pub(super) struct ReportedErrors(Vec<String>);

impl ReportedErrors {
    /// Adds errors; returns those that are new.
    pub(super) fn add_new<F: ToString>(&mut self, errors: impl IntoIterator<Item = F>) -> Vec<String> {
        let known = self.0.len();
        for error in errors {
            // An error may repeat foreign text, but must stay on one log line.
            let error = echo::one_line(&error.to_string());
            if !self.0.contains(&error) {
                self.0.push(error);
            }
        }
        self.0.get(known..).unwrap_or_default().to_vec()
    }

    /// Adds errors, and logs those that are new.
    pub(super) fn log_new<F: ToString>(&mut self, errors: impl IntoIterator<Item = F>) {
        for error in self.add_new(errors) {
            tracing::error!("{error}");
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All errors in one line; `None` if there are none.
    pub(super) fn joined(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }
}
