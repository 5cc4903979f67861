//! The one table of variables: `--help`, README's reference and the guess at a misspelt name come from it. What is not in
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
    pub shown: Shown,
    /// Where what its name leaves open begins, if it does.
    open_at: Option<usize>,
}

/// What of a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
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

impl Shown {
    /// By the end of a variable's name. `Nothing` has to be asked for.
    const fn of(name: &str) -> Self {
        const ENDS: [(&str, Shown); 9] = [
            ("ROTEL_EXPORTERS", Shown::Exporters),
            ("_ENDPOINT", Shown::Url),
            ("S_PROXY", Shown::Url),
            ("HTTP_PROXY", Shown::Url),
            ("_FILE", Shown::Path),
            ("_CONFIG_URI", Shown::Path),
            ("_HTTP_PATH", Shown::UrlPath),
            ("_RESOURCE_ATTRIBUTES", Shown::Attributes),
            ("NO_PROXY", Shown::Hosts),
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
    Variable { name, default, about, shown: Shown::of(name), open_at: open_at(name) }
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
    const fn showing(self, shown: Shown) -> Self {
        Self { shown, ..self }
    }
}

/// Every variable that the extension reads beside those by which Lambda describes the function.
pub const SECTIONS: &[Section] = &[
    Section { title: "Where values come from", variables: SOURCES },
    Section { title: "Where to send", variables: EXPORTER },
    Section { title: "One signal elsewhere or otherwise", variables: SIGNAL_EXPORTER },
    Section { title: "Several exporters", variables: EXPORTERS },
    Section { title: "What to receive", variables: RECEIVER },
    Section { title: "What is sent, and when", variables: SENDING },
    Section { title: "The extension itself", variables: EXTENSION },
];

const SOURCES: &[Variable] = &[
    variable(
        "ROTEL_ENV_FILE",
        NONE,
        "a file of variables (`NAME=value` lines, `${NAME}` is filled from the environment); its values win over the environment's",
    ),
    variable(
        "OPENTELEMETRY_COLLECTOR_CONFIG_URI",
        NONE,
        "the `collector.yaml` of the OpenTelemetry collector layer, such as `/var/task/collector.yaml`; each variable that is set wins over it",
    ),
    variable("OPENTELEMETRY_COLLECTOR_CONFIG_FILE", NONE, "the same, as older layers have it"),
];

const EXPORTER: &[Variable] = &[
    variable("ROTEL_EXPORTER", "otlp", "`otlp`, or `blackhole` to receive and drop"),
    variable(
        "ROTEL_OTLP_EXPORTER_ENDPOINT",
        NONE,
        "the ClickStack OTLP endpoint, such as `https://host:4317`",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_PROTOCOL",
        "grpc",
        "`grpc`, or `http` (protobuf; `/v1/{signal}` is appended to the endpoint)",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS",
        NONE,
        "`Name=value,Name2=value2`, sent with every request, as gRPC metadata too",
    )
    .showing(Shown::Names),
    variable("ROTEL_OTLP_EXPORTER_COMPRESSION", "gzip", "`gzip`, `zstd` or `none`"),
    variable("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "5s", "the most that one request may take"),
    variable("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", NONE, "`basic`: sends a user name and a password"),
    variable("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", NONE, "the user name for it").showing(Shown::Nothing),
    variable("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", NONE, "the password for it").showing(Shown::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_TLS_CA_FILE",
        NONE,
        "a PEM file of certificate authorities to trust besides the usual",
    ),
    variable("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", NONE, "the same as text").showing(Shown::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_TLS_CERT_FILE",
        NONE,
        "a PEM file of the client's certificate, for mutual TLS",
    ),
    variable("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", NONE, "the same as text").showing(Shown::Nothing),
    variable("ROTEL_OTLP_EXPORTER_TLS_KEY_FILE", NONE, "a PEM file of the certificate's private key"),
    variable("ROTEL_OTLP_EXPORTER_TLS_KEY_PEM", NONE, "the same as text").showing(Shown::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY",
        "false",
        "take any certificate of the endpoint; for tests only",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_RETRY_INITIAL_BACKOFF",
        "`ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF`",
        "the wait before the second attempt",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF",
        "`ROTEL_EXPORTER_RETRY_MAX_BACKOFF`",
        "the longest wait between two attempts",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_RETRY_MAX_ELAPSED_TIME",
        "`ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME`",
        "how long a flush goes on trying; what was not sent is kept",
    ),
    variable(
        "ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF",
        "5s",
        "the same for every exporter; all three are cut by the flush's budget",
    ),
    variable("ROTEL_EXPORTER_RETRY_MAX_BACKOFF", "30s", "the same for every exporter"),
    variable("ROTEL_EXPORTER_RETRY_MAX_ELAPSED_TIME", "300s", "the same for every exporter"),
    variable(
        "HTTPS_PROXY",
        NONE,
        "the HTTP proxy for `https` endpoints, over gRPC and HTTP, and for AWS; `http://user:password@host:port`, or `https_proxy`",
    ),
    variable(
        "HTTP_PROXY",
        NONE,
        "that for `http` endpoints; over HTTP only, gRPC without TLS cannot go through; or `http_proxy`",
    ),
    variable(
        "NO_PROXY",
        NONE,
        "hosts, domains and networks (`10.0.0.0/8`) that are reached without, between commas; or `no_proxy`",
    ),
];

const SIGNAL_EXPORTER: &[Variable] = &[
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_ENDPOINT",
        "`ROTEL_OTLP_EXPORTER_ENDPOINT`",
        "the signal's own endpoint; with `http` it is used as it stands, nothing is appended",
    ),
    variable("ROTEL_OTLP_EXPORTER_{SIGNAL}_PROTOCOL", "`ROTEL_OTLP_EXPORTER_PROTOCOL`", "its protocol"),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_CUSTOM_HEADERS",
        "`ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS`",
        "its headers, all of them",
    )
    .showing(Shown::Names),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_COMPRESSION",
        "`ROTEL_OTLP_EXPORTER_COMPRESSION`",
        "its compression",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_REQUEST_TIMEOUT",
        "`ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT`",
        "its request timeout",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_CA_FILE",
        "`ROTEL_OTLP_EXPORTER_TLS_CA_…`",
        "its certificate authorities",
    ),
    variable("ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_CA_PEM", "`ROTEL_OTLP_EXPORTER_TLS_CA_…`", "the same as text")
        .showing(Shown::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_CERT_FILE",
        "`ROTEL_OTLP_EXPORTER_TLS_CERT_…`",
        "its client certificate",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_CERT_PEM",
        "`ROTEL_OTLP_EXPORTER_TLS_CERT_…`",
        "the same as text",
    )
    .showing(Shown::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_KEY_FILE",
        "`ROTEL_OTLP_EXPORTER_TLS_KEY_…`",
        "its certificate's private key",
    ),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_KEY_PEM",
        "`ROTEL_OTLP_EXPORTER_TLS_KEY_…`",
        "the same as text",
    )
    .showing(Shown::Nothing),
    variable(
        "ROTEL_OTLP_EXPORTER_{SIGNAL}_TLS_SKIP_VERIFY",
        "`ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY`",
        "take any certificate of its endpoint",
    ),
];

