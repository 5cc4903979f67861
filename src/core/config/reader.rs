//! Reading one variable after another: the text of each, what its secret references stand for, and what is wrong with it.

use super::value::{self, Text};
use super::{Fault, Variables, variables};
use crate::secret_ref::{self, SecretRef, Secrets};

/// What reading one variable gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// Not set, or empty.
    Unset,
    /// This.
    Is(T),
    /// It cannot be taken, and the fault has been told.
    Wrong,
    /// It holds secret references that have not been resolved yet.
    Awaited,
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
            (Self::Awaited, _) | (_, Read::Awaited) => Read::Awaited,
            _ => Read::Wrong,
        }
    }

    /// What comes of the value; without one, what keeps it away.
    pub(super) fn and_then<U>(self, then: impl FnOnce(T) -> Read<U>) -> Read<U> {
        match self {
            Self::Is(value) => then(value),
            Self::Unset => Read::Unset,
            Self::Wrong => Read::Wrong,
            Self::Awaited => Read::Awaited,
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
    variables: &'a Variables,
    /// `None`: references are not resolved yet.
    secrets: Option<&'a Secrets>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
    pub(super) references: Vec<SecretRef>,
    /// The user has asked for nothing to be sent.
    pub(super) blackhole: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(variables: &'a Variables, secrets: Option<&'a Secrets>) -> Self {
        Self {
            variables,
            secrets,
            faults: Vec::new(),
            warnings: Vec::new(),
            references: Vec::new(),
            blackhole: false,
        }
    }

    /// The text of a variable; empty is unset.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.variables.get(name).map(|text| value::unquoted(text)).filter(|text| !text.is_empty())
    }

    /// Tells of a fault, once.
    pub(super) fn fault(&mut self, variable: &str, problem: impl Into<String>) {
        let fault = Fault { variable: variable.to_owned(), problem: problem.into() };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    pub(super) fn warning(&mut self, variable: &str, problem: impl Into<String>) {
        self.warnings.push(Fault { variable: variable.to_owned(), problem: problem.into() });
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
                return Read::Awaited;
            }
            Some(secrets) => Text::filled(text, &references, secrets).and_then(|text| parse(&text)),
        };
        self.told(name, parsed).map_or(Read::Wrong, Read::Is)
    }

    /// Reads a variable whose feature comes with a later version: mistakes are told, and that it has no effect yet.
    pub(super) fn without_effect<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Text<'_>) -> Result<T, String>,
    ) {
        if self.parsed(name, parse).is_some() {
            self.warning(name, "it has no effect in this version; remove it, or leave it for a later one");
        }
    }

    /// Warns of names that begin like ours and are not.
    pub(super) fn unknown_names(&mut self) {
        for name in self.variables.keys().filter(|name| name.starts_with("ROTEL_")) {
            if let Some(problem) = variables::unknown(name) {
                self.warnings.push(Fault { variable: name.clone(), problem });
            }
        }
    }

    fn told<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|problem| self.fault(name, problem)).ok()
    }
}
