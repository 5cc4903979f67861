//! The result of translating the file: variables with their locations, and messages about other settings.

use std::collections::BTreeMap;

use super::expand;
use super::node::{self, MapEntry, Node, YamlValue};
use crate::config::value::{self, LIST_SEPARATOR};
use crate::config::{Problem, SourceLocations, Variables};
use crate::echo;

/// Variables set outside the file that are ignored, each with its new name if it is renamed.
pub(super) type Renamed = BTreeMap<String, Option<String>>;

/// Collects the variables and messages of one file.
pub(super) struct Translation<'a> {
    /// The file's name without its directory.
    file: &'a str,
    /// The variables set outside the file.
    given: &'a Variables,
    /// The number of bytes in all values so far, after expansion.
    expanded: usize,
    pub(super) variables: Variables,
    pub(super) locations: SourceLocations,
    pub(super) warnings: Vec<Problem>,
    pub(super) errors: Vec<Problem>,
    pub(super) renamed: Renamed,
}

/// A node in the file, and its YAML path.
#[derive(Clone, Debug)]
pub(super) struct Location<'n> {
    pub(super) node: &'n Node,
    /// The line of its key, or of the node if it has none.
    pub(super) line: usize,
    /// The path for messages, without parts of keys that may be values.
    pub(super) path: String,
    /// The last key of the path.
    pub(super) key: &'n str,
}

impl<'n> Location<'n> {
    pub(super) fn root(node: &'n Node) -> Self {
        Self { node, line: node.line, path: String::new(), key: "" }
    }

    fn child(&self, key: &'n str, line: usize, node: &'n Node) -> Self {
        let shown = node::shown(key);
        let path = if self.path.is_empty() { shown.into_owned() } else { format!("{}.{shown}", self.path) };
        Self { node, line, path, key }
    }
}

impl<'a> Translation<'a> {
    pub(super) fn new(file: &'a str, given: &'a Variables) -> Self {
        // Someone may have set a key in place of the file's path.
        let is_shown = echo::path(&format!("./{file}")).text().is_some();
        Self {
            file: if is_shown { file } else { "the collector.yaml" },
            given,
            expanded: 0,
            variables: Variables::new(),
            locations: SourceLocations::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
            renamed: Renamed::new(),
        }
    }

    fn problem(&self, line: usize, path: &str, message: impl Into<String>) -> Problem {
        let location = if path.is_empty() {
            format!("{}:{line}", self.file)
        } else {
            format!("{}:{line}: {path}", self.file)
        };
        Problem { variable: location, message: message.into() }
    }

