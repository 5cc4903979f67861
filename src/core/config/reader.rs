//! Reading one variable after another: the text of each, what its secret references stand for, and what is wrong with it.

use std::ops::Bound;

use super::value::{self, SettingText};
use super::{NO_LOCATIONS, Problem, SourceLocations, Variables};
use crate::config::secret_ref::{self, SecretRef, Secrets};
use crate::secret::Secret;

/// What reading one variable gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Setting<T> {
    /// Not set, or empty.
    #[default]
    Unset,
    /// This.
    Value(T),
    /// It cannot be taken, and the error has been told.
    Invalid,
    /// It holds secret references that have not been resolved yet.
    Pending,
}

impl<T> Setting<T> {
    /// This one, or where it is unset the other.
    pub(super) fn or(self, other: &Self) -> Self
    where
        T: Clone,
    {
        match self {
            Self::Unset => other.clone(),
            set => set,
        }
    }

    /// Both, for what needs both. That one is awaited outweighs that the other is wrong.
    pub(super) fn and<U>(self, other: Setting<U>) -> Setting<(T, U)> {
        match (self, other) {
            (Self::Value(one), Setting::Value(other)) => Setting::Value((one, other)),
            (Self::Pending, _) | (_, Setting::Pending) => Setting::Pending,
            _ => Setting::Invalid,
        }
    }

    /// What comes of the value; without one, what keeps it away.
    pub(super) fn and_then<U>(self, then: impl FnOnce(T) -> Setting<U>) -> Setting<U> {
        match self {
            Self::Value(value) => then(value),
            Self::Unset => Setting::Unset,
            Self::Invalid => Setting::Invalid,
            Self::Pending => Setting::Pending,
        }
    }

    /// The value if there is one.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }
}

/// The variables on their way to a [`super::Config`].
pub(super) struct Reader<'a> {
    pub(super) variables: &'a Variables,
    locations: &'a SourceLocations,
    /// `None`: references are not resolved yet.
    secrets: Option<&'a Secrets>,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) references: Vec<SecretRef>,
    /// The secrets that values hold.
    pub(super) filled: Vec<Secret>,
    /// The user has asked for nothing to be sent.
    pub(super) blackhole: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(variables: &'a Variables, secrets: Option<&'a Secrets>) -> Self {
        Self {
            variables,
            locations: &NO_LOCATIONS,
            secrets,
            errors: Vec::new(),
            warnings: Vec::new(),
            references: Vec::new(),
            filled: Vec::new(),
            blackhole: false,
        }
    }

    /// With the locations that set some of them.
    pub(super) fn with_locations(self, locations: &'a SourceLocations) -> Self {
        Self { locations, ..self }
    }

    /// Whether a variable stands in the `collector.yaml`.
    pub(super) fn is_in_collector_yaml(&self, name: &str) -> bool {
        self.locations.contains_key(name)
    }

    /// What to call a variable: the place that set it, where that is known.
    pub(super) fn display_name(&self, name: &str) -> String {
        self.locations.get(name).map_or(name, String::as_str).to_owned()
    }

    /// The text of a variable; empty is unset.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        value::non_empty(self.variables.get(name)?)
    }

    /// The names of all variables that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + use<'a> {
        let set = self.variables.iter().filter(|(_, text)| value::non_empty(text).is_some());
        set.map(|(name, _)| name.clone())
    }

    /// Whether there is a variable whose name begins so.
    pub(super) fn has_any(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.variables.range::<str, _>(from).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Tells of a error, once.
    pub(super) fn error(&mut self, variable: &str, message: impl Into<String>) {
        let error = Problem { variable: self.display_name(variable), message: message.into() };
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(super) fn warning(&mut self, variable: &str, message: impl Into<String>) {
        self.warnings.push(Problem { variable: self.display_name(variable), message: message.into() });
    }

    /// Reads a variable that holds from the start on, so that it cannot wait for secrets.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&SettingText<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let parsed = match secret_ref::find(text) {
            Ok(references) if references.is_empty() || !name.starts_with("ROTEL_") => parse(&SettingText::plain(text)),
            Ok(_) => Err("it is needed before secrets are fetched, and a secret reference stands in it; write the value itself"
                .to_owned()),
            Err(message) => Err(message),
        };
        self.told(name, parsed)
    }

    /// Reads a variable that may hold secret references.
    pub(super) fn resolved<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&SettingText<'_>) -> Result<T, String>,
    ) -> Setting<T> {
        let Some(text) = self.text(name) else { return Setting::Unset };
        let references = match secret_ref::find(text) {
            Ok(references) => references,
            Err(message) => {
                self.error(name, message);
                return Setting::Invalid;
            }
        };
        if references.is_empty() && text.contains("${") {
            self.warning(
                name,
                "it holds a \"${\" that begins no secret reference and stays as it is; variables are filled in only within the \
                 file of ROTEL_ENV_FILE",
            );
        }
        let parsed = match self.secrets {
            _ if references.is_empty() => parse(&SettingText::plain(text)),
            None => {
                self.references.extend(references);
                return Setting::Pending;
            }
            Some(secrets) => SettingText::filled(text, &references, secrets).and_then(|text| {
                self.filled.extend(text.secrets().cloned());
                parse(&text)
            }),
        };
        self.told(name, parsed).map_or(Setting::Invalid, Setting::Value)
    }

    fn told<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|message| self.error(name, message)).ok()
    }
}
