//! The one table of variables: `--help`, the reference in `docs/configuration.md` and the guess at a misspelt name come from it. What is not in
//! it is unknown to us.

use crate::signal::Signal;

/// Variables about one thing.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// The variables.
    pub variables: &'static [Variable],
}

/// A variable as people set it.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name. `{SIGNAL}` in it stands for a signal, in upper case: these are three variables.
    pub name: &'static str,
    /// What holds where it is unset or empty, for people to read.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// What of it may be shown.
    pub disclosure: Disclosure,
    /// Where what its name leaves open begins, if it does.
    open_at: Option<usize>,
}

/// What of a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disclosure {
    /// All, as far as it is words and numbers.
    Words,
    /// The names of a list, and nothing of its values.
    Names,
    /// The names of a list, and those of its values that are words.
    Attributes,
    /// Scheme, host and port of an endpoint.
    Url,
    /// Names and kinds of exporters.
    Exporters,
    /// Hosts and networks.
    Hosts,
    /// The path of a file.
    Path,
    /// The usual parts of a URL's path.
    UrlPath,
    /// Whether it is set.
    Nothing,
}

impl Disclosure {
    /// By the end of a variable's name. `Nothing` has to be asked for.
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

/// Stands for a signal in a variable's name.
pub(super) const EACH: &str = "{SIGNAL}";
/// Stands for the name of an exporter.
pub(super) const NAMED: &str = "{NAME}";
/// How the names of the variables begin of an exporter that is the only one.
pub(super) const ONLY_EXPORTER: &str = "ROTEL_OTLP_EXPORTER_";

/// No default.
pub(super) const NONE: &str = "–";

const fn variable(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable { name, default, about, disclosure: Disclosure::of(name), open_at: open_at(name) }
}

/// Found when this is compiled, for at a cold start every name is held against every variable.
const fn open_at(name: &str) -> Option<usize> {
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

/// Every variable that the extension reads beside those by which Lambda describes the function.
pub const SECTIONS: &[Section] = &[
    Section { title: "Where values come from", variables: SOURCES },
    Section { title: "Where to send", variables: EXPORTER },
    Section { title: "One signal with its own settings", variables: SIGNAL_EXPORTER },
    Section { title: "Several exporters", variables: EXPORTERS },
    Section { title: "What to receive", variables: RECEIVER },
    Section { title: "What to send, and when", variables: SENDING },
    Section { title: "Extension", variables: EXTENSION },
];

const SOURCES: &[Variable] = &[
    variable(
        "ROTEL_ENV_FILE",
        NONE,
        "a file of `NAME=value` lines; it wins over the function's variables, and `${NAME}` in it is replaced by their values",
    ),
    variable(
        "OPENTELEMETRY_COLLECTOR_CONFIG_URI",
        NONE,
        "path of the OpenTelemetry collector layer's `collector.yaml`, such as `/var/task/collector.yaml`; variables win over it",
    ),
    variable("OPENTELEMETRY_COLLECTOR_CONFIG_FILE", NONE, "the same, by the name that older layers use"),
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
        "headers of every request, or its gRPC metadata: `Name=value,Name2=value2`",
    )
    .disclosing(Disclosure::Names),
    variable("ROTEL_OTLP_EXPORTER_COMPRESSION", "gzip", "`gzip`, `zstd` or `none`"),
    variable("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "5s", "maximum time for one request"),
    variable("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", NONE, "`basic`: send a user name and password"),
    variable("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", NONE, "user name for basic authentication")
        .disclosing(Disclosure::Nothing),
    variable("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", NONE, "password for basic authentication")
        .disclosing(Disclosure::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_TLS_CA_FILE",
        NONE,
        "PEM file of certificate authorities to trust besides the public ones",
    ),
    variable("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", NONE, "the same, as PEM text").disclosing(Disclosure::Nothing),
    variable("ROTEL_OTLP_EXPORTER_TLS_CERT_FILE", NONE, "PEM file of the client certificate, for mutual TLS"),
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
        "maximum time one flush spends retrying; unsent telemetry is kept",
    ),
    variable(
        "ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF",
        "5s",
        "default for all exporters; `ROTEL_FLUSH_TIMEOUT` limits all three retry settings",
    ),
    variable("ROTEL_EXPORTER_RETRY_MAX_BACKOFF", "30s", "default for all exporters"),
    variable("ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME", "300s", "default for all exporters"),
    variable(
        "HTTPS_PROXY",
        NONE,
        "HTTP proxy for `https` endpoints (gRPC and HTTP) and for AWS, as `http://user:password@host:port`; also `https_proxy`",
    ),
    variable(
        "HTTP_PROXY",
        NONE,
        "HTTP proxy for `http` endpoints; not for gRPC, which needs TLS to pass a proxy; also `http_proxy`",
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
        "endpoint for this signal; with `http`, nothing is appended to it",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_PROTOCOL",
        "`ROTEL_OTLP_EXPORTER_PROTOCOL`",
        "protocol for this signal",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_CUSTOM_HEADERS",
        "`ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS`",
        "headers for this signal; they replace the common ones",
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
        "several exporters instead of the one above, as `name:otlp,name2:otlp`; each gets everything; `name:blackhole` drops it",
    ),
    variable(
        "ROTEL_EXPORTERS_{SIGNAL}",
        "all of them",
        "names of the exporters that get this signal; once one signal has a list, signals without one are dropped",
    ),
    variable(
        "ROTEL_EXPORTER_{NAME}_…",
        NONE,
        "any `ROTEL_OTLP_EXPORTER_…` setting, for the exporter of that name; write the name in upper case, with `_` for `-`",
    ),
];

const RECEIVER: &[Variable] = &[
    variable(
        "ROTEL_OTLP_GRPC_ENDPOINT",
        "localhost:4317",
        "address of the OTLP/gRPC receiver; `localhost` means IPv4 and IPv6",
    ),
    variable(
        "ROTEL_OTLP_HTTP_ENDPOINT",
        "localhost:4318",
        "address of the OTLP/HTTP receiver; maximum body size: 20 MiB, or 7/8 of the buffer if that is less",
    ),
    variable("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", "4", "maximum size of a received gRPC message, in MiB"),
    variable("ROTEL_OTLP_RECEIVER_{SIGNAL}_DISABLED", "false", "refuse this signal from the SDK"),
    variable("ROTEL_OTLP_RECEIVER_{SIGNAL}_HTTP_PATH", "`/v1/traces`, …", "HTTP path of the receiver for this signal"),
    variable(
        "ROTEL_TELEMETRY_ENDPOINT",
        "0.0.0.0:8990",
        "address for Lambda's Telemetry API; if the port is taken, the next free one",
    ),
    variable(
        "ROTEL_LAMBDA_TELEMETRY_TYPES",
        "platform,function,extension",
        "event types to subscribe to; `platform` is always included because its events mark the end of an invocation",
    ),
    variable(
        "ROTEL_LAMBDA_PLATFORM_EVENTS",
        "metrics,spans",
        "telemetry to make from platform events: `metrics`, `spans` (of invocations without SDK spans), `logs` (the events as log records), or `none`",
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
        "regular expression; log records whose body matches are dropped; records too expensive to search are kept",
    ),
    variable(
        "ROTEL_LAMBDA_LOG_MASK",
        NONE,
        "regular expression; matches in the body and attributes of log records become `[masked]`; records too expensive to search are masked whole; SDK telemetry is not masked",
    )
    .disclosing(Disclosure::Nothing),
];

const SENDING: &[Variable] = &[
    variable(
        "ROTEL_OTEL_RESOURCE_ATTRIBUTES",
        NONE,
        "`key=value,key2=value2`, percent-decoded; set on every resource of every signal, replacing existing values",
    ),
    variable(
        "OTEL_RESOURCE_ATTRIBUTES",
        NONE,
        "the SDK's variable; also applied to telemetry the extension makes, so that logs and traces match",
    ),
    variable("OTEL_SERVICE_NAME", "the function's name", "the same, for `service.name`"),
    variable(
        "ROTEL_FLUSH_STRATEGY",
        "end",
        "when to send: `end` (of each invocation), `periodic,20s` (at most every 20 s), or `adaptive` (`end` while invocations are rare, every 20 s while they are frequent)",
    ),
    variable("ROTEL_FLUSH_TIMEOUT", "1s", "maximum time a flush adds after the handler returns"),
    variable(
        "ROTEL_BATCH_MAX_SIZE",
        "8192",
        "maximum number of items in one request; a request is also limited to 4 MiB",
    ),
    variable("ROTEL_{SIGNAL}_BATCH_MAX_SIZE", "`ROTEL_BATCH_MAX_SIZE`", "the same, for this signal"),
    variable(
        "ROTEL_BUFFER_MAX_BYTES",
        "memory size / 16, 4 to 64 MiB",
        "the most bytes kept for a backend that is down; when full, the oldest are dropped and counted",
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
        "the same, if `ROTEL_LOG_LEVEL` is not set; `target=level,…` enables dependency logs",
    ),
    variable(
        "ROTEL_ENABLE_INTERNAL_TELEMETRY",
        "false",
        "send the extension's own metrics, `rotel.extension.*`, at most once a minute",
    ),
    variable(
        "ROTEL_LOG_FORMAT",
        "`AWS_LAMBDA_LOG_FORMAT`",
        "format of the extension's log lines: `text`, `json`",
    ),
    variable("ROTEL_DEBUG_LOG", NONE, "log a line with item counts for each flush: `traces,metrics,logs`"),
    variable(
        "ROTEL_DEBUG_LOG_VERBOSITY",
        "basic",
        "`basic`; `detailed` means the same, because every line the extension logs is a log record too",
    ),
];

/// What Rotel reads and this extension leaves out: how the names begin, and what they are about.
const LEFT_OUT: &[(&str, &str)] = &[
    ("ROTEL_AWSEMF_", "the CloudWatch EMF exporter"),
    ("ROTEL_AWS_EMF_", "the CloudWatch EMF exporter"),
    ("ROTEL_AWSXRAY_", "the X-Ray exporter"),
    ("ROTEL_AWS_XRAY_", "the X-Ray exporter"),
    ("ROTEL_XRAY_", "the X-Ray exporter"),
    ("ROTEL_CLICKHOUSE_", "the ClickHouse exporter"),
    ("ROTEL_DATADOG_", "the Datadog exporter"),
    ("ROTEL_FILE_", "the files"),
    ("ROTEL_FLUENT_", "the Fluent receiver"),
    ("ROTEL_KAFKA_", "the Kafka exporter and receiver"),
    ("ROTEL_KMSG_", "the kernel log receiver"),
    ("ROTEL_OTLP_WITH_", "the processors"),
    ("ROTEL_PROCESSOR", "the processors"),
    ("ROTEL_EXPORTERS_INTERNAL_METRICS", "the exporters of internal metrics"),
    ("ROTEL_RECEIVER", "the other receivers"),
    ("ROTEL_BATCH_TIMEOUT", "the batch timeout"),
    ("ROTEL_{SIGNAL}_BATCH_TIMEOUT", "the batch timeout"),
    ("ROTEL_OTLP_EXPORTER_{SIGNAL}_RETRY_", "the retries of a single signal"),
    ("ROTEL_OTLP_EXPORTER_{SIGNAL}_AUTHENTICATOR", "the authenticators of single signals"),
    ("ROTEL_OTLP_EXPORTER_{SIGNAL}_BASIC_AUTH_", "the authenticators of single signals"),
    ("ROTEL_DAEMON", "the daemon"),
    ("ROTEL_PID_FILE", "the daemon"),
    ("ROTEL_LOG_FILE", "the log file"),
];

/// How alike an unknown name must be to a known one to be taken for a slip of it: 1 is the same.
const ALIKE: f64 = 0.7;

impl Variable {
    /// The names that people write: three where each signal has its own, none where an exporter's name is part of them.
    pub fn names(&self) -> Vec<String> {
        if self.name.contains(NAMED) { Vec::new() } else { each(self.name) }
    }

