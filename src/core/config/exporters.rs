//! The exporters and their signals: a single, unnamed exporter, or those listed in `ROTEL_EXPORTERS`, each with its own
//! variables.

use std::sync::Arc;

use super::export::{ExportContext, ExporterSpec, Exports};
use super::exporter_name::{ExporterName, prefix};
use super::reader::{Reader, Setting};
use super::value::{self, ListenAddress, SettingText};
use super::{Variables, variables};
use crate::echo;
use crate::secret::Secret;
use crate::signal::{PerSignal, Signal};

/// A backend that gets telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub exporter: ExporterName,
    /// The signals that it gets.
    pub signals: PerSignal<bool>,
    pub exports: Exports,
}

impl Destination {
    /// Sets the secrets to redact from the backend's messages.
    pub(super) fn set_redacted_secrets(&mut self, secrets: &[Secret]) {
        let Exports::Known(exports) = &mut self.exports else { return };
        for signal in Signal::ALL {
            if let Some(export) = exports.of_mut(signal) {
                export.secrets = secrets.to_vec();
            }
        }
    }

    /// Returns true if a signal is exported to this backend, or may be once secrets are fetched.
    pub fn may_export(&self, signal: Signal) -> bool {
        *self.signals.of(signal)
            && match &self.exports {
                Exports::Known(exports) => exports.of(signal).is_some(),
                Exports::Pending => true,
            }
    }
}

/// The variable that sets `setting`, such as `ENDPOINT`, for a signal of an exporter: the signal's own, else the common one.
pub fn exporter_variable(
    variables: &Variables,
    exporter: &ExporterName,
    signal: Signal,
    setting: &str,
) -> Option<String> {
    Reader::new(variables, None).exporter_variable(exporter, signal, setting)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ExporterKind {
    Otlp,
    Blackhole,
}

/// One exporter in `ROTEL_EXPORTERS`.
struct DeclaredExporter {
    name: Arc<str>,
    kind: ExporterKind,
}

const EXPORTER: &str = "ROTEL_EXPORTER";
const EXPORTERS: &str = "ROTEL_EXPORTERS";

impl Reader<'_> {
    /// Reads all destinations; never empty. `own_addresses` are the listen addresses of this extension.
    pub(super) fn destinations(&mut self, own_addresses: &[&ListenAddress]) -> Vec<Destination> {
        let context = ExportContext { own_addresses, proxies: self.proxy_settings() };
        let all = PerSignal::from_fn(|_| true);
        let only = |exports| vec![Destination { exporter: ExporterName::default(), signals: all, exports }];
        if self.text(EXPORTERS).is_none() {
            for signal in Signal::ALL {
                let name = selection_variable(signal);
                if self.text(&name).is_some() {
                    self.warning(&name, format!("has no effect without {EXPORTERS}; set that as well"));
                }
            }
            let name = &ExporterName::default();
            return only(match self.resolved(EXPORTER, kind) {
                Setting::Value(ExporterKind::Blackhole) => {
                    self.blackhole = true;
                    Exports::none()
                }
                Setting::Invalid => Exports::none(),
                Setting::Pending => Exports::Pending,
                Setting::Value(ExporterKind::Otlp) | Setting::Unset => {
                    self.exports(&ExporterSpec { name, signals: all }, &context)
                }
            });
        }
        let declared = self.parsed(EXPORTERS, declared);
        if self.text(EXPORTER).is_some() {
            self.error(
                EXPORTER,
                format!("{EXPORTERS} is set too, but only one of them is allowed; remove one"),
            );
            return only(Exports::none());
        }
        let Some(declared) = declared else { return only(Exports::none()) };
        self.warn_of_unnamed_settings();
        let selected = self.selected_exporters(&declared);
        let mut destinations = Vec::new();
        for DeclaredExporter { name, kind } in &declared {
            let signals = PerSignal::from_fn(|signal| selected.of(signal).contains(name));
            let is_selected = signals != PerSignal::default();
            if !is_selected {
                self.warning(EXPORTERS, format!("{name} gets no signal, so it sends nothing; remove it"));
            }
            if *kind == ExporterKind::Otlp && is_selected {
                let name = ExporterName(Some(Arc::clone(name)));
                let exports = self.exports(&ExporterSpec { name: &name, signals }, &context);
                destinations.push(Destination { exporter: name, signals, exports });
            }
        }
        if destinations.is_empty() {
            self.blackhole = declared.iter().all(|declared| declared.kind == ExporterKind::Blackhole);
            return only(Exports::none());
        }
        destinations
    }

    /// The exporters of each signal: those that its variable names, or all if no signal has such a variable.
    fn selected_exporters(&mut self, declared: &[DeclaredExporter]) -> PerSignal<Vec<Arc<str>>> {
        let all = || declared.iter().map(|declared| Arc::clone(&declared.name)).collect();
        let is_set = |signal: &Signal| self.text(&selection_variable(*signal)).is_some();
        let selects = Signal::ALL.iter().any(is_set);
        PerSignal::from_fn(|signal| {
            let name = selection_variable(signal);
            if !selects {
                return all();
            }
            // A collector.yaml has its own warning for a signal without a pipeline.
            if self.text(&name).is_none() && !self.is_in_collector_yaml(EXPORTERS) {
                self.warning(
                    &name,
                    format!("not set, but set for other signals, so {signal} are received and dropped; set names from {EXPORTERS}"),
                );
            }
            self.parsed(&name, |text| selected(text, declared)).unwrap_or_default()
        })
    }

    fn warn_of_unnamed_settings(&mut self) {
        let set: Vec<_> = self.names().filter(|name| name.starts_with(variables::UNNAMED_EXPORTER)).collect();
        for name in set {
            let setting = name.trim_start_matches(variables::UNNAMED_EXPORTER);
            self.warning(
                &name,
                format!("has no effect if {EXPORTERS} is set; use ROTEL_EXPORTER_{{NAME}}_{setting}"),
            );
        }
    }

    /// See [`exporter_variable`].
    pub(super) fn exporter_variable(
        &self,
        exporter: &ExporterName,
        signal: Signal,
        setting: &str,
    ) -> Option<String> {
        let prefixes = [exporter.signal_prefix(signal), exporter.prefix()].into_iter();
        prefixes.map(|prefix| prefix + setting).find(|name| self.text(name).is_some())
    }
}

