//! Exceptions described by a record, in its text ([`text`]) or in its fields ([`frames`] has their stack traces).

mod frames;
mod text;

pub(super) use self::frames::{is_stacktrace, stacktrace, structlog};
pub(super) use self::text::{is_certain_crash, is_crash, type_and_message};

/// An exception, as far as the record describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) kind: Option<String>,
    pub(super) message: Option<String>,
    pub(super) stacktrace: Option<String>,
}

impl Exception {
    /// Finds an exception in a text.
    pub(super) fn in_text(text: &str) -> Option<Self> {
        text::find(text)
    }

    /// Returns true if both may describe the same exception.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.kind.is_none() || other.kind.is_none() || self.kind == other.kind
    }

    /// Fills in the missing parts from another description of the same exception. Of a different exception, only the stack
    /// trace is used.
    pub(super) fn complete(&mut self, other: Self) {
        if !self.is_like(&other) {
            self.stacktrace = self.stacktrace.take().or(other.stacktrace);
            return;
        }
        self.kind = self.kind.take().or(other.kind);
        self.message = self.message.take().or(other.message);
        self.stacktrace = self.stacktrace.take().or(other.stacktrace);
    }

    /// The length of its texts, in bytes.
    pub(super) fn len(&self) -> usize {
        [&self.kind, &self.message, &self.stacktrace].into_iter().flatten().map(String::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kind.is_none() && self.message.is_none() && self.stacktrace.is_none()
    }

    /// The attributes of the exception: their keys and values.
    pub(super) fn attributes(self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { kind, message, stacktrace } = self;
        [("exception.type", kind), ("exception.message", message), ("exception.stacktrace", stacktrace)]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)))
    }
}
