//! What a YAML file says, as a tree in which each node knows its line.
//!
//! Bounded: neither nesting nor aliases that stand for aliases make of a small file a large tree. Nothing of a value is in
//! a message, because it may be a credential.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

/// What stands at one place of the file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `null`, `~` or nothing at all.
    Nothing,
    Text(String),
    List(Vec<Node>),
    /// In the file's order.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

/// Why a text is no tree, and on which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// No `collector.yaml` is nested deeper.
const DEPTH_LIMIT: usize = 32;
/// Nor has one so many values, those behind its aliases included.
const NODE_LIMIT: usize = 10_000;
/// The key that merges another mapping.
const MERGE: &str = "<<";

/// A list or a mapping that has begun and not yet ended.
struct Open {
    line: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// Its value comes next.
        key: Option<(String, usize)>,
    },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// What aliases stand for, each with its number of nodes.
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    document: Option<Node>,
}

/// Reads the first document of a text.
pub(super) fn parse(text: &str) -> Result<Node, Malformed> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| of_syntax(&error))?;
        let line = span.start.line();
        let malformed = |problem: &str| Malformed { line, problem: problem.to_owned() };
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_nothing =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_nothing { Value::Nothing } else { Value::Text(text.into_owned()) };
                builder.nodes += 1;
                builder.put(Node { line, value }, anchor, 1)?;
            }
            Event::Alias(anchor) => {
                let (node, nodes) = builder.anchors.get(&anchor).cloned().ok_or_else(|| {
                    malformed("an alias stands within what it is to stand for; write the value itself")
                })?;
                builder.nodes += nodes;
                builder.within_limit(line)?;
                builder.put(Node { line, ..node }, 0, nodes)?;
            }
            Event::SequenceStart(anchor, _) => builder.begin(line, anchor, Content::List(Vec::new()))?,
            Event::MappingStart(anchor, _) => {
                builder.begin(line, anchor, Content::Map { entries: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end()?,
            Event::DocumentStart(_) if builder.document.is_some() => {
                return Err(malformed("a second document begins here; write one only"));
            }
            _ => {}
        }
        builder.within_limit(line)?;
    }
    Ok(builder.document.unwrap_or(Node { line: 1, value: Value::Nothing }))
}

fn of_syntax(error: &ScanError) -> Malformed {
    Malformed {
        line: error.marker().line(),
        problem: format!("it is not YAML: {}; see indentation, quotes and brackets", error.info()),
    }
}

impl Builder {
    fn within_limit(&self, line: usize) -> Result<(), Malformed> {
        if self.nodes <= NODE_LIMIT {
            return Ok(());
        }
        let problem = format!("it has more than {NODE_LIMIT} values, aliases included; no configuration has");
        Err(Malformed { line, problem })
    }

    fn begin(&mut self, line: usize, anchor: usize, content: Content) -> Result<(), Malformed> {
        self.nodes += 1;
        if self.open.len() == DEPTH_LIMIT {
            let problem = format!("it is nested deeper than {DEPTH_LIMIT} levels; no configuration is");
            return Err(Malformed { line, problem });
        }
        self.open.push(Open { line, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Malformed> {
        let Some(Open { line, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(nodes) => Value::List(nodes),
            Content::Map { entries, .. } => Value::Map(merged(entries)),
        };
        let node = Node { line, value };
        let nodes = if anchor == 0 { 0 } else { count(&node) };
        self.put(node, anchor, nodes)
    }

    /// Puts a node where it belongs: as a key, a value, an element or the whole.
    fn put(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), Malformed> {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.document = Some(node),
            Some(Content::List(list)) => list.push(node),
            Some(Content::Map { entries, key }) => {
                if let Some((key, line)) = key.take() {
                    entries.push(Entry { key, line, node });
                } else {
                    *key = Some(key_of(node, entries)?);
                }
            }
        }
        Ok(())
    }
}

/// The key that a node is, and its line.
fn key_of(node: Node, entries: &[Entry]) -> Result<(String, usize), Malformed> {
    let Node { line, value: Value::Text(text) } = node else {
        let problem = "a key is to be a word; see indentation and brackets".to_owned();
        return Err(Malformed { line: node.line, problem });
    };
    if text != MERGE && entries.iter().any(|entry| entry.key == text) {
        let problem = format!("{text:?} stands twice in the same mapping; remove one");
        return Err(Malformed { line, problem });
    }
    Ok((text, line))
}

/// The entries, and those of merged mappings where they have none of that name.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    let (merges, mut entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == MERGE);
    for Entry { node, .. } in merges {
        let maps = match node.value {
            Value::List(nodes) => nodes,
            _ => vec![node],
        };
        for map in maps {
            let Value::Map(others) = map.value else { continue };
            for other in others {
                if !entries.iter().any(|entry| entry.key == other.key) {
                    entries.push(other);
                }
            }
        }
    }
    entries
}

/// Nodes of a tree whose depth is bounded.
fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Nothing | Value::Text(_) => 0,
        Value::List(nodes) => nodes.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|entry| count(&entry.node)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Nothing => "-".to_owned(),
            Value::Text(text) => format!("{text}@{}", node.line),
            Value::List(nodes) => format!("[{}]", nodes.iter().map(shown).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entries =
                    entries.iter().map(|Entry { key, line, node }| format!("{key}@{line}: {}", shown(node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[test]
    fn every_node_knows_its_line() {
        let tree = parse("a:\n  b: [x, 'null']\n  c:\nd: >\n  long\n  text\n").expect("a tree");
        assert_eq!(shown(&tree), "{a@1: {b@2: [x@2 null@2], c@3: -}, d@4: long text\n@5}");
        assert_eq!(shown(&parse("# nothing\n").expect("a tree")), "-");
    }

    #[test]
    fn aliases_and_merges_stand_for_what_they_name() {
        let tree = parse("a: &a {x: 1, y: 2}\nb: *a\nc:\n  <<: *a\n  y: 3\n").expect("a tree");
        assert_eq!(
            shown(&tree),
            "{a@1: {x@1: 1@1, y@1: 2@1}, b@2: {x@1: 1@1, y@1: 2@1}, c@3: {y@5: 3@5, x@1: 1@1}}"
        );
    }

    #[test]
    fn neither_aliases_nor_nesting_make_a_small_file_large() {
        let laughs = (1..20).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
            let alias = format!("*a{}, ", level - 1).repeat(9);
            format!("{text}a{level}: &a{level} [{alias}x]\n")
        });
        assert!(parse(&laughs).expect_err("too large").problem.contains("10000 values"));
        for nested in ["[".repeat(5000), "{a: ".repeat(5000), "- ".repeat(5000)] {
            assert!(parse(&nested).is_err());
        }
        let nested = (0..40).fold(String::new(), |text, level| text + &" ".repeat(level) + "a:\n");
        assert!(parse(&nested).expect_err("too deep").problem.contains("nested deeper"));
        assert!(parse("a: &a [*a]\n").is_err());
    }
}
