//! The metrics derived from platform events: measurements since the last export, one data point per metric.
//!
//! They have delta temporality, because an environment is short-lived. Invocations that fall into one export share a data
//! point, so the memory does not grow with them. No data point holds a request id, because attributes are part of the sort key
//! in the backend. Names, units and descriptions of `faas.*` and the bounds of durations come from OpenTelemetry's
//! "Semantic conventions for FaaS metrics". Other metrics begin with `aws.lambda`.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};

/// Bounds in seconds.
const DURATIONS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Bounds in bytes. A function's memory is 128 to 10,240 MB.
const MEMORY_SIZES: &[f64] = &[
    33_554_432.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
    536_870_912.0,
    1_073_741_824.0,
    2_147_483_648.0,
    4_294_967_296.0,
    8_589_934_592.0,
];

/// The metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Instrument {
    Invocations,
    ColdStarts,
    Errors,
    Timeouts,
    InvokeDuration,
    InitDuration,
    MemoryUsage,
    BilledDuration,
    PostRuntimeDuration,
    RestoreDuration,
    ProducedBytes,
    MemorySize,
    LogsDropped,
    LogBytesDropped,
}

enum MetricKind {
    Counter,
    Histogram,
    Gauge,
}

impl Instrument {
    fn kind(self) -> MetricKind {
        match self {
            Self::MemorySize => MetricKind::Gauge,
            _ if self.bounds().is_empty() => MetricKind::Counter,
            _ => MetricKind::Histogram,
        }
    }

    /// The upper bounds of a histogram's buckets; empty for other metrics.
    fn bounds(self) -> &'static [f64] {
        match self {
            Self::InvokeDuration | Self::InitDuration | Self::PostRuntimeDuration | Self::RestoreDuration => {
                DURATIONS
            }
            Self::MemoryUsage => MEMORY_SIZES,
            _ => &[],
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and counts are far from that")]
    fn value(self, number: f64) -> Value {
        match self {
            // Seconds have fractions, all other values are whole.
            Self::BilledDuration => Value::AsDouble(number),
            _ => Value::AsInt(number.round() as i64),
        }
    }

    /// Name, unit and description.
    fn metadata(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Invocations => ("faas.invocations", "{invocation}", "Number of successful invocations"),
            Self::ColdStarts => ("faas.coldstarts", "{coldstart}", "Number of invocation cold starts"),
            Self::Errors => ("faas.errors", "{error}", "Number of invocation errors"),
            Self::Timeouts => ("faas.timeouts", "{timeout}", "Number of invocation timeouts"),
            Self::InvokeDuration => {
                ("faas.invoke_duration", "s", "Measures the duration of the function's logic execution")
            }
            Self::InitDuration => (
                "faas.init_duration",
                "s",
                "Measures the duration of the function's initialization, such as a cold start",
            ),
            Self::MemoryUsage => ("faas.mem_usage", "By", "Distribution of max memory usage per invocation"),
            Self::BilledDuration => ("aws.lambda.billed_duration", "s", "Billed duration"),
            Self::PostRuntimeDuration => (
                "aws.lambda.post_runtime_extensions_duration",
                "s",
                "Duration of extensions after the handler returned, per invocation",
            ),
            Self::RestoreDuration => {
                ("aws.lambda.restore_duration", "s", "Duration of the restore from a snapshot")
            }
            Self::ProducedBytes => ("aws.lambda.produced_bytes", "By", "Size of responses"),
            Self::MemorySize => ("aws.lambda.memory_size", "By", "Configured memory of the function"),
            Self::LogsDropped => (
                "aws.lambda.logs_dropped",
                "{record}",
                "Log records that the platform dropped before they reached the extension",
            ),
            Self::LogBytesDropped => {
                ("aws.lambda.logs_dropped_size", "By", "Bytes of log records that the platform dropped")
            }
        }
    }
}

/// The measurements since the last export.
#[derive(Debug, Default)]
pub(super) struct Meter {
    points: BTreeMap<Instrument, Point>,
    /// The end of the last exported data point, by metric.
    reported_until: BTreeMap<Instrument, u64>,
}

#[derive(Debug)]
struct Point {
    /// Nanoseconds since the epoch, like `to`.
    from: u64,
    to: u64,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    last: f64,
    /// The bucket counts of a histogram.
    buckets: Vec<u64>,
}

impl Meter {
    /// Adds one to a counter.
    pub(super) fn count(&mut self, instrument: Instrument, from: u64, at: u64) {
        self.record(instrument, 1.0, from, at);
    }

    /// Records a value that was measured from `from` to `at`, both in nanoseconds since the epoch.
    pub(super) fn record(&mut self, instrument: Instrument, value: f64, from: u64, at: u64) {
        let bounds = instrument.bounds();
        let point = self.points.entry(instrument).or_insert_with(|| Point::new(bounds.len() + 1));
        point.from = point.from.min(from);
        point.to = point.to.max(at);
        point.count += 1;
        point.sum += value;
        point.min = point.min.min(value);
        point.max = point.max.max(value);
        point.last = value;
        // Upper bounds are inclusive.
        if let Some(count) = point.buckets.get_mut(bounds.partition_point(|bound| *bound < value)) {
            *count += 1;
        }
    }

    /// Takes the measurements.
    pub(super) fn take(&mut self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (instrument, mut point) in std::mem::take(&mut self.points) {
            let reported_until = self.reported_until.entry(instrument).or_default();
            // Data points of one stream must not overlap, but parallel invocations do.
            point.from = point.from.max(*reported_until).min(point.to);
            *reported_until = point.to.max(*reported_until);
            metrics.push(metric(instrument, point));
        }
        metrics
    }
}

impl Point {
    fn new(buckets: usize) -> Self {
        Self {
            from: u64::MAX,
            to: 0,
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            last: 0.0,
            buckets: vec![0; buckets],
        }
    }
}

fn metric(instrument: Instrument, point: Point) -> Metric {
    let (name, unit, description) = instrument.metadata();
    let number = |value| NumberDataPoint {
        start_time_unix_nano: point.from,
        time_unix_nano: point.to,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let data = match instrument.kind() {
        MetricKind::Counter => Data::Sum(Sum {
            data_points: vec![number(instrument.value(point.sum))],
            aggregation_temporality: AggregationTemporality::Delta.into(),
            is_monotonic: true,
        }),
        MetricKind::Gauge => Data::Gauge(Gauge { data_points: vec![number(instrument.value(point.last))] }),
        MetricKind::Histogram => Data::Histogram(Histogram {
            data_points: vec![histogram(instrument.bounds(), point)],
            aggregation_temporality: AggregationTemporality::Delta.into(),
        }),
    };
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: description.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn histogram(bounds: &[f64], point: Point) -> HistogramDataPoint {
    HistogramDataPoint {
        start_time_unix_nano: point.from,
        time_unix_nano: point.to,
        count: point.count,
        sum: Some(point.sum),
        min: Some(point.min),
        max: Some(point.max),
        bucket_counts: point.buckets,
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    }
}
