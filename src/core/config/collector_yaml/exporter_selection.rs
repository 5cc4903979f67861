//! Which exporters send what: those of the file, or what is set beside it.
//!
//! An exporter of the file sends by the variables of the only one where it is that of all signals, and by variables of its
//! own name otherwise. Promises that what is not open leaves by none, whatever is set beside the file for that exporter; where
//! `ROTEL_EXPORTER` or `ROTEL_EXPORTERS` chooses, nothing here is asked.

use std::sync::Arc;

use super::exporters::{CollectorExporterKind, ExporterSetting};
use super::translation::{Location, Translation};
use crate::config::exporter_name::prefix;
use crate::config::exporters::selection;
use crate::config::variables::ONLY_EXPORTER;
use crate::echo;
use crate::signal::{PerSignal, Signal};

/// What the exporter that is set beside the file is called where it cannot send every signal.
const BESIDE: &str = "otlp";

/// An exporter that pipelines name.
pub(super) struct UsedExporter<'n> {
    pub(super) id: Arc<str>,
    pub(super) kind: CollectorExporterKind,
    pub(super) settings: Vec<ExporterSetting<'n>>,
    /// Its settings hold errors, so that it must not send.
    pub(super) is_faulty: bool,
}

/// What there is to choose from.
pub(super) struct ExporterSelection<'c, 'n> {
    pub(super) used: &'c [UsedExporter<'n>],
    /// Those that the pipelines of each signal name.
    pub(super) exporters: PerSignal<Vec<Arc<str>>>,
    /// Which signals may leave.
    pub(super) is_open: PerSignal<bool>,
    pub(super) pipelines: &'c Location<'n>,
}

impl<'n> ExporterSelection<'_, 'n> {
    /// Says which exporters send what.
    pub(super) fn make(mut self, translation: &mut Translation<'_>) {
        let used = self.used;
        for signal in Signal::ALL {
            let is_good = |id: &Arc<str>| used.iter().any(|used| used.id == *id && !used.is_faulty);
            self.exporters.of_mut(signal).retain(is_good);
            if !self.is_open.of(signal) {
                self.keep_back(translation, signal);
            }
        }
        let is_only = self.is_only();
        let is_common = translation.given(|name| name == format!("{ONLY_EXPORTER}ENDPOINT")).is_some();
        let of_closed: Vec<_> =
            Signal::ALL.into_iter().filter(|signal| !self.is_open.of(*signal)).map(endpoint_of).collect();
        let given = translation.given(|name| is_endpoint(name) && !of_closed.iter().any(|of| of == name));
        if let Some(variable) = given {
            let replaces_all = is_common || !is_only;
            let variable = &echo::name(variable);
            self.tell_of_other_endpoints(translation, variable, replaces_all);
            if replaces_all {
                return self.send_beside(translation);
            }
        }
        let sends = |used: &&UsedExporter<'n>| {
            Signal::ALL.iter().any(|signal| self.exporters.of(*signal).contains(&used.id))
        };
        let senders: Vec<_> = used.iter().filter(sends).collect();
        match senders[..] {
            [] => translation.set("ROTEL_EXPORTER", "blackhole", self.pipelines),
            [only] if is_only => set_only(translation, only, given.is_some()),
            _ => self.set_several(translation, &senders),
        }
    }

    /// Whether all signals go to the same one, and to no other.
    fn is_only(&self) -> bool {
        Signal::ALL.iter().all(|signal| {
            matches!((&self.exporters.of(*signal)[..], &self.exporters.logs[..]), ([one], [other]) if one == other)
        })
    }

    /// Takes away what beside the file would have a signal sent that is not to be.
    fn keep_back(&self, translation: &mut Translation<'_>, signal: Signal) {
        let chosen = selection(signal);
        if let Some(variable) = translation.given(|name| name == chosen) {
            translation.warning(self.pipelines, format!("{variable} is set, but {signal} are not sent"));
            translation.hide(variable);
        }
    }

    fn tell_of_other_endpoints(&self, translation: &mut Translation<'_>, variable: &str, replaces_all: bool) {
        if self.used.is_empty() {
            return;
        }
        let message = if replaces_all {
            format!(
                "{variable} is set, so the exporters here do not count, nor do their headers, TLS and whatever else is set for \
                 another host; set them beside the file as well"
            )
        } else {
            format!(
                "{variable} is set, so headers, TLS and whatever else is set here for another host do not count for a signal \
                 whose endpoint is set beside the file; set them there as well"
            )
        };
        translation.warning(self.pipelines, message);
    }

    /// Has the exporter that is set beside the file send what is open. One that has no name sends every signal, so that it
    /// gets a name where one of them is kept back.
    fn send_beside(&self, translation: &mut Translation<'_>) {
        let open: Vec<_> = Signal::ALL.into_iter().filter(|signal| *self.is_open.of(*signal)).collect();
        if open.is_empty() {
            return translation.set("ROTEL_EXPORTER", "blackhole", self.pipelines);
        }
        if open.len() == Signal::ALL.len() {
            return;
        }
        translation.rename(ONLY_EXPORTER, &prefix(BESIDE));
        translation.set("ROTEL_EXPORTERS", format!("{BESIDE}:otlp"), self.pipelines);
        for signal in open {
            translation.set(selection(signal), BESIDE, self.pipelines);
        }
    }

    fn set_several(&self, translation: &mut Translation<'_>, senders: &[&UsedExporter<'n>]) {
        for UsedExporter { id, settings, .. } in senders {
            for (setting, text, location) in settings {
                translation.set(format!("{}{setting}", prefix(&name(id))), text.clone(), location);
            }
        }
        let declared: Vec<_> = senders.iter().map(|used| format!("{}:otlp", name(&used.id))).collect();
        translation.set("ROTEL_EXPORTERS", declared.join(","), self.pipelines);
        for signal in Signal::ALL {
            let names: Vec<_> = self.exporters.of(signal).iter().map(|id| name(id)).collect();
            if !names.is_empty() {
                translation.set(selection(signal), names.join(","), self.pipelines);
            }
        }
    }
}

