//! From variables to a [`Config`], every error reported at once.
//!
//! Decides what each variable means and what holds where it is missing or wrong. It never fails: a faulty variable is
//! told and its default holds, and where what is wrong is the way to the backend, telemetry is received and dropped,
//! because the customer's function must run all the same. Reading the environment is left to `main`, and files to
//! `app::settings`.
//!
//! What follows from settings alone is here as well: the resource that telemetry bears ([`resource`]), and what to do about
//! an endpoint that is not reached ([`diagnosis`]).

pub mod collector_yaml;
mod describe;
pub mod diagnosis;
pub mod env_file;
mod export;
mod exporter_name;
mod exporters;
mod feedback_loop;
mod log_filter;
mod proxy;
mod reader;
pub mod resource;
pub mod secret_ref;
#[cfg(test)]
pub(crate) mod tests;
mod value;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use self::describe::{EffectiveValue, ValueSource, describe, help, reference};
pub use self::export::{Compression, Export, Exports, Identity, Pem, PemSource, Protocol, Tls};
pub use self::exporter_name::ExporterName;
pub use self::exporters::{Destination, exporter_variable};
pub use self::log_filter::LogFilter;
use self::log_filter::{LOG_EXCLUDE, LOG_MASK};
pub use self::proxy::{Proxies, Proxy, ProxyTarget, overlay, proxies};
use self::reader::Reader;
pub use self::value::ListenAddress;
use self::value::SettingText;
pub use self::variables::{Disclosure, SECTIONS, Section, Variable};
use crate::config::secret_ref::{SecretRef, Secrets};
use crate::delivery::cadence::Strategy;
use crate::lambda::correlation::FallbackSpans;
use crate::lambda::platform;
use crate::logs::Severity;
use crate::signal::{PerSignal, Signal};

/// The environment, as read once at startup.
pub type Variables = BTreeMap<String, String>;

/// The locations of the `collector.yaml` that set variables: the file's name, line and path.
pub type SourceLocations = BTreeMap<String, String>;

static NO_LOCATIONS: SourceLocations = SourceLocations::new();

/// Newer layers have the first, older ones the second.
const COLLECTOR_YAML: [&str; 2] =
    ["OPENTELEMETRY_COLLECTOR_CONFIG_URI", "OPENTELEMETRY_COLLECTOR_CONFIG_FILE"];
const MIB: usize = 1024 * 1024;
/// ClickStack's collector signals gRPC messages of at most 4 MiB.
pub const BATCH_MAX_BYTES: usize = 4 * MIB;

/// Everything that people can set.
#[derive(Clone)]
pub struct Config {
    /// Where telemetry goes: to one destination at least.
    pub destinations: Vec<Destination>,
    /// The OTLP receiver.
    pub receiver: ReceiverSettings,
    /// Where the Telemetry API's deliveries are taken.
    pub telemetry_endpoint: ListenAddress,
    /// What it is asked to deliver.
    pub telemetry_types: TelemetryTypes,
    /// What is made of the platform's events.
    pub platform_events: platform::PlatformOutputs,
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
    /// When telemetry leaves.
    pub flush_strategy: Strategy,
    /// Whether the extension sends metrics of itself.
    pub internal_telemetry: bool,
    /// What log records name where no span of the function's SDK is known.
    pub fallback_spans: FallbackSpans,
    /// Of which signals the log counts what passes.
    pub debug_log: PerSignal<bool>,
    /// What is left out and masked of the log records that are made here.
    pub log_filter: LogFilter,
    /// What a error at the start comes to.
    pub on_init_error: OnInitError,
    /// The process's own log lines.
    pub log: LogSettings,
    /// What the environment tells of the function.
    pub function: FunctionInfo,
}

/// The destinations alone: the rest holds texts as people wrote them.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("destinations", &self.destinations).finish_non_exhaustive()
    }
}

/// The OTLP receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverSettings {
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

