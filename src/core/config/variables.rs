//! The one table of variables.
//!
//! `--help`, the reference in `docs/configuration.md` and the suggestion for a misspelled name come from it. A `ROTEL_…`
//! variable that is not in it has no effect and causes a warning.

use crate::signal::Signal;

/// A group of related variables.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The heading in `--help` and in the reference.
    pub title: &'static str,
    pub variables: &'static [Variable],
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// The variable's name. `{SIGNAL}` in it stands for a signal in upper case, so that one row means three variables.
    pub name: &'static str,
    /// The default for an unset or empty variable, as text for people.
    pub default: &'static str,
    /// Its effect, in one sentence.
    pub about: &'static str,
    /// The part of its value that `--check` may print.
    pub disclosure: Disclosure,
    /// The byte offset of the first `{` in its name.
    placeholder_at: Option<usize>,
}

/// The part of a value that may be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disclosure {
    /// Everything, if it consists of words and numbers.
    Words,
    /// The names in a list, without their values.
    Names,
    /// The names in a list, and those values that are words.
    Attributes,
    /// The scheme, host and port of an endpoint.
    Url,
    /// The names and kinds of exporters.
    Exporters,
    /// A list of hosts and networks.
    Hosts,
    /// A file path.
    Path,
    /// The well-known segments of a URL's path.
    UrlPath,
    /// Only the fact that it is set.
    Nothing,
}

impl Disclosure {
    /// The default for a variable, derived from the end of its name. `Nothing` is never derived: rows ask for it.
    const fn of(name: &str) -> Self {
        const ENDS: [(&str, Disclosure); 9] = [
            ("ROTEL_EXPORTERS", Disclosure::Exporters),
            ("_ENDPOINT", Disclosure::Url),
            ("S_PROXY", Disclosure::Url),
            ("HTTP_PROXY", Disclosure::Url),
            ("_FILE", Disclosure::Path),
            ("_CONFIG_URI", Disclosure::Path),
            ("_HTTP_PATH", Disclosure::UrlPath),
            ("_RESOURCE_ATTRIBUTES", Disclosure::Attributes),
            ("NO_PROXY", Disclosure::Hosts),
        ];
        let mut rest: &[(&str, Self)] = &ENDS;
        while let [(end, shown), others @ ..] = rest {
            if ends_with(name.as_bytes(), end.as_bytes()) {
                return *shown;
            }
            rest = others;
        }
        Self::Words
    }
}

const fn ends_with(mut name: &[u8], mut end: &[u8]) -> bool {
    while let ([name_rest @ .., one], [end_rest @ .., other]) = (name, end) {
        if *one != *other {
            return false;
        }
        (name, end) = (name_rest, end_rest);
    }
    end.is_empty()
}

/// The placeholder for a signal in a variable's name.
pub(super) const EACH: &str = "{SIGNAL}";
/// The placeholder for an exporter's name.
pub(super) const NAMED: &str = "{NAME}";
/// The prefix of the variables of a single, unnamed exporter.
pub(super) const UNNAMED_EXPORTER: &str = "ROTEL_OTLP_EXPORTER_";

/// The text for a variable without a default.
pub(super) const NONE: &str = "–";

const fn variable(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable { name, default, about, disclosure: Disclosure::of(name), placeholder_at: placeholder_at(name) }
}

/// Computed at compile time: a cold start compares every environment variable with every row.
const fn placeholder_at(name: &str) -> Option<usize> {
    let mut rest = name.as_bytes();
    while let [first, others @ ..] = rest {
        if *first == b'{' {
            return Some(name.len() - rest.len());
        }
        rest = others;
    }
    None
}

impl Variable {
    const fn disclosing(self, disclosure: Disclosure) -> Self {
        Self { disclosure, ..self }
    }
}

/// Every variable that the extension reads, except those that Lambda sets to describe the function.
pub const SECTIONS: &[Section] = &[
    Section { title: "Configuration files", variables: SOURCES },
    Section { title: "Export", variables: EXPORTER },
    Section { title: "Export of a single signal", variables: SIGNAL_EXPORTER },
    Section { title: "Several exporters", variables: EXPORTERS },
    Section { title: "Receive", variables: RECEIVER },
    Section { title: "Process and send", variables: SENDING },
    Section { title: "Extension", variables: EXTENSION },
];

