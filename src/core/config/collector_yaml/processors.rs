//! The processors of pipelines: what they ask for that the extension has, and what of them it cannot do.

use std::collections::{BTreeMap, BTreeSet};

use super::account::{Account, Place, list};
use super::exporters::{kind_of, unknown};
use super::node::shown;
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
    attributes_at: Option<Place<'n>>,
    /// Of those of resources, in how many pipelines each is.
    pipelines: BTreeMap<String, (Place<'n>, usize)>,
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
        account: &mut Account<'_>,
        signal: Signal,
        (id, used): (&str, &Place<'n>),
        defined: &[Place<'n>],
    ) {
        let Some(place) = defined.iter().find(|place| place.key == id) else {
            let kind = kind_of(id);
            let is_harmless =
                ["batch", "decouple", "memory_limiter"].contains(&kind) || HARMLESS.contains(&kind);
            *self.withheld.of_mut(signal) |= !is_harmless;
            return account.fault(
                used,
                format!("there is no {} among the processors; write it there, or remove it here", shown(id)),
            );
        };
        let is_new = self.read.insert(id.to_owned());
        match kind_of(id) {
            "batch" => batch(account, signal, place),
            "memory_limiter" if is_new => memory_limiter(account, place),
            "decouple" | "memory_limiter" => {}
            kind @ ("resource" | "attributes") => {
                let faults = account.faults.len();
                if kind == "resource" {
                    self.pipelines.entry(id.to_owned()).or_insert_with(|| (place.clone(), 0)).1 += 1;
                }
                if is_new {
                    self.attributes(account, kind, place);
                }
                // What was wrong with it was told when it was read.
                if is_new && account.faults.len() > faults {
                    self.faulty.insert(id.to_owned());
                }
                *self.withheld.of_mut(signal) |= self.faulty.contains(id);
            }
            kind if HARMLESS.contains(&kind) => account.warning(
                place,
                "it is not in this extension, and telemetry is sent without it; remove it, or do it in the collector that receives",
            ),
            _ => {
                *self.withheld.of_mut(signal) = true;
                account.fault(
                    place,
                    "it is not in this extension, and what it is to change or to leave out would leave as it is, so nothing of its \
                     pipelines is sent; remove it, or do it in the collector that receives",
                );
            }
        }
    }

    fn attributes(&mut self, account: &mut Account<'_>, kind: &str, place: &Place<'n>) {
        let list = if kind == "resource" { "attributes" } else { "actions" };
        for entry in account.entries(place) {
            if entry.key != list {
                account.fault(&entry, "conditions and other settings are not in this extension; remove it");
                continue;
            }
            for action in account.elements(&entry) {
                self.action(account, &action);
            }
            if kind == "attributes" {
                account.warning(&entry, "they are set on the resource, and so on everything; write a resource processor in its place");
            }
            self.attributes_at.get_or_insert(entry);
        }
    }

    fn action(&mut self, account: &mut Account<'_>, place: &Place<'n>) {
        let (mut key, mut value, mut action) = (None, None, None);
        for entry in account.entries(place) {
            match entry.key {
                "key" => key = account.text(&entry),
                "value" => value = account.text(&entry),
                "action" => action = account.text(&entry),
                "from_attribute" | "from_context" | "pattern" | "converted_type" | "default_value" => {
                    account.fault(
                        &entry,
                        "only a value that stands here can be set; write value and action: upsert",
                    );
                }
                _ => unknown(account, &entry),
            }
        }
        let key = key.filter(|key| !key.is_empty() && !key.contains('='));
        match (key, value, action.as_deref()) {
            (Some(key), Some(value), Some(action @ ("upsert" | "insert"))) => {
                if action == "insert" {
                    account.warning(place, "an insert is done as an upsert, which replaces what the function has set; write upsert");
                }
                self.attributes.retain(|(known, _)| *known != key);
                // They are percent-decoded where they are read.
                self.attributes.push((key, value.replace('%', "%25")));
            }
            (_, _, Some("upsert")) => account.fault(place, "an upsert needs a key without \"=\" and a value; write both"),
            _ => account.fault(place, "only action: upsert is in this extension; write it, or do the rest in the collector that receives"),
        }
    }

    /// Sets what all of them together ask for, in this many pipelines.
    pub(super) fn finish(&self, account: &mut Account<'_>, pipelines: usize) {
        for (place, of_pipelines) in self.pipelines.values() {
            if *of_pipelines < pipelines {
                account.warning(
                    place,
                    "it is not in every pipeline, and what it sets is set on everything here; name it in all of them",
                );
            }
        }
        if let Some(place) = &self.attributes_at
            && !self.attributes.is_empty()
        {
            account.set("ROTEL_OTEL_RESOURCE_ATTRIBUTES", list(&self.attributes), place);
        }
    }
}

fn batch(account: &mut Account<'_>, signal: Signal, place: &Place<'_>) {
    for entry in account.entries(place) {
        match entry.key {
            "send_batch_max_size" => {
                let size = account.text(&entry).filter(|size| size != "0");
                if let Some(size) = size {
                    account.set(format!("ROTEL_{}_BATCH_MAX_SIZE", signal.in_variable_names()), size, &entry);
                }
            }
            "send_batch_size" | "timeout" => account.warning(
                &entry,
                "it has no effect here, where telemetry leaves with the ends of invocations; see ROTEL_FLUSH_STRATEGY",
            ),
            "metadata_keys" | "metadata_cardinality_limit" => {
                account.warning(&entry, "it has no effect here, where requests carry no metadata; remove it");
            }
            _ => unknown(account, &entry),
        }
    }
}

/// It limits the whole of the collector's memory. Here all that grows is what waits for the backend.
fn memory_limiter(account: &mut Account<'_>, place: &Place<'_>) {
    for entry in account.entries(place) {
        match entry.key {
            "limit_mib" => {
                if let Some(text) = account.text(&entry) {
                    let bytes = text.parse().ok().and_then(|mib: u64| mib.checked_mul(MIB));
                    account.set("ROTEL_BUFFER_MAX_BYTES", bytes.map_or(text, |bytes| bytes.to_string()), &entry);
                }
            }
            "limit_percentage" => account.warning(
                &entry,
                "it has no effect here, where what waits takes a sixteenth of the memory; write limit_mib, or set ROTEL_BUFFER_MAX_BYTES",
            ),
            "check_interval" | "spike_limit_mib" | "spike_limit_percentage" => {}
            _ => unknown(account, &entry),
        }
    }
}