    /// Whether `name` is one of those.
    fn is_for(&self, name: &str) -> bool {
        let Some((start, rest)) = self.open_at.and_then(|at| self.name.split_at_checked(at)) else {
            return self.name == name;
        };
        let signal = rest
            .strip_prefix(EACH)
            .and_then(|end| name.strip_prefix(start)?.strip_suffix(end))
            .unwrap_or_default();
        Signal::ALL.iter().any(|of| of.in_variable_names() == signal)
    }

    /// The names of the same setting of an exporter whose variables begin with `prefix`.
    pub(super) fn named(&self, prefix: &str) -> Vec<String> {
        let setting = self.name.strip_prefix(ONLY_EXPORTER);
        setting.map(|setting| each(&format!("{prefix}{setting}"))).unwrap_or_default()
    }
}

/// Every variable of the table.
pub(super) fn all() -> impl Iterator<Item = &'static Variable> {
    SECTIONS.iter().flat_map(|section| section.variables)
}

/// What to say of a name that begins like ours and is not; `None` for one that is. `exporters` are how the names of the
/// variables begin of exporters that have a name.
pub(super) fn unknown(name: &str, exporters: &[String]) -> Option<String> {
    // At every cold start, and for each name: the names that there may be are not put together here.
    let is_known = |name: &str| all().any(|variable| variable.is_for(name));
    let mut settings = exporters.iter().filter_map(|prefix| name.strip_prefix(prefix));
    if is_known(name) || settings.any(|setting| is_known(&format!("{ONLY_EXPORTER}{setting}"))) {
        return None;
    }
    let left_out = LEFT_OUT.iter().find(|(start, _)| each(start).iter().any(|start| name.starts_with(start)));
    if let Some((_, what)) = left_out {
        return Some(format!("this extension leaves out {what} of Rotel, so it has no effect; remove it"));
    }
    let named = exporters.iter().flat_map(|prefix| all().flat_map(|variable| variable.named(prefix)));
    let known: Vec<String> = all().flat_map(Variable::names).chain(named).collect();
    let likeness = |known: &String| strsim::normalized_damerau_levenshtein(name, known);
    let ours = known.iter().filter(|known| known.starts_with("ROTEL_"));
    let nearest = ours.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    Some(if likeness(nearest) >= ALIKE {
        format!("there is no such variable, so it has no effect; {nearest} may be meant")
    } else {
        "there is no such variable, so it has no effect; remove it, or look its name up in --help".to_owned()
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
    fn no_name_stands_twice_in_the_table() {
        let names: Vec<_> = all().flat_map(Variable::names).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn every_name_that_people_may_write_is_known() {
        let prefix = "ROTEL_EXPORTER_SECOND_";
        for name in all().flat_map(|variable| [variable.names(), variable.named(prefix)].concat()) {
            assert_eq!(unknown(&name, &[prefix.to_owned()]), None, "{name}");
        }
        for name in ["ROTEL_OTLP_EXPORTER_{SIGNAL}_ENDPOINT", "ROTEL_EXPORTER_{NAME}_…", "ROTEL_EXPORTERS_"]
        {
            assert!(unknown(name, &[]).is_some(), "{name}");
        }
    }

    #[test]
    fn unknown_names_are_told_apart() {
        let told = [
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
                unknown(name, &["ROTEL_EXPORTER_SECOND_".to_owned()]).expect("an unknown name")
            )
        });
        insta::assert_snapshot!(told.join("\n"), @"
        ROTEL_FLUSH_TIMEOT: there is no such variable, so it has no effect; ROTEL_FLUSH_TIMEOUT may be meant
        ROTEL_OTLP_EXPORTER_ENPDOINT: there is no such variable, so it has no effect; ROTEL_OTLP_EXPORTER_ENDPOINT may be meant
        ROTEL_EXPORTER_ENDPOINT: there is no such variable, so it has no effect; ROTEL_OTLP_EXPORTER_ENDPOINT may be meant
        ROTEL_OTLP_EXPORTER_TRACE_ENDPOINT: there is no such variable, so it has no effect; ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT may be meant
        ROTEL_OTLP_EXPORTER_HEADERS: there is no such variable, so it has no effect; ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS may be meant
        ROTEL_RESOURCE_ATTRIBUTES: there is no such variable, so it has no effect; ROTEL_OTEL_RESOURCE_ATTRIBUTES may be meant
        ROTEL_COFFEE: there is no such variable, so it has no effect; remove it, or look its name up in --help
        ROTEL_DATADOG_EXPORTER_API_KEY: this extension leaves out the Datadog exporter of Rotel, so it has no effect; remove it
        ROTEL_EXPORTER_SECOND_ENPDOINT: there is no such variable, so it has no effect; ROTEL_EXPORTER_SECOND_ENDPOINT may be meant
        ROTEL_EXPORTER_THIRD_TLS_SKIP_VERIFY: there is no such variable, so it has no effect; ROTEL_EXPORTER_SECOND_TLS_SKIP_VERIFY may be meant
        ROTEL_OTLP_WITH_TRACE_PROCESSOR: this extension leaves out the processors of Rotel, so it has no effect; remove it
        ROTEL_TRACES_BATCH_TIMEOUT: this extension leaves out the batch timeout of Rotel, so it has no effect; remove it
        ROTEL_OTLP_EXPORTER_LOGS_RETRY_MAX_BACKOFF: this extension leaves out the retries of a single signal of Rotel, so it has no effect; remove it
        ");
    }
}