const EXPORTERS: &[Variable] = &[
    variable(
        "ROTEL_EXPORTERS",
        NONE,
        "`name:otlp,name2:otlp`: several exporters in place of the one above, each of which gets everything; `blackhole` receives and drops",
    ),
    variable(
        "ROTEL_EXPORTERS_{SIGNAL}",
        "all of them",
        "the names of those that get the signal; where one signal has it, one without is dropped",
    ),
    variable(
        "ROTEL_EXPORTER_{NAME}_…",
        NONE,
        "for the exporter of that name what `ROTEL_OTLP_EXPORTER_…` is for one alone, with each of its settings; in upper case, `-` as `_`",
    ),
];

const RECEIVER: &[Variable] = &[
    variable(
        "ROTEL_OTLP_GRPC_ENDPOINT",
        "localhost:4317",
        "where the OTLP/gRPC receiver listens; `localhost` is IPv4 and IPv6",
    ),
    variable(
        "ROTEL_OTLP_HTTP_ENDPOINT",
        "localhost:4318",
        "where the OTLP/HTTP receiver listens; maximum body size: 20 MiB, and at most 7/8 of the buffer",
    ),
    variable("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", "4", "the largest gRPC message received, in MiB"),
    variable("ROTEL_OTLP_RECEIVER_{SIGNAL}_DISABLED", "false", "refuse what the SDK sends of the signal"),
    variable("ROTEL_OTLP_RECEIVER_{SIGNAL}_HTTP_PATH", "`/v1/traces`, …", "the receiver's path for it"),
    variable(
        "ROTEL_TELEMETRY_ENDPOINT",
        "0.0.0.0:8990",
        "where Lambda's Telemetry API delivers; if the port is taken, the next free one",
    ),
    variable(
        "ROTEL_LAMBDA_TELEMETRY_TYPES",
        "platform,function,extension",
        "what it delivers; `platform` always, since its events end the invocations",
    ),
    variable(
        "ROTEL_LAMBDA_PLATFORM_EVENTS",
        "metrics,spans",
        "what is made of the platform's events, between commas: `metrics`; `spans` of invocations of which the SDK sends none; `logs`, the events as records; or `none`",
    ),
    variable(
        "ROTEL_LAMBDA_XRAY_TRACE_CONTEXT",
        "false",
        "`true`: log records of an invocation of which no span is known when they leave name X-Ray's trace and span",
    ),
    variable(
        "ROTEL_LAMBDA_LOG_MIN_SEVERITY",
        NONE,
        "drop function log records below `trace`, `debug`, `info`, `warn`, `error` or `fatal`; a record that tells no severity stays",
    ),
    variable(
        "ROTEL_LAMBDA_LOG_EXCLUDE",
        NONE,
        "a regular expression; log records whose body it matches are dropped, but not those that would take too long to search",
    ),
    variable(
        "ROTEL_LAMBDA_LOG_MASK",
        NONE,
        "a regular expression; what it matches in the body and the attributes of log records becomes `[masked]`, and all of a record that would take too long to search; what the SDK sends passes as it is",
    )
    .showing(Shown::Nothing),
];

