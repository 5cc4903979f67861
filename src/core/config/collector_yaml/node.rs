//! Parses YAML into a tree whose nodes know their lines.
//!
//! Promises that the tree is bounded, whatever nesting or aliases the file has, and that messages contain nothing of a value,
//! because it may be a credential.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::echo;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

/// A line of one of the texts that are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The index of the text.
    pub(super) source: usize,
    pub(super) line: usize,
}

impl Place {
    /// The first line of the first text.
    pub(super) const START: Self = Self { source: 0, line: 1 };
}

/// A value in a text, with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    /// A text without quotes, which may be a number or a boolean.
    pub(super) is_plain: bool,
    pub(super) value: YamlValue,
}

impl Node {
    /// A mapping.
    pub(super) fn map(place: Place, entries: Vec<MapEntry>) -> Self {
        Self { place, is_plain: false, value: YamlValue::Map(entries) }
    }

    /// An empty value.
    pub(super) fn nothing(place: Place) -> Self {
        Self { place, is_plain: false, value: YamlValue::Nothing }
    }

    /// The value where a list or a mapping is wanted.
    pub(super) fn structure(&self) -> &YamlValue {
        match &self.value {
            YamlValue::Reference(_, structure) => &structure.value,
            value => value,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum YamlValue {
    /// `null`, `~` or an empty value.
    Nothing,
    Text(String),
    List(Vec<Node>),
    /// In the file's order.
    Map(Vec<MapEntry>),
    /// A single reference to a variable that holds a list or a mapping. It is a text where one is wanted.
    Reference(String, Box<Node>),
}

#[derive(Clone, Debug)]
pub(super) struct MapEntry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// The reason why a text is not valid YAML, and the place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) place: Place,
    pub(super) message: String,
}

/// The maximum nesting depth; no real `collector.yaml` is deeper.
const DEPTH_LIMIT: usize = 32;
/// The maximum number of values, including those of resolved aliases.
const NODE_LIMIT: usize = 10_000;
/// The maximum number of bytes in texts and keys: four times the size limit of the file.
pub(super) const TEXT_LIMIT: usize = 1024 * 1024;
/// The key that merges another mapping.
const MERGE: &str = "<<";

/// A list or mapping whose end has not been parsed.
struct OpenNode {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<MapEntry>,
        /// The key whose value comes next, with its place.
        key: Option<(String, Place)>,
    },
}

/// The size of a tree.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) nodes: usize,
    /// The number of bytes in texts and keys.
    pub(super) text: usize,
}

impl Size {
    /// Returns true if a tree of this size is too large.
    pub(super) fn exceeds_limits(self) -> bool {
        self.nodes > NODE_LIMIT || self.text > TEXT_LIMIT
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { nodes: self.nodes + other.nodes, text: self.text + other.text }
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<OpenNode>,
    /// The anchored nodes that aliases refer to, with their sizes.
    anchors: BTreeMap<usize, (Node, Size)>,
    /// The size of all nodes kept so far.
    size: Size,
    document: Option<Node>,
}

/// Parses a text with a single document.
pub(super) fn parse(text: &str, source: usize) -> Result<Node, YamlError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax_error(&error, source))?;
        let place = Place { source, line: span.start.line() };
        let malformed = |message: &str| YamlError { place, message: message.to_owned() };
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_nothing =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_nothing { YamlValue::Nothing } else { YamlValue::Text(text.into_owned()) };
                let node = Node { place, is_plain: style == ScalarStyle::Plain, value };
                let size = size(&node);
                builder.add(place, size)?;
                builder.put(node, anchor, size)?;
            }
            Event::Alias(anchor) => {
                let size = builder.anchors.get(&anchor).map(|(_, size)| *size).unwrap_or_default();
                // Checked before the node is cloned.
                builder.add(place, size)?;
                let (node, _) = builder.anchors.get(&anchor).cloned().ok_or_else(|| {
                    malformed("an alias is inside the value that it refers to; write the value itself")
                })?;
                builder.put(Node { place, ..node }, 0, size)?;
            }
            Event::SequenceStart(anchor, _) => builder.begin(place, anchor, Content::List(Vec::new()))?,
            Event::MappingStart(anchor, _) => {
                builder.begin(place, anchor, Content::Map { entries: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end()?,
            Event::DocumentStart(_) if builder.document.is_some() => {
                return Err(malformed("a second document begins here; keep only one"));
            }
            _ => {}
        }
    }
    Ok(builder.document.unwrap_or(Node::nothing(Place { source, line: 1 })))
}