/// What the Telemetry API is asked to deliver, beside the platform's events, without which no invocation would end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetryTypes {
    /// The function's log lines.
    pub function: bool,
    /// Those of all extensions, ours among them.
    pub extension: bool,
}

impl TelemetryTypes {
    /// Their names at the Telemetry API.
    pub fn names(self) -> Vec<&'static str> {
        let mut names = vec!["platform"];
        names.extend(self.function.then_some("function"));
        names.extend(self.extension.then_some("extension"));
        names
    }
}

/// What a error at the start comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInitError {
    /// The function runs as if nothing were wrong.
    Continue,
    /// Lambda is told, and the function's init fails.
    Fail,
}

/// The process's own log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `RUST_LOG` or `ROTEL_LOG_LEVEL`.
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
}

/// What Lambda's own variables tell of the function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionInfo {
    /// `AWS_LAMBDA_RUNTIME_API`, host:port.
    pub runtime_api: Option<String>,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in bytes.
    pub memory_bytes: Option<usize>,
    /// `AWS_REGION`.
    pub region: Option<String>,
    /// `AWS_LAMBDA_INITIALIZATION_TYPE` is `on-demand`, so that a caller waits for the init.
    pub on_demand: bool,
    /// It is `lambda-managed-instances`.
    pub managed_instances: bool,
    /// It is `snap-start`: the first INVOKE comes in an environment restored from a snapshot of the init.
    pub snap_start: bool,
}

/// A variable that cannot be taken as it stands: its name, the cause and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The variable.
    pub variable: String,
    /// Cause and remedy, for people.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

/// What reading the variables gave.
#[derive(Clone, Debug)]
pub struct ParsedConfig {
    /// What holds.
    pub config: Config,
    /// What is wrong. A signal whose way to the backend one of these concerns has none.
    pub errors: Vec<Problem>,
    /// What is odd, but does no harm.
    pub warnings: Vec<Problem>,
    /// The secrets on which parts of `config` hang, each once.
    pub references: Vec<SecretRef>,
    /// Whether `config.resource_attributes` hang on them, and are empty until then.
    pub resource_attributes_pending: bool,
    /// Whether `ROTEL_EXPORTER` or `ROTEL_EXPORTERS` says that nothing is to be sent.
    pub blackhole: bool,
}

/// Reads the variables. What hangs on secrets is [`Exports::Pending`]; all else is as it will be.
pub fn read(variables: &Variables) -> ParsedConfig {
    read_with_locations(variables, &NO_LOCATIONS, None)
}

/// Reads the variables once the secrets are there. Nothing is awaited any more: what hangs on a secret that is not among
/// them is a error. All errors and warnings of [`read`] are told again.
pub fn read_resolved(variables: &Variables, secrets: &Secrets) -> ParsedConfig {
    read_with_locations(variables, &NO_LOCATIONS, Some(secrets))
}

/// The same as [`read`] and [`read_resolved`] for variables of which some stand in a `collector.yaml`: errors of these name
/// the place.
pub fn read_with_locations(
    variables: &Variables,
    locations: &SourceLocations,
    secrets: Option<&Secrets>,
) -> ParsedConfig {
    read_with(Reader::new(variables, secrets).with_locations(locations))
}

/// The path of the `collector.yaml`, and the variable that names it.
pub fn collector_yaml_path(variables: &Variables) -> Option<(&'static str, &str)> {
    let reader = Reader::new(variables, None);
    COLLECTOR_YAML.into_iter().find_map(|variable| Some((variable, reader.text(variable)?)))
}

/// The file that `ROTEL_ENV_FILE` names.
pub fn env_file_path(environment: &Variables) -> Option<&str> {
    Reader::new(environment, None).text("ROTEL_ENV_FILE")
}

/// The value of `ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS` as names and values. [`read`] is what people want; this is the way
/// in for what throws random lists at it.
pub fn headers(text: &str) -> Result<Vec<(http::HeaderName, http::HeaderValue)>, String> {
    value::headers(&SettingText::plain(text))
}

