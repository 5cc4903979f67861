-- The tables of ClickStack, by the columns that the OpenTelemetry Collector's exporter for ClickHouse fills. Left out is what
-- changes no answer: codecs, partitions, times to live and other indices than those of texts.
CREATE TABLE otel_logs
(
    Timestamp DateTime64(9),
    TraceId String, SpanId String, TraceFlags UInt8,
    SeverityText LowCardinality(String), SeverityNumber UInt8,
    ServiceName LowCardinality(String), Body String,
    ResourceSchemaUrl LowCardinality(String), ResourceAttributes Map(LowCardinality(String), String),
    ScopeSchemaUrl LowCardinality(String), ScopeName String, ScopeVersion LowCardinality(String),
    ScopeAttributes Map(LowCardinality(String), String),
    LogAttributes Map(LowCardinality(String), String), EventName String,
    INDEX idx_lower_body lower(Body) TYPE text(tokenizer = 'splitByNonAlpha')
) ENGINE = MergeTree ORDER BY (toStartOfFiveMinutes(Timestamp), ServiceName, Timestamp);

CREATE TABLE otel_traces
(
    Timestamp DateTime64(9),
    TraceId String, SpanId String, ParentSpanId String, TraceState String,
    SpanName LowCardinality(String), SpanKind LowCardinality(String),
    ServiceName LowCardinality(String), ResourceAttributes Map(LowCardinality(String), String),
    ScopeName String, ScopeVersion String,
    SpanAttributes Map(LowCardinality(String), String),
    Duration UInt64, StatusCode LowCardinality(String), StatusMessage String,
    `Events.Timestamp` Array(DateTime64(9)), `Events.Name` Array(LowCardinality(String)),
    `Events.Attributes` Array(Map(LowCardinality(String), String)),
    `Links.TraceId` Array(String), `Links.SpanId` Array(String), `Links.TraceState` Array(String),
    `Links.Attributes` Array(Map(LowCardinality(String), String))
) ENGINE = MergeTree ORDER BY (ServiceName, SpanName, toDateTime(Timestamp));

CREATE TABLE otel_metrics_gauge
(
    ResourceAttributes Map(LowCardinality(String), String), ResourceSchemaUrl String,
    ScopeName String, ScopeVersion String, ScopeAttributes Map(LowCardinality(String), String),
    ScopeDroppedAttrCount UInt32, ScopeSchemaUrl String,
    ServiceName LowCardinality(String),
    MetricName String, MetricDescription String, MetricUnit String,
    Attributes Map(LowCardinality(String), String),
    StartTimeUnix DateTime, TimeUnix DateTime, Value Float64, Flags UInt32
) ENGINE = MergeTree ORDER BY (ServiceName, MetricName, toStartOfHour(TimeUnix), cityHash64(Attributes), TimeUnix);

CREATE TABLE otel_metrics_sum
(
    ResourceAttributes Map(LowCardinality(String), String), ResourceSchemaUrl String,
    ScopeName String, ScopeVersion String, ScopeAttributes Map(LowCardinality(String), String),
    ScopeDroppedAttrCount UInt32, ScopeSchemaUrl String,
    ServiceName LowCardinality(String),
    MetricName String, MetricDescription String, MetricUnit String,
    Attributes Map(LowCardinality(String), String),
    StartTimeUnix DateTime, TimeUnix DateTime, Value Float64, Flags UInt32,
    AggregationTemporality Int32, IsMonotonic Bool
) ENGINE = MergeTree ORDER BY (ServiceName, MetricName, toStartOfHour(TimeUnix), cityHash64(Attributes), TimeUnix);

CREATE TABLE otel_metrics_histogram
(
    ResourceAttributes Map(LowCardinality(String), String), ResourceSchemaUrl String,
    ScopeName String, ScopeVersion String, ScopeAttributes Map(LowCardinality(String), String),
    ScopeDroppedAttrCount UInt32, ScopeSchemaUrl String,
    ServiceName LowCardinality(String),
    MetricName String, MetricDescription String, MetricUnit String,
    Attributes Map(LowCardinality(String), String),
    StartTimeUnix DateTime, TimeUnix DateTime,
    Count UInt64, Sum Float64, BucketCounts Array(UInt64), ExplicitBounds Array(Float64),
    Flags UInt32, Min Float64, Max Float64, AggregationTemporality Int32
) ENGINE = MergeTree ORDER BY (ServiceName, MetricName, toStartOfHour(TimeUnix), cityHash64(Attributes), TimeUnix);
