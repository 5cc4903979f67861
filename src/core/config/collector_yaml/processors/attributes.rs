//! Translates the actions of `attributes` and `resource` processors.

use super::super::exporters::warn_of_unknown;
use super::super::translation::{Location, Translation};
use crate::config::secret_ref;
use crate::processors::{self, Action, Operation, Source, Target, Value};

/// The translated actions of a processor.
pub(super) struct Actions<'n> {
    pub(super) list: Vec<Action>,
    /// The same as a list of attributes, if they only set texts.
    pub(super) attributes: Option<Vec<(String, String)>>,
    /// The location of a secret, which only a list of attributes can have.
    pub(super) secret: Option<Location<'n>>,
}

/// Translates the actions in the entry of this name.
pub(super) fn actions<'n>(
    translation: &mut Translation<'_>,
    location: &Location<'n>,
    list: &str,
) -> Actions<'n> {
    let mut all = Actions { list: Vec::new(), attributes: Some(Vec::new()), secret: None };
    for entry in translation.entries(location) {
        if entry.key != list {
            translation.error(&entry, "not supported, so its pipelines send nothing; remove it");
            continue;
        }
        for element in translation.elements(&entry) {
            let Some(action) = action(translation, &element) else { continue };
            match (&mut all.attributes, attribute(&action)) {
                (Some(attributes), Some(attribute)) => attributes.push(attribute),
                (attributes, _) => *attributes = None,
            }
            if action.has_secret() {
                all.secret.get_or_insert(element);
            }
            all.list.push(action);
        }
    }
    all
}

impl Action {
    fn has_secret(&self) -> bool {
        match &self.operation {
            Operation::Insert(Source::Value(Value::Text(text)))
            | Operation::Update(Source::Value(Value::Text(text)))
            | Operation::Upsert(Source::Value(Value::Text(text))) => {
                secret_ref::find(text).map_or(true, |references| !references.is_empty())
            }
            _ => false,
        }
    }
}

/// The settings of one action.
#[derive(Default)]
struct Settings {
    key: Option<String>,
    value: Option<Value>,
    action: Option<String>,
    from_attribute: Option<String>,
    pattern: Option<String>,
}

/// Translates one action, or records an error.
fn action(translation: &mut Translation<'_>, location: &Location<'_>) -> Option<Action> {
    let errors = translation.errors.len();
    let mut settings = Settings::default();
    for entry in translation.entries(location) {
        match entry.key {
            "key" => settings.key = translation.text(&entry),
            "value" => settings.value = translation.value(&entry),
            "action" => settings.action = translation.text(&entry),
            "from_attribute" => settings.from_attribute = translation.text(&entry),
            "pattern" => settings.pattern = translation.text(&entry),
            "from_context" | "converted_type" | "default_value" => {
                translation.error(
                    &entry,
                    "not supported, so its pipelines send nothing; use value or from_attribute",
                );
            }
            _ => warn_of_unknown(translation, &entry),
        }
    }
    if translation.errors.len() > errors {
        return None;
    }
    let Settings { key, value, action, from_attribute, pattern } = settings;
    let source = match (value, from_attribute) {
        (Some(value), None) => Some(Source::Value(value)),
        (None, Some(key)) => Some(Source::Attribute(key)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            translation.error(location, "has both value and from_attribute; keep one");
            return None;
        }
    };
    let target = match (key.filter(|key| !key.is_empty()), pattern) {
        (Some(key), _) => Target::Key(key),
        (None, Some(pattern)) => match processors::pattern(&pattern) {
            Ok(pattern) => Target::Pattern(pattern),
            Err(error) => {
                translation.error(location, format!("pattern: {error}; use another"));
                return None;
            }
        },
        (None, None) => {
            translation.error(location, "has no key; set it");
            return None;
        }
    };
    let operation = match (action.as_deref(), source) {
        (Some("delete"), _) => Operation::Delete,
        (Some("hash"), _) => Operation::Hash,
        (Some("insert" | "update" | "upsert"), None) => {
            translation.error(location, "has no value; set value or from_attribute");
            return None;
        }
        (Some("insert"), Some(source)) => Operation::Insert(source),
        (Some("update"), Some(source)) => Operation::Update(source),
        (Some("upsert"), Some(source)) => Operation::Upsert(source),
        _ => {
            translation.error(
                location,
                "this action is not supported, so its pipelines send nothing; use insert, update, upsert, delete or hash",
            );
            return None;
        }
    };
    Some(Action { target, operation })
}

/// The resource attribute that the action sets, if the variable can set it as well.
fn attribute(action: &Action) -> Option<(String, String)> {
    match (&action.target, &action.operation) {
        (Target::Key(key), Operation::Upsert(Source::Value(Value::Text(text)))) if !key.contains('=') => {
            // The variable's parser decodes percent-encoding.
            Some((key.clone(), text.replace('%', "%25")))
        }
        _ => None,
    }
}
