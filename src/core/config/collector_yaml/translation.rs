//! What a walk through the file gives: variables with the locations that set them, and what is told of other locations.

use std::collections::BTreeMap;

use super::expand;
use super::node::{self, MapEntry, Node, YamlValue};
use crate::config::value::{self, LIST_SEPARATOR};
use crate::config::{Problem, SourceLocations, Variables};
use crate::echo;

/// Names of variables, and of those that take their texts over.
pub(super) type Renamed = BTreeMap<String, Option<String>>;

/// Takes down what the file says, location by location.
pub(super) struct Translation<'a> {
    /// Its name without its folder.
    file: &'a str,
    /// What its values are filled from.
    given: &'a Variables,
    /// Bytes of all values that were read.
    expanded: usize,
    pub(super) variables: Variables,
    pub(super) locations: SourceLocations,
    pub(super) warnings: Vec<Problem>,
    pub(super) errors: Vec<Problem>,
    /// Variables beside the file that do not count, and under which names they count instead.
    pub(super) renamed: Renamed,
}

/// A location of the file, and how one gets there.
#[derive(Clone, Debug)]
pub(super) struct Location<'n> {
    pub(super) node: &'n Node,
    /// That of its key, where it has one.
    pub(super) line: usize,
    /// Without what of its keys may be a value.
    pub(super) path: String,
    /// The last part of the path.
    pub(super) key: &'n str,
}

impl<'n> Location<'n> {
    pub(super) fn top(node: &'n Node) -> Self {
        Self { node, line: node.line, path: String::new(), key: "" }
    }

    fn below(&self, key: &'n str, line: usize, node: &'n Node) -> Self {
        let shown = node::shown(key);
        let path = if self.path.is_empty() { shown.into_owned() } else { format!("{}.{shown}", self.path) };
        Self { node, line, path, key }
    }
}

impl<'a> Translation<'a> {
    pub(super) fn new(file: &'a str, given: &'a Variables) -> Self {
        // A key may stand where the path of the file belongs.
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

    fn told(&self, line: usize, path: &str, message: impl Into<String>) -> Problem {
        let location = if path.is_empty() {
            format!("{}:{line}", self.file)
        } else {
            format!("{}:{line}: {path}", self.file)
        };
        Problem { variable: location, message: message.into() }
    }

    pub(super) fn error(&mut self, location: &Location<'_>, message: impl Into<String>) {
        let error = self.told(location.line, &location.path, message);
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(super) fn warning(&mut self, location: &Location<'_>, message: impl Into<String>) {
        let warning = self.told(location.line, &location.path, message);
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// What is wrong with the whole.
    pub(super) fn error_at(&mut self, line: usize, message: impl Into<String>) {
        let error = self.told(line, "", message);
        self.errors.push(error);
    }

    /// The first of these variables that is set beside the file, so that it wins.
    pub(super) fn given(&self, matches: impl Fn(&str) -> bool) -> Option<&'a str> {
        let given = self.given;
        let given = given.iter().filter(|(_, text)| value::non_empty(text).is_some());
        given.map(|(name, _)| name.as_str()).find(|name| matches(name))
    }

    /// Takes a variable beside the file out of what counts.
    pub(super) fn hide(&mut self, name: &str) {
        self.renamed.insert(name.to_owned(), None);
    }

    /// Has the variables beside the file that begin like this count under names that begin otherwise.
    pub(super) fn rename(&mut self, prefix: &str, other: &str) {
        let given = self.given;
        for (name, text) in given {
            let Some(setting) = name.strip_prefix(prefix) else { continue };
            let renamed = format!("{other}{setting}");
            // What is wrong with it is told of the variable that people have set.
            self.locations.insert(renamed.clone(), name.clone());
            self.variables.insert(renamed.clone(), text.clone());
            self.renamed.insert(name.clone(), Some(renamed));
        }
    }

    /// Sets a variable in this location's name.
    pub(super) fn set(
        &mut self,
        variable: impl Into<String>,
        text: impl Into<String>,
        location: &Location<'_>,
    ) {
        let (variable, text) = (variable.into(), text.into());
        let told = self.told(location.line, &location.path, "").variable;
        let is_other = self.variables.get(&variable).is_some_and(|known| *known != text);
        if let Some(other) = self.locations.get(&variable).filter(|other| is_other && **other != told) {
            let message = format!(
                "it replaces what {other} says, because there is one of it here; write the same in both"
            );
            self.warning(location, message);
        }
        self.locations.insert(variable.clone(), told);
        self.variables.insert(variable, text);
    }

    /// Sets a variable to what stands here, if anything does.
    pub(super) fn set_text(&mut self, variable: impl Into<String>, location: &Location<'_>) {
        if let Some(text) = self.text(location) {
            self.set(variable, text, location);
        }
    }

    /// The entries of a mapping; none where nothing stands.
    pub(super) fn entries<'n>(&mut self, location: &Location<'n>) -> Vec<Location<'n>> {
        match &location.node.value {
            YamlValue::Nothing => Vec::new(),
            YamlValue::Map(entries) => {
                let below = |MapEntry { key, line, node }: &'n MapEntry| location.below(key, *line, node);
                entries.iter().map(below).collect()
            }
            YamlValue::Text(_) | YamlValue::List(_) => {
                self.error(location, "settings are to stand here, a line each, such as \"name: value\"");
                Vec::new()
            }
        }
    }