/// The value of `ROTEL_OTEL_RESOURCE_ATTRIBUTES` as keys and values; for what throws random lists at it.
pub fn resource_attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    value::attributes(&SettingText::plain(text))
}

fn read_with(mut reader: Reader<'_>) -> ParsedConfig {
    // Its reading is the caller's, who needs it first of all; here only a reference in it is told.
    let _ = reader.parsed("ROTEL_ENV_FILE", |_| Ok(()));
    let function = reader.function();
    let receiver = reader.receiver();
    let telemetry_endpoint = reader.telemetry_endpoint();
    let resource_attributes = reader.resolved("ROTEL_OTEL_RESOURCE_ATTRIBUTES", value::attributes);
    let resource_attributes_pending = resource_attributes == reader::Setting::Pending;
    let platform_events = reader.platform_events();
    let mut destinations = reader.destinations(&[&receiver.grpc, &receiver.http, &telemetry_endpoint]);
    for destination in &mut destinations {
        destination.redact_secrets(&reader.filled);
    }
    let traces_leave = destinations.iter().any(|destination| destination.may_export(Signal::Traces));
    let config = Config {
        fallback_spans: reader.fallback_spans(platform_events.spans && traces_leave),
        destinations,
        receiver,
        telemetry_endpoint,
        telemetry_types: reader.telemetry_types(),
        platform_events,
        resource_attributes: resource_attributes.value().unwrap_or_default(),
        sdk_resource_attributes: reader.sdk_resource_attributes(),
        flush_timeout: reader
            .parsed("ROTEL_FLUSH_TIMEOUT", value::duration)
            .unwrap_or(Duration::from_secs(1)),
        batch_max_items: reader.batch_max_items(),
        buffer_max_bytes: reader.buffer_max_bytes(&function),
        flush_strategy: reader.flush_strategy(),
        internal_telemetry: reader.parsed("ROTEL_ENABLE_INTERNAL_TELEMETRY", value::boolean).unwrap_or(false),
        debug_log: reader.debug_log(),
        log_filter: reader.log_filter(),
        on_init_error: reader.on_init_error(),
        log: reader.log(),
        function,
    };
    reader.unknown_names();
    let Reader { errors, warnings, mut references, blackhole, .. } = reader;
    references.sort_unstable();
    references.dedup();
    ParsedConfig { config, errors, warnings, references, resource_attributes_pending, blackhole }
}

