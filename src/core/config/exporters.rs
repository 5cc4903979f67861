//! Which exporters there are, and which signals go to which: the only one, or those that `ROTEL_EXPORTERS` names, each
//! with variables of its own.

use std::sync::Arc;

use super::export::{ExportContext, ExporterSpec, Exports};
use super::exporter_name::{ExporterName, prefix};
use super::reader::{Reader, Setting};
use super::value::{self, ListenAddress, SettingText};
use super::{Problem, Variables, variables};
use crate::echo;
use crate::secret::Secret;
use crate::signal::{PerSignal, Signal};

/// Where telemetry goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The exporter that sends it.
    pub exporter: ExporterName,
    /// Which signals it is to send.
    pub signals: PerSignal<bool>,
    /// What becomes of it.
    pub exports: Exports,
}

impl Destination {
    /// Has no word of its backend repeat these.
    pub(super) fn redact_secrets(&mut self, secrets: &[Secret]) {
        let Exports::Known(exports) = &mut self.exports else { return };
        for signal in Signal::ALL {
            if let Some(export) = exports.of_mut(signal) {
                export.secrets = secrets.to_vec();
            }
        }
    }

    /// Whether a signal has a way to this backend, or may still get one.
    pub(super) fn may_export(&self, signal: Signal) -> bool {
        *self.signals.of(signal)
            && match &self.exports {
                Exports::Known(exports) => exports.of(signal).is_some(),
                Exports::Pending => true,
            }
    }
}

/// The variable that sets `setting`, such as `ENDPOINT`, for a signal of an exporter: its own, else the common one.
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

/// One part of `ROTEL_EXPORTERS`.
struct DeclaredExporter {
    name: Arc<str>,
    kind: ExporterKind,
}

const EXPORTER: &str = "ROTEL_EXPORTER";
const EXPORTERS: &str = "ROTEL_EXPORTERS";