const SOURCES: &[Variable] = &[
    variable(
        "ROTEL_ENV_FILE",
        NONE,
        "path of a file of `NAME=value` lines; it overrides environment variables, and `${NAME}` in it is replaced by the value of `NAME`",
    ),
    variable(
        "OPENTELEMETRY_COLLECTOR_CONFIG_URI",
        NONE,
        "path of the OpenTelemetry collector layer's `collector.yaml`, such as `/var/task/collector.yaml`; variables override it",
    ),
    variable("OPENTELEMETRY_COLLECTOR_CONFIG_FILE", NONE, "the same; older collector layers use this name"),
];

const EXPORTER: &[Variable] = &[
    variable("ROTEL_EXPORTER", "otlp", "`otlp`, or `blackhole` to drop everything"),
    variable(
        "ROTEL_OTLP_EXPORTER_ENDPOINT",
        NONE,
        "OTLP endpoint of ClickStack, such as `https://host:4317`",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_PROTOCOL",
        "grpc",
        "`grpc`, or `http` (protobuf; appends `/v1/{signal}` to the endpoint)",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS",
        NONE,
        "headers (gRPC metadata) to send with every request: `Name=value,Name2=value2`; quote a value that has a comma; percent-encoded values are decoded",
    )
    .disclosing(Disclosure::Names),
    variable("ROTEL_OTLP_EXPORTER_COMPRESSION", "gzip", "`gzip`, `zstd` or `none`"),
    variable("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "5s", "maximum time for one request"),
    variable("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", NONE, "`basic` enables HTTP basic authentication"),
    variable("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", NONE, "user name for basic authentication")
        .disclosing(Disclosure::Nothing),
    variable("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", NONE, "password for basic authentication")
        .disclosing(Disclosure::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_TLS_CA_FILE",
        NONE,
        "PEM file of certificate authorities to trust in addition to the public ones",
    ),
    variable("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", NONE, "the same, as PEM text").disclosing(Disclosure::Nothing),
    variable("ROTEL_OTLP_EXPORTER_TLS_CERT_FILE", NONE, "PEM file of the client certificate for mutual TLS"),
    variable("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", NONE, "the same, as PEM text")
        .disclosing(Disclosure::Nothing),
    variable("ROTEL_OTLP_EXPORTER_TLS_KEY_FILE", NONE, "PEM file of the client certificate's private key"),
    variable("ROTEL_OTLP_EXPORTER_TLS_KEY_PEM", NONE, "the same, as PEM text")
        .disclosing(Disclosure::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY",
        "false",
        "do not verify the endpoint's certificate; for tests only",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF",
        "`ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF`",
        "delay before the first retry",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF",
        "`ROTEL_EXPORTER_RETRY_MAX_BACKOFF`",
        "maximum delay between retries",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_RETRY_MAX_ELAPSED_TIME",
        "`ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME`",
        "maximum time one flush spends on retries; telemetry that was not sent is kept",
    ),
    variable(
        "ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF",
        "5s",
        "delay before the first retry, for all exporters; retries within a flush end with `ROTEL_FLUSH_TIMEOUT`",
    ),
    variable("ROTEL_EXPORTER_RETRY_MAX_BACKOFF", "30s", "maximum delay between retries, for all exporters"),
    variable(
        "ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME",
        "300s",
        "maximum time one flush spends on retries, for all exporters",
    ),
    variable(
        "HTTPS_PROXY",
        NONE,
        "HTTP proxy for `https` endpoints (gRPC and HTTP) and for AWS APIs: `http://user:password@host:port`; also `https_proxy`",
    ),
    variable(
        "HTTP_PROXY",
        NONE,
        "HTTP proxy for `http` endpoints, except gRPC, which needs TLS to pass through a proxy; also `http_proxy`",
    ),
    variable(
        "NO_PROXY",
        NONE,
        "comma-separated hosts, domains and networks (`10.0.0.0/8`) to reach without a proxy; also `no_proxy`",
    ),
];

const SIGNAL_EXPORTER: &[Variable] = &[
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_ENDPOINT",
        "`ROTEL_OTLP_EXPORTER_ENDPOINT`",
        "endpoint for this signal; with `http`, no path is appended",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_PROTOCOL",
        "`ROTEL_OTLP_EXPORTER_PROTOCOL`",
        "protocol for this signal",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_CUSTOM_HEADERS",
        "`ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS`",
        "headers for this signal, instead of the common ones",
    )
    .disclosing(Disclosure::Names),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_COMPRESSION",
        "`ROTEL_OTLP_EXPORTER_COMPRESSION`",
        "compression for this signal",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_REQUEST_TIMEOUT",
        "`ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT`",
        "request timeout for this signal",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_CA_FILE",
        "`ROTEL_OTLP_EXPORTER_TLS_CA_…`",
        "certificate authorities for this signal",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_CA_PEM",
        "`ROTEL_OTLP_EXPORTER_TLS_CA_…`",
        "the same, as PEM text",
    )
    .disclosing(Disclosure::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_CERT_FILE",
        "`ROTEL_OTLP_EXPORTER_TLS_CERT_…`",
        "client certificate for this signal",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_CERT_PEM",
        "`ROTEL_OTLP_EXPORTER_TLS_CERT_…`",
        "the same, as PEM text",
    )
    .disclosing(Disclosure::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_KEY_FILE",
        "`ROTEL_OTLP_EXPORTER_TLS_KEY_…`",
        "private key for this signal",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_KEY_PEM",
        "`ROTEL_OTLP_EXPORTER_TLS_KEY_…`",
        "the same, as PEM text",
    )
    .disclosing(Disclosure::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_SKIP_VERIFY",
        "`ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY`",
        "do not verify the certificate of this signal's endpoint",
    ),
];

