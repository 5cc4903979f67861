//! Decides which exporter sends which signal: those of the file, or one that is set outside it.
//!
//! If all signals go to the same exporter, it gets the variables of the unnamed exporter; otherwise each exporter gets
//! variables with its own name. Promises that a signal that may not be sent is sent by no exporter, whatever endpoint is set
//! outside the file. If `ROTEL_EXPORTER` or `ROTEL_EXPORTERS` is set, it selects none.

use std::sync::Arc;

use super::exporters::{CollectorExporterKind, ExporterSetting};
use super::translation::{Location, Translation};
use crate::config::exporter_name::prefix;
use crate::config::exporters::selection_variable;
use crate::config::variables::UNNAMED_EXPORTER;
use crate::echo;
use crate::signal::{PerSignal, Signal};

/// The name that the exporter set outside the file gets if it must not send every signal.
const OUTSIDE_NAME: &str = "otlp";

/// An exporter that pipelines name.
pub(super) struct UsedExporter<'n> {
    pub(super) id: Arc<str>,
    pub(super) kind: CollectorExporterKind,
    pub(super) settings: Vec<ExporterSetting<'n>>,
    /// Its settings have errors, so it must not send.
    pub(super) has_errors: bool,
}

/// The exporters to choose from.
pub(super) struct ExporterSelection<'c, 'n> {
    pub(super) used: &'c [UsedExporter<'n>],
    /// The ids of the exporters in each signal's pipelines.
    pub(super) exporters: PerSignal<Vec<Arc<str>>>,
    /// The signals that may be sent.
    pub(super) may_send: PerSignal<bool>,
    pub(super) pipelines: &'c Location<'n>,
}

impl<'n> ExporterSelection<'_, 'n> {
    /// Sets the variables for the selected exporters.
    pub(super) fn apply(mut self, translation: &mut Translation<'_>) {
        let used = self.used;
        for signal in Signal::ALL {
            let is_usable = |id: &Arc<str>| used.iter().any(|used| used.id == *id && !used.has_errors);
            self.exporters.of_mut(signal).retain(is_usable);
            if !self.may_send.of(signal) {
                self.hide_selection(translation, signal);
            }
        }
        let is_single = self.has_single_exporter();
        let is_common = translation.given(|name| name == format!("{UNNAMED_EXPORTER}ENDPOINT")).is_some();
        let blocked_endpoints: Vec<_> = Signal::ALL
            .into_iter()
            .filter(|signal| !self.may_send.of(*signal))
            .map(signal_endpoint)
            .collect();
        let given =
            translation.given(|name| is_endpoint(name) && !blocked_endpoints.iter().any(|of| of == name));
        if let Some(variable) = given {
            let replaces_all = is_common || !is_single;
            let variable = &echo::name(variable);
            self.warn_of_ignored_settings(translation, variable, replaces_all);
            if replaces_all {
                return self.use_outside_exporter(translation);
            }
        }
        let sends = |used: &&UsedExporter<'n>| {
            Signal::ALL.iter().any(|signal| self.exporters.of(*signal).contains(&used.id))
        };
        let senders: Vec<_> = used.iter().filter(sends).collect();
        match senders[..] {
            [] => translation.set("ROTEL_EXPORTER", "blackhole", self.pipelines),
            [single] if is_single => set_single(translation, single, given.is_some()),
            _ => self.set_several(translation, &senders),
        }
    }

    /// Returns true if all signals go to the same single exporter.
    fn has_single_exporter(&self) -> bool {
        Signal::ALL.iter().all(|signal| {
            matches!((&self.exporters.of(*signal)[..], &self.exporters.logs[..]), ([one], [other]) if one == other)
        })
    }

    /// Hides a variable outside the file that would send a signal that must not be sent.
    fn hide_selection(&self, translation: &mut Translation<'_>, signal: Signal) {
        let chosen = selection_variable(signal);
        if let Some(variable) = translation.given(|name| name == chosen) {
            translation.warning(
                self.pipelines,
                format!("{variable} is ignored, because this file does not send {signal}"),
            );
            translation.hide(variable);
        }
    }

    fn warn_of_ignored_settings(
        &self,
        translation: &mut Translation<'_>,
        variable: &str,
        replaces_all: bool,
    ) {
        if self.used.is_empty() {
            return;
        }
        let message = if replaces_all {
            format!(
                "{variable} is set, so the exporters in this file are ignored, with their headers, TLS and other settings; \
                 set those as variables too"
            )
        } else {
            format!(
                "{variable} is set, so headers, TLS and other settings in this file are ignored for signals whose endpoint is \
                 set by a variable; set those as variables too"
            )
        };
        translation.warning(self.pipelines, message);
    }

    /// Sends the permitted signals with the exporter set outside the file. An unnamed exporter sends every signal, so it gets a
    /// name if one of them must not be sent.
    fn use_outside_exporter(&self, translation: &mut Translation<'_>) {
        let permitted: Vec<_> = Signal::ALL.into_iter().filter(|signal| *self.may_send.of(*signal)).collect();
        if permitted.is_empty() {
            return translation.set("ROTEL_EXPORTER", "blackhole", self.pipelines);
        }
        if permitted.len() == Signal::ALL.len() {
            return;
        }
        translation.rename(UNNAMED_EXPORTER, &prefix(OUTSIDE_NAME));
        translation.set("ROTEL_EXPORTERS", format!("{OUTSIDE_NAME}:otlp"), self.pipelines);
        for signal in permitted {
            translation.set(selection_variable(signal), OUTSIDE_NAME, self.pipelines);
        }
    }

    fn set_several(&self, translation: &mut Translation<'_>, senders: &[&UsedExporter<'n>]) {
        for UsedExporter { id, settings, .. } in senders {
            for (setting, text, location) in settings {
                translation.set(format!("{}{setting}", prefix(&variable_name(id))), text.clone(), location);
            }
        }
        let declared: Vec<_> =
            senders.iter().map(|used| format!("{}:otlp", variable_name(&used.id))).collect();
        translation.set("ROTEL_EXPORTERS", declared.join(","), self.pipelines);
        for signal in Signal::ALL {
            let names: Vec<_> = self.exporters.of(signal).iter().map(|id| variable_name(id)).collect();
            if !names.is_empty() {
                translation.set(selection_variable(signal), names.join(","), self.pipelines);
            }
        }
    }
}

