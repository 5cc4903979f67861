//! Translates the processors of pipelines, and blocks signals whose processors remove or change data in a way that the
//! extension cannot.

use std::collections::{BTreeMap, BTreeSet};

use super::exporters::{component_type, warn_of_unknown};
use super::node::shown;
use super::translation::{Location, Translation, list};
use crate::signal::{PerSignal, Signal};

/// Processors that can be ignored: without them the same data is sent, or more.
const IGNORABLE: &[&str] = &[
    "coldstart",
    "cumulativetodelta",
    "deltatocumulative",
    "groupbyattrs",
    "groupbytrace",
    "interval",
    "logdedup",
    "probabilistic_sampler",
    "resourcedetection",
    "span",
    "tail_sampling",
];

const MIB: usize = 1024 * 1024;

/// The combined processors of all pipelines.
#[derive(Default)]
pub(super) struct Processors<'n> {
    /// The resource attributes to set, the last value of each key, and the location of the first.
    attributes: Vec<(String, String)>,
    first_attributes: Option<Location<'n>>,
    /// The number of pipelines that each resource processor is in.
    pipeline_counts: BTreeMap<String, (Location<'n>, usize)>,
    /// The ids of processors that were translated already for another pipeline.
    translated: BTreeSet<String>,
    /// Those among them that have errors.
    invalid: BTreeSet<String>,
    /// The signals that must not be sent, because a processor for them is not supported.
    pub(super) blocked: PerSignal<bool>,
}

