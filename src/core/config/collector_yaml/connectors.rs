//! Connectors, which are not supported: those that make telemetry from telemetry are left out with a warning.

use super::exporters::component_type;
use super::translation::{Location, Translation};

/// The connectors that make telemetry of another kind, and what is lost without them.
const MAKERS: &[(&str, &str)] = &[
    ("count", "its counts are"),
    ("datadog", "its statistics are"),
    ("exceptions", "the metrics and log records it makes of exceptions are"),
    ("grafanacloud", "its host metrics are"),
    ("metricsaslogs", "the log records it makes of metrics are"),
    ("otlpjson", "the telemetry it reads from log records is"),
    ("servicegraph", "the service graph's metrics are"),
    ("signaltometrics", "its metrics are"),
    ("slowsql", "its records of slow queries are"),
    ("spanmetrics", "the metrics it makes of spans are"),
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
    pub(super) fn makes_telemetry(&self, id: &str) -> bool {
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
                ConnectorUse::LeftOut,
                format!(
                    "not supported, so {loss} lost; use it in the receiving collector, and remove it here"
                ),
            ),
            // All pipelines of a signal have the same exporters here, so that nothing needs to be forwarded.
            (None, "forward") => return Some(ConnectorUse::LeftOut),
            (None, _) => (
                ConnectorUse::Blocking,
                "not supported, so its pipelines send nothing; name exporters in the pipelines instead"
                    .to_owned(),
            ),
        };
        match used {
            _ if !is_new => {}
            ConnectorUse::LeftOut => translation.warning(location, message),
            ConnectorUse::Blocking => translation.error(location, message),
        }
        Some(used)
    }
}

/// What a connector means for the pipelines that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectorUse {
    /// They are the same without it.
    LeftOut,
    /// It decides what is sent where, so they must not send.
    Blocking,
}

/// What is lost without a connector that makes telemetry.
fn loss(id: &str) -> Option<&'static str> {
    let kind = component_type(id);
    MAKERS.iter().find(|(maker, _)| *maker == kind).map(|(_, loss)| *loss)
}