fn syntax_error(error: &ScanError, source: usize) -> YamlError {
    YamlError {
        place: Place { source, line: error.marker().line() },
        message: format!(
            "invalid YAML: {}; check indentation, quotes and brackets",
            echo::untrusted(error.info(), echo::UNTRUSTED_LIMIT)
        ),
    }
}

impl Builder {
    /// Adds to the size of kept nodes; fails if a limit is exceeded.
    fn add(&mut self, place: Place, size: Size) -> Result<(), YamlError> {
        self.size = self.size.and(size);
        let message = if self.size.nodes > NODE_LIMIT {
            format!("has more than {NODE_LIMIT} values, including aliases; reduce them")
        } else if self.size.text > TEXT_LIMIT {
            format!("has more than {TEXT_LIMIT} bytes of text, including aliases; reduce it")
        } else {
            return Ok(());
        };
        Err(YamlError { place, message })
    }

    fn begin(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), YamlError> {
        self.add(place, Size { nodes: 1, text: 0 })?;
        if self.open.len() == DEPTH_LIMIT {
            let message = format!("nested deeper than {DEPTH_LIMIT} levels; reduce the nesting");
            return Err(YamlError { place, message });
        }
        self.open.push(OpenNode { place, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(OpenNode { place, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(nodes) => YamlValue::List(nodes),
            Content::Map { entries, .. } => YamlValue::Map(merged(entries)),
        };
        let node = Node { place, is_plain: false, value };
        let size = if anchor == 0 { Size::default() } else { size(&node) };
        self.put(node, anchor, size)
    }

    /// Adds a node to its parent as a key, a value or an element, or makes it the document.
    fn put(&mut self, node: Node, anchor: usize, size: Size) -> Result<(), YamlError> {
        if anchor > 0 {
            self.add(node.place, size)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.document = Some(node),
            Some(Content::List(list)) => list.push(node),
            Some(Content::Map { entries, key }) => {
                if let Some((key, place)) = key.take() {
                    entries.push(MapEntry { key, place, node });
                } else {
                    *key = Some(key_of(node, entries)?);
                }
            }
        }
        Ok(())
    }
}

/// The node as a key, with its place.
fn key_of(node: Node, entries: &[MapEntry]) -> Result<(String, Place), YamlError> {
    let Node { place, value: YamlValue::Text(text), .. } = node else {
        let message = "a key must be plain text; check indentation and brackets".to_owned();
        return Err(YamlError { place: node.place, message });
    };
    if text != MERGE && entries.iter().any(|entry| entry.key == text) {
        let message = format!("duplicate key {}; remove one of them", shown(&text));
        return Err(YamlError { place, message });
    }
    Ok((text, place))
}

/// Resolves merge keys: adds the entries of merged mappings whose keys are missing.
fn merged(entries: Vec<MapEntry>) -> Vec<MapEntry> {
    let (merges, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == MERGE);
    for MapEntry { node, .. } in merges {
        let maps = match node.value {
            YamlValue::List(nodes) => nodes,
            _ => vec![node],
        };
        for map in maps {
            let YamlValue::Map(others) = map.value else { continue };
            for other in others {
                if !entries.iter().any(|entry| entry.key == other.key) {
                    entries.push(other);
                }
            }
        }
    }
    entries
}

/// The size of a tree. Recursion is bounded by `DEPTH_LIMIT`.
pub(super) fn size(node: &Node) -> Size {
    let one = Size { nodes: 1, text: 0 };
    match &node.value {
        YamlValue::Nothing => one,
        YamlValue::Text(text) => Size { text: text.len(), ..one },
        YamlValue::Reference(text, structure) => Size { nodes: 0, text: text.len() }.and(size(structure)),
        YamlValue::List(nodes) => nodes.iter().map(size).fold(one, Size::and),
        YamlValue::Map(entries) => {
            let sizes = entries
                .iter()
                .map(|MapEntry { key, node, .. }| size(node).and(Size { nodes: 0, text: key.len() }));
            sizes.fold(one, Size::and)
        }
    }
}

/// Types of components that look like keys to `echo`, but are none.
const COMPONENTS: [&str; 8] = [
    "awscloudwatchlogs",
    "googlemanagedprometheus",
    "k8sattributes",
    "oauth2client",
    "prometheusremotewrite",
    "signalfx",
    "sigv4auth",
    "telemetryapireceiver",
];

/// The part of a key or an id that may be printed: without a blank after the colon, the text includes the value.
pub(super) fn shown(key: &str) -> Cow<'_, str> {
    let (name, rest) = key.split_at_checked(key.find([':', '=']).unwrap_or(key.len())).unwrap_or((key, ""));
    let (kind, of_kind) = name.split_once('/').unwrap_or((name, ""));
    let is_component = COMPONENTS.contains(&kind) && (of_kind.is_empty() || echo::is_name(of_kind));
    match (is_component || echo::is_name(name), rest) {
        (true, "") => Cow::Borrowed(key),
        (true, _) => Cow::Owned(format!("{name}…")),
        (false, _) => Cow::Borrowed("…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(node: &Node) -> String {
        match &node.value {
            YamlValue::Nothing => "-".to_owned(),
            YamlValue::Text(text) => format!("{text}@{}", node.place.line),
            YamlValue::Reference(text, structure) => format!("{text}={}", written(structure)),
            YamlValue::List(nodes) => {
                format!("[{}]", nodes.iter().map(written).collect::<Vec<_>>().join(" "))
            }
            YamlValue::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|MapEntry { key, place, node }| format!("{key}@{}: {}", place.line, written(node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[test]
    fn nodes_know_their_lines() {
        let tree = parse("a:\n  b: [x, 'null']\n  c:\nd: >\n  long\n  text\n", 0).expect("a tree");
        assert_eq!(written(&tree), "{a@1: {b@2: [x@2 null@2], c@3: -}, d@4: long text\n@5}");
        assert_eq!(written(&parse("# nothing\n", 0).expect("a tree")), "-");
    }

    #[test]
    fn aliases_and_merges_are_resolved() {
        let tree = parse("a: &a {x: 1, y: 2}\nb: *a\nc:\n  <<: *a\n  y: 3\n", 0).expect("a tree");
        assert_eq!(
            written(&tree),
            "{a@1: {x@1: 1@1, y@1: 2@1}, b@2: {x@1: 1@1, y@1: 2@1}, c@3: {y@5: 3@5, x@1: 1@1}}"
        );
    }

    #[test]
    fn aliases_and_nesting_are_bounded() {
        let laughs = (1..20).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
            let alias = format!("*a{}, ", level - 1).repeat(9);
            format!("{text}a{level}: &a{level} [{alias}x]\n")
        });
        assert!(parse(&laughs, 0).expect_err("too large").message.contains("10000 values"));
        for nested in ["[".repeat(5000), "{a: ".repeat(5000), "- ".repeat(5000)] {
            assert!(parse(&nested, 0).is_err());
        }
        let nested = (0..40).fold(String::new(), |text, level| text + &" ".repeat(level) + "a:\n");
        assert!(parse(&nested, 0).expect_err("too deep").message.contains("nested deeper"));
        assert!(parse("a: &a [*a]\n", 0).is_err());
    }

    #[test]
    fn aliased_texts_are_bounded() {
        let long = "x".repeat(200_000);
        let aliases = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(9000));
        assert!(parse(&aliases, 0).expect_err("too long").message.contains("bytes of text"));
        let keys = format!("a: &a {{? {long} : 1}}\nb: [{}]\n", "*a, ".repeat(3000));
        assert!(parse(&keys, 0).expect_err("too long").message.contains("bytes of text"));
        let anchors: String =
            (0..20).flat_map(|level| ["&a".to_owned(), level.to_string(), " [".to_owned()]).collect();
        let anchors = format!("{anchors}{long}{}", "]".repeat(20));
        assert!(parse(&anchors, 0).expect_err("too long").message.contains("bytes of text"));
        assert!(parse(&format!("a: &a {long}\nb: *a\n"), 0).is_ok());
    }
}
