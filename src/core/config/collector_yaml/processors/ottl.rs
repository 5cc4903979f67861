//! Translates the statements of `transform` and the conditions of `filter` processors.

use super::super::node::YamlValue;
use super::super::translation::{Location, Translation};
use crate::processors::{Change, GroupConditions, Processor, Removal};
use crate::signal::{PerSignal, Signal};

const REMEDY: &str = "so its pipelines send nothing; remove it, or use it in the receiving collector";

/// Translates a `filter` processor.
pub(super) fn filter(
    translation: &mut Translation<'_>,
    location: &Location<'_>,
) -> PerSignal<Option<Processor>> {
    let mut removals: PerSignal<Vec<Removal>> = PerSignal::from_fn(|_| Vec::new());
    for entry in translation.entries(location) {
        let key = entry.key;
        let of_section = Signal::ALL.into_iter().find(|signal| signal.as_str() == key);
        let of_conditions = signal_of(key, "_conditions");
        match (key, of_section, of_conditions) {
            ("error_mode", ..) => error_mode(translation, &entry),
            (_, Some(signal), _) => {
                for section in translation.entries(&entry) {
                    let context = match section.key {
                        "span" | "spanevent" | "metric" | "datapoint" => section.key,
                        "log_record" => "log",
                        _ => {
                            translation.error(&section, format!("not supported, {REMEDY}"));
                            continue;
                        }
                    };
                    for (text, place) in translation.texts(&section) {
                        add(
                            translation,
                            &place,
                            removals.of_mut(signal),
                            Removal::parse(&text, Some(context), signal),
                        );
                    }
                }
            }
            (_, None, Some(signal)) => {
                for group in translation.elements(&entry) {
                    let StatementGroup { context, conditions, .. } =
                        group_of(translation, &group, "conditions");
                    for (text, place) in conditions {
                        let removal = Removal::parse(&text, context.as_deref(), signal);
                        add(translation, &place, removals.of_mut(signal), removal);
                    }
                }
            }
            _ => translation.error(&entry, format!("not supported, {REMEDY}")),
        }
    }
    each_with_parts(removals, Processor::Filter)
}

/// Translates a `transform` processor.
pub(super) fn transform(
    translation: &mut Translation<'_>,
    location: &Location<'_>,
) -> PerSignal<Option<Processor>> {
    let mut changes: PerSignal<Vec<Change>> = PerSignal::from_fn(|_| Vec::new());
    for entry in translation.entries(location) {
        match (entry.key, signal_of(entry.key, "_statements")) {
            ("error_mode", _) => error_mode(translation, &entry),
            (_, Some(signal)) => {
                for group in translation.elements(&entry) {
                    let StatementGroup { context, conditions, statements } =
                        group_of(translation, &group, "statements");
                    let mut conditions =
                        GroupConditions::new(conditions.into_iter().map(|(text, _)| text).collect());
                    for (text, place) in statements {
                        let change = Change::parse(&text, context.as_deref(), &mut conditions, signal);
                        add(translation, &place, changes.of_mut(signal), change);
                    }
                }
            }
            // It may be a misspelled list of statements, without which data would be exported as it came.
            (_, None) => translation.error(&entry, format!("not supported, {REMEDY}")),
        }
    }
    each_with_parts(changes, Processor::Transform)
}

/// The processor of each signal that has parts of it.
fn each_with_parts<T>(
    mut parts: PerSignal<Vec<T>>,
    processor: impl Fn(Vec<T>) -> Processor,
) -> PerSignal<Option<Processor>> {
    PerSignal::from_fn(|signal| {
        let parts = std::mem::take(parts.of_mut(signal));
        if parts.is_empty() { None } else { Some(processor(parts)) }
    })
}

/// Statements or conditions with a common context.
#[derive(Default)]
struct StatementGroup<'n> {
    context: Option<String>,
    conditions: Vec<(String, Location<'n>)>,
    statements: Vec<(String, Location<'n>)>,
}

/// Reads a group: a mapping, or a single text, which belongs to the list of this name.
fn group_of<'n>(
    translation: &mut Translation<'_>,
    location: &Location<'n>,
    list: &str,
) -> StatementGroup<'n> {
    let mut group = StatementGroup::default();
    if matches!(location.node.structure(), YamlValue::Text(_)) {
        let texts = translation.texts(location);
        if list == "conditions" {
            group.conditions = texts;
        } else {
            group.statements = texts;
        }
        return group;
    }
    for entry in translation.entries(location) {
        match entry.key {
            "context" => group.context = translation.text(&entry),
            "conditions" => group.conditions = translation.texts(&entry),
            "statements" if list == "statements" => group.statements = translation.texts(&entry),
            "error_mode" => error_mode(translation, &entry),
            _ => translation.error(&entry, format!("not supported, {REMEDY}")),
        }
    }
    group
}

/// The signal of a key such as `trace_statements`.
fn signal_of(key: &str, suffix: &str) -> Option<Signal> {
    match key.strip_suffix(suffix)? {
        "trace" => Some(Signal::Traces),
        "metric" => Some(Signal::Metrics),
        "log" => Some(Signal::Logs),
        _ => None,
    }
}

/// Statements have no errors here when they run, so each mode means the same.
fn error_mode(translation: &mut Translation<'_>, location: &Location<'_>) {
    if !matches!(translation.text(location).as_deref(), Some("ignore" | "silent" | "propagate")) {
        translation.error(location, "not an error mode; set ignore, silent or propagate");
    }
}

/// Adds a statement or a condition, or its error.
fn add<T>(
    translation: &mut Translation<'_>,
    location: &Location<'_>,
    list: &mut Vec<T>,
    parsed: Result<T, String>,
) {
    match parsed {
        Ok(parsed) => list.push(parsed),
        Err(error) => translation.error(location, format!("{error}, {REMEDY}")),
    }
}