/// The prefixes of the variables of all exporters in `ROTEL_EXPORTERS`; empty if it is invalid.
pub(super) fn prefixes(text: &str) -> Vec<String> {
    let declared = declared(&SettingText::plain(value::unquoted(text))).unwrap_or_default();
    declared.iter().map(|declared| prefix(&declared.name)).collect()
}

/// Returns true if a text is a valid `ROTEL_EXPORTERS` value, and so consists of names and kinds only.
pub(super) fn are_well_formed(text: &str) -> bool {
    declared(&SettingText::plain(text)).is_ok()
}

/// The variable that lists the exporters of a signal.
pub(super) fn selection_variable(signal: Signal) -> String {
    format!("{EXPORTERS}_{}", signal.in_variable_names())
}

/// Parses `name:kind,name:kind`. A kind alone is also the name.
fn declared(text: &SettingText<'_>) -> Result<Vec<DeclaredExporter>, String> {
    let value = text.value();
    let mut declared: Vec<DeclaredExporter> = Vec::new();
    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, word) =
            part.split_once(':').map_or((part, part), |(name, kind)| (name.trim(), kind.trim()));
        let kind = kind(&SettingText::plain(word))?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_allowed) {
            return Err(format!(
                "{} cannot be part of a variable's name; use letters, digits, _ and -",
                echo::value(name)
            ));
        }
        if echo::looks_like_key(name) {
            return Err(format!(
                "{} cannot be an exporter's name, because it looks like an API key; use a short word",
                echo::value(name)
            ));
        }
        if declared.iter().any(|known| prefix(&known.name) == prefix(name)) {
            return Err(format!("{} is listed twice; give each exporter a unique name", echo::value(name)));
        }
        if let Some(other) = declared.iter().find(|known| names_clash(&known.name, name)) {
            return Err(format!(
                "{} and {} clash, because some of their variables would have the same name; rename one of them",
                echo::value(name),
                echo::value(&other.name)
            ));
        }
        declared.push(DeclaredExporter { name: Arc::from(name), kind });
    }
    if declared.is_empty() {
        return Err(format!("{text} lists no exporter; use the form name:otlp,name2:otlp"));
    }
    Ok(declared)
}

/// Returns true if a signal's variable of one exporter would be a common variable of the other.
fn names_clash(one: &str, other: &str) -> bool {
    let begins = |one: &str, other: &str| {
        Signal::ALL.iter().any(|signal| prefix(&format!("{one}_{signal}")) == prefix(other))
    };
    begins(one, other) || begins(other, one)
}

fn selected(text: &SettingText<'_>, declared: &[DeclaredExporter]) -> Result<Vec<Arc<str>>, String> {
    let value = text.value();
    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let found = declared.iter().find(|declared| *declared.name == *name);
            let found = found.map(|declared| Arc::clone(&declared.name));
            found.ok_or_else(|| {
                format!("{} is not in {EXPORTERS}; add it there, or correct it", echo::value(name))
            })
        })
        .collect()
}

fn kind(text: &SettingText<'_>) -> Result<ExporterKind, String> {
    const UNSUPPORTED: [&str; 9] =
        ["aws-emf", "aws-xray", "awsemf", "awsxray", "clickhouse", "datadog", "file", "kafka", "xray"];
    if UNSUPPORTED.contains(&text.value().to_ascii_lowercase().as_str()) {
        return Err(format!(
            "{text} is an exporter of Rotel that this extension does not support; use otlp or blackhole"
        ));
    }
    let words = [("otlp", ExporterKind::Otlp), ("blackhole", ExporterKind::Blackhole)];
    value::word(text, "a supported exporter", &words)
}
