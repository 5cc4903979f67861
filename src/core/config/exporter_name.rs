//! The name of an exporter, and the prefix of its variables.

use std::fmt;
use std::sync::Arc;

use super::variables;
use crate::signal::Signal;

/// An exporter's name. The variables of a named exporter begin with `ROTEL_EXPORTER_{NAME}_`, those of the single, unnamed
/// exporter with `ROTEL_OTLP_EXPORTER_`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExporterName(pub(super) Option<Arc<str>>);

impl ExporterName {
    /// The name in `ROTEL_EXPORTERS`; `None` for the single, unnamed exporter.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.0.as_ref()
    }

    /// Returns true for the single, unnamed exporter.
    pub fn is_unnamed(&self) -> bool {
        self.0.is_none()
    }

    /// The prefix of its variables for all signals.
    pub fn prefix(&self) -> String {
        match &self.0 {
            None => variables::UNNAMED_EXPORTER.to_owned(),
            Some(name) => prefix(name),
        }
    }

    /// The prefix of its variables for one signal.
    pub fn signal_prefix(&self, signal: Signal) -> String {
        format!("{}{}_", self.prefix(), signal.in_variable_names())
    }
}

impl fmt::Display for ExporterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("otlp"))
    }
}

/// The prefix of the variables of the exporter with this name.
pub(super) fn prefix(name: &str) -> String {
    format!("ROTEL_EXPORTER_{}_", name.to_uppercase().replace('-', "_"))
}
