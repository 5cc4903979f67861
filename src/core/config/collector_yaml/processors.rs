//! Translates the processors of pipelines, and blocks signals whose processors remove or change data in a way that the
//! extension cannot.

mod attributes;
mod ottl;

use std::collections::BTreeMap;

use self::attributes::Actions;
use super::exporters::{component_type, warn_of_unknown};
use super::node::shown;
use super::translation::{Location, Translation, list};
use crate::processors::{Processor, Processors};
use crate::signal::{PerSignal, Signal};

/// Processors that can be ignored: without them the same data is sent, or more.
const IGNORABLE: &[&str] = &[
    "coldstart",
    "cumulativetodelta",
    "deltatocumulative",
    "faas",
    "groupbyattrs",
    "groupbytrace",
    "interval",
    "logdedup",
    "probabilistic_sampler",
    "resourcedetection",
    "span",
    "tail_sampling",
];

/// The maximum number of statements, conditions and actions in all processors.
const STATEMENT_LIMIT: usize = 1000;

const MIB: usize = 1024 * 1024;

/// A processor that acts on data.
enum Translated<'n> {
    Attributes(Actions<'n>),
    Resource(Actions<'n>),
    /// `filter` or `transform`, of which each signal has its own part.
    PerSignal(PerSignal<Option<Processor>>),
    /// It has errors.
    Invalid,
}

/// The ids of the acting processors of a pipeline, in their order.
struct Chain {
    ids: Vec<String>,
    /// The pipeline has an exporter that sends.
    sends: bool,
}

/// The combined processors of all pipelines.
#[derive(Default)]
pub(super) struct PipelineProcessors<'n> {
    /// The processors translated so far, by id. Those that do not act on data are `None`.
    translated: BTreeMap<String, Option<Translated<'n>>>,
    /// The ids of the acting processors of the current pipeline.
    chain: Vec<String>,
    /// Those of each signal's pipelines.
    chains: PerSignal<Option<Chain>>,
    /// The location of the first processor that sets resource attributes.
    first_resource: Option<Location<'n>>,
    statements: usize,
    /// The signals that must not be sent, because a processor for them is not supported.
    pub(super) blocked: PerSignal<bool>,
}

