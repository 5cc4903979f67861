//! Builds one tree of the texts that people configure: closes quotes that were left open, splits keys at `::`, merges the texts,
//! and reads variables that hold a list or a mapping.

use super::expand;
use super::node::{self, MapEntry, Node, Place, Size, YamlError, YamlValue};
use crate::config::Variables;

/// The number of lines with an open quote that are tried.
const QUOTE_TRIALS: usize = 4;

/// The parsed texts.
pub(super) struct MergedDocument {
    pub(super) root: Node,
    /// The places of quotes that were left open.
    pub(super) open_quotes: Vec<Place>,
}

/// Parses and merges the texts: mappings are merged, and of other values the last one counts, as with several `--config` of
/// the collector.
pub(super) fn parse<'t>(
    texts: impl IntoIterator<Item = &'t str>,
    given: &Variables,
) -> Result<MergedDocument, YamlError> {
    let mut open_quotes = Vec::new();
    let mut root: Option<Node> = None;
    for (source, text) in texts.into_iter().enumerate() {
        let mut node = match node::parse(text, source) {
            Ok(node) => node,
            Err(error) => {
                let (node, quote) = close_quote(text, error)?;
                open_quotes.push(quote);
                node
            }
        };
        split_keys(&mut node);
        root = Some(match root {
            None => node,
            Some(root) => merge(root, node),
        });
    }
    let mut root = root.unwrap_or(Node::nothing(Place::START));
    let mut size = node::size(&root);
    fill_references(&mut root, given, &mut size);
    Ok(MergedDocument { root, open_quotes })
}

/// Closes the quote of a value at the end of its line, if that makes the text valid. If not, the error names the line of the
/// first quote that may be the cause.
fn close_quote(text: &str, error: YamlError) -> Result<(Node, Place), YamlError> {
    let YamlError { place: Place { source, line: of_error }, .. } = error;
    let mut first = None;
    let mut start = 0;
    let mut trials = 0;
    for (nth, line) in text.split_inclusive('\n').take(of_error).enumerate() {
        let content = line.trim_end();
        let end = start + content.len();
        start += line.len();
        let Some(quote) = open_quote(content) else { continue };
        let place = Place { source, line: nth + 1 };
        first.get_or_insert((place, quote));
        trials += 1;
        if trials > QUOTE_TRIALS {
            break;
        }
        let (before, after) = text.split_at_checked(end).unwrap_or((text, ""));
        if let Ok(node) = node::parse(&format!("{before}{quote}{after}"), source) {
            return Ok((node, place));
        }
    }
    Err(match first {
        Some((place, quote)) => YamlError {
            place,
            message: format!("the quote is not closed; add {quote} at the end of the value"),
        },
        None => error,
    })
}

/// The quote with which a value begins that does not end on its line.
fn open_quote(line: &str) -> Option<char> {
    let value = line.split_once(": ").map_or(line, |(_, value)| value).trim_start();
    let value = value.strip_prefix("- ").unwrap_or(value).trim_start();
    let quote = value.chars().next().filter(|first| ['"', '\''].contains(first))?;
    let mut characters = value.chars().skip(1);
    while let Some(character) = characters.next() {
        match character {
            '\\' if quote == '"' => {
                characters.next();
            }
            _ if character == quote => return None,
            _ => {}
        }
    }
    Some(quote)
}

/// Splits the keys `a::b: …` into nested mappings.
fn split_keys(node: &mut Node) {
    match &mut node.value {
        YamlValue::List(nodes) => nodes.iter_mut().for_each(split_keys),
        YamlValue::Map(entries) => {
            let mut split: Vec<MapEntry> = Vec::new();
            for mut entry in std::mem::take(entries) {
                split_keys(&mut entry.node);
                // From the innermost to the outermost. The tree stays bounded: each of its levels becomes eight at most.
                let mut names: Vec<_> = entry.key.splitn(8, "::").map(str::to_owned).collect();
                let first = names.first().cloned().unwrap_or_default();
                for name in names.drain(..).skip(1).rev() {
                    let inner = MapEntry { key: name, place: entry.place, node: entry.node };
                    entry.node = Node::map(entry.place, vec![inner]);
                }
                entry.key = first;
                add(&mut split, entry);
            }
            *entries = split;
        }
        YamlValue::Nothing | YamlValue::Text(_) | YamlValue::Reference(..) => {}
    }
}

/// Adds an entry, merged with that of the same key.
fn add(entries: &mut Vec<MapEntry>, entry: MapEntry) {
    match entries.iter_mut().find(|known| known.key == entry.key) {
        None => entries.push(entry),
        Some(known) => {
            let place = known.place;
            let node = std::mem::replace(&mut known.node, Node::nothing(place));
            known.node = merge(node, entry.node);
            known.place = entry.place;
        }
    }
}

/// Merges two values. Recursion is bounded by the depth of the trees.
fn merge(base: Node, other: Node) -> Node {
    match (base.value, &other.value) {
        (YamlValue::Map(entries), YamlValue::Nothing) => Node::map(base.place, entries),
        (YamlValue::Map(mut entries), YamlValue::Map(_)) => {
            let YamlValue::Map(others) = other.value else { return other };
            for entry in others {
                add(&mut entries, entry);
            }
            Node::map(other.place, entries)
        }
        _ => other,
    }
}

/// Parses the variables of values that are a single reference and hold a list or a mapping, as long as the tree stays within its
/// limits.
fn fill_references(node: &mut Node, given: &Variables, total: &mut Size) {
    match &mut node.value {
        YamlValue::Text(text) if text.starts_with("${") => {
            if !expand::is_single_reference(text) {
                return;
            }
            let expanded = expand::expand(text, given, node::TEXT_LIMIT);
            // Each text that is parsed counts, so that many references cost no more than a large file.
            let with_text = total.and(Size { nodes: 0, text: expanded.text.len() });
            if !expanded.errors.is_empty() || with_text.exceeds_limits() {
                return;
            }
            *total = with_text;
            let Ok(mut structure) = node::parse(&expanded.text, node.place.source) else { return };
            if !matches!(structure.value, YamlValue::List(_) | YamlValue::Map(_)) {
                return;
            }
            let with_nodes = total.and(Size { text: 0, ..node::size(&structure) });
            if with_nodes.exceeds_limits() {
                return;
            }
            *total = with_nodes;
            set_place(&mut structure, node.place);
            let text = std::mem::take(text);
            node.value = YamlValue::Reference(text, Box::new(structure));
        }
        YamlValue::List(nodes) => nodes.iter_mut().for_each(|node| fill_references(node, given, total)),
        YamlValue::Map(entries) => {
            for entry in entries {
                fill_references(&mut entry.node, given, total);
            }
        }
        YamlValue::Nothing | YamlValue::Text(_) | YamlValue::Reference(..) => {}
    }
}

/// Sets the place of all nodes.
fn set_place(node: &mut Node, place: Place) {
    node.place = place;
    match &mut node.value {
        YamlValue::List(nodes) => nodes.iter_mut().for_each(|node| set_place(node, place)),
        YamlValue::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.place = place;
            set_place(&mut entry.node, place);
        }),
        YamlValue::Nothing | YamlValue::Text(_) | YamlValue::Reference(..) => {}
    }
}