const EXPORTERS: &[Variable] = &[
    variable(
        "ROTEL_EXPORTERS",
        NONE,
        "several exporters instead of the single one: `name:otlp,name2:otlp`; each gets all telemetry; `name:blackhole` drops what it gets",
    ),
    variable(
        "ROTEL_EXPORTERS_{SIGNAL}",
        "all of them",
        "names of the exporters that get this signal; once one signal has such a list, signals without one are dropped",
    ),
    variable(
        "ROTEL_EXPORTER_{NAME}_…",
        NONE,
        "any `ROTEL_OTLP_EXPORTER_…` setting, for the exporter with this name; write the name in upper case, with `_` for `-`",
    ),
];

const RECEIVER: &[Variable] = &[
    variable(
        "ROTEL_OTLP_GRPC_ENDPOINT",
        "localhost:4317",
        "listen address of the OTLP/gRPC receiver; `localhost` means IPv4 and IPv6",
    ),
    variable(
        "ROTEL_OTLP_HTTP_ENDPOINT",
        "localhost:4318",
        "listen address of the OTLP/HTTP receiver; maximum body size: 20 MiB, or 7/8 of `ROTEL_BUFFER_MAX_BYTES` if that is less",
    ),
    variable("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", "4", "maximum size of a received gRPC message, in MiB"),
    variable("ROTEL_OTLP_RECEIVER_{SIGNAL}_DISABLED", "false", "reject this signal from the SDK"),
    variable("ROTEL_OTLP_RECEIVER_{SIGNAL}_HTTP_PATH", "`/v1/traces`, …", "HTTP path of the receiver for this signal"),
    variable(
        "ROTEL_TELEMETRY_ENDPOINT",
        "0.0.0.0:8990",
        "listen address for Lambda's Telemetry API; if the port is in use, the next free one is taken",
    ),
    variable(
        "ROTEL_LAMBDA_TELEMETRY_TYPES",
        "platform,function,extension",
        "event types to subscribe to; `platform` is always included, because its events mark the end of an invocation",
    ),
    variable(
        "ROTEL_LAMBDA_PLATFORM_EVENTS",
        "metrics,spans",
        "telemetry to create from platform events: `metrics`, `spans` (for invocations without SDK spans), `logs` (the events as log records), or `none`",
    ),
    variable(
        "ROTEL_LAMBDA_XRAY_TRACE_CONTEXT",
        "false",
        "stamp X-Ray trace and span ids on log records when no SDK span is known",
    ),
    variable(
        "ROTEL_LAMBDA_LOG_MIN_SEVERITY",
        NONE,
        "drop function log records below `trace`, `debug`, `info`, `warn`, `error` or `fatal`; records without a severity are kept",
    ),
    variable(
        "ROTEL_LAMBDA_LOG_EXCLUDE",
        NONE,
        "regular expression; log records whose body matches are dropped; records that take too long to search are kept",
    ),
    variable(
        "ROTEL_LAMBDA_LOG_MASK",
        NONE,
        "regular expression; matches in the body and attributes of log records become `[masked]`; records that take too long to search are masked entirely; SDK telemetry is not masked",
    )
    .disclosing(Disclosure::Nothing),
];