impl Reader<'_> {
    /// Warns of names that begin like ours and are not.
    pub(super) fn unknown_names(&mut self) {
        let prefixes = self.text("ROTEL_EXPORTERS").map(prefixes).unwrap_or_default();
        for name in self.variables.keys().filter(|name| name.starts_with("ROTEL_")) {
            if let Some(message) = variables::unknown(name, &prefixes) {
                self.warnings.push(Problem { variable: echo::name(name), message });
            }
        }
    }

    /// Where telemetry goes: one destination at least. `own` are the addresses on which the extension itself listens.
    pub(super) fn destinations(&mut self, own: &[&ListenAddress]) -> Vec<Destination> {
        let context = ExportContext { own, proxies: self.proxy_settings() };
        let all = PerSignal::from_fn(|_| true);
        let only = |exports| vec![Destination { exporter: ExporterName::default(), signals: all, exports }];
        if self.text(EXPORTERS).is_none() {
            for signal in Signal::ALL {
                let name = selection(signal);
                if self.text(&name).is_some() {
                    self.warning(&name, format!("it has no effect without {EXPORTERS}; set that as well"));
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
            self.error(EXPORTER, format!("{EXPORTERS} is set too, and only one can hold; remove one"));
            return only(Exports::none());
        }
        let Some(declared) = declared else { return only(Exports::none()) };
        self.without_effect_beside_several();
        let chosen = self.chosen(&declared);
        let mut destinations = Vec::new();
        for DeclaredExporter { name, kind } in &declared {
            let signals = PerSignal::from_fn(|signal| chosen.of(signal).contains(name));
            let is_chosen = signals != PerSignal::default();
            if !is_chosen {
                self.warning(
                    EXPORTERS,
                    format!("{name} is chosen for no signal, so it sends nothing; remove it"),
                );
            }
            if *kind == ExporterKind::Otlp && is_chosen {
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

    /// The exporters of each signal: those that its variable names, or all where no signal has one.
    fn chosen(&mut self, declared: &[DeclaredExporter]) -> PerSignal<Vec<Arc<str>>> {
        let all = || declared.iter().map(|declared| Arc::clone(&declared.name)).collect();
        let is_set = |signal: &Signal| self.text(&selection(*signal)).is_some();
        let chooses = Signal::ALL.iter().any(is_set);
        PerSignal::from_fn(|signal| {
            let name = selection(signal);
            if !chooses {
                return all();
            }
            // What a file says of its pipelines is said there.
            if self.text(&name).is_none() && !self.is_in_collector_yaml(EXPORTERS) {
                self.warning(
                    &name,
                    format!("not set, as it is for other signals, so {signal} are received and dropped; name exporters of {EXPORTERS}"),
                );
            }
            self.parsed(&name, |text| selected(text, declared)).unwrap_or_default()
        })
    }

    fn without_effect_beside_several(&mut self) {
        let set: Vec<_> = self.names().filter(|name| name.starts_with(variables::ONLY_EXPORTER)).collect();
        for name in set {
            let setting = name.trim_start_matches(variables::ONLY_EXPORTER);
            self.warning(
                &name,
                format!("it has no effect beside {EXPORTERS}; write ROTEL_EXPORTER_NAME_{setting} with the name of one"),
            );
        }
    }

    /// The variable of an exporter that sets `setting` for a signal.
    pub(super) fn exporter_variable(
        &self,
        exporter: &ExporterName,
        signal: Signal,
        setting: &str,
    ) -> Option<String> {
        let prefixes = [exporter.prefix_of(signal), exporter.prefix()].into_iter();
        prefixes.map(|prefix| prefix + setting).find(|name| self.text(name).is_some())
    }
}

/// How the names of the variables of the exporters begin that `ROTEL_EXPORTERS` names, as far as it can be read.
pub(super) fn prefixes(text: &str) -> Vec<String> {
    let declared = declared(&SettingText::plain(value::unquoted(text))).unwrap_or_default();
    declared.iter().map(|declared| prefix(&declared.name)).collect()
}

/// Returns true if a text has the form of `ROTEL_EXPORTERS`, and so holds nothing but names and kinds.
pub(super) fn are_well_formed(text: &str) -> bool {
    declared(&SettingText::plain(text)).is_ok()
}

/// The variable that names the exporters of a signal.
pub(super) fn selection(signal: Signal) -> String {
    format!("{EXPORTERS}_{}", signal.in_variable_names())
}

/// `name:kind,name:kind`; a kind alone is the name as well.
fn declared(text: &SettingText<'_>) -> Result<Vec<DeclaredExporter>, String> {
    let value = text.value();
    let mut declared: Vec<DeclaredExporter> = Vec::new();
    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, word) =
            part.split_once(':').map_or((part, part), |(name, kind)| (name.trim(), kind.trim()));
        let kind = kind(&SettingText::plain(word))?;
        let is_lawful = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_lawful) {
            return Err(format!(
                "{} cannot be part of a variable's name; use letters, digits and _",
                echo::value(name)
            ));
        }
        if echo::looks_like_key(name) {
            return Err(format!(
                "{} cannot be an exporter's name, because it looks like a key; use a short word",
                echo::value(name)
            ));
        }
        if declared.iter().any(|known| prefix(&known.name) == prefix(name)) {
            return Err(format!(
                "{} is named twice; give each exporter a name of its own",
                echo::value(name)
            ));
        }
        if let Some(other) = declared.iter().find(|known| are_confused(&known.name, name)) {
            return Err(format!(
                "{} and {} clash, because a signal's name follows an exporter's in variables; give one another name",
                echo::value(name),
                echo::value(&other.name)
            ));
        }
        declared.push(DeclaredExporter { name: Arc::from(name), kind });
    }
    if declared.is_empty() {
        return Err(format!("{text} names no exporter; write name:otlp,name2:otlp"));
    }
    Ok(declared)
}

/// Whether a variable of one signal of the one exporter would be a variable of the other for all.
fn are_confused(one: &str, other: &str) -> bool {
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
                format!(
                    "{} is not among {EXPORTERS}; name it there as well, or correct it",
                    echo::value(name)
                )
            })
        })
        .collect()
}

fn kind(text: &SettingText<'_>) -> Result<ExporterKind, String> {
    const LEFT_OUT: [&str; 9] =
        ["aws-emf", "aws-xray", "awsemf", "awsxray", "clickhouse", "datadog", "file", "kafka", "xray"];
    if LEFT_OUT.contains(&text.value().to_ascii_lowercase().as_str()) {
        return Err(format!(
            "{text} is an exporter of Rotel that this extension leaves out; write otlp or blackhole"
        ));
    }
    let words = [("otlp", ExporterKind::Otlp), ("blackhole", ExporterKind::Blackhole)];
    value::word(text, "an exporter of this extension", &words)
}
