//! The `collector.yaml` of people who come from the OpenTelemetry collector layer, read as it stands.
//!
//! Decides which variables say the same: the file becomes variables, each with the location that set it, so that one set of
//! parsers, limits and errors holds for both, and a variable that is set beside the file wins. Promises that what cannot
//! be honoured is told by line and path: as a warning where telemetry arrives all the same, as a error where it would go
//! astray, and all at once. To read the file is left to `app::settings`.

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

use std::fmt;
use std::sync::Arc;

use self::exporter_selection::{ExporterSelection, UsedExporter};
use self::exporters::{CollectorExporterKind, unknown};
use self::processors::Processors;
use self::translation::{Location, Renamed, Translation};
use super::{Problem, SourceLocations, Variables};
use crate::signal::{PerSignal, Signal};

/// Longer files are not read.
pub const SIZE_LIMIT: usize = 256 * 1024;

/// What the file says.
#[derive(Default)]
pub struct CollectorYaml {
    /// Variables that say the same.
    pub variables: Variables,
    /// Where each was set.
    pub locations: SourceLocations,
    /// What does not count here, and does no harm by that.
    pub warnings: Vec<Problem>,
    /// What keeps telemetry from going where the file says.
    pub errors: Vec<Problem>,
    /// Variables beside it that do not count under their names, because something of the file is kept back.
    renamed: Renamed,
}

/// Without the variables, which may hold credentials.
impl fmt::Debug for CollectorYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorYaml")
            .field("warnings", &self.warnings)
            .field("errors", &self.errors)
            .finish_non_exhaustive()
    }
}

impl CollectorYaml {
    /// Of a file that cannot be read, which is what there is to say of it.
    pub fn with_error(error: Problem) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }

    /// Of a file that cannot be read and is not needed.
    pub fn with_warning(warning: Problem) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }

    /// Adds its variables to those that are set beside it, which win. Of the locations those are left that hold.
    pub fn apply_as_defaults(&mut self, variables: &mut Variables) {
        let renamed: Vec<_> = self.renamed.values().flatten().collect();
        self.locations.retain(|name, _| {
            // That one is set beside the file itself.
            if renamed.contains(&name) {
                !precedence::is_set(variables, name)
            } else {
                !precedence::win_over(name, variables)
            }
        });
        self.variables.retain(|name, _| self.locations.contains_key(name));
        variables.retain(|name, _| !self.renamed.contains_key(name));
        for name in self.locations.keys() {
            variables.extend(self.variables.get(name).map(|text| (name.clone(), text.clone())));
        }
    }
}

/// The path in `OPENTELEMETRY_COLLECTOR_CONFIG_URI`: the file's own, or behind `file:`.
pub fn path(uri: &str) -> Result<&str, String> {
    let path = uri.strip_prefix("file://").or_else(|| uri.strip_prefix("file:")).unwrap_or(uri);
    match path.split_once(':') {
        Some((scheme, _)) if scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            let scheme = node::shown(scheme);
            Err(format!(
                "{scheme}: cannot be read here, because nothing is fetched before the function's init; put the file into the bundle, \
             and write its path, such as /var/task/collector.yaml"
            ))
        }
        _ => Ok(path),
    }
}

/// Whether variables say where to send, so that a file that is not there is missed by nobody: its variable stays behind
/// where people change layers.
pub fn is_optional(variables: &Variables) -> bool {
    let says = |name: &String| *name == "ROTEL_EXPORTERS" || exporter_selection::is_endpoint(name);
    variables.keys().any(|name| says(name) && precedence::is_set(variables, name))
}

/// Reads a file of this name; its values are filled from `given`, whose variables win over it.
pub fn read(text: &str, file: &str, given: &Variables) -> CollectorYaml {
    let mut translation = Translation::new(file, given);
    match node::parse(text) {
        Ok(node) => FileTranslator::new(&mut translation, &node).run(),
        Err(malformed) => translation.error_at(malformed.line, malformed.message),
    }
    let Translation { variables, locations, warnings, errors, renamed, .. } = translation;
    CollectorYaml { variables, locations, warnings, errors, renamed }
}

