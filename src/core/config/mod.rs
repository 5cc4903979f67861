//! From variables to a [`Config`], every fault reported at once.
//!
//! Decides what each variable means and what holds where it is missing or wrong. It never fails: a faulty variable is told
//! and its default holds, and where what is wrong is the way to the backend, telemetry is received and dropped, because
//! the customer's function must run all the same. Reading the environment and files is left to `app::startup`.

mod value;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

pub use self::value::ListenAddress;
pub use self::variables::{VARIABLES, Variable};
use crate::core::signal::PerSignal;

/// The environment, as read once at startup.
pub type Variables = BTreeMap<String, String>;

const MIB: usize = 1024 * 1024;
/// ClickStack's collector takes gRPC messages of at most 4 MiB.
pub const BATCH_MAX_BYTES: usize = 4 * MIB;

/// Everything that people can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where telemetry goes; `None` receives and drops it.
    pub export: Option<Export>,
    /// The OTLP receiver.
    pub receiver: Receiver,
    /// Where the Telemetry API's deliveries are taken.
    pub telemetry_endpoint: ListenAddress,
    /// `ROTEL_OTEL_RESOURCE_ATTRIBUTES`: set or replaced on every resource.
    pub resource_attributes: Vec<(String, String)>,
    /// `OTEL_RESOURCE_ATTRIBUTES` with `OTEL_SERVICE_NAME` over it: what the function's SDK will put on its own resource.
    pub sdk_resource_attributes: Vec<(String, String)>,
    /// The most that a flush may add after the function.
    pub flush_timeout: Duration,
    /// Items in one request.
    pub batch_max_items: PerSignal<usize>,
    /// Bytes that may wait for the backend.
    pub buffer_max_bytes: usize,
    /// The process's own log lines.
    pub log: Log,
    /// What the environment tells of the function.
    pub function: Function,
}

/// The way to the backend.
#[derive(Clone, Debug)]
pub struct Export {
    /// The base URL.
    pub endpoint: Uri,
    /// How OTLP is spoken there.
    pub protocol: Protocol,
    /// Sent with every request; the values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is done to a request's body.
    pub compression: Compression,
    /// The most that one attempt may take.
    pub request_timeout: Duration,
    /// Certificate authorities to trust besides the compiled-in ones.
    pub ca: Option<Pem>,
}

/// How OTLP is spoken to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with protobuf bodies.
    Http,
}

/// How a request's body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// gzip.
    Gzip,
}

/// Where PEM text is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// In a file of this path.
    File(String),
    /// Here.
    Text(String),
}

/// The OTLP receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Where OTLP/gRPC is taken.
    pub grpc: ListenAddress,
    /// Where OTLP/HTTP is taken.
    pub http: ListenAddress,
    /// The largest gRPC message, in bytes.
    pub grpc_max_bytes: usize,
    /// Which signals are taken.
    pub enabled: PerSignal<bool>,
    /// The HTTP path of each signal.
    pub http_paths: PerSignal<String>,
}

/// The process's own log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `RUST_LOG` or `ROTEL_LOG_LEVEL`.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// What Lambda's own variables tell of the function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// `AWS_LAMBDA_RUNTIME_API`, host:port.
    pub runtime_api: Option<String>,
    /// `AWS_LAMBDA_FUNCTION_NAME`.
    pub name: Option<String>,
    /// `AWS_LAMBDA_FUNCTION_VERSION`.
    pub version: Option<String>,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in bytes.
    pub memory_bytes: Option<usize>,
    /// `AWS_REGION`.
    pub region: Option<String>,
    /// `AWS_LAMBDA_INITIALIZATION_TYPE` is `lambda-managed-instances`.
    pub managed_instances: bool,
}

/// A variable that cannot be taken as it stands: its name, the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The variable.
    pub variable: String,
    /// Cause and remedy, for people.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.problem)
    }
}

/// What reading the variables gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What holds.
    pub config: Config,
    /// What is wrong. Where one of these concerns the exporter, `config.export` is `None`.
    pub faults: Vec<Fault>,
    /// What is odd, but does no harm.
    pub warnings: Vec<Fault>,
}

