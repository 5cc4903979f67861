//! Translates the OpenTelemetry collector layer's `collector.yaml` into variables.
//!
//! Decides which variables are equivalent to a setting in the file, and keeps the location of each, so that the same parsers,
//! limits and messages apply to both. Variables that are set outside the file override it. Promises that unsupported settings
//! are reported all at once, by line and path: as an error if telemetry would be lost or
//! sent to the wrong place without the user having said so, else as a warning. Leaves reading the file to `app::settings`.

mod connectors;
mod document;
mod expand;
mod exporter_selection;
mod exporters;
mod node;
mod precedence;
mod processors;
mod receivers;
#[cfg(test)]
mod tests;
mod translation;
mod uri;

use std::fmt;
use std::sync::Arc;

use self::connectors::{ConnectorUse, Connectors};
use self::document::MergedDocument;
use self::exporter_selection::{ExporterSelection, UsedExporter};
use self::exporters::{CollectorExporterKind, warn_of_unknown};
use self::node::{Place, YamlError};
use self::processors::PipelineProcessors;
use self::translation::{Location, Renamed, Translation};
pub use self::uri::{ConfigUri, parse as parse_uris};
use super::{Locations, Problem, Variables};
use crate::processors::Processors;
use crate::signal::{PerSignal, Signal};

/// Longer files are not read.
pub const SIZE_LIMIT: usize = 256 * 1024;

/// A translated file.
#[derive(Default)]
pub struct CollectorYaml {
    /// The equivalent variables.
    pub variables: Variables,
    /// The location in the file of each variable.
    pub locations: Locations,
    /// Settings that have no effect or look wrong but are not errors.
    pub warnings: Vec<Problem>,
    /// Settings because of which telemetry is not sent where the file says.
    pub errors: Vec<Problem>,
    /// The processors that act on data.
    pub processors: Processors,
    /// Variables outside the file that are hidden or renamed, because some signals must not be sent.
    renamed: Renamed,
}

/// Leaves out the variables, which may be credentials.
impl fmt::Debug for CollectorYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorYaml")
            .field("warnings", &self.warnings)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

impl CollectorYaml {
    /// The result for a file that cannot be read.
    pub fn with_error(error: Problem, given: &Variables) -> Self {
        let place = error.variable.clone();
        Self { errors: vec![error], ..Self::default() }.sending_nothing(place, given)
    }

    /// Disables sending, so that no message says that the endpoint is missing: the file may have one. Unless it is set outside.
    fn sending_nothing(mut self, place: String, given: &Variables) -> Self {
        if !is_optional(given) {
            self.variables.insert("ROTEL_EXPORTER".to_owned(), "blackhole".to_owned());
            self.locations.insert("ROTEL_EXPORTER".to_owned(), place);
        }
        self
    }

    /// The result for a file that cannot be read but is optional.
    pub fn with_warning(warning: Problem) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }

    /// Returns true if it sets an exporter or an endpoint.
    fn selects_exporter(&self) -> bool {
        self.variables.keys().any(|name| name.starts_with("ROTEL_EXPORTER") || name.ends_with("ENDPOINT"))
    }

    /// Adds its variables to those set outside the file, which take precedence. Keeps the locations of added variables only.
    pub fn apply_as_defaults(&mut self, variables: &mut Variables) {
        let renamed: Vec<_> = self.renamed.values().flatten().collect();
        self.locations.retain(|name, _| {
            // The renamed variable replaces one that is set outside the file.
            if renamed.contains(&name) {
                !precedence::is_set(variables, name)
            } else {
                !precedence::is_overridden(name, variables)
            }
        });
        self.variables.retain(|name, _| self.locations.contains_key(name));
        variables.retain(|name, _| !self.renamed.contains_key(name));
        for name in self.locations.keys() {
            variables.extend(self.variables.get(name).map(|text| (name.clone(), text.clone())));
        }
    }
}

/// Returns true if variables set an endpoint or `ROTEL_EXPORTERS`, so that a missing file is harmless: its variable is often left over after people
/// change layers.
pub fn is_optional(variables: &Variables) -> bool {
    variables.keys().any(|name| sets_destination(name) && precedence::is_set(variables, name))
}

/// Returns true if a variable of this name sets an endpoint or `ROTEL_EXPORTERS`.
pub fn sets_destination(name: &str) -> bool {
    name == "ROTEL_EXPORTERS" || exporter_selection::is_endpoint(name)
}

/// A text of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigText {
    /// The name for messages, such as the file's.
    pub name: String,
    pub text: String,
}

/// Translates the text of a file of this name. See [`read_all`].
pub fn read(text: &str, file: &str, given: &Variables) -> CollectorYaml {
    read_all(&[ConfigText { name: file.to_owned(), text: text.to_owned() }], given)
}

