//! Parses environment variables into a [`Config`], and reports all errors at once.
//!
//! Decides the meaning and the default of each variable. Parsing never fails, because the customer's function must run
//! anyway: an invalid variable is reported and its default is used. If the export settings of a signal are invalid, its
//! telemetry is received and dropped. Leaves reading the environment to `main`, and reading files to `app::settings`.
//!
//! It also holds what depends on settings alone: the resource attributes of telemetry ([`resource`]), and the remedies for
//! an endpoint that cannot be reached ([`diagnosis`]).

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
mod sdk_endpoint;
pub mod secret_ref;
#[cfg(test)]
pub(crate) mod tests;
mod value;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

pub use self::describe::{EffectiveValue, ValueSource, describe, help, reference};
pub use self::export::{Compression, Export, Exports, Identity, Pem, PemSource, Protocol, Tls};
pub use self::exporter_name::ExporterName;
pub use self::exporters::{Destination, exporter_variable};
pub use self::log_filter::LogFilter;
use self::log_filter::{LOG_EXCLUDE, LOG_MASK};
pub use self::proxy::{Proxies, Proxy, ProxyTarget, has_proxy, overlay, proxies};
use self::reader::Reader;
pub use self::value::ListenAddress;
use self::value::SettingText;
pub use self::variables::{Disclosure, SECTIONS, Section, Variable};
use crate::config::secret_ref::{SecretRef, Secrets};
use crate::delivery::cadence::Strategy;
use crate::echo;
use crate::lambda::correlation::FallbackSpans;
use crate::lambda::platform;
use crate::logs::Severity;
use crate::signal::{PerSignal, Signal};

/// The environment, read once at startup.
pub type Variables = BTreeMap<String, String>;

/// The place in a file of each variable that it sets.
pub type Locations = BTreeMap<String, String>;

/// The places of the variables that files set.
#[derive(Clone, Debug, Default)]
pub struct SourceLocations {
    /// Of a `collector.yaml`: its name, the line and the YAML path.
    pub collector_yaml: Locations,
    /// Of the env file: its name, the line and the variable.
    pub env_file: Locations,
    /// The variables that malformed lines of the env file would set. That they are not set is a consequence.
    pub malformed: BTreeSet<String>,
}

impl SourceLocations {
    /// The place of a variable; `None` if no file sets it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.env_file.get(name).or_else(|| self.collector_yaml.get(name)).map(String::as_str)
    }
}

impl From<Locations> for SourceLocations {
    /// Those of a `collector.yaml` alone.
    fn from(collector_yaml: Locations) -> Self {
        Self { collector_yaml, ..Self::default() }
    }
}

static NO_LOCATIONS: SourceLocations = SourceLocations {
    collector_yaml: Locations::new(),
    env_file: Locations::new(),
    malformed: BTreeSet::new(),
};

/// Newer collector layers use the first name, older ones the second.
const COLLECTOR_YAML: [&str; 2] =
    ["OPENTELEMETRY_COLLECTOR_CONFIG_URI", "OPENTELEMETRY_COLLECTOR_CONFIG_FILE"];
const MIB: usize = 1024 * 1024;
/// The maximum size of a request: ClickStack's collector accepts gRPC messages of at most 4 MiB.
pub const BATCH_MAX_BYTES: usize = 4 * MIB;

/// All settings.
#[derive(Clone)]
pub struct Config {
    /// The destinations of telemetry; never empty.
    pub destinations: Vec<Destination>,
    pub receiver: ReceiverSettings,
    /// The address to which the Telemetry API delivers.
    pub telemetry_endpoint: ListenAddress,
    /// The event types to subscribe to.
    pub telemetry_types: TelemetryTypes,
    /// The telemetry to create from platform events.
    pub platform_events: platform::PlatformOutputs,
    /// `ROTEL_OTEL_RESOURCE_ATTRIBUTES`: set on every resource, replacing existing values.
    pub resource_attributes: Vec<(String, String)>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, overridden by `OTEL_SERVICE_NAME`: the attributes that the function's SDK sets on its own
    /// resource.
    pub sdk_resource_attributes: Vec<(String, String)>,
    /// The maximum time that a flush adds after the handler returns.
    pub flush_timeout: Duration,
    /// The maximum number of items in one request.
    pub batch_max_items: PerSignal<usize>,
    /// The maximum number of bytes pending for a backend.
    pub buffer_max_bytes: usize,
    /// The moments at which telemetry is sent.
    pub flush_strategy: Strategy,
    /// Send metrics about the extension itself.
    pub internal_telemetry: bool,
    /// The stand-ins for trace ids on log records when no SDK span is known.
    pub fallback_spans: FallbackSpans,
    /// The signals whose items each flush counts in the log.
    pub debug_log: PerSignal<bool>,
    /// The filter and mask for log records that the extension creates.
    pub log_filter: LogFilter,
    /// The reaction to a startup error.
    pub on_init_error: OnInitError,
    /// The extension's own log lines.
    pub log: LogSettings,
    /// The function, as described by Lambda's variables.
    pub function: FunctionInfo,
}

