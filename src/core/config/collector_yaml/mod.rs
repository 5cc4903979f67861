//! The `collector.yaml` of people who come from the OpenTelemetry collector layer, read as it stands.
//!
//! Decides which variables say the same: the file becomes variables, each with the place that set it, so that one set of
//! parsers, limits and errors holds for both, and a variable that is set beside the file wins. Promises that what cannot
//! be honoured is told by line and path: as a warning where telemetry arrives all the same, as a fault where it would go
//! astray, and all at once. To read the file is left to `app::settings`.

mod account;
mod choice;
mod expand;
mod exporters;
mod node;
mod processors;
mod receivers;
mod rivals;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use self::account::{Account, Place, Renamed};
use self::choice::{Choice, Used};
use self::exporters::{Kind, unknown};
use self::processors::Processors;
use super::{Fault, Places, Variables};
use crate::signal::{PerSignal, Signal};

/// Longer files are not read.
pub const SIZE_LIMIT: usize = 256 * 1024;

/// What the file says.
#[derive(Default)]
pub struct CollectorYaml {
    /// Variables that say the same.
    pub variables: Variables,
    /// Where each was set.
    pub places: Places,
    /// What does not count here, and does no harm by that.
    pub warnings: Vec<Fault>,
    /// What keeps telemetry from going where the file says.
    pub faults: Vec<Fault>,
    /// Variables beside it that do not count under their names, because something of the file is kept back.
    renamed: Renamed,
}