const SENDING: &[Variable] = &[
    variable(
        "ROTEL_OTEL_RESOURCE_ATTRIBUTES",
        NONE,
        "resource attributes to set on all telemetry, replacing existing values: `key=value,key2=value2`, percent-decoded",
    ),
    variable(
        "OTEL_RESOURCE_ATTRIBUTES",
        NONE,
        "resource attributes the SDK sets; the extension also sets them on the telemetry it creates, so that logs and traces match",
    ),
    variable("OTEL_SERVICE_NAME", "the function's name", "the same for `service.name`"),
    variable(
        "ROTEL_FLUSH_STRATEGY",
        "end",
        "when to send: `end` (after each invocation), `periodic,20s` (at most every 20 s), or `adaptive` (`end` while invocations are rare, every 20 s while they are frequent)",
    ),
    variable("ROTEL_FLUSH_TIMEOUT", "1s", "maximum time a flush adds after the handler returns"),
    variable(
        "ROTEL_BATCH_MAX_SIZE",
        "8192",
        "maximum number of log records, spans or data points in one request; a request is also limited to 4 MiB",
    ),
    variable("ROTEL_{SIGNAL}_BATCH_MAX_SIZE", "`ROTEL_BATCH_MAX_SIZE`", "the same, for this signal"),
    variable(
        "ROTEL_BUFFER_MAX_BYTES",
        "memory size / 16, 4 to 64 MiB",
        "maximum bytes buffered while the backend is down; when the buffer is full, the oldest telemetry is dropped and counted",
    ),
];

const EXTENSION: &[Variable] = &[
    variable(
        "ROTEL_ON_INIT_ERROR",
        "continue",
        "what to do about a startup error: `continue` (telemetry that cannot be sent is dropped) or `fail` the function's init",
    ),
    variable(
        "ROTEL_LOG_LEVEL",
        "info",
        "log level of the extension: `error`, `warn`, `info`, `debug`, `trace`, `off`",
    ),
    variable(
        "RUST_LOG",
        "–",
        "the same, used if `ROTEL_LOG_LEVEL` is not set; `target=level,…` enables the logs of dependencies",
    ),
    variable(
        "ROTEL_ENABLE_INTERNAL_TELEMETRY",
        "false",
        "send metrics about the extension itself, `rotel.extension.*`, at most once a minute",
    ),
    variable(
        "ROTEL_LOG_FORMAT",
        "`AWS_LAMBDA_LOG_FORMAT`",
        "format of the extension's log lines: `text` or `json`",
    ),
    variable("ROTEL_DEBUG_LOG", NONE, "log a line with item counts for each flush: `traces,metrics,logs`"),
    variable(
        "ROTEL_DEBUG_LOG_VERBOSITY",
        "basic",
        "`basic`; `detailed` is treated as `basic`: each line logged would itself become a log record",
    ),
];

