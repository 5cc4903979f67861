//! Parsing of variables, and the messages about invalid ones.

use url::Url;

use super::*;
use crate::config::secret_ref;
use crate::secret::Secret;
use crate::signal::Signal;

const ENDPOINT: (&str, &str) = ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://clickstack.example.com:4317");
const HEADERS: &str = "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS";
const SECRET: &str = "${arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123}";
const PARAMETER: &str = "${arn:aws:ssm:us-east-1:123456789012:parameter/clickstack-api-key}";

pub(crate) fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The exports of a configuration with a single exporter.
pub(crate) fn only_exports(mut outcome: ParsedConfig) -> Exports {
    assert_eq!(outcome.config.destinations.len(), 1);
    outcome.config.destinations.remove(0).exports
}

fn outcome(pairs: &[(&str, &str)]) -> ParsedConfig {
    read(&variables(pairs))
}

/// The result if every reference resolves to `secret`.
fn resolved(pairs: &[(&str, &str)], secret: &str) -> ParsedConfig {
    let variables = variables(pairs);
    let references = read(&variables).references;
    read_resolved(&variables, &references.into_iter().map(|found| (found.arn, Secret::new(secret))).collect())
}

fn exports(outcome: &ParsedConfig) -> &PerSignal<Option<Export>> {
    let [destination] = &outcome.config.destinations[..] else { panic!("{outcome:?}") };
    match &destination.exports {
        Exports::Known(exports) => exports,
        Exports::Pending => panic!("{outcome:?}"),
    }
}

fn export(outcome: &ParsedConfig, signal: Signal) -> &Export {
    exports(outcome).of(signal).as_ref().unwrap_or_else(|| panic!("{outcome:?}"))
}

fn urls(outcome: &ParsedConfig) -> [Option<&str>; 3] {
    Signal::ALL.map(|signal| exports(outcome).of(signal).as_ref().map(|export| export.url.as_str()))
}

fn joined(errors: &[Problem]) -> String {
    errors.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn published_example_works_with_quotes() {
    let outcome = outcome(&[
        ENDPOINT,
        (HEADERS, "\"Authorization=0123-key\""),
        ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "\"service.name=my-lambda-api,service.version=1.0.0\""),
    ]);
    assert_eq!((&outcome.errors, &outcome.warnings), (&vec![], &vec![]));
    let export = export(&outcome, Signal::Logs);
    assert_eq!(export.protocol, Protocol::Grpc);
    assert_eq!(export.headers[0].0, "authorization");
    assert_eq!(export.headers[0].1, "0123-key");
    assert_eq!(outcome.config.resource_attributes[0], ("service.name".into(), "my-lambda-api".into()));
}

#[test]
fn published_secrets_are_pending_until_fetched() {
    for reference in [SECRET, PARAMETER] {
        let header = format!("\"Authorization={reference}\"");
        let pairs = [ENDPOINT, (HEADERS, &*header), ("ROTEL_FLUSH_TIMEOUT", "2s")];
        let pending = outcome(&pairs);
        assert_eq!((&pending.errors, &pending.warnings), (&vec![], &vec![]));
        assert_eq!(pending.config.destinations[0].exports, Exports::Pending);
        assert_eq!(pending.references, secret_ref::find(reference).expect("a reference"));
        assert_eq!(pending.config.flush_timeout, Duration::from_secs(2), "the other settings are final");
        let resolved = resolved(&pairs, "0123-key\n");
        assert_eq!(resolved.errors, []);
        assert_eq!(export(&resolved, Signal::Traces).headers[0].1, "0123-key");
    }
}

#[test]
fn repeated_secret_is_fetched_once() {
    let outcome = outcome(&[
        ENDPOINT,
        (HEADERS, &format!("Authorization={SECRET},X-Other={PARAMETER}")),
        ("ROTEL_OTLP_EXPORTER_LOGS_CUSTOM_HEADERS", &format!("Authorization={SECRET}")),
        ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", &format!("team={PARAMETER}")),
    ]);
    assert_eq!(outcome.references.len(), 2);
    assert!(outcome.resource_attributes_pending);
    assert_eq!(outcome.config.resource_attributes, []);
}

#[test]
fn every_exporter_variable_may_hold_a_secret() {
    for section in SECTIONS {
        for name in section.variables.iter().flat_map(Variable::names) {
            if name.starts_with("ROTEL_OTLP_EXPORTER_") || name.starts_with("ROTEL_EXPORTER_") {
                let outcome = outcome(&[ENDPOINT, (&name, SECRET)]);
                assert_eq!(outcome.errors, [], "{name}");
                assert_eq!(outcome.references.len(), 1, "{name}");
                let half = name.contains("_CERT_") || name.contains("_KEY_") || name.contains("_AUTH_");
                assert!(half || outcome.config.destinations[0].exports == Exports::Pending, "{name}");
            }
        }
    }
}

#[test]
fn missing_secret_only_drops_its_signal() {
    let pairs = [ENDPOINT, ("ROTEL_OTLP_EXPORTER_LOGS_CUSTOM_HEADERS", &*format!("Authorization={SECRET}"))];
    let outcome = read_resolved(&variables(&pairs), &Secrets::new());
    assert_eq!(outcome.errors, [], "the error of the secret is the cause");
    assert!(exports(&outcome).logs.is_none());
    assert!(exports(&outcome).traces.is_some());
}

#[test]
fn messages_never_contain_secrets() {
    for section in SECTIONS {
        for name in section.variables.iter().flat_map(Variable::names) {
            for value in
                [SECRET.to_owned(), format!("x={SECRET}"), format!("hunter2,{SECRET}"), format!("%{SECRET}")]
            {
                for secret in [
                    "hunter2",
                    "http://hunter2:hunter2@x",
                    "hunter2=\u{7f}",
                    "=hunter2",
                    "%ff=%ff,hunter2:hunter2",
                ] {
                    let outcome = resolved(&[ENDPOINT, (&name, &value)], secret);
                    let text = format!("{}\n{}", joined(&outcome.errors), joined(&outcome.warnings))
                        .replace(&value, "");
                    assert!(!text.contains("hunter2"), "{name}={value} of {secret}: {text}");
                }
            }
        }
    }
}

