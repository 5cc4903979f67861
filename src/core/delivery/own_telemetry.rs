//! The extension's own telemetry in OTLP: dropped items and, on request, everything it counts.

use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};

use crate::delivery::tally::{Drops, FlushHistogram, Tally};
use crate::logs::Severity;
use crate::otlp::attribute::{int, string, text};
use crate::signal::{PerSignal, Signal};

/// The time range that data points cover. Both times are since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct TimeRange {
    /// The end of the last report.
    pub from: Duration,
    /// Now.
    pub to: Duration,
}

/// The current state, reported next to the counts.
#[derive(Clone, Copy, Debug)]
pub struct CurrentState {
    /// Items held for the backend.
    pub kept: PerSignal<usize>,
    pub breaker_open: PerSignal<bool>,
}

/// The log record of dropped items, sent once the backend accepts telemetry again. Holds the exporter's name if there are
/// several.
pub fn losses(dropped: &Drops, exporter: Option<&str>, at: Duration) -> LogRecord {
    let severity = Severity::Warn;
    let total: usize = dropped.iter().map(|(_, _, items)| items).sum();
    let attributes = dropped
        .iter()
        .map(|(signal, reason, items)| {
            int(&format!("rotel.extension.dropped.{signal}.{}", reason.as_str()), number(items))
        })
        .chain(exporter.map(|name| string("rotel.extension.exporter", name)))
        .collect();
    LogRecord {
        time_unix_nano: nanos(at),
        observed_time_unix_nano: nanos(at),
        severity_number: severity.number(),
        severity_text: severity.as_str().to_owned(),
        body: Some(text(&format!(
            "dropped {total} telemetry items; see the attributes for signals and reasons"
        ))),
        attributes,
        ..LogRecord::default()
    }
}

/// The counter of dropped items.
pub fn drop_metrics(dropped: &Drops, range: TimeRange) -> Vec<Metric> {
    with_points(vec![dropped_items(dropped, range)])
}

/// All counts, and the current state.
pub fn metrics(tally: &Tally, state: &CurrentState, range: TimeRange) -> Vec<Metric> {
    let per_signal = |counts: &PerSignal<usize>| {
        let points = Signal::ALL.into_iter().map(|signal| (signal, *counts.of(signal)));
        points.filter(|(_, items)| *items > 0).collect::<Vec<_>>()
    };
    let counter = |name: &str, description: &str, counts: &PerSignal<usize>| {
        let points = per_signal(counts).into_iter();
        let points =
            points.map(|(signal, items)| point(vec![signal_attribute(signal)], items, range)).collect();
        counter(name, description, points)
    };
    let state_of = |value: &dyn Fn(Signal) -> usize| {
        Signal::ALL.map(|signal| point(vec![signal_attribute(signal)], value(signal), range)).to_vec()
    };
    let metrics = vec![
        counter("rotel.extension.received", "items received from the SDK and the platform", &tally.received),
        counter("rotel.extension.sent", "items accepted by the backend", &tally.sent),
        dropped_items(&tally.dropped, range),
        gauge(
            "rotel.extension.kept",
            "items held for the backend",
            "{item}",
            state_of(&|signal| *state.kept.of(signal)),
        ),
        gauge(
            "rotel.extension.breaker.open",
            "1 while the circuit breaker is open",
            "1",
            state_of(&|signal| usize::from(*state.breaker_open.of(signal))),
        ),
        flushes(&tally.flushes, range),
    ];
    with_points(metrics)
}

/// Adds the exporter's name to every data point, if there are several exporters.
pub fn set_exporter_name(metrics: &mut [Metric], name: &str) {
    for metric in metrics {
        let attributes: Vec<_> = match &mut metric.data {
            Some(Data::Sum(Sum { data_points, .. }) | Data::Gauge(Gauge { data_points })) => {
                data_points.iter_mut().map(|point| &mut point.attributes).collect()
            }
            Some(Data::Histogram(Histogram { data_points, .. })) => {
                data_points.iter_mut().map(|point| &mut point.attributes).collect()
            }
            _ => Vec::new(),
        };
        for attributes in attributes {
            attributes.push(string("exporter", name));
        }
    }
}

fn dropped_items(dropped: &Drops, range: TimeRange) -> Metric {
    let points = dropped.iter().map(|(signal, reason, items)| {
        point(vec![signal_attribute(signal), string("reason", reason.as_str())], items, range)
    });
    counter("rotel.extension.dropped", "dropped items", points.collect())
}

fn with_points(mut metrics: Vec<Metric>) -> Vec<Metric> {
    metrics.retain(|metric| points(metric) > 0);
    metrics
}

/// The number of a metric's data points.
pub fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    }
}

fn counter(name: &str, description: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    let sum = Sum {
        data_points,
        aggregation_temporality: AggregationTemporality::Delta.into(),
        is_monotonic: true,
    };
    metric(name, description, "{item}", Data::Sum(sum))
}

fn gauge(name: &str, description: &str, unit: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(name, description, unit, Data::Gauge(Gauge { data_points }))
}