const SENDING: &[Variable] = &[
    variable(
        "ROTEL_OTEL_RESOURCE_ATTRIBUTES",
        NONE,
        "`key=value,key2=value2`, percent-decoded, set or replaced on every resource of every signal",
    ),
    variable(
        "OTEL_RESOURCE_ATTRIBUTES",
        NONE,
        "the SDK's own; put on what the extension makes, so that logs and traces agree",
    ),
    variable("OTEL_SERVICE_NAME", "the function's name", "the same for `service.name`"),
    variable(
        "ROTEL_FLUSH_STRATEGY",
        "end",
        "when to send: at the `end` of each invocation; `periodic,20s`: at most every 20 s; `adaptive`: at the end while invocations are rare, every 20 s while they are frequent",
    ),
    variable("ROTEL_FLUSH_TIMEOUT", "1s", "the most that a flush may add after the function"),
    variable("ROTEL_BATCH_MAX_SIZE", "8192", "the most items in one request, which is at most 4 MiB as well"),
    variable("ROTEL_{SIGNAL}_BATCH_MAX_SIZE", "`ROTEL_BATCH_MAX_SIZE`", "the same for one signal"),
    variable(
        "ROTEL_BUFFER_MAX_BYTES",
        "memory size / 16, 4 to 64 MiB",
        "the most bytes that wait for the backend; beyond it the oldest go, counted",
    ),
];

const EXTENSION: &[Variable] = &[
    variable(
        "ROTEL_ON_INIT_ERROR",
        "continue",
        "what a fault at the start comes to: `continue` and drop what cannot be sent, or `fail` the function's init",
    ),
    variable(
        "ROTEL_LOG_LEVEL",
        "info",
        "the extension's own log level: `error`, `warn`, `info`, `debug`, `trace`, `off`",
    ),
    variable(
        "RUST_LOG",
        "–",
        "the same where `ROTEL_LOG_LEVEL` is not set; `target=level,…` lets dependencies be heard",
    ),
    variable(
        "ROTEL_ENABLE_INTERNAL_TELEMETRY",
        "false",
        "send metrics of the extension itself, `rotel.extension.*`, once a minute at most",
    ),
    variable(
        "ROTEL_LOG_FORMAT",
        "`AWS_LAMBDA_LOG_FORMAT`",
        "the form of the extension's own log lines: `text`, `json`",
    ),
    variable("ROTEL_DEBUG_LOG", NONE, "count what passes, in a line for each flush: `traces,metrics,logs`"),
    variable(
        "ROTEL_DEBUG_LOG_VERBOSITY",
        "basic",
        "`basic`; `detailed` is taken for that, because a line of the extension is a log record as well",
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
        Signal::ALL.iter().any(|of| of.in_variables() == signal)
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
    Signal::ALL.iter().map(|signal| name.replace(EACH, signal.in_variables())).collect()
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