    /// The elements of a list; one alone need not be one.
    pub(super) fn elements<'n>(&mut self, location: &Location<'n>) -> Vec<Location<'n>> {
        let at = |node: &'n Node| Location { node, line: node.line, ..location.clone() };
        match &location.node.value {
            YamlValue::Nothing => Vec::new(),
            YamlValue::List(nodes) => nodes.iter().map(at).collect(),
            YamlValue::Text(_) => vec![at(location.node)],
            YamlValue::Map(_) => {
                self.error(location, "a list is to stand here, such as [otlp]");
                Vec::new()
            }
        }
    }

    /// The texts of a list.
    pub(super) fn texts<'n>(&mut self, location: &Location<'n>) -> Vec<(String, Location<'n>)> {
        let elements = self.elements(location).into_iter();
        elements.filter_map(|element| Some((self.text(&element)?, element))).collect()
    }

    /// The text that stands here with its variables filled in; `None` where nothing does.
    pub(super) fn text(&mut self, location: &Location<'_>) -> Option<String> {
        let text = match &location.node.value {
            YamlValue::Nothing => return None,
            YamlValue::Text(text) => text,
            YamlValue::List(_) | YamlValue::Map(_) => {
                self.error(location, "one value is to stand here, and several do; see indentation");
                return None;
            }
        };
        let expand::Expanded { text, unset, problems } =
            expand::expand(text, self.given, node::TEXT_LIMIT.saturating_sub(self.expanded));
        self.expanded += text.len();
        for name in unset {
            self.warning(
                location,
                format!("the variable {} is not set, so nothing is filled in; set it", node::shown(&name)),
            );
        }
        for message in problems {
            self.error(location, message);
        }
        let text = text.trim();
        // It would take the list apart that it may become part of.
        if text.contains(LIST_SEPARATOR) {
            self.error(location, "the value holds a control character; remove it");
            return None;
        }
        Some(text.to_owned())
    }

    /// Whether `true` stands here.
    pub(super) fn flag(&mut self, location: &Location<'_>) -> bool {
        match self.text(location).as_deref() {
            Some("true") => true,
            Some("false" | "") | None => false,
            Some(_) => {
                self.error(location, "it is neither true nor false; write true or false");
                false
            }
        }
    }
}

/// Names and values as one text, which no value can take apart.
pub(super) fn list(pairs: &[(String, String)]) -> String {
    pairs.iter().flat_map(|(name, value)| [LIST_SEPARATOR.to_string(), format!("{name}={value}")]).collect()
}