fn flushes(flushes: &FlushHistogram, time: TimeRange) -> Metric {
    let FlushHistogram { count, sum, range, buckets } = flushes;
    let data_point = HistogramDataPoint {
        start_time_unix_nano: nanos(time.from),
        time_unix_nano: nanos(time.to),
        count: *count,
        sum: Some(sum.as_secs_f64()),
        bucket_counts: buckets.to_vec(),
        explicit_bounds: FlushHistogram::BOUNDS.map(|bound| bound.as_secs_f64()).to_vec(),
        min: range.map(|(shortest, _)| shortest.as_secs_f64()),
        max: range.map(|(_, longest)| longest.as_secs_f64()),
        ..HistogramDataPoint::default()
    };
    let data_points = if *count == 0 { Vec::new() } else { vec![data_point] };
    let histogram = Histogram { data_points, aggregation_temporality: AggregationTemporality::Delta.into() };
    metric("rotel.extension.flush.duration", "duration of flushes", "s", Data::Histogram(histogram))
}

fn metric(name: &str, description: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn point(attributes: Vec<KeyValue>, items: usize, range: TimeRange) -> NumberDataPoint {
    NumberDataPoint {
        attributes,
        start_time_unix_nano: nanos(range.from),
        time_unix_nano: nanos(range.to),
        value: Some(Number::AsInt(number(items))),
        ..NumberDataPoint::default()
    }
}

fn nanos(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

fn signal_attribute(signal: Signal) -> KeyValue {
    string("signal", signal.as_str())
}

fn number(items: usize) -> i64 {
    i64::try_from(items).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;
    use crate::delivery::tally::DropReason;

    const RANGE: TimeRange = TimeRange { from: Duration::from_secs(1), to: Duration::from_secs(2) };

    fn dropped() -> Drops {
        let mut dropped = Drops::default();
        dropped.add(Signal::Logs, DropReason::BufferFull, 3);
        dropped.add(Signal::Traces, DropReason::Refused, 4);
        dropped
    }

    /// The name, attributes and value of each data point.
    fn rendered(metrics: &[Metric]) -> Vec<String> {
        metrics
            .iter()
            .flat_map(|metric| {
                let numbers = match &metric.data {
                    Some(Data::Sum(Sum { data_points, .. }) | Data::Gauge(Gauge { data_points })) => {
                        data_points.clone()
                    }
                    _ => Vec::new(),
                };
                let numbers = numbers.into_iter().map(|point| {
                    let attributes: Vec<_> = point.attributes.iter().map(of_text).collect();
                    format!("{} {} {:?}", metric.name, attributes.join(" "), point.value)
                });
                let durations = match &metric.data {
                    Some(Data::Histogram(Histogram { data_points, .. })) => data_points.clone(),
                    _ => Vec::new(),
                };
                let durations = durations
                    .into_iter()
                    .map(|point| format!("{} {:?} {:?}", metric.name, point.count, point.bucket_counts));
                numbers.chain(durations).collect::<Vec<_>>()
            })
            .collect()
    }

    fn of_text(attribute: &KeyValue) -> String {
        match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn losses_are_reported_by_signal_and_reason() {
        let record = losses(&dropped(), Some("second"), Duration::from_secs(9));
        assert_eq!(record.severity_text, "warn");
        let attributes: Vec<_> = record.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(
            attributes,
            [
                "rotel.extension.dropped.logs.buffer_full",
                "rotel.extension.dropped.traces.refused",
                "rotel.extension.exporter"
            ]
        );
        let mut counter = drop_metrics(&dropped(), RANGE);
        assert_eq!(counter.iter().map(points).sum::<usize>(), 2);
        set_exporter_name(&mut counter, "second");
        insta::assert_snapshot!(rendered(&counter).join("\n"), @r"
        rotel.extension.dropped logs buffer_full second Some(AsInt(3))
        rotel.extension.dropped traces refused second Some(AsInt(4))
        ");
    }

    #[test]
    fn own_metrics_hold_counts_and_state() {
        let mut tally = Tally {
            received: PerSignal { logs: 10, ..PerSignal::default() },
            sent: PerSignal { logs: 7, ..PerSignal::default() },
            dropped: dropped(),
            ..Tally::default()
        };
        for millis in [0, 3, 4000] {
            tally.flushes.add(Duration::from_millis(millis));
        }
        let state = CurrentState {
            kept: PerSignal { metrics: 5, ..PerSignal::default() },
            breaker_open: PerSignal { metrics: true, ..PerSignal::default() },
        };
        let metrics = metrics(&tally, &state, RANGE);
        assert_eq!(metrics.iter().map(points).sum::<usize>(), 11);
        insta::assert_snapshot!(rendered(&metrics).join("\n"), @r"
        rotel.extension.received logs Some(AsInt(10))
        rotel.extension.sent logs Some(AsInt(7))
        rotel.extension.dropped logs buffer_full Some(AsInt(3))
        rotel.extension.dropped traces refused Some(AsInt(4))
        rotel.extension.kept logs Some(AsInt(0))
        rotel.extension.kept metrics Some(AsInt(5))
        rotel.extension.kept traces Some(AsInt(0))
        rotel.extension.breaker.open logs Some(AsInt(0))
        rotel.extension.breaker.open metrics Some(AsInt(1))
        rotel.extension.breaker.open traces Some(AsInt(0))
        rotel.extension.flush.duration 3 [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        ");
    }
}