    pub(super) fn error(&mut self, location: &Location<'_>, message: impl Into<String>) {
        let error = self.problem(location.line, &location.path, message);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(super) fn warning(&mut self, location: &Location<'_>, message: impl Into<String>) {
        let warning = self.problem(location.line, &location.path, message);
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Records an error about the whole file.
    pub(super) fn error_at(&mut self, line: usize, message: impl Into<String>) {
        let error = self.problem(line, "", message);
        self.errors.push(error);
    }

    /// The first matching variable that is set outside the file.
    pub(super) fn given(&self, matches: impl Fn(&str) -> bool) -> Option<&'a str> {
        let given = self.given;
        let given = given.iter().filter(|(_, text)| value::non_empty(text).is_some());
        given.map(|(name, _)| name.as_str()).find(|name| matches(name))
    }

    /// Ignores a variable that is set outside the file.
    pub(super) fn hide(&mut self, name: &str) {
        self.renamed.insert(name.to_owned(), None);
    }

    /// Replaces the prefix of variables that are set outside the file.
    pub(super) fn rename(&mut self, prefix: &str, other: &str) {
        let given = self.given;
        for (name, text) in given {
            let Some(setting) = name.strip_prefix(prefix) else { continue };
            let renamed = format!("{other}{setting}");
            // Messages name the variable that the user has set.
            self.locations.insert(renamed.clone(), name.clone());
            self.variables.insert(renamed.clone(), text.clone());
            self.renamed.insert(name.clone(), Some(renamed));
        }
    }

    /// Sets a variable, with this location as its source.
    pub(super) fn set(
        &mut self,
        variable: impl Into<String>,
        text: impl Into<String>,
        location: &Location<'_>,
    ) {
        let (variable, text) = (variable.into(), text.into());
        let source = self.problem(location.line, &location.path, "").variable;
        let is_other = self.variables.get(&variable).is_some_and(|known| *known != text);
        if let Some(other) = self.locations.get(&variable).filter(|other| is_other && **other != source) {
            let message = format!(
                "overrides {other}, because the extension supports a single value; set the same value in both"
            );
            self.warning(location, message);
        }
        self.locations.insert(variable.clone(), source);
        self.variables.insert(variable, text);
    }

    /// Sets a variable to the text at this location, if there is one.
    pub(super) fn set_text(&mut self, variable: impl Into<String>, location: &Location<'_>) {
        if let Some(text) = self.text(location) {
            self.set(variable, text, location);
        }
    }

    /// The entries of a mapping; none for an empty value.
    pub(super) fn entries<'n>(&mut self, location: &Location<'n>) -> Vec<Location<'n>> {
        match &location.node.value {
            YamlValue::Nothing => Vec::new(),
            YamlValue::Map(entries) => {
                let child = |MapEntry { key, line, node }: &'n MapEntry| location.child(key, *line, node);
                entries.iter().map(child).collect()
            }
            YamlValue::Text(_) | YamlValue::List(_) => {
                self.error(location, "expected a mapping; write one \"name: value\" per line");
                Vec::new()
            }
        }
    }

    /// The elements of a list. A single text counts as a list of one.
    pub(super) fn elements<'n>(&mut self, location: &Location<'n>) -> Vec<Location<'n>> {
        let at = |node: &'n Node| Location { node, line: node.line, ..location.clone() };
        match &location.node.value {
            YamlValue::Nothing => Vec::new(),
            YamlValue::List(nodes) => nodes.iter().map(at).collect(),
            YamlValue::Text(_) => vec![at(location.node)],
            YamlValue::Map(_) => {
                self.error(location, "expected a list, such as [otlp]");
                Vec::new()
            }
        }
    }

    /// The texts in a list.
    pub(super) fn texts<'n>(&mut self, location: &Location<'n>) -> Vec<(String, Location<'n>)> {
        let elements = self.elements(location).into_iter();
        elements.filter_map(|element| Some((self.text(&element)?, element))).collect()
    }

    /// The text at this location with variables expanded; `None` for an empty value.
    pub(super) fn text(&mut self, location: &Location<'_>) -> Option<String> {
        let text = match &location.node.value {
            YamlValue::Nothing => return None,
            YamlValue::Text(text) => text,
            YamlValue::List(_) | YamlValue::Map(_) => {
                self.error(location, "expected a single value; check the indentation");
                return None;
            }
        };
        let expand::Expanded { text, unset, errors } =
            expand::expand(text, self.given, node::TEXT_LIMIT.saturating_sub(self.expanded));
        self.expanded += text.len();
        for name in unset {
            self.warning(
                location,
                format!("the variable {} is not set, so it expands to nothing; set it", node::shown(&name)),
            );
        }
        for message in errors {
            self.error(location, message);
        }
        let text = text.trim();
        // The character would split the list that the value may become part of.
        if text.contains(LIST_SEPARATOR) {
            self.error(location, "the value contains a control character; remove it");
            return None;
        }
        Some(text.to_owned())
    }

    /// Parses a boolean; an empty value is false.
    pub(super) fn boolean(&mut self, location: &Location<'_>) -> bool {
        match self.text(location).as_deref() {
            Some("true") => true,
            Some("false" | "") | None => false,
            Some(_) => {
                self.error(location, "not a boolean; set true or false");
                false
            }
        }
    }
}

/// Joins names and values with [`LIST_SEPARATOR`], which no value contains.
pub(super) fn list(pairs: &[(String, String)]) -> String {
    pairs.iter().flat_map(|(name, value)| [LIST_SEPARATOR.to_string(), format!("{name}={value}")]).collect()
}