/// A walk through the file.
struct FileTranslator<'a, 'g, 'n> {
    translation: &'a mut Translation<'g>,
    receivers: Vec<Location<'n>>,
    processors: Vec<Location<'n>>,
    exporters: Vec<Location<'n>>,
    extensions: Vec<Location<'n>>,
    service: Option<Location<'n>>,
    used: Vec<UsedExporter<'n>>,
    /// Receivers that were read.
    received: Vec<String>,
}

impl<'a, 'g, 'n> FileTranslator<'a, 'g, 'n> {
    fn new(translation: &'a mut Translation<'g>, node: &'n node::Node) -> Self {
        let mut walk = Self {
            translation,
            receivers: Vec::new(),
            processors: Vec::new(),
            exporters: Vec::new(),
            extensions: Vec::new(),
            service: None,
            used: Vec::new(),
            received: Vec::new(),
        };
        for entry in walk.translation.entries(&Location::top(node)) {
            match entry.key {
                "receivers" => walk.receivers = walk.translation.entries(&entry),
                "processors" => walk.processors = walk.translation.entries(&entry),
                "exporters" => walk.exporters = walk.translation.entries(&entry),
                "extensions" => walk.extensions = walk.translation.entries(&entry),
                "service" => walk.service = Some(entry),
                "connectors" => walk
                    .translation
                    .error(&entry, "connectors are not in this extension; name exporters in the pipelines"),
                _ => unknown(walk.translation, &entry),
            }
        }
        walk
    }

    fn run(mut self) {
        let Some(service) = self.service.take() else {
            return self
                .translation
                .error_at(1, "it has no service, so nothing of it is used; write service.pipelines");
        };
        let mut has_pipelines = false;
        for entry in self.translation.entries(&service) {
            match entry.key {
                "pipelines" => {
                    has_pipelines = true;
                    self.pipelines(&entry);
                }
                "telemetry" => self.telemetry(&entry),
                "extensions" => self.named_extensions(&entry),
                _ => unknown(self.translation, &entry),
            }
        }
        if !has_pipelines {
            self.translation
                .error(&service, "it has no pipelines, so its exporters send nothing; write some");
        }
    }