/// Prints the destinations only: other fields hold raw values, which may be credentials.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("destinations", &self.destinations).finish_non_exhaustive()
    }
}

/// The settings of the OTLP receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverSettings {
    /// The listen address for OTLP/gRPC.
    pub grpc: ListenAddress,
    /// The listen address for OTLP/HTTP.
    pub http: ListenAddress,
    /// The maximum size of a gRPC message, in bytes.
    pub grpc_max_bytes: usize,
    /// The signals that are accepted.
    pub enabled: PerSignal<bool>,
    /// The HTTP path for each signal.
    pub http_paths: PerSignal<String>,
}

/// The event types to subscribe to at the Telemetry API. Platform events are always included, because they mark the end of
/// an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetryTypes {
    /// The function's log lines.
    pub function: bool,
    /// The log lines of all extensions, including this one.
    pub extension: bool,
}

impl TelemetryTypes {
    /// The names of these types in the Telemetry API.
    pub fn names(self) -> Vec<&'static str> {
        let mut names = vec!["platform"];
        names.extend(self.function.then_some("function"));
        names.extend(self.extension.then_some("extension"));
        names
    }
}

/// The reaction to a startup error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInitError {
    /// The function runs anyway; telemetry that cannot be sent is dropped.
    Continue,
    /// The error is reported to Lambda, and the function's init fails.
    Fail,
}

/// The settings for the extension's own log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `RUST_LOG` or `ROTEL_LOG_LEVEL`.
    pub level: String,
    /// Write JSON lines instead of text.
    pub json: bool,
}

/// The function, as described by Lambda's own variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionInfo {
    /// `AWS_LAMBDA_RUNTIME_API`, as host:port.
    pub runtime_api: Option<String>,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, in bytes.
    pub memory_bytes: Option<usize>,
    /// `AWS_REGION`.
    pub region: Option<String>,
    /// `AWS_LAMBDA_INITIALIZATION_TYPE` is `on-demand`: a caller waits for the init.
    pub on_demand: bool,
    /// `AWS_LAMBDA_INITIALIZATION_TYPE` is `lambda-managed-instances`.
    pub managed_instances: bool,
    /// `AWS_LAMBDA_INITIALIZATION_TYPE` is `snap-start`: the first INVOKE arrives in an environment restored from a snapshot
    /// of the init.
    pub snap_start: bool,
}

/// An error or a warning about a setting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The variable's name, or the location in the file that sets it.
    pub variable: String,
    /// The cause and the remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

/// The result of parsing the variables.
#[derive(Clone, Debug)]
pub struct ParsedConfig {
    pub config: Config,
    /// Settings that are invalid. If one of them concerns the export of a signal, the signal is not exported.
    pub errors: Vec<Problem>,
    /// Settings that look wrong but are not errors.
    pub warnings: Vec<Problem>,
    /// The secrets that `config` depends on, without duplicates.
    pub references: Vec<SecretRef>,
    /// `config.resource_attributes` depends on a secret and is empty until it is fetched.
    pub resource_attributes_pending: bool,
    /// `ROTEL_EXPORTER` or `ROTEL_EXPORTERS` disables sending.
    pub blackhole: bool,
}

/// Parses the variables. Exports that depend on secrets are [`Exports::Pending`]; everything else is final.
pub fn read(variables: &Variables) -> ParsedConfig {
    read_with_locations(variables, &NO_LOCATIONS, None)
}

/// Parses the variables with the fetched secrets. Nothing stays pending: a reference to a secret that is missing from
/// `secrets` is an error. Repeats all errors and warnings of [`read`].
pub fn read_resolved(variables: &Variables, secrets: &Secrets) -> ParsedConfig {
    read_with_locations(variables, &NO_LOCATIONS, Some(secrets))
}