impl Reader<'_> {
    fn listen(&mut self, name: &str, host: &str, port: u16) -> ListenAddress {
        let default = ListenAddress { host: host.to_owned(), port };
        self.parsed(name, value::listen_address).unwrap_or(default)
    }

    fn telemetry_endpoint(&mut self) -> ListenAddress {
        const NAME: &str = "ROTEL_TELEMETRY_ENDPOINT";
        let address = self.listen(NAME, "0.0.0.0", 8990);
        if address.may_be_unreachable() {
            let ListenAddress { host, port } = &address;
            let message =
                format!("Lambda may not reach {host}, and then no logs arrive; write 0.0.0.0:{port}");
            self.warning(NAME, message);
        }
        address
    }

    fn receiver(&mut self) -> ReceiverSettings {
        // A gRPC message's length has four bytes, and a function at most ten gigabytes for everything.
        const MOST_MIB: usize = 1024;
        ReceiverSettings {
            grpc: self.listen("ROTEL_OTLP_GRPC_ENDPOINT", "localhost", 4317),
            http: self.listen("ROTEL_OTLP_HTTP_ENDPOINT", "localhost", 4318),
            grpc_max_bytes: self
                .parsed("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", |text| value::count(text, MOST_MIB))
                .unwrap_or(4)
                .saturating_mul(MIB),
            enabled: PerSignal::from_fn(|signal| {
                let name = format!("ROTEL_OTLP_RECEIVER_{}_DISABLED", signal.in_variable_names());
                !self.parsed(&name, value::boolean).unwrap_or(false)
            }),
            http_paths: PerSignal::from_fn(|signal| {
                let name = format!("ROTEL_OTLP_RECEIVER_{}_HTTP_PATH", signal.in_variable_names());
                self.parsed(&name, value::path).unwrap_or_else(|| format!("/v1/{signal}"))
            }),
        }
    }

    fn telemetry_types(&mut self) -> TelemetryTypes {
        let types = self.parsed("ROTEL_LAMBDA_TELEMETRY_TYPES", |text| {
            let all = ["platform", "function", "extension"].map(|name| (name, name));
            value::words(text, "a type of the Telemetry API", &all)
        });
        let wanted = |name| types.as_ref().is_none_or(|types| types.contains(&name));
        TelemetryTypes { function: wanted("function"), extension: wanted("extension") }
    }

    fn platform_events(&mut self) -> platform::PlatformOutputs {
        let forms = self.parsed("ROTEL_LAMBDA_PLATFORM_EVENTS", |text| {
            let all = ["metrics", "spans", "logs", "none"].map(|form| (form, form));
            let forms = value::words(text, "a form of platform events", &all)?;
            if forms.len() > 1 && forms.contains(&"none") {
                return Err(format!("{text} is none and more; write none alone, or leave it out"));
            }
            Ok(forms)
        });
        let wanted = |form, default| forms.as_ref().map_or(default, |forms| forms.contains(&form));
        platform::PlatformOutputs {
            metrics: wanted("metrics", true),
            spans: wanted("spans", true),
            logs: wanted("logs", false),
        }
    }

    /// These two belong to the function's SDK, so a mistake in them is a warning of ours and no error.
    fn sdk_resource_attributes(&mut self) -> Vec<(String, String)> {
        let mut attributes = match self.text("OTEL_RESOURCE_ATTRIBUTES").map(resource_attributes) {
            None => Vec::new(),
            Some(Ok(attributes)) => attributes,
            Some(Err(message)) => {
                self.warning("OTEL_RESOURCE_ATTRIBUTES", message);
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
        let all = self.parsed("ROTEL_BATCH_MAX_SIZE", |text| value::count(text, usize::MAX)).unwrap_or(8192);
        PerSignal::from_fn(|signal| {
            let name = format!("ROTEL_{}_BATCH_MAX_SIZE", signal.in_variable_names());
            self.parsed(&name, |text| value::count(text, usize::MAX)).unwrap_or(all)
        })
    }

    fn buffer_max_bytes(&mut self, function: &FunctionInfo) -> usize {
        let share = function.memory_bytes.map_or(4 * MIB, |memory| (memory / 16).clamp(4 * MIB, 64 * MIB));
        let is_in_collector_yaml = self.is_in_collector_yaml("ROTEL_BUFFER_MAX_BYTES");
        let most = function.memory_bytes.filter(|_| !is_in_collector_yaml).unwrap_or(usize::MAX);
        let bytes = self.parsed("ROTEL_BUFFER_MAX_BYTES", |text| {
            value::count(text, usize::MAX).and_then(|bytes| {
                if bytes <= most {
                    Ok(bytes)
                } else {
                    Err(format!("{text} is more than the function's memory, {most} bytes; write less"))
                }
            })
        });
        // There it is a limit of all memory, and not what may wait.
        bytes.unwrap_or(share).min(if is_in_collector_yaml { share } else { usize::MAX })
    }

    fn log_filter(&mut self) -> LogFilter {
        let min_severity = self.parsed("ROTEL_LAMBDA_LOG_MIN_SEVERITY", |text| {
            Severity::from_word(&text.value()).ok_or_else(|| {
                format!("{text} is not a severity; write trace, debug, info, warn, error or fatal")
            })
        });
        let exclude = self.parsed(LOG_EXCLUDE, |text| Ok(text.value().into_owned()));
        let mask = self.parsed(LOG_MASK, |text| Ok(text.value().into_owned()));
        let masks_something = self.text(LOG_MASK).is_some();
        LogFilter { min_severity, exclude, mask, masks_something }
    }

    fn on_init_error(&mut self) -> OnInitError {
        let words = [("continue", OnInitError::Continue), ("fail", OnInitError::Fail)];
        let told = self.parsed("ROTEL_ON_INIT_ERROR", |text| {
            value::word(text, "an answer to a error at the start", &words)
        });
        told.unwrap_or(OnInitError::Continue)
    }

    fn log(&mut self) -> LogSettings {
        let json =
            |text: &SettingText<'_>| value::word(text, "a log format", &[("text", false), ("json", true)]);
        let level = self.parsed("ROTEL_LOG_LEVEL", |text| {
            let levels = ["error", "warn", "info", "debug", "trace", "off"].map(|level| (level, level));
            value::word(text, "a log level", &levels)
        });
        LogSettings {
            level: level.or_else(|| self.text("RUST_LOG")).unwrap_or("info").to_owned(),
            json: self
                .parsed("ROTEL_LOG_FORMAT", json)
                .or_else(|| self.parsed("AWS_LAMBDA_LOG_FORMAT", json))
                .unwrap_or(false),
        }
    }

    fn flush_strategy(&mut self) -> Strategy {
        let told = self.parsed("ROTEL_FLUSH_STRATEGY", |text| {
            let value = text.value().to_ascii_lowercase();
            match value.split_once(',') {
                None if value == "end" => Ok(Strategy::End),
                None if value == "adaptive" => Ok(Strategy::Adaptive),
                Some(("periodic", interval)) => {
                    value::duration(&SettingText::plain(interval.trim())).map(Strategy::Periodic)
                }
                _ => Err(format!("{text} is not a flush strategy; write end, adaptive or periodic,20s")),
            }
        });
        told.unwrap_or(Strategy::End)
    }

    fn fallback_spans(&mut self, platform: bool) -> FallbackSpans {
        let xray = self.parsed("ROTEL_LAMBDA_XRAY_TRACE_CONTEXT", value::boolean).unwrap_or(false);
        FallbackSpans { platform, xray }
    }

    /// A line for each record would come back as a record. So what passes is counted, however detailed that was asked for.
    fn debug_log(&mut self) -> PerSignal<bool> {
        const VERBOSITY: &str = "ROTEL_DEBUG_LOG_VERBOSITY";
        let signals = self.parsed("ROTEL_DEBUG_LOG", |text| {
            let signals = [Signal::Traces, Signal::Metrics, Signal::Logs];
            value::words(text, "a signal", &signals.map(|signal| (signal.as_str(), signal)))
        });
        let words = [("basic", false), ("detailed", true)];
        if self.parsed(VERBOSITY, |text| value::word(text, "a verbosity", &words)) == Some(true) {
            self.warning(VERBOSITY, "what passes is counted, and no more; write basic, or remove it");
        }
        let signals = signals.unwrap_or_default();
        PerSignal::from_fn(|signal| signals.contains(&signal))
    }

    fn function(&mut self) -> FunctionInfo {
        let owned = |name| self.text(name).map(str::to_owned);
        let memory_mb: Option<usize> =
            self.text("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").and_then(|text| text.parse().ok());
        let initialization = self.text("AWS_LAMBDA_INITIALIZATION_TYPE");
        FunctionInfo {
            runtime_api: owned("AWS_LAMBDA_RUNTIME_API"),
            memory_bytes: memory_mb.and_then(|mb| mb.checked_mul(MIB)),
            region: owned("AWS_REGION"),
            on_demand: matches!(initialization, None | Some("on-demand")),
            managed_instances: initialization == Some("lambda-managed-instances"),
            snap_start: initialization == Some("snap-start"),
        }
    }
}