    fn pipelines(&mut self, pipelines: &Location<'n>) {
        let mut processors = Processors::default();
        let mut exporters: PerSignal<Vec<Arc<str>>> = PerSignal::default();
        let mut debug = PerSignal::<bool>::default();
        let mut is_there = PerSignal::<bool>::default();
        let mut of_pipelines = 0;
        for pipeline in self.translation.entries(pipelines) {
            let kind = exporters::component_type(pipeline.key);
            let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.as_str() == kind) else {
                self.translation
                    .error(&pipeline, "pipelines are of traces, metrics or logs; write one of these");
                continue;
            };
            *is_there.of_mut(signal) = true;
            of_pipelines += 1;
            let errors = self.translation.errors.len();
            let entries = self.translation.entries(&pipeline);
            // What cannot be read might have asked for it.
            *processors.withheld.of_mut(signal) |= self.translation.errors.len() > errors;
            for entry in entries {
                match entry.key {
                    "receivers" => self.receivers(&entry),
                    "processors" => {
                        let errors = self.translation.errors.len();
                        let named = self.translation.texts(&entry);
                        *processors.withheld.of_mut(signal) |= self.translation.errors.len() > errors;
                        for (id, used) in named {
                            processors.take(self.translation, signal, (&id, &used), &self.processors);
                        }
                    }
                    "exporters" => {
                        for (id, used) in self.translation.texts(&entry) {
                            match self.exporter(&id, &used) {
                                Some((_, CollectorExporterKind::Debug)) => *debug.of_mut(signal) = true,
                                Some((id, CollectorExporterKind::Grpc | CollectorExporterKind::Http)) => {
                                    let of_signal = exporters.of_mut(signal);
                                    if !of_signal.contains(&id) {
                                        of_signal.push(id);
                                    }
                                }
                                Some((_, CollectorExporterKind::Nop)) | None => {}
                            }
                        }
                    }
                    _ => unknown(self.translation, &entry),
                }
            }
        }
        for signal in Signal::ALL {
            if !is_there.of(signal) && exporter_selection::given_exporters(self.translation).is_none() {
                self.translation.warning(
                    pipelines,
                    format!("{signal} have no pipeline, so they are received and dropped"),
                );
            }
            if *processors.withheld.of(signal) {
                exporters.of_mut(signal).clear();
            }
        }
        processors.finish(self.translation, of_pipelines);
        let debug: Vec<_> =
            Signal::ALL.into_iter().filter(|signal| *debug.of(*signal)).map(Signal::as_str).collect();
        if !debug.is_empty() {
            self.translation.set("ROTEL_DEBUG_LOG", debug.join(","), pipelines);
        }
        let is_open = PerSignal::from_fn(|signal| *is_there.of(signal) && !*processors.withheld.of(signal));
        if let Some(variable) = exporter_selection::given_exporters(self.translation) {
            let withholds = Signal::ALL.into_iter().any(|signal| *processors.withheld.of(signal));
            let all = if withholds { ", and what is to be kept back here is sent there" } else { "" };
            let message = format!("{variable} is set, so the exporters here do not count{all}");
            return self.translation.warning(pipelines, message);
        }
        ExporterSelection { used: &self.used, exporters, is_open, pipelines }.make(self.translation);
    }

    fn receivers(&mut self, entry: &Location<'n>) {
        for (id, used) in self.translation.texts(entry) {
            if !self.received.contains(&id) {
                receivers::read(self.translation, &id, &used, &self.receivers);
                self.received.push(id);
            }
        }
    }

    /// The exporter that a pipeline names, its settings read once.
    fn exporter(&mut self, id: &str, used: &Location<'n>) -> Option<(Arc<str>, CollectorExporterKind)> {
        if let Some(known) = self.used.iter().find(|known| *known.id == *id) {
            return Some((Arc::clone(&known.id), known.kind));
        }
        let Some(location) = self.exporters.iter().find(|location| location.key == id).cloned() else {
            self.translation.error(
                used,
                format!(
                    "there is no {} among the exporters; write it there, or remove it here",
                    node::shown(id)
                ),
            );
            return None;
        };
        let Some(kind) = CollectorExporterKind::of(id) else {
            let kind = node::shown(exporters::component_type(id));
            self.translation.error(
                &location,
                format!("{kind} is not in this extension, so nothing is sent there; write otlp or otlphttp"),
            );
            return None;
        };
        let errors = self.translation.errors.len();
        let settings = match kind {
            CollectorExporterKind::Grpc | CollectorExporterKind::Http => {
                exporters::read(self.translation, &location, kind, &self.extensions)
            }
            CollectorExporterKind::Debug => {
                self.debug(&location);
                Vec::new()
            }
            CollectorExporterKind::Nop => Vec::new(),
        };
        let sends = matches!(kind, CollectorExporterKind::Grpc | CollectorExporterKind::Http);
        let has_endpoint = settings.iter().any(|(setting, ..)| setting.ends_with("ENDPOINT"));
        if sends && !has_endpoint && !exporter_selection::has_endpoint_beside(self.translation, id) {
            self.translation.error(
                &location,
                "it has no endpoint, so it sends nothing; write one, such as https://host:4318",
            );
        }
        let is_faulty = self.translation.errors.len() > errors;
        let id: Arc<str> = Arc::from(id);
        self.used.push(UsedExporter { id: Arc::clone(&id), kind, settings, is_faulty });
        Some((id, kind))
    }

    /// Each record that it would print would come back as a log record and be printed again.
    fn debug(&mut self, exporter: &Location<'n>) {
        for entry in self.translation.entries(exporter) {
            if entry.key == "verbosity" && self.translation.text(&entry).as_deref() == Some("basic") {
                continue;
            }
            self.translation.warning(
                &entry,
                "it has no effect here, where a line for each flush counts what passed; remove it",
            );
        }
    }

    fn telemetry(&mut self, telemetry: &Location<'n>) {
        for part in self.translation.entries(telemetry) {
            if part.key != "logs" {
                self.translation.warning(
                    &part,
                    "it has no effect here; see ROTEL_ENABLE_INTERNAL_TELEMETRY, or remove it",
                );
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
                    _ => self.translation.warning(&entry, "it has no effect here; remove it"),
                }
            }
        }
    }

    fn named_extensions(&mut self, entry: &Location<'n>) {
        for (id, used) in self.translation.texts(entry) {
            if exporters::component_type(&id) != "basicauth" {
                self.translation.warning(
                    &used,
                    format!("{} is not in this extension, which does without; remove it", node::shown(&id)),
                );
            }
        }
    }
}