impl<'n> Processors<'n> {
    /// Translates one processor of a pipeline for this signal. `used` is the location where the pipeline names it.
    pub(super) fn translate(
        &mut self,
        translation: &mut Translation<'_>,
        signal: Signal,
        (id, used): (&str, &Location<'n>),
        defined: &[Location<'n>],
    ) {
        let Some(location) = defined.iter().find(|location| location.key == id) else {
            let kind = component_type(id);
            // They have no effect on what is sent.
            if ["batch", "decouple", "memory_limiter"].contains(&kind) {
                if self.translated.insert(id.to_owned()) {
                    let message = format!(
                        "{} is not defined under processors, so a collector refuses it; define it",
                        shown(id)
                    );
                    translation.warning(used, message);
                }
                return;
            }
            *self.blocked.of_mut(signal) |= !IGNORABLE.contains(&kind);
            return translation.error(
                used,
                format!("{} is not defined under processors; define it, or remove it here", shown(id)),
            );
        };
        let is_new = self.translated.insert(id.to_owned());
        match component_type(id) {
            "batch" => batch(translation, signal, location),
            "memory_limiter" if is_new => memory_limiter(translation, location),
            "decouple" | "memory_limiter" => {}
            kind @ ("resource" | "attributes") => {
                let errors = translation.errors.len();
                if kind == "resource" {
                    self.pipeline_counts.entry(id.to_owned()).or_insert_with(|| (location.clone(), 0)).1 += 1;
                }
                if is_new {
                    self.attributes(translation, kind, location);
                }
                // Its errors were recorded when it was translated.
                if is_new && translation.errors.len() > errors {
                    self.invalid.insert(id.to_owned());
                }
                *self.blocked.of_mut(signal) |= self.invalid.contains(id);
            }
            kind if IGNORABLE.contains(&kind) => translation.warning(
                location,
                "not supported, so telemetry is sent without it; remove it, or use it in the receiving collector",
            ),
            _ => {
                *self.blocked.of_mut(signal) = true;
                translation.error(
                    location,
                    "not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the \
                     receiving collector",
                );
            }
        }
    }

    fn attributes(&mut self, translation: &mut Translation<'_>, kind: &str, location: &Location<'n>) {
        let list = if kind == "resource" { "attributes" } else { "actions" };
        for entry in translation.entries(location) {
            if entry.key != list {
                translation.error(&entry, "not supported; remove it");
                continue;
            }
            for action in translation.elements(&entry) {
                self.action(translation, &action);
            }
            if kind == "attributes" {
                translation.warning(&entry, "attributes are set on the resource, and so on all telemetry; use a resource processor instead");
            }
            self.first_attributes.get_or_insert(entry);
        }
    }

    fn action(&mut self, translation: &mut Translation<'_>, location: &Location<'n>) {
        let (mut key, mut value, mut action) = (None, None, None);
        for entry in translation.entries(location) {
            match entry.key {
                "key" => key = translation.text(&entry),
                "value" => value = translation.text(&entry),
                "action" => action = translation.text(&entry),
                "from_attribute" | "from_context" | "pattern" | "converted_type" | "default_value" => {
                    translation.error(&entry, "not supported; use value and action: upsert");
                }
                _ => warn_of_unknown(translation, &entry),
            }
        }
        let key = key.filter(|key| !key.is_empty() && !key.contains('='));
        match (key, value, action.as_deref()) {
            (Some(key), Some(value), Some(action @ ("upsert" | "insert"))) => {
                if action == "insert" {
                    translation.warning(location, "insert works like upsert, which replaces values that the function has set; set upsert");
                }
                self.attributes.retain(|(known, _)| *known != key);
                // The variable's parser decodes percent-encoding.
                self.attributes.push((key, value.replace('%', "%25")));
            }
            (_, _, Some("upsert")) => {
                translation.error(location, "upsert needs a value and a key without \"=\"; set both");
            }
            _ => translation.error(
                location,
                "only action: upsert is supported; use it, or change attributes in the receiving collector",
            ),
        }
    }

    /// Sets the resource attributes. `pipelines` is the number of all pipelines.
    pub(super) fn finish(&self, translation: &mut Translation<'_>, pipelines: usize) {
        for (location, of_pipelines) in self.pipeline_counts.values() {
            if *of_pipelines < pipelines {
                translation.warning(
                    location,
                    "not in every pipeline, but its attributes are set on all telemetry; add it to all pipelines",
                );
            }
        }
        if let Some(location) = &self.first_attributes
            && !self.attributes.is_empty()
        {
            translation.set("ROTEL_OTEL_RESOURCE_ATTRIBUTES", list(&self.attributes), location);
        }
    }
}

fn batch(translation: &mut Translation<'_>, signal: Signal, location: &Location<'_>) {
    for entry in translation.entries(location) {
        match entry.key {
            "send_batch_max_size" => {
                let size = translation.text(&entry).filter(|size| size != "0");
                if let Some(size) = size {
                    translation.set(
                        format!("ROTEL_{}_BATCH_MAX_SIZE", signal.in_variable_names()),
                        size,
                        &entry,
                    );
                }
            }
            "send_batch_size" | "timeout" => translation.warning(
                &entry,
                "has no effect; by default, telemetry is sent at the end of invocations; see ROTEL_FLUSH_STRATEGY",
            ),
            "metadata_keys" | "metadata_cardinality_limit" => {
                translation
                    .warning(&entry, "has no effect; metadata of requests is not forwarded; remove it");
            }
            _ => warn_of_unknown(translation, &entry),
        }
    }
}

/// Translates the limit for the collector's whole memory into one for the buffer, which is the only part that grows here and
/// gets its default share at most.
fn memory_limiter(translation: &mut Translation<'_>, location: &Location<'_>) {
    for entry in translation.entries(location) {
        match entry.key {
            "limit_mib" => {
                if let Some(text) = translation.text(&entry) {
                    let share = translation.default_buffer_bytes();
                    let bytes = text.parse().ok().and_then(|mib: usize| mib.checked_mul(MIB));
                    let bytes = bytes.map_or(text, |bytes| bytes.min(share).to_string());
                    translation.set("ROTEL_BUFFER_MAX_BYTES", bytes, &entry);
                }
            }
            "limit_percentage" => translation.warning(
                &entry,
                "has no effect; the buffer gets 1/16 of the memory; set limit_mib or ROTEL_BUFFER_MAX_BYTES",
            ),
            "check_interval" | "spike_limit_mib" | "spike_limit_percentage" => {}
            _ => warn_of_unknown(translation, &entry),
        }
    }
}