/// Sets what the one that sends everything says. Where a signal goes elsewhere, by what is set beside the file, its settings
/// are those of the other signals alone.
fn set_only(translation: &mut Translation<'_>, only: &UsedExporter<'_>, some_go_elsewhere: bool) {
    let here: Vec<_> = Signal::ALL
        .into_iter()
        .filter(|signal| translation.given(|name| name == endpoint_of(*signal)).is_none())
        .collect();
    for (setting, text, location) in &only.settings {
        if some_go_elsewhere && !setting.ends_with("ENDPOINT") {
            for signal in &here {
                let variable = format!("{ONLY_EXPORTER}{}_{setting}", signal.in_variable_names());
                translation.set(variable, text.clone(), location);
            }
        } else {
            translation.set(format!("{ONLY_EXPORTER}{setting}"), text.clone(), location);
        }
    }
}

/// The variable beside the file that names all exporters.
pub(super) fn given_exporters<'g>(translation: &Translation<'g>) -> Option<&'g str> {
    translation.given(|name| ["ROTEL_EXPORTER", "ROTEL_EXPORTERS"].contains(&name))
}

/// Whether an endpoint is set beside the file that an exporter of the file may have.
pub(super) fn has_endpoint_beside(translation: &Translation<'_>, id: &str) -> bool {
    let own = prefix(&name(id));
    let is_of_it = |name: &str| [ONLY_EXPORTER, &own].iter().any(|prefix| name.starts_with(prefix));
    translation.given(|name| is_of_it(name) && name.ends_with("ENDPOINT")).is_some()
}

/// Whether a variable is an endpoint of the exporter that is the only one.
pub(super) fn is_endpoint(name: &str) -> bool {
    name.starts_with(ONLY_EXPORTER) && name.ends_with("ENDPOINT")
}

/// The variable of its endpoint for one signal.
fn endpoint_of(signal: Signal) -> String {
    format!("{ONLY_EXPORTER}{}_ENDPOINT", signal.in_variable_names())
}

/// What an exporter is called in variables. There a signal may follow, so that a name does not end like one.
fn name(id: &str) -> String {
    let name: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let signal = name
        .rsplit_once('_')
        .filter(|(_, end)| Signal::ALL.iter().any(|signal| signal.as_str().eq_ignore_ascii_case(end)));
    match signal {
        Some((start, end)) => format!("{start}{end}"),
        None => name,
    }
}
