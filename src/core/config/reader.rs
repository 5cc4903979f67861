//! Reading one variable after another: the text of each, what its secret references stand for, and what is wrong with it.

use std::ops::Bound;

use super::value::{self, Text};
use super::{Fault, NO_PLACES, Places, Variables};
use crate::config::secret_ref::{self, SecretRef, Secrets};
use crate::secret::Secret;

/// What reading one variable gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// Not set, or empty.
    #[default]
    Unset,
    /// This.
    Is(T),
    /// It cannot be taken, and the fault has been told.
    Wrong,
    /// It holds secret references that have not been resolved yet.
    Pending,
}

impl<T> Read<T> {
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
    pub(super) fn and<U>(self, other: Read<U>) -> Read<(T, U)> {
        match (self, other) {
            (Self::Is(one), Read::Is(other)) => Read::Is((one, other)),
            (Self::Pending, _) | (_, Read::Pending) => Read::Pending,
            _ => Read::Wrong,
        }
    }

    /// What comes of the value; without one, what keeps it away.
    pub(super) fn and_then<U>(self, then: impl FnOnce(T) -> Read<U>) -> Read<U> {
        match self {
            Self::Is(value) => then(value),
            Self::Unset => Read::Unset,
            Self::Wrong => Read::Wrong,
            Self::Pending => Read::Pending,
        }
    }

    /// The value if there is one.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            _ => None,
        }
    }
}

/// The variables on their way to a [`super::Config`].
pub(super) struct Reader<'a> {
    pub(super) variables: &'a Variables,
    places: &'a Places,
    /// `None`: references are not resolved yet.
    secrets: Option<&'a Secrets>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
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
            places: &NO_PLACES,
            secrets,
            faults: Vec::new(),
            warnings: Vec::new(),
            references: Vec::new(),
            filled: Vec::new(),
            blackhole: false,
        }
    }

    /// With the places that set some of them.
    pub(super) fn at(self, places: &'a Places) -> Self {
        Self { places, ..self }
    }

    /// Whether a variable stands in the `collector.yaml`.
    pub(super) fn is_placed(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// What to call a variable: the place that set it, where that is known.
    pub(super) fn spoken(&self, name: &str) -> String {
        self.places.get(name).map_or(name, String::as_str).to_owned()
    }

    /// The text of a variable; empty is unset.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        value::set(self.variables.get(name)?)
    }

    /// The names of all variables that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + use<'a> {
        let set = self.variables.iter().filter(|(_, text)| value::set(text).is_some());
        set.map(|(name, _)| name.clone())
    }

    /// Whether there is a variable whose name begins so.
    pub(super) fn has_any(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.variables.range::<str, _>(from).next().is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Tells of a fault, once.
    pub(super) fn fault(&mut self, variable: &str, problem: impl Into<String>) {
        let fault = Fault { variable: self.spoken(variable), problem: problem.into() };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    pub(super) fn warning(&mut self, variable: &str, problem: impl Into<String>) {
        self.warnings.push(Fault { variable: self.spoken(variable), problem: problem.into() });
    }

    /// Reads a variable that holds from the start on, so that it cannot wait for secrets.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Text<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let parsed = match secret_ref::find(text) {
            Ok(references) if references.is_empty() || !name.starts_with("ROTEL_") => parse(&Text::plain(text)),
            Ok(_) => Err("it is needed before secrets are fetched, and a secret reference stands in it; write the value itself"
                .to_owned()),
            Err(problem) => Err(problem),
        };
        self.told(name, parsed)
    }

    /// Reads a variable that may hold secret references.
    pub(super) fn resolved<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Text<'_>) -> Result<T, String>,
    ) -> Read<T> {
        let Some(text) = self.text(name) else { return Read::Unset };
        let references = match secret_ref::find(text) {
            Ok(references) => references,
            Err(problem) => {
                self.fault(name, problem);
                return Read::Wrong;
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
            _ if references.is_empty() => parse(&Text::plain(text)),
            None => {
                self.references.extend(references);
                return Read::Pending;
            }
            Some(secrets) => Text::filled(text, &references, secrets).and_then(|text| {
                self.filled.extend(text.secrets().cloned());
                parse(&text)
            }),
        };
        self.told(name, parsed).map_or(Read::Wrong, Read::Is)
    }

    fn told<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|problem| self.fault(name, problem)).ok()
    }
}
