//! The result of translating the file: variables with their locations, and messages about other settings.

use std::collections::BTreeMap;

use super::expand;
use super::node::{self, MapEntry, Node, Place, YamlValue};
use crate::config::value::{self, LIST_SEPARATOR};
use crate::config::{self, Locations, Problem, Variables};
use crate::echo;
use crate::processors::OttlValue;

/// Variables set outside the file that are ignored, each with its new name if it is renamed.
pub(super) type Renamed = BTreeMap<String, Option<String>>;

/// Collects the variables and messages of one file, or of several that are merged.
pub(super) struct Translation<'a> {
    /// The names of the files, without their directories.
    files: Vec<&'a str>,
    /// The variables set outside the file.
    given: &'a Variables,
    /// The number of bytes in all values so far, after expansion.
    expanded: usize,
    pub(super) variables: Variables,
    pub(super) locations: Locations,
    pub(super) warnings: Vec<Problem>,
    pub(super) errors: Vec<Problem>,
    pub(super) renamed: Renamed,
}

/// A node in the file, and its YAML path.
#[derive(Clone, Debug)]
pub(super) struct Location<'n> {
    pub(super) node: &'n Node,
    /// The place of its key, or of the node if it has none.
    pub(super) place: Place,
    /// The path for messages, without parts of keys that may be values.
    pub(super) path: String,
    /// The last key of the path.
    pub(super) key: &'n str,
}

impl<'n> Location<'n> {
    pub(super) fn root(node: &'n Node) -> Self {
        Self { node, place: node.place, path: String::new(), key: "" }
    }

    fn child(&self, key: &'n str, place: Place, node: &'n Node) -> Self {
        let shown = node::shown(key);
        let path = if self.path.is_empty() { shown.into_owned() } else { format!("{}.{shown}", self.path) };
        Self { node, place, path, key }
    }
}

impl<'a> Translation<'a> {
    pub(super) fn new(files: impl IntoIterator<Item = &'a str>, given: &'a Variables) -> Self {
        let shown =
            |file: &'a str| if echo::file_name(file).text().is_some() { file } else { "the collector.yaml" };
        Self {
            files: files.into_iter().map(shown).collect(),
            given,
            expanded: 0,
            variables: Variables::new(),
            locations: Locations::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
            renamed: Renamed::new(),
        }
    }

    fn problem(&self, place: Place, path: &str, message: impl Into<String>) -> Problem {
        let file = self.files.get(place.source).copied().unwrap_or("the collector.yaml");
        let separator = if path.is_empty() { "" } else { ": " };
        Problem { variable: format!("{file}:{}{separator}{path}", place.line), message: message.into() }
    }

    /// A problem with a line.
    pub(super) fn problem_at(&self, place: Place, message: impl Into<String>) -> Problem {
        self.problem(place, "", message)
    }