/// Merges texts, of which later ones override earlier ones, and translates the result. `given` are the variables set outside the
/// texts: they expand their values and override them.
pub fn read_all(texts: &[ConfigText], given: &Variables) -> CollectorYaml {
    let mut translation = Translation::new(texts.iter().map(|text| text.name.as_str()), given);
    let parsed = document::parse(texts.iter().map(|text| text.text.as_str()), given);
    let MergedDocument { root, open_quotes } = match parsed {
        Ok(document) => document,
        Err(YamlError { place, message }) => {
            return CollectorYaml::with_error(translation.problem_at(place, message), given);
        }
    };
    for place in open_quotes {
        let message = "the quote is not closed, so the value ends with its line; close the quote";
        translation.warning_at(place, message);
    }
    let processors = FileTranslator::new(&mut translation, &root).run();
    let Translation { variables, locations, warnings, errors, renamed, .. } = translation;
    let yaml = CollectorYaml { variables, locations, warnings, errors, processors, renamed };
    let place = yaml.errors.first().filter(|_| !yaml.selects_exporter()).map(|error| error.variable.clone());
    match place {
        Some(place) => yaml.sending_nothing(place, given),
        None => yaml,
    }
}

/// The state of translating one file.
struct FileTranslator<'a, 'g, 'n> {
    translation: &'a mut Translation<'g>,
    receivers: Vec<Location<'n>>,
    processors: Vec<Location<'n>>,
    exporters: Vec<Location<'n>>,
    extensions: Vec<Location<'n>>,
    connectors: Connectors<'n>,
    service: Option<Location<'n>>,
    used: Vec<UsedExporter<'n>>,
    /// The ids of receivers that were translated.
    translated_receivers: Vec<String>,
    /// The ids of exporters that are not defined and were reported.
    undefined_exporters: Vec<String>,
    /// A pipeline has a name that may be a misspelled signal.
    has_unknown_pipeline: bool,
}

/// The combined pipelines.
#[derive(Default)]
struct Pipelines<'n> {
    processors: PipelineProcessors<'n>,
    /// The ids of the exporters in each signal's pipelines.
    exporters: PerSignal<Vec<Arc<str>>>,
    /// The signals with a debug exporter.
    debug: PerSignal<bool>,
    /// The signals with a pipeline.
    is_defined: PerSignal<bool>,
}

impl<'a, 'g, 'n> FileTranslator<'a, 'g, 'n> {
    fn new(translation: &'a mut Translation<'g>, node: &'n node::Node) -> Self {
        let mut translator = Self {
            translation,
            receivers: Vec::new(),
            processors: Vec::new(),
            exporters: Vec::new(),
            extensions: Vec::new(),
            connectors: Connectors::default(),
            service: None,
            used: Vec::new(),
            translated_receivers: Vec::new(),
            undefined_exporters: Vec::new(),
            has_unknown_pipeline: false,
        };
        for entry in translator.translation.entries(&Location::root(node)) {
            match entry.key {
                "receivers" => translator.receivers = translator.translation.entries(&entry),
                "processors" => translator.processors = translator.translation.entries(&entry),
                "exporters" => translator.exporters = translator.translation.entries(&entry),
                "extensions" => translator.extensions = translator.translation.entries(&entry),
                "service" => translator.service = Some(entry),
                "connectors" => {
                    translator.connectors = Connectors::new(translator.translation.entries(&entry));
                }
                _ => warn_of_unknown(translator.translation, &entry),
            }
        }
        translator
    }

    /// Translates the service, and returns the processors.
    fn run(mut self) -> Processors {
        let mut processors = Processors::default();
        let Some(service) = self.service.take() else {
            let message = "has no service, so the file has no effect; add service.pipelines";
            self.translation.error_at(Place::START, message);
            return processors;
        };
        let mut has_pipelines = false;
        for entry in self.translation.entries(&service) {
            match entry.key {
                "pipelines" => {
                    has_pipelines = true;
                    processors = self.pipelines(&entry);
                }
                "telemetry" => self.telemetry(&entry),
                "extensions" => self.check_extensions(&entry),
                _ => warn_of_unknown(self.translation, &entry),
            }
        }
        if !has_pipelines {
            self.translation.error(&service, "has no pipelines, so nothing is sent; add some");
        }
        processors
    }