/// Without the variables, which may hold credentials.
impl fmt::Debug for CollectorYaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectorYaml")
            .field("warnings", &self.warnings)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl CollectorYaml {
    /// Of a file that cannot be read, which is what there is to say of it.
    pub fn faulty(fault: Fault) -> Self {
        Self { faults: vec![fault], ..Self::default() }
    }

    /// Of a file that cannot be read and is not needed.
    pub fn dispensable(warning: Fault) -> Self {
        Self { warnings: vec![warning], ..Self::default() }
    }

    /// Adds its variables to those that are set beside it, which win. Of the places those are left that hold.
    pub fn lie_under(&mut self, variables: &mut Variables) {
        let renamed: Vec<_> = self.renamed.values().flatten().collect();
        self.places.retain(|name, _| {
            // That one is set beside the file itself.
            if renamed.contains(&name) {
                !rivals::is_set(variables, name)
            } else {
                !rivals::win_over(name, variables)
            }
        });
        self.variables.retain(|name, _| self.places.contains_key(name));
        variables.retain(|name, _| !self.renamed.contains_key(name));
        for name in self.places.keys() {
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
pub fn is_dispensable(variables: &Variables) -> bool {
    let says = |name: &String| *name == "ROTEL_EXPORTERS" || choice::is_endpoint(name);
    variables.keys().any(|name| says(name) && rivals::is_set(variables, name))
}

/// Reads a file of this name; its values are filled from `given`, whose variables win over it.
pub fn read(text: &str, file: &str, given: &Variables) -> CollectorYaml {
    let mut account = Account::new(file, given);
    match node::parse(text) {
        Ok(node) => Walk::new(&mut account, &node).run(),
        Err(malformed) => account.fault_at(malformed.line, malformed.problem),
    }
    let Account { variables, places, warnings, faults, renamed, .. } = account;
    CollectorYaml { variables, places, warnings, faults, renamed }
}

/// A walk through the file.
struct Walk<'a, 'g, 'n> {
    account: &'a mut Account<'g>,
    receivers: Vec<Place<'n>>,
    processors: Vec<Place<'n>>,
    exporters: Vec<Place<'n>>,
    extensions: Vec<Place<'n>>,
    service: Option<Place<'n>>,
    used: Vec<Used<'n>>,
    /// Receivers that were read.
    received: Vec<String>,
}

impl<'a, 'g, 'n> Walk<'a, 'g, 'n> {
    fn new(account: &'a mut Account<'g>, node: &'n node::Node) -> Self {
        let mut walk = Self {
            account,
            receivers: Vec::new(),
            processors: Vec::new(),
            exporters: Vec::new(),
            extensions: Vec::new(),
            service: None,
            used: Vec::new(),
            received: Vec::new(),
        };
        for entry in walk.account.entries(&Place::top(node)) {
            match entry.key {
                "receivers" => walk.receivers = walk.account.entries(&entry),
                "processors" => walk.processors = walk.account.entries(&entry),
                "exporters" => walk.exporters = walk.account.entries(&entry),
                "extensions" => walk.extensions = walk.account.entries(&entry),
                "service" => walk.service = Some(entry),
                "connectors" => walk
                    .account
                    .fault(&entry, "connectors are not in this extension; name exporters in the pipelines"),
                _ => unknown(walk.account, &entry),
            }
        }
        walk
    }

    fn run(mut self) {
        let Some(service) = self.service.take() else {
            return self
                .account
                .fault_at(1, "it has no service, so nothing of it is used; write service.pipelines");
        };
        let mut has_pipelines = false;
        for entry in self.account.entries(&service) {
            match entry.key {
                "pipelines" => {
                    has_pipelines = true;
                    self.pipelines(&entry);
                }
                "telemetry" => self.telemetry(&entry),
                "extensions" => self.named_extensions(&entry),
                _ => unknown(self.account, &entry),
            }
        }
        if !has_pipelines {
            self.account.fault(&service, "it has no pipelines, so its exporters send nothing; write some");
        }
    }

    fn pipelines(&mut self, pipelines: &Place<'n>) {
        let mut processors = Processors::default();
        let mut exporters: PerSignal<Vec<Arc<str>>> = PerSignal::default();
        let mut debug = PerSignal::<bool>::default();
        let mut is_there = PerSignal::<bool>::default();
        let mut of_pipelines = 0;
        for pipeline in self.account.entries(pipelines) {
            let kind = exporters::kind_of(pipeline.key);
            let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.as_str() == kind) else {
                self.account.fault(&pipeline, "pipelines are of traces, metrics or logs; write one of these");
                continue;
            };
            *is_there.of_mut(signal) = true;
            of_pipelines += 1;
            let faults = self.account.faults.len();
            let entries = self.account.entries(&pipeline);
            // What cannot be read might have asked for it.
            *processors.withheld.of_mut(signal) |= self.account.faults.len() > faults;
            for entry in entries {
                match entry.key {
                    "receivers" => self.receivers(&entry),
                    "processors" => {
                        let faults = self.account.faults.len();
                        let named = self.account.texts(&entry);
                        *processors.withheld.of_mut(signal) |= self.account.faults.len() > faults;
                        for (id, used) in named {
                            processors.take(self.account, signal, (&id, &used), &self.processors);
                        }
                    }
                    "exporters" => {
                        for (id, used) in self.account.texts(&entry) {
                            match self.exporter(&id, &used) {
                                Some((_, Kind::Debug)) => *debug.of_mut(signal) = true,
                                Some((id, Kind::Grpc | Kind::Http)) => {
                                    let of_signal = exporters.of_mut(signal);
                                    if !of_signal.contains(&id) {
                                        of_signal.push(id);
                                    }
                                }
                                Some((_, Kind::Nowhere)) | None => {}
                            }
                        }
                    }
                    _ => unknown(self.account, &entry),
                }
            }
        }
        for signal in Signal::ALL {
            if !is_there.of(signal) && choice::given_exporters(self.account).is_none() {
                self.account.warning(
                    pipelines,
                    format!("{signal} have no pipeline, so they are received and dropped"),
                );
            }
            if *processors.withheld.of(signal) {
                exporters.of_mut(signal).clear();
            }
        }
        processors.finish(self.account, of_pipelines);
        let debug: Vec<_> =
            Signal::ALL.into_iter().filter(|signal| *debug.of(*signal)).map(Signal::as_str).collect();
        if !debug.is_empty() {
            self.account.set("ROTEL_DEBUG_LOG", debug.join(","), pipelines);
        }
        let is_open = PerSignal::from_fn(|signal| *is_there.of(signal) && !*processors.withheld.of(signal));
        if let Some(variable) = choice::given_exporters(self.account) {
            let withholds = Signal::ALL.into_iter().any(|signal| *processors.withheld.of(signal));
            let all = if withholds { ", and what is to be kept back here is sent there" } else { "" };
            let problem = format!("{variable} is set, so the exporters here do not count{all}");
            return self.account.warning(pipelines, problem);
        }
        Choice { used: &self.used, exporters, is_open, pipelines }.make(self.account);
    }

    fn receivers(&mut self, entry: &Place<'n>) {
        for (id, used) in self.account.texts(entry) {
            if !self.received.contains(&id) {
                receivers::read(self.account, &id, &used, &self.receivers);
                self.received.push(id);
            }
        }
    }

    /// The exporter that a pipeline names, its settings read once.
    fn exporter(&mut self, id: &str, used: &Place<'n>) -> Option<(Arc<str>, Kind)> {
        if let Some(known) = self.used.iter().find(|known| *known.id == *id) {
            return Some((Arc::clone(&known.id), known.kind));
        }
        let Some(place) = self.exporters.iter().find(|place| place.key == id).cloned() else {
            self.account.fault(
                used,
                format!(
                    "there is no {} among the exporters; write it there, or remove it here",
                    node::shown(id)
                ),
            );
            return None;
        };
        let Some(kind) = Kind::of(id) else {
            let kind = node::shown(exporters::kind_of(id));
            self.account.fault(
                &place,
                format!("{kind} is not in this extension, so nothing is sent there; write otlp or otlphttp"),
            );
            return None;
        };
        let faults = self.account.faults.len();
        let settings = match kind {
            Kind::Grpc | Kind::Http => exporters::read(self.account, &place, kind, &self.extensions),
            Kind::Debug => {
                self.debug(&place);
                Vec::new()
            }
            Kind::Nowhere => Vec::new(),
        };
        let sends = matches!(kind, Kind::Grpc | Kind::Http);
        let has_endpoint = settings.iter().any(|(setting, ..)| setting.ends_with("ENDPOINT"));
        if sends && !has_endpoint && !choice::has_endpoint_beside(self.account, id) {
            self.account.fault(
                &place,
                "it has no endpoint, so it sends nothing; write one, such as https://host:4318",
            );
        }
        let is_faulty = self.account.faults.len() > faults;
        let id: Arc<str> = Arc::from(id);
        self.used.push(Used { id: Arc::clone(&id), kind, settings, is_faulty });
        Some((id, kind))
    }

    /// Each record that it would print would come back as a log record and be printed again.
    fn debug(&mut self, exporter: &Place<'n>) {
        for entry in self.account.entries(exporter) {
            if entry.key == "verbosity" && self.account.text(&entry).as_deref() == Some("basic") {
                continue;
            }
            self.account.warning(
                &entry,
                "it has no effect here, where a line for each flush counts what passed; remove it",
            );
        }
    }

    fn telemetry(&mut self, telemetry: &Place<'n>) {
        for part in self.account.entries(telemetry) {
            if part.key != "logs" {
                self.account.warning(
                    &part,
                    "it has no effect here; see ROTEL_ENABLE_INTERNAL_TELEMETRY, or remove it",
                );
                continue;
            }
            for entry in self.account.entries(&part) {
                match entry.key {
                    "level" => {
                        if let Some(level) = self.account.text(&entry).map(|level| level.to_lowercase()) {
                            let is_worse = ["dpanic", "panic", "fatal"].contains(&&*level);
                            self.account.set(
                                "ROTEL_LOG_LEVEL",
                                if is_worse { "error" } else { &level },
                                &entry,
                            );
                        }
                    }
                    "encoding" => {
                        if let Some(encoding) = self.account.text(&entry) {
                            let format = if encoding == "console" { "text" } else { &encoding };
                            self.account.set("ROTEL_LOG_FORMAT", format, &entry);
                        }
                    }
                    _ => self.account.warning(&entry, "it has no effect here; remove it"),
                }
            }
        }
    }

    fn named_extensions(&mut self, entry: &Place<'n>) {
        for (id, used) in self.account.texts(entry) {
            if exporters::kind_of(&id) != "basicauth" {
                self.account.warning(
                    &used,
                    format!("{} is not in this extension, which does without; remove it", node::shown(&id)),
                );
            }
        }
    }
}