/// Like [`read`] and [`read_resolved`], for variables of which a `collector.yaml` may have set some: errors name the
/// location in that file.
pub fn read_with_locations(
    variables: &Variables,
    locations: &SourceLocations,
    secrets: Option<&Secrets>,
) -> ParsedConfig {
    read_with(Reader::new(variables, secrets).with_locations(locations))
}

/// The variable that names the configuration of a collector, and its value: see [`collector_yaml::parse_uris`].
pub fn collector_yaml_uris(variables: &Variables) -> Option<(&'static str, &str)> {
    let reader = Reader::new(variables, None);
    COLLECTOR_YAML.into_iter().find_map(|variable| Some((variable, reader.text(variable)?)))
}

/// The path in `ROTEL_ENV_FILE`.
pub fn env_file_path(environment: &Variables) -> Option<&str> {
    Reader::new(environment, None).text("ROTEL_ENV_FILE")
}

/// Parses a value of `ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS`; for fuzzing.
pub fn headers(text: &str) -> Result<Vec<(http::HeaderName, http::HeaderValue)>, String> {
    value::headers(&SettingText::plain(text))
}

/// Parses a value of `ROTEL_OTEL_RESOURCE_ATTRIBUTES`; for fuzzing.
pub fn resource_attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    value::attributes(&SettingText::plain(text))
}

