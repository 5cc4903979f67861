//! The name of an exporter, which begins the names of its variables.

use std::fmt;
use std::sync::Arc;

use super::variables;
use crate::signal::Signal;

/// An exporter as people call it. Its variables begin with its name; those of the only one have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExporterName(pub(super) Option<Arc<str>>);

impl ExporterName {
    /// The name in `ROTEL_EXPORTERS`.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.0.as_ref()
    }

    /// Whether there is no name, because there is no other.
    pub fn is_only(&self) -> bool {
        self.0.is_none()
    }

    /// How the names of its variables for all signals begin.
    pub fn prefix(&self) -> String {
        match &self.0 {
            None => variables::ONLY_EXPORTER.to_owned(),
            Some(name) => prefix(name),
        }
    }

    /// How the names of its variables for one signal begin.
    pub fn prefix_of(&self, signal: Signal) -> String {
        format!("{}{}_", self.prefix(), signal.in_variable_names())
    }
}

impl fmt::Display for ExporterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("otlp"))
    }
}

/// How the names of the variables of an exporter begin that has this name.
pub(super) fn prefix(name: &str) -> String {
    format!("ROTEL_EXPORTER_{}_", name.to_uppercase().replace('-', "_"))
}