/// The prefixes of variables that Rotel has and this extension does not support, each with the feature that it belongs to.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("ROTEL_AWSEMF_", "the CloudWatch EMF exporter"),
    ("ROTEL_AWS_EMF_", "the CloudWatch EMF exporter"),
    ("ROTEL_AWSXRAY_", "the X-Ray exporter"),
    ("ROTEL_AWS_XRAY_", "the X-Ray exporter"),
    ("ROTEL_XRAY_", "the X-Ray exporter"),
    ("ROTEL_CLICKHOUSE_", "the ClickHouse exporter"),
    ("ROTEL_DATADOG_", "the Datadog exporter"),
    ("ROTEL_FILE_", "the file exporter and receiver"),
    ("ROTEL_FLUENT_", "the Fluent receiver"),
    ("ROTEL_KAFKA_", "the Kafka exporter and receiver"),
    ("ROTEL_KMSG_", "the kernel log receiver"),
    ("ROTEL_OTLP_WITH_", "processors"),
    ("ROTEL_PROCESSOR", "processors"),
    ("ROTEL_EXPORTERS_INTERNAL_METRICS", "exporters for internal metrics"),
    ("ROTEL_RECEIVER", "other receivers"),
    ("ROTEL_BATCH_TIMEOUT", "the batch timeout"),
    ("ROTEL_{SIGNAL}_BATCH_TIMEOUT", "the batch timeout"),
    ("ROTEL_OTLP_EXPORTER_{SIGNAL}_RETRY_", "retry settings for a single signal"),
    ("ROTEL_OTLP_EXPORTER_{SIGNAL}_AUTHENTICATOR", "authenticators for a single signal"),
    ("ROTEL_OTLP_EXPORTER_{SIGNAL}_BASIC_AUTH_", "authenticators for a single signal"),
    ("ROTEL_DAEMON", "the daemon mode"),
    ("ROTEL_PID_FILE", "the daemon mode"),
    ("ROTEL_LOG_FILE", "the log file"),
];

/// The similarity from which an unknown name counts as a misspelling of a known one; 1 means equal.
const MIN_SIMILARITY: f64 = 0.7;

impl Variable {
    /// The names to set: three if each signal has its own, none if an exporter's name is part of them.
    pub fn names(&self) -> Vec<String> {
        if self.name.contains(NAMED) { Vec::new() } else { each(self.name) }
    }

    /// Returns true if `name` is one of [`Self::names`].
    fn has_name(&self, name: &str) -> bool {
        let Some((start, rest)) = self.placeholder_at.and_then(|at| self.name.split_at_checked(at)) else {
            return self.name == name;
        };
        let signal = rest
            .strip_prefix(EACH)
            .and_then(|end| name.strip_prefix(start)?.strip_suffix(end))
            .unwrap_or_default();
        Signal::ALL.iter().any(|of| of.in_variable_names() == signal)
    }

    /// The names of the same setting for the exporter whose variables begin with `prefix`.
    pub(super) fn names_with_prefix(&self, prefix: &str) -> Vec<String> {
        let setting = self.name.strip_prefix(UNNAMED_EXPORTER);
        setting.map(|setting| each(&format!("{prefix}{setting}"))).unwrap_or_default()
    }
}

/// Every variable of the table.
pub(super) fn all() -> impl Iterator<Item = &'static Variable> {
    SECTIONS.iter().flat_map(|section| section.variables)
}

/// The warning for a `ROTEL_…` name that has no effect; `None` for a known name. `prefixes` are those of the variables of
/// named exporters.
pub(super) fn warning_for_unknown(name: &str, prefixes: &[String]) -> Option<String> {
    // This runs for each name at every cold start, so the possible names are not built here.
    let is_known = |name: &str| all().any(|variable| variable.has_name(name));
    let mut settings = prefixes.iter().filter_map(|prefix| name.strip_prefix(prefix));
    if is_known(name) || settings.any(|setting| is_known(&format!("{UNNAMED_EXPORTER}{setting}"))) {
        return None;
    }
    let unsupported =
        UNSUPPORTED.iter().find(|(start, _)| each(start).iter().any(|start| name.starts_with(start)));
    if let Some((_, feature)) = unsupported {
        return Some(format!("has no effect, because this extension does not support {feature}; remove it"));
    }
    let named =
        prefixes.iter().flat_map(|prefix| all().flat_map(|variable| variable.names_with_prefix(prefix)));
    let known: Vec<String> = all().flat_map(Variable::names).chain(named).collect();
    let similarity = |known: &String| strsim::normalized_damerau_levenshtein(name, known);
    let ours = known.iter().filter(|known| known.starts_with("ROTEL_"));
    let nearest = ours.max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    Some(if similarity(nearest) >= MIN_SIMILARITY {
        format!("unknown variable, so it has no effect; did you mean {nearest}?")
    } else {
        "unknown variable, so it has no effect; remove it, or find the right name with --help".to_owned()
    })
}