#[test]
fn missing_endpoint_is_one_warning() {
    let outcome = outcome(&[]);
    assert_eq!(exports(&outcome), &PerSignal::default());
    assert!(outcome.errors.is_empty());
    insta::assert_snapshot!(joined(&outcome.warnings), @"ROTEL_OTLP_EXPORTER_ENDPOINT: not set, so telemetry is received and dropped; set your ClickStack endpoint, such as https://host:4317");
}

#[test]
fn a_variable_on_a_malformed_line_is_not_reported_as_missing() {
    const PASSWORD: &str = "ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD";
    let variables: Variables = [
        ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://clickstack.example.com:4317"),
        ("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic"),
        ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "me"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let mut locations = SourceLocations::default();
    let missing = read_with_locations(&variables, &locations, None).errors;
    assert!(missing.iter().all(|error| error.variable == PASSWORD) && missing.len() == 1, "{missing:?}");
    locations.malformed.insert(PASSWORD.to_owned());
    assert_eq!(read_with_locations(&variables, &locations, None).errors, []);
}

#[test]
fn blackhole_needs_no_endpoint() {
    let outcome = outcome(&[("ROTEL_EXPORTER", "blackhole")]);
    assert_eq!(exports(&outcome), &PerSignal::default());
    assert_eq!((outcome.errors, outcome.warnings), (vec![], vec![]));
}

#[test]
fn all_errors_are_reported_at_once() {
    let outcome = outcome(&[
        ("ROTEL_OTLP_EXPORTER_ENDPOINT", "collector:4317"),
        ("ROTEL_OTLP_EXPORTER_PROTOCOL", "carrier-pigeon"),
        ("ROTEL_FLUSH_TIMEOUT", "soon"),
        ("ROTEL_BATCH_MAX_SIZE", "0"),
        ("ROTEL_BUFFER_MAX_BYTES", "1000"),
    ]);
    assert_eq!(exports(&outcome), &PerSignal::default());
    assert_eq!(outcome.config.batch_max_items.traces, 8192);
    assert_eq!(outcome.config.buffer_max_bytes, 1000);
    insta::assert_snapshot!(joined(&outcome.errors), @r#"
    ROTEL_OTLP_EXPORTER_ENDPOINT: "collector:4317" has no scheme; set http://collector:4317 or https://collector:4317
    ROTEL_OTLP_EXPORTER_PROTOCOL: "carrier-pigeon" is not a protocol; use grpc or http
    ROTEL_FLUSH_TIMEOUT: "soon" is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    ROTEL_BATCH_MAX_SIZE: "0" is not a valid number; use a whole number of at least 1
    "#);
}

/// Each of these is one mistake, in addition to a valid endpoint.
const MISTAKES: &[&[(&str, &str)]] = &[
    &[("ROTEL_EXPORTER", "datadog")],
    &[("ROTEL_EXPORTER", "otel")],
    &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "clickstack.example.com:4317")],
    &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "tcp://clickstack.example.com:4317")],
    &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://:4317")],
    &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://clickstack.example.com:431711")],
    &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://<your endpoint>:4317")],
    &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://me:hunter2@clickstack.example.com")],
    &[("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://localhost:4318")],
    &[("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "http://sandbox.localdomain:8990/v1/logs")],
    &[("ROTEL_OTLP_EXPORTER_PROTOCOL", "http/json")],
    &[("ROTEL_OTLP_EXPORTER_PROTOCOL", "tcp")],
    &[("ROTEL_OTLP_EXPORTER_COMPRESSION", "brotli")],
    &[("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "5")],
    &[("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", "0s")],
    &[("ROTEL_OTLP_EXPORTER_TRACES_REQUEST_TIMEOUT", "60m")],
    &[("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "often")],
    &[(HEADERS, "hunter2")],
    &[(HEADERS, "Authorization: hunter2")],
    &[(HEADERS, "X-Team=a,My Key=hunter2")],
    &[(HEADERS, "Authorization=hunter2\nX-Team=a")],
    &[(HEADERS, "Content-Type=text/plain")],
    &[(HEADERS, "Authorization=${arn:aws:ssm:us-east-1:123456789012:parameter/key")],
    &[(HEADERS, "Authorization=${arn:aws:ssm:us-east-1:123456789012:parameter/key#password}")],
    &[(HEADERS, "Authorization=secret://arn:aws:ssm:us-east-1:123456789012:parameter/key")],
    &[
        ("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", "/var/task/ca.pem"),
        ("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", "-----BEGIN"),
    ],
    &[("ROTEL_OTLP_EXPORTER_TLS_CERT_FILE", "/var/task/client.pem")],
    &[("ROTEL_OTLP_EXPORTER_TRACES_TLS_KEY_PEM", "-----BEGIN")],
    &[("ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY", "yes")],
    &[("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "sigv4auth")],
    &[("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "digest")],
    &[("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic"), ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "me")],
    &[
        ("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic"),
        ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "me"),
        ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", "hunter2"),
        ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "Authorization=hunter2"),
    ],
    &[
        ("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic"),
        ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "me:hunter2"),
        ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", "hunter2"),
    ],
    &[("HTTPS_PROXY", "socks5://me:hunter2@proxy.example.com:1080")],
    &[("https_proxy", "http://me:hunter2@proxy.example.com:port")],
    &[("HTTPS_PROXY", "http://")],
    &[("HTTPS_PROXY", "http://me:${arn:aws:ssm:us-east-1:123456789012:parameter/key}@proxy.example.com")],
    &[("HTTP_PROXY", "proxy.example.com:3128"), ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://10.0.0.5:4317")],
    &[("ROTEL_OTLP_GRPC_ENDPOINT", "4317")],
    &[("ROTEL_OTLP_HTTP_ENDPOINT", SECRET)],
    &[("ROTEL_TELEMETRY_ENDPOINT", "localhost:telemetry")],
    &[("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", "4MiB")],
    &[("ROTEL_OTLP_RECEIVER_LOGS_DISABLED", "no")],
    &[("ROTEL_OTLP_RECEIVER_LOGS_HTTP_PATH", "v1/logs")],
    &[("ROTEL_LAMBDA_TELEMETRY_TYPES", "platform,functions")],
    &[("ROTEL_LAMBDA_PLATFORM_EVENTS", "everything")],
    &[("ROTEL_LAMBDA_PLATFORM_EVENTS", "none,logs")],
    &[("ROTEL_LAMBDA_LOG_MIN_SEVERITY", "loud")],
    &[("ROTEL_LAMBDA_LOG_EXCLUDE", "(GET|HEAD /health")],
    &[("ROTEL_LAMBDA_LOG_EXCLUDE", ".*")],
    &[("ROTEL_LAMBDA_LOG_MASK", "hunter2++(")],
    &[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "my-lambda-api")],
    &[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "team=a,=b")],
    &[("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "service.name=%ff")],
    &[("ROTEL_FLUSH_STRATEGY", "sometimes")],
    &[("ROTEL_FLUSH_STRATEGY", "periodic,often")],
    &[("ROTEL_BUFFER_MAX_BYTES", "4GB")],
    &[("ROTEL_BUFFER_MAX_BYTES", "268435456"), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")],
    &[("ROTEL_ON_INIT_ERROR", "panic")],
    &[("ROTEL_LOG_LEVEL", "loud")],
    &[("ROTEL_LOG_FORMAT", "xml")],
    &[("ROTEL_DEBUG_LOG", "spans")],
    &[("ROTEL_ENV_FILE", PARAMETER)],
];

#[test]
fn errors_have_cause_and_remedy() {
    let mut problems = Vec::new();
    for mistake in MISTAKES {
        let ParsedConfig { mut errors, config, .. } = outcome(&[&[ENDPOINT], *mistake].concat());
        errors.extend(config.log_filter.compile().1);
        assert_eq!(errors.len(), 1, "{mistake:?}: {errors:?}");
        problems.extend(errors);
    }
    let text = joined(&problems);
    assert!(!text.contains("hunter2"));
    insta::assert_snapshot!(text, @r##"
    ROTEL_EXPORTER: "datadog" is an exporter of Rotel that this extension does not support; use otlp or blackhole
    ROTEL_EXPORTER: "otel" is not a supported exporter; use otlp or blackhole
    ROTEL_OTLP_EXPORTER_ENDPOINT: "clickstack.example.com:4317" has no scheme; set http://clickstack.example.com:4317 or https://clickstack.example.com:4317
    ROTEL_OTLP_EXPORTER_ENDPOINT: "tcp://clickstack.example.com:4317" has an unsupported scheme; use http:// or https://
    ROTEL_OTLP_EXPORTER_ENDPOINT: "https://:4317" has no host; use the form https://clickstack.example.com:4317
    ROTEL_OTLP_EXPORTER_ENDPOINT: "https://clickstack.example.com:431711" is not a URL: invalid port number; use the form https://clickstack.example.com:4317
    ROTEL_OTLP_EXPORTER_ENDPOINT: the URL contains a placeholder in <>; replace it with your own host
    ROTEL_OTLP_EXPORTER_ENDPOINT: the URL contains a user name; send credentials as a header instead
    ROTEL_OTLP_EXPORTER_ENDPOINT: the endpoint is this extension's own listener, localhost:4318, so telemetry would loop; set the address of your ClickStack
    ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT: the endpoint is this extension's own listener, 0.0.0.0:8990, so telemetry would loop; set the address of your ClickStack
    ROTEL_OTLP_EXPORTER_PROTOCOL: "http/json" is supported for receiving only; set http, which sends protobuf, or grpc
    ROTEL_OTLP_EXPORTER_PROTOCOL: "tcp" is not a protocol; use grpc or http
    ROTEL_OTLP_EXPORTER_COMPRESSION: "brotli" is not a compression method; use gzip, zstd or none
    ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT: "5" is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT: "0s" is zero; set a longer duration, such as 250ms, 5s or 1m
    ROTEL_OTLP_EXPORTER_TRACES_REQUEST_TIMEOUT: "60m" is longer than a Lambda function can run; set 15m or less
    ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF: "often" is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: part 1 has no "="; use the form name=value,name2=value2
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: part 1 has no "="; use the form name=value,name2=value2
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: the name in part 2 is not a valid header name; use letters, digits and hyphens
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: the value in part 1 contains a character that is not allowed in headers, such as a line break; remove it
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: content-type is set by the extension; remove it
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: a secret reference has no closing '}'; use the form ${arn:…} or $<arn:…>
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: arn:aws:ssm:us-east-1:123456789012:parameter/key is a parameter, but "#key" works for Secrets Manager secrets only; remove "#" and the key
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: secret:// must be the whole value, but there is text around it; use ${arn:…} instead
    ROTEL_OTLP_EXPORTER_TLS_CA_PEM: ROTEL_OTLP_EXPORTER_TLS_CA_FILE is set too, but only one of them is allowed; remove one
    ROTEL_OTLP_EXPORTER_TLS_CERT_FILE: a client certificate needs both certificate and key; set ROTEL_OTLP_EXPORTER_TLS_KEY_FILE as well
    ROTEL_OTLP_EXPORTER_TRACES_TLS_KEY_PEM: a client certificate needs both certificate and key; set ROTEL_OTLP_EXPORTER_TRACES_TLS_CERT_PEM as well
    ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY: "yes" is not a boolean; set true or false
    ROTEL_OTLP_EXPORTER_AUTHENTICATOR: sigv4auth is not supported; set basic, or use an endpoint that accepts a header
    ROTEL_OTLP_EXPORTER_AUTHENTICATOR: "digest" is not an authenticator; use basic
    ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD: not set, but ROTEL_OTLP_EXPORTER_AUTHENTICATOR=basic needs it; set it, or remove ROTEL_OTLP_EXPORTER_AUTHENTICATOR
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: sets Authorization, and so does ROTEL_OTLP_EXPORTER_AUTHENTICATOR; remove one of them
    ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME: contains a ":", which is not allowed in a user name; remove it
    HTTPS_PROXY: only HTTP proxies are supported; use the form http://proxy.example.com:3128
    https_proxy: not a valid proxy URL: invalid port number; use the form http://proxy.example.com:3128
    HTTPS_PROXY: not a valid proxy URL: empty host; use the form http://proxy.example.com:3128
    HTTPS_PROXY: cannot hold a secret reference, which only ROTEL_ variables can; set the value itself
    HTTP_PROXY: gRPC without TLS cannot pass through a proxy; use an https:// endpoint, set ROTEL_OTLP_EXPORTER_PROTOCOL=http, or add the endpoint's host to NO_PROXY
    ROTEL_OTLP_GRPC_ENDPOINT: "4317" is not a listen address; use host:port, such as localhost:4317
    ROTEL_OTLP_HTTP_ENDPOINT: cannot hold a secret reference, because it is needed before secrets are fetched; set the value itself
    ROTEL_TELEMETRY_ENDPOINT: a value of 19 characters is not a listen address; use host:port, such as localhost:4317
    ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB: "4MiB" is not a valid number; use a whole number from 1 to 1024
    ROTEL_OTLP_RECEIVER_LOGS_DISABLED: "no" is not a boolean; set true or false
    ROTEL_OTLP_RECEIVER_LOGS_HTTP_PATH: "v1/logs" is not a path; set /v1/logs
    ROTEL_LAMBDA_TELEMETRY_TYPES: "functions" is not a Telemetry API event type; use platform, function or extension
    ROTEL_LAMBDA_PLATFORM_EVENTS: "everything" is not a form of telemetry from platform events; use metrics, spans, logs or none
    ROTEL_LAMBDA_PLATFORM_EVENTS: "none,logs" combines none with other values; set none alone, or remove it
    ROTEL_LAMBDA_LOG_MIN_SEVERITY: "loud" is not a severity; use trace, debug, info, warn, error or fatal
    ROTEL_LAMBDA_LOG_EXCLUDE: not a regular expression: found open group without closing ')'; write one in the syntax of the Rust crate regex-lite, several joined by |
    ROTEL_LAMBDA_LOG_EXCLUDE: the expression matches every text; write one that does not match the empty text
    ROTEL_LAMBDA_LOG_MASK: not a regular expression: found open group without closing ')'; write one in the syntax of the Rust crate regex-lite, several joined by |; until it is fixed, everything is masked
    ROTEL_OTEL_RESOURCE_ATTRIBUTES: part 1 has no "="; use the form name=value,name2=value2
    ROTEL_OTEL_RESOURCE_ATTRIBUTES: part 2 has no key; use the form key=value,key2=value2
    ROTEL_OTEL_RESOURCE_ATTRIBUTES: the value in part 1 is not valid UTF-8 after percent-decoding; encode it as UTF-8
    ROTEL_FLUSH_STRATEGY: "sometimes" is not a flush strategy; use end, adaptive or periodic,20s
    ROTEL_FLUSH_STRATEGY: "often" is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    ROTEL_BUFFER_MAX_BYTES: "4GB" is not a valid number; use a whole number of at least 1
    ROTEL_BUFFER_MAX_BYTES: "268435456" exceeds the function's memory of 134217728 bytes; decrease it
    ROTEL_ON_INIT_ERROR: "panic" is not an action for startup errors; use continue or fail
    ROTEL_LOG_LEVEL: "loud" is not a log level; use error, warn, info, debug, trace or off
    ROTEL_LOG_FORMAT: "xml" is not a log format; use text or json
    ROTEL_DEBUG_LOG: "spans" is not a signal; use traces, metrics or logs
    ROTEL_ENV_FILE: cannot hold a secret reference, because it is needed before secrets are fetched; set the value itself
    "##);
}

#[test]
fn questionable_settings_are_warnings() {
    let questionable: &[&[(&str, &str)]] = &[
        &[("ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY", "true")],
        &[("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", "hunter2")],
        &[("ROTEL_DEBUG_LOG_VERBOSITY", "detailed")],
        &[("OTEL_RESOURCE_ATTRIBUTES", "team")],
        &[(HEADERS, "Authorization=${API_KEY}")],
        &[("ROTEL_FLUSH_TIMEOT", "1s")],
        &[("ROTEL_DATADOG_EXPORTER_API_KEY", "hunter2")],
        &[("ROTEL_TELEMETRY_ENDPOINT", "localhost:8990")],
        &[("ROTEL_TELEMETRY_ENDPOINT", "127.0.0.1:8990")],
        &[("ROTEL_TELEMETRY_ENDPOINT", "[::1]:9000")],
        &[("ROTEL_TELEMETRY_ENDPOINT", "224.0.0.1:8990")],
    ];
    let mut problems = Vec::new();
    for setting in questionable {
        let ParsedConfig { errors, warnings, .. } = outcome(&[&[ENDPOINT], *setting].concat());
        assert_eq!((errors, warnings.len()), (vec![], 1), "{setting:?}: {warnings:?}");
        problems.extend(warnings);
    }
    insta::assert_snapshot!(joined(&problems), @r#"
    ROTEL_OTLP_EXPORTER_TLS_SKIP_VERIFY: the endpoint's certificate is not verified, so anyone on the network path can read the ingestion key; set ROTEL_OTLP_EXPORTER_TLS_CA_FILE instead
    ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD: has no effect alone; set ROTEL_OTLP_EXPORTER_AUTHENTICATOR=basic as well
    ROTEL_DEBUG_LOG_VERBOSITY: detailed has the same effect as basic: items are only counted; set basic, or remove it
    OTEL_RESOURCE_ATTRIBUTES: part 1 has no "="; use the form name=value,name2=value2
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: contains "${" that begins no secret reference, so it is used literally; variables are expanded only in the file named by ROTEL_ENV_FILE
    ROTEL_FLUSH_TIMEOT: unknown variable, so it has no effect; did you mean ROTEL_FLUSH_TIMEOUT?
    ROTEL_DATADOG_EXPORTER_API_KEY: has no effect, because this extension does not support the Datadog exporter; remove it
    ROTEL_TELEMETRY_ENDPOINT: Lambda may be unable to reach localhost, so no logs would arrive; set 0.0.0.0:8990
    ROTEL_TELEMETRY_ENDPOINT: Lambda may be unable to reach 127.0.0.1, so no logs would arrive; set 0.0.0.0:8990
    ROTEL_TELEMETRY_ENDPOINT: Lambda may be unable to reach ::1, so no logs would arrive; set 0.0.0.0:9000
    ROTEL_TELEMETRY_ENDPOINT: Lambda may be unable to reach 224.0.0.1, so no logs would arrive; set 0.0.0.0:8990
    "#);
}

#[test]
fn unknown_names_stay_on_one_line() {
    let name = format!("ROTEL_A\nERROR forged{}", "X".repeat(1000));
    let ParsedConfig { warnings, .. } = outcome(&[ENDPOINT, (&name, "x")]);
    insta::assert_snapshot!(joined(&warnings), @"ROTEL_… (a name of 1020 characters): unknown variable, so it has no effect; remove it, or find the right name with --help");
}

#[test]
fn invalid_secret_is_reported_without_its_value() {
    let mistakes: &[(&str, &str, &str)] = &[
        ("ROTEL_OTLP_EXPORTER_ENDPOINT", SECRET, "hunter2"),
        ("ROTEL_OTLP_EXPORTER_PROTOCOL", SECRET, "hunter2"),
        ("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", SECRET, "hunter2"),
        (HEADERS, SECRET, "hunter2"),
        (HEADERS, &format!("Authorization={SECRET}"), "hunter2\nhunter2"),
        (HEADERS, &format!("Authorization={}", SECRET.replace('}', "#key}")), "hunter2"),
        (HEADERS, &format!("Authorization={}", SECRET.replace('}', "#key}")), r#"{"Key": "hunter2"}"#),
    ];
    let mut problems = Vec::new();
    for (name, value, secret) in mistakes {
        let ParsedConfig { errors, .. } = resolved(&[ENDPOINT, (name, value)], secret);
        assert_eq!(errors.len(), 1, "{name} {value}: {errors:?}");
        problems.extend(errors);
    }
    let text = joined(&problems);
    assert!(!text.contains("hunter2"));
    insta::assert_snapshot!(text, @r##"
    ROTEL_OTLP_EXPORTER_ENDPOINT: the value from its secret has no scheme; add http:// or https://
    ROTEL_OTLP_EXPORTER_PROTOCOL: the value from its secret is not a protocol; use grpc or http
    ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT: the value from its secret is not a duration; use a number with a unit, such as 250ms, 5s or 1m
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: part 1 has no "="; use the form name=value,name2=value2
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: the value in part 1 contains a character that is not allowed in headers, such as a line break; remove it
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123: the secret is not a JSON object, so it has no key "key"; store it as JSON, or remove "#key" to use the whole secret
    ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS: arn:aws:secretsmanager:us-east-1:123456789012:secret:clickstack-api-key-abc123: the secret has no key "key"; check its spelling and case
    "##);
}

#[test]
fn http_path_is_appended_to_common_endpoint_only() {
    let outcome = outcome(&[
        ("ROTEL_OTLP_EXPORTER_PROTOCOL", "http"),
        ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://host/base/"),
        ("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "https://elsewhere:4318/own?tenant=a"),
        ("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT", "https://grpc:4317"),
        ("ROTEL_OTLP_EXPORTER_TRACES_PROTOCOL", "grpc"),
    ]);
    assert_eq!(
        urls(&outcome),
        [
            Some("https://host/base/v1/logs"),
            Some("https://elsewhere:4318/own?tenant=a"),
            Some("https://grpc:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        ]
    );
}

#[test]
fn signal_settings_override_common_ones() {
    let outcome = outcome(&[
        ENDPOINT,
        (HEADERS, "Authorization=common,X-Team=a"),
        ("ROTEL_OTLP_EXPORTER_COMPRESSION", "zstd"),
        ("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", "/ca.pem"),
        ("ROTEL_OTLP_EXPORTER_LOGS_CUSTOM_HEADERS", "Authorization=logs"),
        ("ROTEL_OTLP_EXPORTER_LOGS_COMPRESSION", "none"),
        ("ROTEL_OTLP_EXPORTER_LOGS_REQUEST_TIMEOUT", "250ms"),
        ("ROTEL_OTLP_EXPORTER_LOGS_TLS_CA_PEM", "-----BEGIN"),
        ("ROTEL_OTLP_EXPORTER_LOGS_TLS_CERT_FILE", "/cert.pem"),
        ("ROTEL_OTLP_EXPORTER_TLS_KEY_FILE", "/key.pem"),
        ("ROTEL_OTLP_EXPORTER_TLS_CERT_PEM", "-----BEGIN"),
    ]);
    assert_eq!(outcome.errors, []);
    let (logs, traces) = (export(&outcome, Signal::Logs), export(&outcome, Signal::Traces));
    assert_eq!((logs.headers.len(), traces.headers.len()), (1, 2));
    assert_eq!((logs.compression, traces.compression), (Compression::None, Compression::Zstd));
    assert_eq!(logs.request_timeout, Duration::from_millis(250));
    assert_eq!(traces.request_timeout, Duration::from_secs(5));
    let file = |variable: &str, path: &str| Pem {
        variable: variable.to_owned(),
        source: PemSource::File(path.to_owned()),
    };
    assert_eq!(traces.tls.ca, Some(file("ROTEL_OTLP_EXPORTER_TLS_CA_FILE", "/ca.pem")));
    assert_eq!(
        logs.tls.identity,
        Some(Identity {
            certificate: file("ROTEL_OTLP_EXPORTER_LOGS_TLS_CERT_FILE", "/cert.pem"),
            key: file("ROTEL_OTLP_EXPORTER_TLS_KEY_FILE", "/key.pem"),
        })
    );
}

#[test]
fn invalid_endpoint_only_drops_its_signal() {
    let outcome = outcome(&[ENDPOINT, ("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "nowhere")]);
    assert_eq!(outcome.errors.len(), 1);
    assert_eq!(urls(&outcome).map(|url| url.is_some()), [true, false, true]);
}

#[test]
fn endpoint_of_one_signal_is_enough() {
    let outcome = outcome(&[("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT", "https://host:4317")]);
    assert_eq!((&outcome.errors, &outcome.warnings), (&vec![], &vec![]));
    assert_eq!(urls(&outcome).map(|url| url.is_some()), [false, false, true]);
}

#[test]
fn invalid_proxy_only_drops_its_signals() {
    let outcome = outcome(&[
        ENDPOINT,
        ("HTTPS_PROXY", "http://me:hunter2@proxy:3128"),
        ("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "http://10.0.0.5:4317"),
        ("HTTP_PROXY", "http://proxy:port"),
        ("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "http://10.0.0.6:4317"),
        ("NO_PROXY", "10.0.0.6"),
    ]);
    assert_eq!(outcome.errors.len(), 1, "{}", joined(&outcome.errors));
    assert_eq!(urls(&outcome).map(|url| url.is_some()), [false, true, true]);
    assert_eq!(export(&outcome, Signal::Metrics).proxy, None);
    let proxy = export(&outcome, Signal::Traces).proxy.as_ref().expect("a proxy");
    assert_eq!(proxy.url.expose(), "http://me:hunter2@proxy:3128/");
}

#[test]
fn basic_authentication_header_is_never_printed() {
    let outcome = outcome(&[
        ENDPOINT,
        (HEADERS, "X-Team=a"),
        ("ROTEL_OTLP_EXPORTER_AUTHENTICATOR", "basic"),
        ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_USERNAME", "Aladdin"),
        ("ROTEL_OTLP_EXPORTER_BASIC_AUTH_PASSWORD", "open sesame"),
    ]);
    let export = export(&outcome, Signal::Metrics);
    // The example of RFC 7617.
    assert_eq!(
        export.headers[1],
        (http::header::AUTHORIZATION, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".parse().unwrap())
    );
    assert!(!format!("{outcome:?}").contains("QWxhZGRpbjpvc"));
}

#[test]
fn retry_settings_default_to_common_ones() {
    let outcome = outcome(&[
        ENDPOINT,
        ("ROTEL_EXPORTER_RETRY_INITIAL_BACKOFF", "1s"),
        ("ROTEL_EXPORTER_RETRY_MAX_BACKOFF", "2s"),
        ("ROTEL_OTLP_EXPORTER_RETRY_MAX_BACKOFF", "3s"),
    ]);
    let seconds = Duration::from_secs;
    assert_eq!(
        export(&outcome, Signal::Logs).retry,
        crate::delivery::breaker::RetryPolicy {
            initial_backoff: seconds(1),
            max_backoff: seconds(3),
            max_elapsed_time: seconds(300)
        }
    );
}

#[test]
fn endpoint_at_own_receiver_is_rejected() {
    let refused = |endpoint: &str, receiver: &str| {
        let outcome =
            outcome(&[("ROTEL_OTLP_EXPORTER_ENDPOINT", endpoint), ("ROTEL_OTLP_GRPC_ENDPOINT", receiver)]);
        assert!(Url::parse(endpoint).is_ok(), "{endpoint}");
        !outcome.errors.is_empty()
    };
    for endpoint in [
        "http://localhost:4317",
        "http://LOCALHOST:4317/x",
        "http://127.0.0.1:4317",
        "http://[::1]:4317",
        "http://[::ffff:127.0.0.1]:4317",
        "http://0.0.0.0:4317",
        "http://sandbox.localdomain:4317",
        "http://2130706433:4317",
    ] {
        for receiver in ["localhost:4317", "127.0.0.1:4317", "0.0.0.0:4317"] {
            assert!(refused(endpoint, receiver), "{endpoint} {receiver}");
        }
    }
    assert!(refused("http://localhost", "localhost:80"), "the scheme's default port");
    assert!(refused("http://127.9.9.9:4317", "0.0.0.0:4317"));
    assert!(!refused("http://127.9.9.9:4317", "localhost:4317"), "another loopback address");
    assert!(!refused("http://localhost:4319", "localhost:4317"));
    assert!(!refused("http://example.com:4317", "0.0.0.0:4317"));
}

#[test]
fn platform_events_are_always_included() {
    let types = |text| outcome(&[("ROTEL_LAMBDA_TELEMETRY_TYPES", text)]).config.telemetry_types.names();
    assert_eq!(types(""), ["platform", "function", "extension"]);
    assert_eq!(types("function"), ["platform", "function"]);
    assert_eq!(types("platform"), ["platform"]);
    assert_eq!(types("functions"), ["platform", "function", "extension"]);
}

#[test]
fn buffer_defaults_to_a_sixteenth_of_memory() {
    for (memory_mb, expected_mib) in [("128", 8), ("32", 4), ("10240", 64), ("", 4)] {
        let config = outcome(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory_mb)]).config;
        assert_eq!(config.buffer_max_bytes, expected_mib * MIB, "{memory_mb} MB");
    }
}

#[test]
fn service_name_variable_overrides_attribute_list() {
    let config =
        outcome(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=b"), ("OTEL_SERVICE_NAME", "c")]).config;
    assert_eq!(
        config.sdk_resource_attributes,
        [("team".to_owned(), "b".to_owned()), ("service.name".to_owned(), "c".to_owned())]
    );
}

#[test]
fn log_format_defaults_to_lambdas() {
    assert!(outcome(&[("AWS_LAMBDA_LOG_FORMAT", "JSON")]).config.log.json);
    assert!(!outcome(&[("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("ROTEL_LOG_FORMAT", "text")]).config.log.json);
}

#[test]
fn env_file_path_is_unquoted() {
    assert_eq!(
        env_file_path(&variables(&[("ROTEL_ENV_FILE", "\"/var/task/rotel.env\"")])),
        Some("/var/task/rotel.env")
    );
    assert_eq!(env_file_path(&variables(&[("ROTEL_ENV_FILE", " ")])), None);
}

#[test]
fn table_has_the_actual_defaults() {
    let has_no_fixed_default = |default: &str| default == "–" || default.contains(['`', '\'', '/']);
    let unset = outcome(&[ENDPOINT]);
    for variable in SECTIONS.iter().flat_map(|section| section.variables) {
        for name in variable.names() {
            assert!(
                !name.starts_with("ROTEL_") || variables::warning_for_unknown(&name, &[]).is_none(),
                "{name}"
            );
            if !has_no_fixed_default(variable.default) {
                let set = outcome(&[ENDPOINT, (&name, variable.default)]);
                assert_eq!(set.errors, [], "{name}");
                assert_eq!(format!("{:?}", set.config), format!("{:?}", unset.config), "{name}");
            }
        }
    }
}

#[test]
fn every_variable_is_in_the_table() {
    let source = [include_str!("mod.rs"), include_str!("export.rs")].concat();
    let known: Vec<_> = variables::all().map(|variable| variable.name).collect();
    for name in source.split('"').filter(|text| text.starts_with("ROTEL_") || text.starts_with("OTEL_")) {
        // Names built by `format!` end at the placeholder.
        let name = name.replace("{}", "{SIGNAL}").replace("{suffix}", "");
        assert!(known.iter().any(|known| known.starts_with(&*name)), "{name}");
    }
}

#[test]
fn flush_strategies_ignore_case() {
    let strategy = |text| {
        let ParsedConfig { config, errors, warnings, .. } =
            outcome(&[ENDPOINT, ("ROTEL_FLUSH_STRATEGY", text)]);
        assert_eq!((errors, warnings), (vec![], vec![]), "{text}");
        config.flush_strategy
    };
    assert_eq!(strategy(""), Strategy::End);
    assert_eq!(strategy("Adaptive"), Strategy::Adaptive);
    assert_eq!(strategy("periodic, 90s"), Strategy::Periodic(Duration::from_secs(90)));
}

#[test]
fn platform_event_kinds_are_selectable() {
    let read = |text: &str| {
        let wanted = outcome(&[ENDPOINT, ("ROTEL_LAMBDA_PLATFORM_EVENTS", text)]).config.platform_events;
        (wanted.metrics, wanted.spans, wanted.logs)
    };
    assert_eq!(read(""), (true, true, false));
    assert_eq!(read("metrics,spans"), (true, true, false));
    assert_eq!(read("Logs, metrics"), (true, false, true));
    assert_eq!(read("none"), (false, false, false));
    // An error, so the default applies.
    assert_eq!(read("everything"), (true, true, false));
}

const SEVERAL: (&str, &str) = ("ROTEL_EXPORTERS", "one:otlp, other-one:otlp");
const ONE: (&str, &str) = ("ROTEL_EXPORTER_ONE_ENDPOINT", "http://one:4317");
const OTHER: (&str, &str) = ("ROTEL_EXPORTER_OTHER_ONE_ENDPOINT", "http://other:4318");

/// The URL to which each exporter sends each signal.
fn routes(outcome: &ParsedConfig) -> Vec<String> {
    let of_one = |destination: &Destination| {
        let Exports::Known(exports) = &destination.exports else { return "pending".to_owned() };
        let url = |signal: Signal| exports.of(signal).as_ref().map_or("-", |export| export.url.as_str());
        format!("{}: {}", destination.exporter, Signal::ALL.map(url).join(" "))
    };
    outcome.config.destinations.iter().map(of_one).collect()
}

#[test]
fn named_exporters_have_their_own_settings() {
    let outcome = outcome(&[
        SEVERAL,
        ONE,
        OTHER,
        ("ROTEL_EXPORTER_ONE_CUSTOM_HEADERS", "Authorization=key"),
        ("ROTEL_EXPORTER_OTHER_ONE_PROTOCOL", "http"),
        ("ROTEL_EXPORTER_OTHER_ONE_LOGS_ENDPOINT", "http://logs:4318/l"),
        ("ROTEL_EXPORTER_OTHER_ONE_COMPRESSION", "zstd"),
        ("ROTEL_EXPORTER_RETRY_MAX_BACKOFF", "20s"),
        ("ROTEL_EXPORTER_ONE_RETRY_MAX_BACKOFF", "10s"),
    ]);
    assert_eq!((&outcome.errors, &outcome.warnings), (&vec![], &vec![]));
    insta::assert_snapshot!(routes(&outcome).join("\n"), @"
    one: http://one:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export http://one:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export http://one:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export
    other-one: http://logs:4318/l http://other:4318/v1/metrics http://other:4318/v1/traces
    ");
    let of = |at: usize| match &outcome.config.destinations[at].exports {
        Exports::Known(exports) => exports.traces.clone().expect("an export"),
        Exports::Pending => panic!("nothing is pending"),
    };
    let (one, other) = (of(0), of(1));
    assert_eq!((one.headers.len(), other.headers.len()), (1, 0));
    assert_eq!((one.compression, other.compression), (Compression::Gzip, Compression::Zstd));
    assert_eq!([one, other].map(|export| export.retry.max_backoff.as_secs()), [10, 20]);
}

#[test]
fn signals_go_to_selected_exporters() {
    let two = [SEVERAL, ONE, OTHER];
    let chosen = outcome(
        &[&two[..], &[("ROTEL_EXPORTERS_TRACES", "one,other-one"), ("ROTEL_EXPORTERS_LOGS", "one")]].concat(),
    );
    insta::assert_snapshot!(format!("{}\n{}", routes(&chosen).join("\n"), joined(&chosen.warnings)), @"
    one: http://one:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export - http://one:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export
    other-one: - - http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ROTEL_EXPORTERS_METRICS: not set, but set for other signals, so metrics are received and dropped; set names from ROTEL_EXPORTERS
    ");
    let alone = outcome(&[("ROTEL_EXPORTERS", "otlp"), ("ROTEL_EXPORTER_OTLP_ENDPOINT", "http://one:4317")]);
    insta::assert_snapshot!(routes(&alone).join("\n"), @"otlp: http://one:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export http://one:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export http://one:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    assert!(outcome(&[("ROTEL_EXPORTERS", "blackhole")]).blackhole);
}

#[test]
fn errors_name_the_exporter() {
    let report = |pairs: &[(&str, &str)]| {
        let outcome = outcome(pairs);
        format!("{}\n{}\n{}", joined(&outcome.errors), joined(&outcome.warnings), routes(&outcome).join("\n"))
    };
    insta::assert_snapshot!(report(&[SEVERAL, ONE]), @"
    ROTEL_EXPORTER_OTHER_ONE_ENDPOINT: not set, so this exporter sends nothing; set your ClickStack endpoint, such as https://host:4317

    one: http://one:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export http://one:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export http://one:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export
    other-one: - - -
    ");
    insta::assert_snapshot!(report(&[SEVERAL, ONE, ("ROTEL_EXPORTER_OTHER_ONE_ENDPOINT", "other:4317")]), @r#"
    ROTEL_EXPORTER_OTHER_ONE_ENDPOINT: "other:4317" has no scheme; set http://other:4317 or https://other:4317

    one: http://one:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export http://one:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export http://one:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export
    other-one: - - -
    "#);
    insta::assert_snapshot!(report(&[SEVERAL, ONE, OTHER, ("ROTEL_EXPORTER", "otlp"), ENDPOINT]), @"
    ROTEL_EXPORTER: ROTEL_EXPORTERS is set too, but only one of them is allowed; remove one

    otlp: - - -
    ");
    insta::assert_snapshot!(report(&[SEVERAL, ONE, OTHER, ENDPOINT, ("ROTEL_EXPORTER_ONE_ENDPIONT", "x")]), @"
    ROTEL_OTLP_EXPORTER_ENDPOINT: has no effect if ROTEL_EXPORTERS is set; use ROTEL_EXPORTER_{NAME}_ENDPOINT
    ROTEL_EXPORTER_ONE_ENDPIONT: unknown variable, so it has no effect; did you mean ROTEL_EXPORTER_ONE_ENDPOINT?
    one: http://one:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export http://one:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export http://one:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export
    other-one: http://other:4318/opentelemetry.proto.collector.logs.v1.LogsService/Export http://other:4318/opentelemetry.proto.collector.metrics.v1.MetricsService/Export http://other:4318/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
    insta::assert_snapshot!(report(&[SEVERAL, ONE, OTHER, ("ROTEL_EXPORTERS_LOGS", "three")]), @r#"
    ROTEL_EXPORTERS_LOGS: "three" is not in ROTEL_EXPORTERS; add it there, or correct it
    ROTEL_EXPORTERS_METRICS: not set, but set for other signals, so metrics are received and dropped; set names from ROTEL_EXPORTERS
    ROTEL_EXPORTERS_TRACES: not set, but set for other signals, so traces are received and dropped; set names from ROTEL_EXPORTERS
    ROTEL_EXPORTERS: one gets no signal, so it sends nothing; remove it
    ROTEL_EXPORTERS: other-one gets no signal, so it sends nothing; remove it
    otlp: - - -
    "#);
    insta::assert_snapshot!(report(&[("ROTEL_EXPORTERS", "a:otlp,b:datadog")]), @r#"
    ROTEL_EXPORTERS: "datadog" is an exporter of Rotel that this extension does not support; use otlp or blackhole

    otlp: - - -
    "#);
    insta::assert_snapshot!(report(&[("ROTEL_EXPORTERS", "a:otlp,A:otlp")]), @r#"
    ROTEL_EXPORTERS: "A" is listed twice; give each exporter a unique name

    otlp: - - -
    "#);
    insta::assert_snapshot!(report(&[("ROTEL_EXPORTERS", "a-traces:otlp,a:otlp")]), @r#"
    ROTEL_EXPORTERS: "a" and "a-traces" clash, because some of their variables would have the same name; rename one of them

    otlp: - - -
    "#);
    insta::assert_snapshot!(report(&[("ROTEL_EXPORTERS", "my exporter:otlp")]), @"
    ROTEL_EXPORTERS: a value of 11 characters cannot be part of a variable's name; use letters, digits, _ and -

    otlp: - - -
    ");
    insta::assert_snapshot!(report(&[ENDPOINT, ("ROTEL_EXPORTERS_LOGS", "a")]), @"
    ROTEL_EXPORTERS_LOGS: has no effect without ROTEL_EXPORTERS; set that as well
    otlp: https://clickstack.example.com:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export https://clickstack.example.com:4317/opentelemetry.proto.collector.metrics.v1.MetricsService/Export https://clickstack.example.com:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export
    ");
}

#[test]
fn remote_endpoint_of_the_sdk_is_named() {
    let warnings = |pairs: &[(&str, &str)]| joined(&read(&variables(pairs)).warnings);
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://clickstack.example.com:4318");
    insta::assert_snapshot!(warnings(&[endpoint]), @"OTEL_EXPORTER_OTLP_ENDPOINT: configures the function's SDK only, and the extension has no endpoint, so it drops what it receives; set ROTEL_OTLP_EXPORTER_ENDPOINT=https://clickstack.example.com:4318 and ROTEL_OTLP_EXPORTER_PROTOCOL=http, and here http://localhost:4318");
    insta::assert_snapshot!(warnings(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://me:hunter2@clickstack.example.com/v1/traces"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"),
    ]), @"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: configures the function's SDK only, and the extension has no endpoint, so it drops what it receives; set ROTEL_OTLP_EXPORTER_ENDPOINT=its value, and ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS to the value of OTEL_EXPORTER_OTLP_HEADERS, and here http://localhost:4318");
    assert!(
        warnings(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")])
            .starts_with("ROTEL_OTLP_EXPORTER_ENDPOINT")
    );
    assert_eq!(warnings(&[endpoint, ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://host:4317")]), "");
}
