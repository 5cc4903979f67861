//! The reader of single variables: reads the text, fills in secrets, and records errors and warnings.

use std::ops::Bound;

use super::value::{self, SettingText};
use super::{NO_LOCATIONS, Problem, SourceLocations, Variables};
use crate::config::secret_ref::{self, NoValue, SecretRef, Secrets};
use crate::secret::Secret;

/// The result of reading one variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Setting<T> {
    /// The variable is not set, or empty.
    #[default]
    Unset,
    Value(T),
    /// The value is invalid; the error has been recorded.
    Invalid,
    /// The value depends on secrets that have not been fetched.
    Pending,
}

impl<T> Setting<T> {
    /// Returns `other` if this one is unset.
    pub(super) fn or(self, other: &Self) -> Self
    where
        T: Clone,
    {
        match self {
            Self::Unset => other.clone(),
            set => set,
        }
    }

    /// Combines two settings that are needed together. `Pending` takes precedence over `Invalid`.
    pub(super) fn and<U>(self, other: Setting<U>) -> Setting<(T, U)> {
        match (self, other) {
            (Self::Value(one), Setting::Value(other)) => Setting::Value((one, other)),
            (Self::Pending, _) | (_, Setting::Pending) => Setting::Pending,
            _ => Setting::Invalid,
        }
    }

    /// Maps the value, if there is one.
    pub(super) fn and_then<U>(self, then: impl FnOnce(T) -> Setting<U>) -> Setting<U> {
        match self {
            Self::Value(value) => then(value),
            Self::Unset => Setting::Unset,
            Self::Invalid => Setting::Invalid,
            Self::Pending => Setting::Pending,
        }
    }

    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }
}

/// The state of parsing variables into a [`super::Config`].
pub(super) struct Reader<'a> {
    pub(super) variables: &'a Variables,
    locations: &'a SourceLocations,
    /// `None` until the secrets are fetched.
    secrets: Option<&'a Secrets>,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) references: Vec<SecretRef>,
    /// The secrets that were filled into values.
    pub(super) filled: Vec<Secret>,
    /// The user has disabled sending.
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

    pub(super) fn with_locations(self, locations: &'a SourceLocations) -> Self {
        Self { locations, ..self }
    }

    /// Returns true if a `collector.yaml` sets the variable.
    pub(super) fn is_in_collector_yaml(&self, name: &str) -> bool {
        self.locations.collector_yaml.contains_key(name)
    }

    /// The name for messages: the place in the file that sets the variable, else the variable itself.
    pub(super) fn display_name(&self, name: &str) -> String {
        self.locations.get(name).unwrap_or(name).to_owned()
    }

    /// The text of a variable; `None` if it is unset or empty.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        value::non_empty(self.variables.get(name)?)
    }

    /// The names of all variables that are set and not empty.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + use<'a> {
        let set = self.variables.iter().filter(|(_, text)| value::non_empty(text).is_some());
        set.map(|(name, _)| name.clone())
    }

    /// Returns true if any variable's name begins with `prefix`.
    pub(super) fn has_any(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.variables.range::<str, _>(from).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Records an error once. Skips the errors of a variable that is missing because its line in the env file is malformed: that
    /// line is reported already.
    pub(super) fn error(&mut self, variable: &str, message: impl Into<String>) {
        if self.locations.malformed.contains(variable) && self.text(variable).is_none() {
            return;
        }
        let error = Problem { variable: self.display_name(variable), message: message.into() };
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(super) fn warning(&mut self, variable: &str, message: impl Into<String>) {
        self.warnings.push(Problem { variable: self.display_name(variable), message: message.into() });
    }

    /// Parses a variable that is needed before secrets are fetched.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&SettingText<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let parsed = match secret_ref::find(text) {
            Ok(references) if references.is_empty() || !name.starts_with("ROTEL_") => {
                check_utf8(text).and_then(|()| parse(&SettingText::plain(text)))
            }
            Ok(_) => Err("cannot hold a secret reference, because it is needed before secrets are fetched; set the value itself"
                .to_owned()),
            Err(message) => Err(message),
        };
        self.recorded(name, parsed)
    }

    /// Parses a variable that may hold secret references.
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
                "contains \"${\" that begins no secret reference, so it is used literally; variables are expanded only in the \
                 file named by ROTEL_ENV_FILE",
            );
        }
        let parsed = match self.secrets {
            _ if references.is_empty() => check_utf8(text).and_then(|()| parse(&SettingText::plain(text))),
            None => {
                self.references.extend(references);
                return Setting::Pending;
            }
            Some(secrets) => match SettingText::filled(text, &references, secrets) {
                Ok(text) => {
                    self.filled.extend(text.secrets().cloned());
                    parse(&text)
                }
                // The error of that secret is the cause.
                Err(NoValue::NotFetched) => return Setting::Invalid,
                Err(NoValue::Unusable(message)) => Err(message),
            },
        };
        self.recorded(name, parsed).map_or(Setting::Invalid, Setting::Value)
    }

    fn recorded<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|message| self.error(name, message)).ok()
    }
}

/// Refuses a value of the environment that was not UTF-8: it was read with U+FFFD in place of the invalid bytes.
fn check_utf8(text: &str) -> Result<(), String> {
    if text.contains('\u{fffd}') { Err("is not UTF-8; set it again as UTF-8".to_owned()) } else { Ok(()) }
}