/// Sets the variables of the single exporter. If some signals have endpoints outside the file, its other settings are set for
/// the remaining signals only.
fn set_single(translation: &mut Translation<'_>, single: &UsedExporter<'_>, has_outside_endpoints: bool) {
    let remaining: Vec<_> = Signal::ALL
        .into_iter()
        .filter(|signal| translation.given(|name| name == signal_endpoint(*signal)).is_none())
        .collect();
    for (setting, text, location) in &single.settings {
        if has_outside_endpoints && !setting.ends_with("ENDPOINT") {
            for signal in &remaining {
                let variable = format!("{UNNAMED_EXPORTER}{}_{setting}", signal.in_variable_names());
                translation.set(variable, text.clone(), location);
            }
        } else {
            translation.set(format!("{UNNAMED_EXPORTER}{setting}"), text.clone(), location);
        }
    }
}

/// The variable outside the file that sets all exporters.
pub(super) fn given_exporters<'g>(translation: &Translation<'g>) -> Option<&'g str> {
    translation.given(|name| ["ROTEL_EXPORTER", "ROTEL_EXPORTERS"].contains(&name))
}

/// Returns true if a variable outside the file sets an endpoint for an exporter of the file.
pub(super) fn has_endpoint_outside(translation: &Translation<'_>, id: &str) -> bool {
    let own = prefix(&variable_name(id));
    let has_prefix = |name: &str| [UNNAMED_EXPORTER, &own].iter().any(|prefix| name.starts_with(prefix));
    translation.given(|name| has_prefix(name) && name.ends_with("ENDPOINT")).is_some()
}

/// Returns true for the endpoint variables of the unnamed exporter.
pub(super) fn is_endpoint(name: &str) -> bool {
    name.starts_with(UNNAMED_EXPORTER) && name.ends_with("ENDPOINT")
}

/// The unnamed exporter's endpoint variable for one signal.
fn signal_endpoint(signal: Signal) -> String {
    format!("{UNNAMED_EXPORTER}{}_ENDPOINT", signal.in_variable_names())
}

/// The exporter's name in variables. It must not end like a signal, because a signal may follow it.
fn variable_name(id: &str) -> String {
    let name: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let signal = name
        .rsplit_once('_')
        .filter(|(_, end)| Signal::ALL.iter().any(|signal| signal.as_str().eq_ignore_ascii_case(end)));
    match signal {
        Some((start, end)) => format!("{start}{end}"),
        None => name,
    }
}