impl<'n> PipelineProcessors<'n> {
    /// Translates one processor of a pipeline for this signal. `used` is the location where the pipeline names it.
    pub(super) fn translate(
        &mut self,
        translation: &mut Translation<'_>,
        signal: Signal,
        (id, used): (&str, &Location<'n>),
        defined: &[Location<'n>],
    ) {
        let kind = component_type(id);
        let Some(location) = defined.iter().find(|location| location.key == id) else {
            // They have no effect on what is sent.
            if ["batch", "decouple", "memory_limiter"].contains(&kind) {
                if self.translated.insert(id.to_owned(), None).is_none() {
                    let message = format!(
                        "{} is not defined under processors, so a collector refuses it; define it",
                        shown(id)
                    );
                    translation.warning(used, message);
                }
                return;
            }
            *self.blocked.of_mut(signal) |= !IGNORABLE.contains(&kind);
            if self.translated.insert(id.to_owned(), None).is_none() {
                let message =
                    format!("{} is not defined under processors; define it, or remove it here", shown(id));
                translation.error(used, message);
            }
            return;
        };
        if kind == "batch" {
            return batch(translation, signal, location);
        }
        if !self.translated.contains_key(id) {
            let translated = self.component(translation, kind, location);
            self.translated.insert(id.to_owned(), translated);
        }
        match self.translated.get(id) {
            Some(Some(Translated::Invalid)) => *self.blocked.of_mut(signal) = true,
            Some(Some(_)) => self.chain.push(id.to_owned()),
            Some(None) | None => {}
        }
    }

    /// Ends a pipeline. All pipelines of a signal that send must have the same acting processors, because they are combined. Those
    /// of a pipeline that does not send count if no other does: a variable may set an endpoint.
    pub(super) fn end_pipeline(
        &mut self,
        translation: &mut Translation<'_>,
        signal: Signal,
        pipeline: &Location<'n>,
        sends: bool,
    ) {
        let ids = std::mem::take(&mut self.chain);
        match self.chains.of_mut(signal) {
            Some(first) if first.ids == ids => first.sends |= sends,
            Some(first) if first.sends && !sends => {}
            Some(first) if first.sends == sends => {
                *self.blocked.of_mut(signal) = true;
                translation.error(
                    pipeline,
                    format!(
                        "pipelines of {signal} with different processors are not supported, so they send nothing; use the same \
                         ones in the same order"
                    ),
                );
            }
            chain => *chain = Some(Chain { ids, sends }),
        }
    }

    /// Translates a processor; `None` if it does not act on data.
    fn component(
        &mut self,
        translation: &mut Translation<'_>,
        kind: &str,
        location: &Location<'n>,
    ) -> Option<Translated<'n>> {
        let errors = translation.errors.len();
        let translated = match kind {
            "memory_limiter" => {
                memory_limiter(translation, location);
                return None;
            }
            "decouple" => return None,
            "attributes" => Translated::Attributes(attributes::actions(translation, location, "actions")),
            "resource" => {
                self.first_resource.get_or_insert_with(|| location.clone());
                Translated::Resource(attributes::actions(translation, location, "attributes"))
            }
            "filter" => Translated::PerSignal(ottl::filter(translation, location)),
            "transform" => Translated::PerSignal(ottl::transform(translation, location)),
            kind if IGNORABLE.contains(&kind) => {
                translation.warning(
                    location,
                    "not supported, so telemetry is sent without it; remove it, or use it in the receiving collector",
                );
                return None;
            }
            _ => {
                translation.error(
                    location,
                    "not supported, and data would be exported unfiltered, so its pipelines send nothing; remove it, or use it in the \
                     receiving collector",
                );
                Translated::Invalid
            }
        };
        self.statements += translated.statements();
        if self.statements > STATEMENT_LIMIT {
            translation.error(
                location,
                format!("the processors have more than {STATEMENT_LIMIT} statements; reduce them"),
            );
        }
        Some(if translation.errors.len() > errors { Translated::Invalid } else { translated })
    }

    /// Returns the processors of each signal. Resource attributes that all telemetry gets become a variable instead, which costs
    /// less.
    pub(super) fn finish(&mut self, translation: &mut Translation<'_>) -> Processors {
        let mut finished = Processors::default();
        if let Some(attributes) = self.common_attributes() {
            if let Some(location) = self.first_resource.as_ref().filter(|_| !attributes.is_empty()) {
                translation.set("ROTEL_OTEL_RESOURCE_ATTRIBUTES", list(&attributes), location);
            }
            return finished;
        }
        for signal in Signal::ALL {
            for id in self.chains.of(signal).iter().flat_map(|chain| &chain.ids) {
                let Some(Some(translated)) = self.translated.get(id) else { continue };
                if let Translated::Attributes(actions) | Translated::Resource(actions) = translated
                    && let Some(location) = &actions.secret
                {
                    *self.blocked.of_mut(signal) = true;
                    translation.error(
                        location,
                        "a secret is not supported in this value, so its pipelines send nothing; set \
                         ROTEL_OTEL_RESOURCE_ATTRIBUTES",
                    );
                }
                finished.of_mut(signal).extend(translated.of(signal));
            }
        }
        finished
    }

    /// The resource attributes that all pipelines set, if no processor does anything else.
    fn common_attributes(&self) -> Option<Vec<(String, String)>> {
        let mut chains =
            Signal::ALL.into_iter().filter_map(|signal| Some(&self.chains.of(signal).as_ref()?.ids));
        let first = chains.next()?;
        if chains.any(|chain| chain != first) {
            return None;
        }
        let mut common: Vec<(String, String)> = Vec::new();
        for id in first {
            let Some(Some(Translated::Resource(actions))) = self.translated.get(id) else { return None };
            for (key, value) in actions.attributes.as_ref()? {
                common.retain(|(known, _)| known != key);
                common.push((key.clone(), value.clone()));
            }
        }
        Some(common)
    }
}

impl Translated<'_> {
    /// The processor for a signal, if it acts on that.
    fn of(&self, signal: Signal) -> Option<Processor> {
        match self {
            Self::Attributes(actions) => Some(Processor::Attributes(actions.list.clone())),
            Self::Resource(actions) => Some(Processor::Resource(actions.list.clone())),
            Self::PerSignal(parts) => parts.of(signal).clone(),
            Self::Invalid => None,
        }
    }

    /// The number of statements, conditions and actions.
    fn statements(&self) -> usize {
        match self {
            Self::Attributes(actions) | Self::Resource(actions) => actions.list.len(),
            Self::PerSignal(parts) => {
                Signal::ALL.iter().filter_map(|signal| parts.of(*signal).as_ref()).map(Processor::len).sum()
            }
            Self::Invalid => 0,
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