    fn pipelines(&mut self, location: &Location<'n>) -> Processors {
        for exporter in self.exporters.iter().filter(|exporter| exporters::is_setting(exporter.key)) {
            self.translation.error(
                exporter,
                "is a setting and not an exporter, so it has no effect; indent it under the exporter it belongs to",
            );
        }
        let mut pipelines = Pipelines::default();
        for pipeline in self.translation.entries(location) {
            if self.receives_from_connectors_only(&pipeline) {
                continue;
            }
            let kind = exporters::component_type(pipeline.key);
            if let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.as_str() == kind) {
                self.pipeline(signal, &pipeline, &mut pipelines);
            } else {
                self.has_unknown_pipeline = true;
                self.translation.error(&pipeline, "unknown kind of pipeline; use traces, metrics or logs");
            }
        }
        let processors = pipelines.processors.finish(self.translation);
        self.send(location, pipelines);
        processors
    }

    /// Returns true if the pipeline receives from unsupported connectors only, so it carries nothing.
    fn receives_from_connectors_only(&mut self, pipeline: &Location<'n>) -> bool {
        let entries = self.translation.entries(pipeline);
        let Some(receivers) = entries.iter().find(|entry| entry.key == "receivers") else { return false };
        let receivers = self.translation.texts(receivers);
        !receivers.is_empty() && receivers.iter().all(|(id, _)| self.connectors.generates_telemetry(id))
    }

    /// Translates the components of one pipeline.
    fn pipeline(&mut self, signal: Signal, pipeline: &Location<'n>, pipelines: &mut Pipelines<'n>) {
        let processors = &mut pipelines.processors;
        *pipelines.is_defined.of_mut(signal) = true;
        let mut sends = false;
        let errors = self.translation.errors.len();
        let entries = self.translation.entries(pipeline);
        // An entry with an error may have been a processor that removes data.
        *processors.blocked.of_mut(signal) |= self.translation.errors.len() > errors;
        for entry in entries {
            match entry.key {
                "receivers" => self.receivers(&entry),
                "processors" => {
                    let errors = self.translation.errors.len();
                    let named = self.translation.texts(&entry);
                    *processors.blocked.of_mut(signal) |= self.translation.errors.len() > errors;
                    for (id, used) in named {
                        processors.translate(self.translation, signal, (&id, &used), &self.processors);
                    }
                }
                "exporters" => {
                    for (id, used) in self.translation.texts(&entry) {
                        if let Some(connector) = self.connectors.report(self.translation, &id) {
                            *processors.blocked.of_mut(signal) |= connector == ConnectorUse::Blocking;
                            sends |= !self.connectors.generates_telemetry(&id);
                            continue;
                        }
                        match self.exporter(&id, &used) {
                            Some((_, CollectorExporterKind::Debug)) => *pipelines.debug.of_mut(signal) = true,
                            Some((id, CollectorExporterKind::Grpc | CollectorExporterKind::Http)) => {
                                sends = true;
                                let of_signal = pipelines.exporters.of_mut(signal);
                                if !of_signal.contains(&id) {
                                    of_signal.push(id);
                                }
                            }
                            Some((_, CollectorExporterKind::Nop)) | None => {}
                        }
                    }
                }
                _ => warn_of_unknown(self.translation, &entry),
            }
        }
        pipelines.processors.end_pipeline(self.translation, signal, pipeline, sends);
    }

    /// Sets the variables that decide which signals are sent, and to which exporters.
    fn send(&mut self, location: &Location<'n>, pipelines: Pipelines<'n>) {
        let Pipelines { processors, mut exporters, debug, is_defined } = pipelines;
        let without: Vec<_> =
            Signal::ALL.into_iter().filter(|signal| !is_defined.of(*signal)).map(Signal::as_str).collect();
        let is_selected_outside = exporter_selection::given_exporters(self.translation).is_some();
        if !without.is_empty() && !is_selected_outside && !self.has_unknown_pipeline {
            let message =
                format!("{} have no pipeline, so they are received and dropped", without.join(" and "));
            self.translation.warning(location, message);
        }
        for signal in Signal::ALL {
            if *processors.blocked.of(signal) {
                exporters.of_mut(signal).clear();
            }
        }
        let debug: Vec<_> =
            Signal::ALL.into_iter().filter(|signal| *debug.of(*signal)).map(Signal::as_str).collect();
        if !debug.is_empty() {
            self.translation.set("ROTEL_DEBUG_LOG", debug.join(","), location);
        }
        let may_send = PerSignal::from_fn(|signal| *is_defined.of(signal) && !*processors.blocked.of(signal));
        if let Some(variable) = exporter_selection::given_exporters(self.translation) {
            let blocks_any = Signal::ALL.into_iter().any(|signal| *processors.blocked.of(signal));
            let consequence =
                if blocks_any { ", and signals that this file blocks are sent there" } else { "" };
            let message =
                format!("{variable} is set, so the exporters in this file are ignored{consequence}");
            return self.translation.warning(location, message);
        }
        ExporterSelection { used: &self.used, exporters, may_send, pipelines: location }
            .apply(self.translation);
    }

    fn receivers(&mut self, entry: &Location<'n>) {
        for (id, used) in self.translation.texts(entry) {
            let is_connector = self.connectors.report(self.translation, &id).is_some();
            if !is_connector && !self.translated_receivers.contains(&id) {
                receivers::translate(self.translation, &id, &used, &self.receivers);
                self.translated_receivers.push(id);
            }
        }
    }

    /// The exporter that a pipeline names. Its settings are translated once.
    fn exporter(&mut self, id: &str, used: &Location<'n>) -> Option<(Arc<str>, CollectorExporterKind)> {
        if let Some(known) = self.used.iter().find(|known| *known.id == *id) {
            return Some((Arc::clone(&known.id), known.kind));
        }
        let Some(location) = self.exporters.iter().find(|location| location.key == id).cloned() else {
            if !self.undefined_exporters.iter().any(|known| known == id) {
                self.undefined_exporters.push(id.to_owned());
                let message = format!(
                    "{} is not defined under exporters; define it, or remove it here",
                    node::shown(id)
                );
                self.translation.error(used, message);
            }
            return None;
        };
        let Some(kind) = CollectorExporterKind::of(id) else {
            let kind = node::shown(exporters::component_type(id));
            self.translation.error(
                &location,
                format!("{kind} is not supported, so nothing is sent there; use otlp or otlphttp"),
            );
            return None;
        };
        let errors = self.translation.errors.len();
        let is_outside = exporter_selection::has_endpoint_outside(self.translation, id);
        let settings = match kind {
            CollectorExporterKind::Grpc | CollectorExporterKind::Http => {
                exporters::translate(self.translation, &location, kind, &self.extensions, is_outside)
            }
            CollectorExporterKind::Debug => {
                self.debug(&location);
                Vec::new()
            }
            CollectorExporterKind::Nop => Vec::new(),
        };
        let sends = matches!(kind, CollectorExporterKind::Grpc | CollectorExporterKind::Http);
        let has_endpoint = settings.iter().any(|(setting, ..)| setting.ends_with("ENDPOINT"));
        let has_errors = self.translation.errors.len() > errors;
        if sends && !has_endpoint && !has_errors && !is_outside {
            self.translation
                .error(&location, "has no endpoint, so it sends nothing; set one, such as https://host:4318");
        }
        let has_errors = self.translation.errors.len() > errors;
        let id: Arc<str> = Arc::from(id);
        self.used.push(UsedExporter { id: Arc::clone(&id), kind, settings, has_errors });
        Some((id, kind))
    }

    /// The debug exporter only counts items: a printed record would come back as a log record and be printed again.
    fn debug(&mut self, exporter: &Location<'n>) {
        for entry in self.translation.entries(exporter) {
            if entry.key == "verbosity" && self.translation.text(&entry).as_deref() == Some("basic") {
                continue;
            }
            self.translation.warning(
                &entry,
                "has no effect; the extension logs a line with item counts for each flush; remove it",
            );
        }
    }

    fn telemetry(&mut self, telemetry: &Location<'n>) {
        for part in self.translation.entries(telemetry) {
            if part.key != "logs" {
                self.translation
                    .warning(&part, "has no effect; see ROTEL_ENABLE_INTERNAL_TELEMETRY, or remove it");
                continue;
            }
            for entry in self.translation.entries(&part) {
                match entry.key {
                    "level" => {
                        if let Some(level) = self.translation.text(&entry).map(|level| level.to_lowercase()) {
                            let is_worse = ["dpanic", "panic", "fatal"].contains(&&*level);
                            self.translation.set(
                                "ROTEL_LOG_LEVEL",
                                if is_worse { "error" } else { &level },
                                &entry,
                            );
                        }
                    }
                    "encoding" => {
                        if let Some(encoding) = self.translation.text(&entry) {
                            let format = if encoding == "console" { "text" } else { &encoding };
                            self.translation.set("ROTEL_LOG_FORMAT", format, &entry);
                        }
                    }
                    _ => self.translation.warning(&entry, "has no effect; remove it"),
                }
            }
        }
    }

    /// Reports the extensions that have no use here. One that an exporter names is reported there.
    fn check_extensions(&mut self, entry: &Location<'n>) {
        let named = self.translation.texts(entry).into_iter();
        let unused: Vec<_> = named
            .filter(|(id, _)| !exporters::is_authenticator(id))
            .map(|(id, _)| node::shown(&id).into_owned())
            .collect();
        if !unused.is_empty() {
            let message = format!("not supported and not needed: {}; remove them", unused.join(", "));
            self.translation.warning(entry, message);
        }
    }
}
