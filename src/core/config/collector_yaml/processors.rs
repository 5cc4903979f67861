//! The processors of pipelines: what they ask for that the extension has, and what of them it cannot do.

use std::collections::{BTreeMap, BTreeSet};

use super::exporters::{component_type, unknown};
use super::node::shown;
use super::translation::{Location, Translation, list};
use crate::signal::{PerSignal, Signal};

/// Without these telemetry is as good, or there is more of it.
const HARMLESS: &[&str] = &[
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

const MIB: u64 = 1024 * 1024;

/// What the processors of all pipelines come to.
#[derive(Default)]
pub(super) struct Processors<'n> {
    /// What is set on resources, the last of each key, and where that began.
    attributes: Vec<(String, String)>,
    attributes_at: Option<Location<'n>>,
    /// Of those of resources, in how many pipelines each is.
    pipelines: BTreeMap<String, (Location<'n>, usize)>,
    /// Those of which settings were read: several pipelines share them.
    read: BTreeSet<String>,
    /// Of these, those that ask for more than can be done.
    faulty: BTreeSet<String>,
    /// Of these signals something was to be changed or left out that cannot be, so that they must not leave.
    pub(super) withheld: PerSignal<bool>,
}

impl<'n> Processors<'n> {
    /// Takes one processor of a pipeline of this signal. `used` is where the pipeline names it.
    pub(super) fn take(
        &mut self,
        translation: &mut Translation<'_>,
        signal: Signal,
        (id, used): (&str, &Location<'n>),
        defined: &[Location<'n>],
    ) {
        let Some(location) = defined.iter().find(|location| location.key == id) else {
            let kind = component_type(id);
            let is_harmless =
                ["batch", "decouple", "memory_limiter"].contains(&kind) || HARMLESS.contains(&kind);
            *self.withheld.of_mut(signal) |= !is_harmless;
            return translation.error(
                used,
                format!("there is no {} among the processors; write it there, or remove it here", shown(id)),
            );
        };
        let is_new = self.read.insert(id.to_owned());
        match component_type(id) {
            "batch" => batch(translation, signal, location),
            "memory_limiter" if is_new => memory_limiter(translation, location),
            "decouple" | "memory_limiter" => {}
            kind @ ("resource" | "attributes") => {
                let errors = translation.errors.len();
                if kind == "resource" {
                    self.pipelines.entry(id.to_owned()).or_insert_with(|| (location.clone(), 0)).1 += 1;
                }
                if is_new {
                    self.attributes(translation, kind, location);
                }
                // What was wrong with it was told when it was read.
                if is_new && translation.errors.len() > errors {
                    self.faulty.insert(id.to_owned());
                }
                *self.withheld.of_mut(signal) |= self.faulty.contains(id);
            }
            kind if HARMLESS.contains(&kind) => translation.warning(
                location,
                "it is not in this extension, and telemetry is sent without it; remove it, or do it in the collector that receives",
            ),
            _ => {
                *self.withheld.of_mut(signal) = true;
                translation.error(
                    location,
                    "it is not in this extension, and what it is to change or to leave out would leave as it is, so nothing of its \
                     pipelines is sent; remove it, or do it in the collector that receives",
                );
            }
        }
    }

    fn attributes(&mut self, translation: &mut Translation<'_>, kind: &str, location: &Location<'n>) {
        let list = if kind == "resource" { "attributes" } else { "actions" };
        for entry in translation.entries(location) {
            if entry.key != list {
                translation
                    .error(&entry, "conditions and other settings are not in this extension; remove it");
                continue;
            }
            for action in translation.elements(&entry) {
                self.action(translation, &action);
            }
            if kind == "attributes" {
                translation.warning(&entry, "they are set on the resource, and so on everything; write a resource processor in its location");
            }
            self.attributes_at.get_or_insert(entry);
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
                    translation.error(
                        &entry,
                        "only a value that stands here can be set; write value and action: upsert",
                    );
                }
                _ => unknown(translation, &entry),
            }
        }
        let key = key.filter(|key| !key.is_empty() && !key.contains('='));
        match (key, value, action.as_deref()) {
            (Some(key), Some(value), Some(action @ ("upsert" | "insert"))) => {
                if action == "insert" {
                    translation.warning(location, "an insert is done as an upsert, which replaces what the function has set; write upsert");
                }
                self.attributes.retain(|(known, _)| *known != key);
                // They are percent-decoded where they are read.
                self.attributes.push((key, value.replace('%', "%25")));
            }
            (_, _, Some("upsert")) => translation.error(location, "an upsert needs a key without \"=\" and a value; write both"),
            _ => translation.error(location, "only action: upsert is in this extension; write it, or do the rest in the collector that receives"),
        }
    }

    /// Sets what all of them together ask for, in this many pipelines.
    pub(super) fn finish(&self, translation: &mut Translation<'_>, pipelines: usize) {
        for (location, of_pipelines) in self.pipelines.values() {
            if *of_pipelines < pipelines {
                translation.warning(
                    location,
                    "it is not in every pipeline, and what it sets is set on everything here; name it in all of them",
                );
            }
        }
        if let Some(location) = &self.attributes_at
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
                    translation.set(format!("ROTEL_{}_BATCH_MAX_SIZE", signal.in_variable_names()), size, &entry);
                }
            }
            "send_batch_size" | "timeout" => translation.warning(
                &entry,
                "it has no effect here, where telemetry leaves with the ends of invocations; see ROTEL_FLUSH_STRATEGY",
            ),
            "metadata_keys" | "metadata_cardinality_limit" => {
                translation.warning(&entry, "it has no effect here, where requests carry no metadata; remove it");
            }
            _ => unknown(translation, &entry),
        }
    }
}

/// It limits the whole of the collector's memory. Here all that grows is what waits for the backend.
fn memory_limiter(translation: &mut Translation<'_>, location: &Location<'_>) {
    for entry in translation.entries(location) {
        match entry.key {
            "limit_mib" => {
                if let Some(text) = translation.text(&entry) {
                    let bytes = text.parse().ok().and_then(|mib: u64| mib.checked_mul(MIB));
                    translation.set("ROTEL_BUFFER_MAX_BYTES", bytes.map_or(text, |bytes| bytes.to_string()), &entry);
                }
            }
            "limit_percentage" => translation.warning(
                &entry,
                "it has no effect here, where what waits takes a sixteenth of the memory; write limit_mib, or set ROTEL_BUFFER_MAX_BYTES",
            ),
            "check_interval" | "spike_limit_mib" | "spike_limit_percentage" => {}
            _ => unknown(translation, &entry),
        }
    }
}