    pub(super) fn error(&mut self, location: &Location<'_>, message: impl Into<String>) {
        let error = self.problem(location.place, &location.path, message);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(super) fn warning(&mut self, location: &Location<'_>, message: impl Into<String>) {
        let warning = self.problem(location.place, &location.path, message);
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Records an error about a line.
    pub(super) fn error_at(&mut self, place: Place, message: impl Into<String>) {
        let error = self.problem_at(place, message);
        self.errors.push(error);
    }

    /// Records a warning about a line.
    pub(super) fn warning_at(&mut self, place: Place, message: impl Into<String>) {
        let warning = self.problem_at(place, message);
        self.warnings.push(warning);
    }

    /// The first matching variable that is set outside the file.
    pub(super) fn given(&self, matches: impl Fn(&str) -> bool) -> Option<&'a str> {
        let given = self.given;
        let given = given.iter().filter(|(_, text)| value::non_empty(text).is_some());
        given.map(|(name, _)| name.as_str()).find(|name| matches(name))
    }

    /// The default share of the function's memory for the buffer.
    pub(super) fn default_buffer_bytes(&self) -> usize {
        config::default_buffer_bytes(config::memory_bytes(self.given))
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
        let source = self.problem(location.place, &location.path, "").variable;
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
        match location.node.structure() {
            YamlValue::Nothing => Vec::new(),
            YamlValue::Map(entries) => {
                let child = |MapEntry { key, place, node }: &'n MapEntry| location.child(key, *place, node);
                entries.iter().map(child).collect()
            }
            YamlValue::Text(_) | YamlValue::Reference(..) | YamlValue::List(_) => {
                self.error(location, "expected a mapping; write one \"name: value\" per line");
                Vec::new()
            }
        }
    }

    /// The elements of a list. A single text counts as a list of one.
    pub(super) fn elements<'n>(&mut self, location: &Location<'n>) -> Vec<Location<'n>> {
        let at = |node: &'n Node| Location { node, place: node.place, ..location.clone() };
        match location.node.structure() {
            YamlValue::Nothing => Vec::new(),
            YamlValue::List(nodes) => nodes.iter().map(at).collect(),
            YamlValue::Text(_) | YamlValue::Reference(..) => vec![at(location.node)],
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

    /// The text at this location with variables expanded; `None` for an empty value and after an error.
    pub(super) fn text(&mut self, location: &Location<'_>) -> Option<String> {
        let (text, warnings) = self.expanded(location)?;
        for message in warnings {
            self.warning(location, message);
        }
        Some(text)
    }

    /// The text at this location, which must not be empty. An error if it is: of the variable that is not set, else this one.
    pub(super) fn required(&mut self, location: &Location<'_>, missing: &str) -> Option<String> {
        let errors = self.errors.len();
        let (text, warnings) = self.expanded(location).unwrap_or_default();
        if !text.is_empty() {
            for message in warnings {
                self.warning(location, message);
            }
            return Some(text);
        }
        // An invalid value has its error already.
        if self.errors.len() == errors {
            self.error(location, warnings.into_iter().next().unwrap_or_else(|| missing.to_owned()));
        }
        None
    }

    /// Expands the text at this location; also returns the warnings.
    fn expanded(&mut self, location: &Location<'_>) -> Option<(String, Vec<String>)> {
        let text = match &location.node.value {
            YamlValue::Nothing => return None,
            YamlValue::Text(text) | YamlValue::Reference(text, _) => text,
            YamlValue::List(_) | YamlValue::Map(_) => {
                self.error(location, "expected a single value; check the indentation");
                return None;
            }
        };
        let expand::Expanded { text, warnings, errors, .. } =
            expand::expand(text, self.given, node::TEXT_LIMIT.saturating_sub(self.expanded));
        self.expanded += text.len();
        if !errors.is_empty() {
            for message in errors {
                self.error(location, message);
            }
            return None;
        }
        let text = text.trim();
        // The character would split the list that the value may become part of.
        if text.contains(LIST_SEPARATOR) {
            self.error(location, "the value contains a control character; remove it");
            return None;
        }
        Some((text.to_owned(), warnings))
    }

    /// The value at this location, with the type that YAML gives it; `None` for an empty value and after an error.
    pub(super) fn value(&mut self, location: &Location<'_>) -> Option<OttlValue> {
        let text = self.text(location)?;
        let is_typed = location.node.is_plain
            || matches!(&location.node.value, YamlValue::Text(text) if text.starts_with("${"));
        Some(if is_typed { typed(text) } else { OttlValue::Text(text) })
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

/// The value of a text without quotes, as YAML 1.2 reads it.
fn typed(text: String) -> OttlValue {
    let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.as_str() {
        "true" | "True" | "TRUE" => OttlValue::Bool(true),
        "false" | "False" | "FALSE" => OttlValue::Bool(false),
        number if is_number(number) => match (number.parse(), number.parse()) {
            (Ok(int), _) => OttlValue::Int(int),
            (_, Ok(double)) => OttlValue::Double(double),
            _ => OttlValue::Text(text),
        },
        _ => OttlValue::Text(text),
    }
}

/// Joins names and values with [`LIST_SEPARATOR`], which no value contains.
pub(super) fn list(pairs: &[(String, String)]) -> String {
    pairs.iter().flat_map(|(name, value)| [LIST_SEPARATOR.to_string(), format!("{name}={value}")]).collect()
}
