//! Translates the actions of `attributes` and `resource` processors.

use super::super::exporters::warn_of_unknown;
use super::super::translation::{Location, Translation};
use crate::config::secret_ref;
use crate::processors::{
    self, ActionOperation, ActionSource, ActionTarget, AttributeAction, OttlValue, SetWhen,
};

/// The translated actions of a processor.
pub(super) struct Actions<'n> {
    pub(super) list: Vec<AttributeAction>,
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

impl AttributeAction {
    fn has_secret(&self) -> bool {
        match &self.operation {
            ActionOperation::Set { source: ActionSource::Value(OttlValue::Text(text)), .. } => {
                secret_ref::find(text).map_or(true, |references| !references.is_empty())
            }
            _ => false,
        }
    }
}

/// The settings of one action.
#[derive(Default)]
struct ActionSettings {
    key: Option<String>,
    value: Option<OttlValue>,
    action: Option<String>,
    from_attribute: Option<String>,
    pattern: Option<String>,
}

/// Translates one action, or records an error.
fn action(translation: &mut Translation<'_>, location: &Location<'_>) -> Option<AttributeAction> {
    let errors = translation.errors.len();
    let mut settings = ActionSettings::default();
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
    let ActionSettings { key, value, action, from_attribute, pattern } = settings;
    let source = match (value, from_attribute) {
        (Some(value), None) => Some(ActionSource::Value(value)),
        (None, Some(key)) => Some(ActionSource::Attribute(key)),
        (None, None) => None,
        (Some(_), Some(_)) => {
            translation.error(location, "has both value and from_attribute; keep one");
            return None;
        }
    };
    let operation = match (action.as_deref(), source) {
        (Some("delete"), _) => ActionOperation::Delete,
        (Some("hash"), _) => ActionOperation::Hash,
        (Some("insert" | "update" | "upsert"), None) => {
            translation.error(location, "has no value; set value or from_attribute");
            return None;
        }
        (Some("insert"), Some(source)) => ActionOperation::Set { when: SetWhen::Missing, source },
        (Some("update"), Some(source)) => ActionOperation::Set { when: SetWhen::Present, source },
        (Some("upsert"), Some(source)) => ActionOperation::Set { when: SetWhen::Always, source },
        _ => {
            translation.error(
                location,
                "this action is not supported, so its pipelines send nothing; use insert, update, upsert, delete or hash",
            );
            return None;
        }
    };
    let takes_pattern = !matches!(operation, ActionOperation::Set { .. });
    let target = match (key.filter(|key| !key.is_empty()), pattern) {
        (Some(key), None) => ActionTarget::Key(key),
        (Some(_), Some(_)) => {
            translation.error(location, "has both key and pattern; keep one");
            return None;
        }
        (None, Some(pattern)) if takes_pattern => match processors::pattern(&pattern) {
            Ok(pattern) => ActionTarget::Pattern(pattern),
            Err(error) => {
                translation.error(location, format!("pattern: {error}; use another"));
                return None;
            }
        },
        (None, _) => {
            translation.error(location, "has no key; set it");
            return None;
        }
    };
    Some(AttributeAction { target, operation })
}

/// The resource attribute that the action sets, if the variable can set it as well.
fn attribute(action: &AttributeAction) -> Option<(String, String)> {
    match (&action.target, &action.operation) {
        (
            ActionTarget::Key(key),
            ActionOperation::Set {
                when: SetWhen::Always,
                source: ActionSource::Value(OttlValue::Text(text)),
            },
        ) if !key.contains('=') => {
            // The variable's parser decodes percent-encoding.
            Some((key.clone(), text.replace('%', "%25")))
        }
        _ => None,
    }
}