fn each(name: &str) -> Vec<String> {
    if !name.contains(EACH) {
        return vec![name.to_owned()];
    }
    Signal::ALL.iter().map(|signal| name.replace(EACH, signal.in_variable_names())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_in_the_table_are_unique() {
        let names: Vec<_> = all().flat_map(Variable::names).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn every_name_of_the_table_is_known() {
        let prefix = "ROTEL_EXPORTER_SECOND_";
        for name in all().flat_map(|variable| [variable.names(), variable.names_with_prefix(prefix)].concat())
        {
            assert_eq!(warning_for_unknown(&name, &[prefix.to_owned()]), None, "{name}");
        }
        for name in ["ROTEL_OTLP_EXPORTER_{SIGNAL}_ENDPOINT", "ROTEL_EXPORTER_{NAME}_…", "ROTEL_EXPORTERS_"]
        {
            assert!(warning_for_unknown(name, &[]).is_some(), "{name}");
        }
    }

    #[test]
    fn unknown_names_get_suggestions() {
        let warnings = [
            "ROTEL_FLUSH_TIMEOT",
            "ROTEL_OTLP_EXPORTER_ENPDOINT",
            "ROTEL_EXPORTER_ENDPOINT",
            "ROTEL_OTLP_EXPORTER_TRACE_ENDPOINT",
            "ROTEL_OTLP_EXPORTER_HEADERS",
            "ROTEL_RESOURCE_ATTRIBUTES",
            "ROTEL_COFFEE",
            "ROTEL_DATADOG_EXPORTER_API_KEY",
            "ROTEL_EXPORTER_SECOND_ENPDOINT",
            "ROTEL_EXPORTER_THIRD_TLS_SKIP_VERIFY",
            "ROTEL_OTLP_WITH_TRACE_PROCESSOR",
            "ROTEL_TRACES_BATCH_TIMEOUT",
            "ROTEL_OTLP_EXPORTER_LOGS_RETRY_MAX_BACKOFF",
        ]
        .map(|name| {
            format!(
                "{name}: {}",
                warning_for_unknown(name, &["ROTEL_EXPORTER_SECOND_".to_owned()]).expect("an unknown name")
            )
        });
        insta::assert_snapshot!(warnings.join("\n"), @"
        ROTEL_FLUSH_TIMEOT: unknown variable, so it has no effect; did you mean ROTEL_FLUSH_TIMEOUT?
        ROTEL_OTLP_EXPORTER_ENPDOINT: unknown variable, so it has no effect; did you mean ROTEL_OTLP_EXPORTER_ENDPOINT?
        ROTEL_EXPORTER_ENDPOINT: unknown variable, so it has no effect; did you mean ROTEL_OTLP_EXPORTER_ENDPOINT?
        ROTEL_OTLP_EXPORTER_TRACE_ENDPOINT: unknown variable, so it has no effect; did you mean ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT?
        ROTEL_OTLP_EXPORTER_HEADERS: unknown variable, so it has no effect; did you mean ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS?
        ROTEL_RESOURCE_ATTRIBUTES: unknown variable, so it has no effect; did you mean ROTEL_OTEL_RESOURCE_ATTRIBUTES?
        ROTEL_COFFEE: unknown variable, so it has no effect; remove it, or find the right name with --help
        ROTEL_DATADOG_EXPORTER_API_KEY: has no effect, because this extension does not support the Datadog exporter; remove it
        ROTEL_EXPORTER_SECOND_ENPDOINT: unknown variable, so it has no effect; did you mean ROTEL_EXPORTER_SECOND_ENDPOINT?
        ROTEL_EXPORTER_THIRD_TLS_SKIP_VERIFY: unknown variable, so it has no effect; did you mean ROTEL_EXPORTER_SECOND_TLS_SKIP_VERIFY?
        ROTEL_OTLP_WITH_TRACE_PROCESSOR: has no effect, because this extension does not support processors; remove it
        ROTEL_TRACES_BATCH_TIMEOUT: has no effect, because this extension does not support the batch timeout; remove it
        ROTEL_OTLP_EXPORTER_LOGS_RETRY_MAX_BACKOFF: has no effect, because this extension does not support retry settings for a single signal; remove it
        ");
    }
}