fn read_with(mut reader: Reader<'_>) -> ParsedConfig {
    // The caller has read this file already; this only reports a secret reference in the path.
    let _ = reader.parsed("ROTEL_ENV_FILE", |_| Ok(()));
    let function = reader.function();
    let receiver = reader.receiver();
    let telemetry_endpoint = reader.telemetry_endpoint();
    let resource_attributes = reader.resolved("ROTEL_OTEL_RESOURCE_ATTRIBUTES", value::attributes);
    let resource_attributes_pending = resource_attributes == reader::Setting::Pending;
    let platform_events = reader.platform_events();
    let mut destinations = reader.destinations(&[&receiver.grpc, &receiver.http, &telemetry_endpoint]);
    for destination in &mut destinations {
        destination.set_redacted_secrets(&reader.filled);
    }
    let exports_traces = destinations.iter().any(|destination| destination.may_export(Signal::Traces));
    let config = Config {
        fallback_spans: reader.fallback_spans(platform_events.spans && exports_traces),
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
    reader.warn_of_unknown_names();
    let Reader { errors, warnings, mut references, blackhole, .. } = reader;
    references.sort_unstable();
    references.dedup();
    ParsedConfig { config, errors, warnings, references, resource_attributes_pending, blackhole }
}

/// The function's memory, in bytes.
fn memory_bytes(variables: &Variables) -> Option<usize> {
    let mib: usize = variables.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")?.parse().ok()?;
    mib.checked_mul(MIB)
}

/// The default of `ROTEL_BUFFER_MAX_BYTES`, given the function's memory.
fn default_buffer_bytes(memory_bytes: Option<usize>) -> usize {
    memory_bytes.map_or(4 * MIB, |memory| (memory / 16).clamp(4 * MIB, 64 * MIB))
}

impl Reader<'_> {
    /// Warns about unknown `ROTEL_…` variables.
    fn warn_of_unknown_names(&mut self) {
        let prefixes = self.text("ROTEL_EXPORTERS").map(exporters::prefixes).unwrap_or_default();
        for name in self.variables.keys().filter(|name| name.starts_with("ROTEL_")) {
            if let Some(message) = variables::warning_for_unknown(name, &prefixes) {
                self.warnings.push(Problem { variable: echo::name(name), message });
            }
        }
    }

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
                format!("Lambda may be unable to reach {host}, so no logs would arrive; set 0.0.0.0:{port}");
            self.warning(NAME, message);
        }
        address
    }

    fn receiver(&mut self) -> ReceiverSettings {
        // gRPC encodes the length of a message in four bytes, and a function has at most 10 GB of memory.
        const MAX_MIB: usize = 1024;
        ReceiverSettings {
            grpc: self.listen("ROTEL_OTLP_GRPC_ENDPOINT", "localhost", 4317),
            http: self.listen("ROTEL_OTLP_HTTP_ENDPOINT", "localhost", 4318),
            grpc_max_bytes: self
                .parsed("ROTEL_OTLP_GRPC_MAX_RECV_MSG_SIZE_MIB", |text| value::count(text, MAX_MIB))
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
            value::words(text, "a Telemetry API event type", &all)
        });
        let wanted = |name| types.as_ref().is_none_or(|types| types.contains(&name));
        TelemetryTypes { function: wanted("function"), extension: wanted("extension") }
    }

    fn platform_events(&mut self) -> platform::PlatformOutputs {
        let forms = self.parsed("ROTEL_LAMBDA_PLATFORM_EVENTS", |text| {
            let all = ["metrics", "spans", "logs", "none"].map(|form| (form, form));
            let forms = value::words(text, "a form of telemetry from platform events", &all)?;
            if forms.len() > 1 && forms.contains(&"none") {
                return Err(format!("{text} combines none with other values; set none alone, or remove it"));
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

    /// These two variables belong to the function's SDK, so a mistake in them is only a warning here.
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
        let max = function.memory_bytes.unwrap_or(usize::MAX);
        let bytes = self.parsed("ROTEL_BUFFER_MAX_BYTES", |text| {
            value::count(text, usize::MAX).and_then(|bytes| {
                if bytes <= max {
                    Ok(bytes)
                } else {
                    Err(format!("{text} exceeds the function's memory of {max} bytes; decrease it"))
                }
            })
        });
        bytes.unwrap_or_else(|| default_buffer_bytes(function.memory_bytes))
    }

    fn log_filter(&mut self) -> LogFilter {
        let min_severity = self.parsed("ROTEL_LAMBDA_LOG_MIN_SEVERITY", |text| {
            Severity::from_word(&text.value()).ok_or_else(|| {
                format!("{text} is not a severity; use trace, debug, info, warn, error or fatal")
            })
        });
        let exclude = self.parsed(LOG_EXCLUDE, |text| Ok(text.value().into_owned()));
        let mask = self.parsed(LOG_MASK, |text| Ok(text.value().into_owned()));
        let is_mask_set = self.text(LOG_MASK).is_some();
        LogFilter { min_severity, exclude, mask, is_mask_set }
    }

    fn on_init_error(&mut self) -> OnInitError {
        let words = [("continue", OnInitError::Continue), ("fail", OnInitError::Fail)];
        let reaction = self
            .parsed("ROTEL_ON_INIT_ERROR", |text| value::word(text, "an action for startup errors", &words));
        reaction.unwrap_or(OnInitError::Continue)
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
        let strategy = self.parsed("ROTEL_FLUSH_STRATEGY", |text| {
            let value = text.value().to_ascii_lowercase();
            match value.split_once(',') {
                None if value == "end" => Ok(Strategy::End),
                None if value == "adaptive" => Ok(Strategy::Adaptive),
                Some(("periodic", interval)) => {
                    value::duration(&SettingText::plain(interval.trim())).map(Strategy::Periodic)
                }
                _ => Err(format!("{text} is not a flush strategy; use end, adaptive or periodic,20s")),
            }
        });
        strategy.unwrap_or(Strategy::End)
    }

    fn fallback_spans(&mut self, platform: bool) -> FallbackSpans {
        let xray = self.parsed("ROTEL_LAMBDA_XRAY_TRACE_CONTEXT", value::boolean).unwrap_or(false);
        FallbackSpans { platform, xray }
    }

    /// A log line for each record would come back as a record, so items are only counted, even if `detailed` is set.
    fn debug_log(&mut self) -> PerSignal<bool> {
        const VERBOSITY: &str = "ROTEL_DEBUG_LOG_VERBOSITY";
        let signals = self.parsed("ROTEL_DEBUG_LOG", |text| {
            let signals = [Signal::Traces, Signal::Metrics, Signal::Logs];
            value::words(text, "a signal", &signals.map(|signal| (signal.as_str(), signal)))
        });
        let words = [("basic", false), ("detailed", true)];
        if self.parsed(VERBOSITY, |text| value::word(text, "a verbosity", &words)) == Some(true) {
            self.warning(
                VERBOSITY,
                "detailed has the same effect as basic: items are only counted; set basic, or remove it",
            );
        }
        let signals = signals.unwrap_or_default();
        PerSignal::from_fn(|signal| signals.contains(&signal))
    }

    fn function(&mut self) -> FunctionInfo {
        let owned = |name| self.text(name).map(str::to_owned);
        let initialization = self.text("AWS_LAMBDA_INITIALIZATION_TYPE");
        FunctionInfo {
            runtime_api: owned("AWS_LAMBDA_RUNTIME_API"),
            memory_bytes: memory_bytes(self.variables),
            region: owned("AWS_REGION"),
            on_demand: matches!(initialization, None | Some("on-demand")),
            managed_instances: initialization == Some("lambda-managed-instances"),
            snap_start: initialization == Some("snap-start"),
        }
    }
}
