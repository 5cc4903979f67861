//! The one table of variables. What is not in it is unknown to us.

/// A variable as people set it.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds where it is unset or empty, for people to read.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
}

const fn variable(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable { name, default, about }
}

/// Every variable that the extension reads beside Lambda's own.
pub const VARIABLES: &[Variable] = &[
    variable("ROTEL_EXPORTER", "otlp", "`otlp`, or `blackhole` to receive and drop"),
    variable(
        "ROTEL_OTLP_EXPORTER_ENDPOINT",
        "–",
        "the ClickStack OTLP endpoint, such as `https://host:4317`",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_PROTOCOL",
        "grpc",
        "`grpc`, or `http` (protobuf; `/v1/{signal}` is appended to the endpoint)",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS",
        "–",
        "`Name=value,Name2=value2`, sent with every request, as gRPC metadata too",
    ),
    variable("ROTEL_OTLP_EXPORTER_COMPRESSION", "gzip", "`gzip` or `none`"),
    variable("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "5s", "the most that one request may take"),
    variable(
        "ROTEL_OTLP_EXPORTER_TLS_CA_FILE",
        "–",
        "a PEM file of certificate authorities to trust besides the usual",
    ),
    variable("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", "–", "the same as text"),
    variable("ROTEL_OTLP_GRPC_ENDPOINT", "localhost:4317", "where the OTLP/gRPC receiver listens"),
    variable("ROTEL_OTLP_HTTP_ENDPOINT", "localhost:4318", "where the OTLP/HTTP receiver listens"),
    variable("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", "4", "the largest gRPC message received, in MiB"),
    variable("ROTEL_OTLP_RECEIVER_TRACES_DISABLED", "false", "refuse the SDK's traces"),
    variable("ROTEL_OTLP_RECEIVER_METRICS_DISABLED", "false", "refuse the SDK's metrics"),
    variable("ROTEL_OTLP_RECEIVER_LOGS_DISABLED", "false", "refuse the SDK's logs"),
    variable("ROTEL_OTLP_RECEIVER_TRACES_HTTP_PATH", "/v1/traces", "the receiver's path for traces"),
    variable("ROTEL_OTLP_RECEIVER_METRICS_HTTP_PATH", "/v1/metrics", "the receiver's path for metrics"),
    variable("ROTEL_OTLP_RECEIVER_LOGS_HTTP_PATH", "/v1/logs", "the receiver's path for logs"),
    variable(
        "ROTEL_TELEMETRY_ENDPOINT",
        "0.0.0.0:8990",
        "where Lambda's Telemetry API delivers; if the port is taken, the next free one",
    ),
    variable(
        "ROTEL_OTEL_RESOURCE_ATTRIBUTES",
        "–",
        "`key=value,key2=value2`, set or replaced on every resource of every signal",
    ),
    variable("ROTEL_FLUSH_TIMEOUT", "1s", "the most that a flush may add after the function"),
    variable("ROTEL_BATCH_MAX_SIZE", "8192", "the most items in one request, which is at most 4 MiB as well"),
    variable("ROTEL_TRACES_BATCH_MAX_SIZE", "`ROTEL_BATCH_MAX_SIZE`", "the same for spans"),
    variable("ROTEL_METRICS_BATCH_MAX_SIZE", "`ROTEL_BATCH_MAX_SIZE`", "the same for data points"),
    variable("ROTEL_LOGS_BATCH_MAX_SIZE", "`ROTEL_BATCH_MAX_SIZE`", "the same for log records"),
    variable(
        "ROTEL_BUFFER_MAX_BYTES",
        "memory size / 16, 4 to 64 MiB",
        "the most bytes that wait for the backend; beyond it the oldest go, counted",
    ),
    variable(
        "ROTEL_LOG_LEVEL",
        "info",
        "the extension's own log level: `error`, `warn`, `info`, `debug`, `trace`, `off`",
    ),
    variable(
        "ROTEL_LOG_FORMAT",
        "`AWS_LAMBDA_LOG_FORMAT`",
        "the form of the extension's own log lines: `text`, `json`",
    ),
];

/// Whether `name` stands in the table.
pub(super) fn is_known(name: &str) -> bool {
    VARIABLES.iter().any(|variable| variable.name == name)
}