/// Reads the variables.
pub fn read(variables: &Variables) -> Outcome {
    let mut reader = Reader { variables, faults: Vec::new(), warnings: Vec::new() };
    let function = reader.function();
    let config = Config {
        export: reader.export(),
        receiver: reader.receiver(),
        telemetry_endpoint: reader.listen("ROTEL_TELEMETRY_ENDPOINT", "0.0.0.0", 8990),
        resource_attributes: reader
            .parsed("ROTEL_OTEL_RESOURCE_ATTRIBUTES", value::attributes)
            .unwrap_or_default(),
        sdk_resource_attributes: reader.sdk_resource_attributes(),
        flush_timeout: reader
            .parsed("ROTEL_FLUSH_TIMEOUT", value::duration)
            .unwrap_or(Duration::from_secs(1)),
        batch_max_items: reader.batch_max_items(),
        buffer_max_bytes: reader.buffer_max_bytes(&function),
        log: reader.log(),
        function,
    };
    reader.unknown_names();
    Outcome { config, faults: reader.faults, warnings: reader.warnings }
}

struct Reader<'a> {
    variables: &'a Variables,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl<'a> Reader<'a> {
    /// The value of a variable; empty is unset.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.variables.get(name).map(|text| value::unquoted(text)).filter(|text| !text.is_empty())
    }

    fn fault(&mut self, variable: &str, problem: impl Into<String>) {
        self.faults.push(Fault { variable: variable.to_owned(), problem: problem.into() });
    }

    fn warning(&mut self, variable: &str, problem: impl Into<String>) {
        self.warnings.push(Fault { variable: variable.to_owned(), problem: problem.into() });
    }

    fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(self.text(name)?) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.fault(name, problem);
                None
            }
        }
    }

    fn listen(&mut self, name: &str, host: &str, port: u16) -> ListenAddress {
        let default = ListenAddress { host: host.to_owned(), port };
        self.parsed(name, value::listen_address).unwrap_or(default)
    }

    fn export(&mut self) -> Option<Export> {
        let faults_before = self.faults.len();
        let exporter = self.parsed("ROTEL_EXPORTER", |text| match text {
            "otlp" => Ok(true),
            "blackhole" => Ok(false),
            other => Err(format!("{other:?} is not an exporter of this extension; write otlp or blackhole")),
        });
        if exporter == Some(false) {
            return None;
        }
        let endpoint = self.parsed("ROTEL_OTLP_EXPORTER_ENDPOINT", value::endpoint);
        let protocol = self.parsed("ROTEL_OTLP_EXPORTER_PROTOCOL", |text| match text {
            "grpc" => Ok(Protocol::Grpc),
            "http" | "http/protobuf" => Ok(Protocol::Http),
            other => Err(format!("{other:?} is not a protocol; write grpc or http")),
        });
        let headers = self.parsed("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", |text| {
            if ["${arn:", "$<arn:", "secret://arn:"].iter().any(|sign| text.contains(sign)) {
                return Err(
                    "this version does not resolve secret references; write the value itself".to_owned()
                );
            }
            value::headers(text)
        });
        let compression = self.parsed("ROTEL_OTLP_EXPORTER_COMPRESSION", |text| match text {
            "none" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            other => Err(format!("{other:?} is not a compression of this version; write gzip or none")),
        });
        let request_timeout = self.parsed("ROTEL_OTLP_EXPORTER_REQUEST_TIMEOUT", value::duration);
        let ca =
            match (self.text("ROTEL_OTLP_EXPORTER_TLS_CA_FILE"), self.text("ROTEL_OTLP_EXPORTER_TLS_CA_PEM"))
            {
                (Some(_), Some(_)) => {
                    self.fault(
                        "ROTEL_OTLP_EXPORTER_TLS_CA_PEM",
                        "ROTEL_OTLP_EXPORTER_TLS_CA_FILE is set too, and only one can hold; remove one",
                    );
                    None
                }
                (Some(path), None) => Some(Pem::File(path.to_owned())),
                (None, Some(text)) => Some(Pem::Text(text.to_owned())),
                (None, None) => None,
            };
        if self.faults.len() > faults_before {
            return None;
        }
        let Some(endpoint) = endpoint else {
            self.warning(
                "ROTEL_OTLP_EXPORTER_ENDPOINT",
                "not set, so telemetry is received and dropped; write your ClickStack endpoint, such as https://host:4317",
            );
            return None;
        };
        Some(Export {
            endpoint,
            protocol: protocol.unwrap_or(Protocol::Grpc),
            headers: headers.unwrap_or_default(),
            compression: compression.unwrap_or(Compression::Gzip),
            request_timeout: request_timeout.unwrap_or(Duration::from_secs(5)),
            ca,
        })
    }

    fn receiver(&mut self) -> Receiver {
        Receiver {
            grpc: self.listen("ROTEL_OTLP_GRPC_ENDPOINT", "localhost", 4317),
            http: self.listen("ROTEL_OTLP_HTTP_ENDPOINT", "localhost", 4318),
            grpc_max_bytes: self
                .parsed("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", value::count)
                .unwrap_or(4)
                .saturating_mul(MIB),
            enabled: PerSignal::from_fn(|signal| {
                let name = format!("ROTEL_OTLP_RECEIVER_{}_DISABLED", signal.as_str().to_uppercase());
                !self.parsed(&name, value::boolean).unwrap_or(false)
            }),
            http_paths: PerSignal::from_fn(|signal| {
                let name = format!("ROTEL_OTLP_RECEIVER_{}_HTTP_PATH", signal.as_str().to_uppercase());
                let path = self.parsed(&name, |text| {
                    let path = text.starts_with('/').then(|| text.to_owned());
                    path.ok_or_else(|| format!("{text:?} is not a path; write /{text}"))
                });
                path.unwrap_or_else(|| format!("/v1/{signal}"))
            }),
        }
    }

    /// These two belong to the function's SDK, so a mistake in them is a warning of ours and no fault.
    fn sdk_resource_attributes(&mut self) -> Vec<(String, String)> {
        let mut attributes = match self.text("OTEL_RESOURCE_ATTRIBUTES").map(value::attributes) {
            None => Vec::new(),
            Some(Ok(attributes)) => attributes,
            Some(Err(problem)) => {
                self.warning("OTEL_RESOURCE_ATTRIBUTES", problem);
                Vec::new()
            }
        };
        if let Some(name) = self.text("OTEL_SERVICE_NAME") {
            attributes.retain(|(key, _)| key != "service.name");
            attributes.push(("service.name".to_owned(), name.to_owned()));
        }
        attributes
    }

    fn batch_max_items(&mut self) -> PerSignal<usize> {
        let all = self.parsed("ROTEL_BATCH_MAX_SIZE", value::count).unwrap_or(8192);
        PerSignal::from_fn(|signal| {
            let name = format!("ROTEL_{}_BATCH_MAX_SIZE", signal.as_str().to_uppercase());
            self.parsed(&name, value::count).unwrap_or(all)
        })
    }

    fn buffer_max_bytes(&mut self, function: &Function) -> usize {
        let share = function.memory_bytes.map_or(4 * MIB, |memory| (memory / 16).clamp(4 * MIB, 64 * MIB));
        self.parsed("ROTEL_BUFFER_MAX_BYTES", value::count).unwrap_or(share)
    }

    fn log(&mut self) -> Log {
        let json = |text: &str| match text.to_ascii_lowercase().as_str() {
            "json" => Ok(true),
            "text" => Ok(false),
            _ => Err(format!("{text:?} is not a log format; write text or json")),
        };
        let level = self.parsed("ROTEL_LOG_LEVEL", |text| match text.to_ascii_lowercase().as_str() {
            level @ ("off" | "error" | "warn" | "info" | "debug" | "trace") => Ok(level.to_owned()),
            _ => Err(format!("{text:?} is not a log level; write error, warn, info, debug, trace or off")),
        });
        Log {
            level: self.text("RUST_LOG").map(str::to_owned).or(level).unwrap_or_else(|| "info".to_owned()),
            json: self
                .parsed("ROTEL_LOG_FORMAT", json)
                .or_else(|| self.parsed("AWS_LAMBDA_LOG_FORMAT", json))
                .unwrap_or(false),
        }
    }

    fn function(&mut self) -> Function {
        let owned = |name| self.text(name).map(str::to_owned);
        let memory_mb: Option<usize> =
            self.text("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").and_then(|text| text.parse().ok());
        Function {
            runtime_api: owned("AWS_LAMBDA_RUNTIME_API"),
            name: owned("AWS_LAMBDA_FUNCTION_NAME"),
            version: owned("AWS_LAMBDA_FUNCTION_VERSION"),
            memory_bytes: memory_mb.and_then(|mb| mb.checked_mul(MIB)),
            region: owned("AWS_REGION"),
            managed_instances: self.text("AWS_LAMBDA_INITIALIZATION_TYPE")
                == Some("lambda-managed-instances"),
        }
    }

    fn unknown_names(&mut self) {
        let unknown =
            self.variables.keys().filter(|name| name.starts_with("ROTEL_") && !variables::is_known(name));
        for name in unknown {
            self.warnings.push(Fault {
                variable: name.clone(),
                problem: "this extension has no such variable, and it has no effect; look for a misspelling"
                    .to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::signal::Signal;

    fn outcome(pairs: &[(&str, &str)]) -> Outcome {
        read(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_published_example_works_with_its_quotes() {
        let Outcome { config, faults, warnings } = outcome(&[
            ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://clickstack.example.com:4317"),
            ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "\"Authorization=0123-key\""),
            ("ROTEL_OTEL_RESOURCE_ATTRIBUTES", "\"service.name=my-lambda-api,service.version=1.0.0\""),
        ]);
        assert_eq!((faults, warnings), (vec![], vec![]));
        let export = config.export.expect("an exporter");
        assert_eq!(export.protocol, Protocol::Grpc);
        assert_eq!(export.headers[0].0, "authorization");
        assert_eq!(export.headers[0].1, "0123-key");
        assert_eq!(config.resource_attributes[0], ("service.name".into(), "my-lambda-api".into()));
    }

    #[test]
    fn without_an_endpoint_there_is_one_warning_and_no_fault() {
        let Outcome { config, faults, warnings } = outcome(&[]);
        assert!(config.export.is_none());
        assert!(faults.is_empty());
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn every_fault_is_told_at_once_and_the_rest_still_holds() {
        let Outcome { config, faults, .. } = outcome(&[
            ("ROTEL_OTLP_EXPORTER_ENDPOINT", "collector:4317"),
            ("ROTEL_OTLP_EXPORTER_PROTOCOL", "carrier-pigeon"),
            ("ROTEL_FLUSH_TIMEOUT", "soon"),
            ("ROTEL_BATCH_MAX_SIZE", "0"),
            ("ROTEL_BUFFER_MAX_BYTES", "1000"),
        ]);
        let named: Vec<_> = faults.iter().map(|fault| fault.variable.as_str()).collect();
        assert_eq!(
            named,
            [
                "ROTEL_OTLP_EXPORTER_ENDPOINT",
                "ROTEL_OTLP_EXPORTER_PROTOCOL",
                "ROTEL_FLUSH_TIMEOUT",
                "ROTEL_BATCH_MAX_SIZE"
            ]
        );
        assert!(config.export.is_none());
        assert_eq!(config.batch_max_items.traces, 8192);
        assert_eq!(config.buffer_max_bytes, 1000);
        insta::assert_snapshot!(faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"), @r#"
        ROTEL_OTLP_EXPORTER_ENDPOINT: "collector:4317" has no scheme; write http://collector:4317 or https://collector:4317
        ROTEL_OTLP_EXPORTER_PROTOCOL: "carrier-pigeon" is not a protocol; write grpc or http
        ROTEL_FLUSH_TIMEOUT: "soon" is not a duration; write a number and its unit, such as 250ms, 5s or 1m
        ROTEL_BATCH_MAX_SIZE: "0" is not a count; write a whole number of 1 or more
        "#);
    }

    #[test]
    fn a_secret_reference_is_a_fault_and_never_sent_as_it_stands() {
        let Outcome { config, faults, .. } = outcome(&[
            ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://clickstack.example.com:4317"),
            (
                "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS",
                "Authorization=${arn:aws:ssm:us-east-1:123456789012:parameter/key}",
            ),
        ]);
        assert!(config.export.is_none());
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn the_buffer_is_a_sixteenth_of_the_memory_within_bounds() {
        for (memory_mb, expected_mib) in [("128", 8), ("32", 4), ("10240", 64), ("", 4)] {
            let config = outcome(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory_mb)]).config;
            assert_eq!(config.buffer_max_bytes, expected_mib * MIB, "{memory_mb} MB");
        }
    }

    #[test]
    fn the_service_name_variable_wins_over_the_attribute_list() {
        let config =
            outcome(&[("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=b"), ("OTEL_SERVICE_NAME", "c")])
                .config;
        assert_eq!(
            config.sdk_resource_attributes,
            [("team".to_owned(), "b".to_owned()), ("service.name".to_owned(), "c".to_owned())]
        );
    }

    #[test]
    fn a_misspelt_name_is_a_warning() {
        let warnings = outcome(&[("ROTEL_EXPORTER", "blackhole"), ("ROTEL_FLUSH_TIMEOT", "1s")]).warnings;
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].variable, "ROTEL_FLUSH_TIMEOT");
    }

    #[test]
    fn our_own_log_lines_follow_lambdas_format_unless_told_otherwise() {
        assert!(outcome(&[("AWS_LAMBDA_LOG_FORMAT", "JSON")]).config.log.json);
        assert!(!outcome(&[("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("ROTEL_LOG_FORMAT", "text")]).config.log.json);
    }

    #[test]
    fn the_names_built_for_each_signal_stand_in_the_table() {
        for signal in Signal::ALL {
            let signal = signal.as_str().to_uppercase();
            for name in [
                format!("ROTEL_OTLP_RECEIVER_{signal}_DISABLED"),
                format!("ROTEL_OTLP_RECEIVER_{signal}_HTTP_PATH"),
                format!("ROTEL_{signal}_BATCH_MAX_SIZE"),
            ] {
                assert!(variables::is_known(&name), "{name}");
            }
        }
    }
}
