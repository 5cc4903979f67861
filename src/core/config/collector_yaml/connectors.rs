//! Connectors, which are not supported: those that generate telemetry from other telemetry are skipped with a warning.

use super::exporters::component_type;
use super::translation::{Location, Translation};

/// The connectors that generate telemetry from other telemetry, and the start of the sentence about the loss.
const GENERATORS: &[(&str, &str)] = &[
    ("count", "its counts are"),
    ("datadog", "its statistics are"),
    ("exceptions", "the metrics and log records it generates from exceptions are"),
    ("grafanacloud", "its host metrics are"),
    ("metricsaslogs", "the log records it generates from metrics are"),
    ("otlpjson", "the telemetry it reads from log records is"),
    ("servicegraph", "the service graph's metrics are"),
    ("signaltometrics", "its metrics are"),
    ("slowsql", "its records of slow queries are"),
    ("spanmetrics", "the metrics it generates from spans are"),
    ("sum", "its sums are"),
];

/// The connectors of a file.
#[derive(Default)]
pub(super) struct Connectors<'n> {
    defined: Vec<Location<'n>>,
    /// The ids of those that were reported.
    reported: Vec<String>,
}

impl<'n> Connectors<'n> {
    pub(super) fn new(defined: Vec<Location<'n>>) -> Self {
        Self { defined, reported: Vec::new() }
    }

    /// Returns true if this is the id of a connector whose telemetry is lost.
    pub(super) fn generates_telemetry(&self, id: &str) -> bool {
        self.defined.iter().any(|connector| connector.key == id) && loss(id).is_some()
    }

    /// Reports the connector with this id; `None` if there is none.
    pub(super) fn report(&mut self, translation: &mut Translation<'_>, id: &str) -> Option<ConnectorUse> {
        let location = self.defined.iter().find(|connector| connector.key == id)?;
        let is_new = !self.reported.iter().any(|known| known == id);
        if is_new {
            self.reported.push(id.to_owned());
        }
        let (used, message) = match (loss(id), component_type(id)) {
            (Some(loss), _) => (
                ConnectorUse::Skipped,
                format!(
                    "not supported, so {loss} lost; use it in the receiving collector, and remove it here"
                ),
            ),
            // All pipelines of a signal have the same exporters here, so that nothing needs to be forwarded.
            (None, "forward") => return Some(ConnectorUse::Skipped),
            (None, _) => (
                ConnectorUse::Blocking,
                "not supported, so its pipelines send nothing; name exporters in the pipelines instead"
                    .to_owned(),
            ),
        };
        match used {
            _ if !is_new => {}
            ConnectorUse::Skipped => translation.warning(location, message),
            ConnectorUse::Blocking => translation.error(location, message),
        }
        Some(used)
    }
}

/// The effect of a connector on the pipelines that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectorUse {
    /// They are the same without it.
    Skipped,
    /// It decides what is sent where, so they must not send.
    Blocking,
}

/// The telemetry that is lost without a connector.
fn loss(id: &str) -> Option<&'static str> {
    let kind = component_type(id);
    GENERATORS.iter().find(|(generator, _)| *generator == kind).map(|(_, loss)| *loss)
}
