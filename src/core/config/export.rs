//! The export settings: all variables of one exporter, where those of a single signal override the common ones.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use url::Url;

use super::exporter_name::ExporterName;
use super::proxy::{Proxy, ProxySettings};
use super::reader::{Reader, Setting};
use super::value::{self, ListenAddress, SettingText};
use super::{feedback_loop, sdk_endpoint};
use crate::delivery::breaker::RetryPolicy;
use crate::echo;
use crate::secret::Secret;
use crate::signal::{PerSignal, Signal};

/// The export settings of one exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exports {
    /// The settings for each signal. Telemetry of a signal without settings is received and dropped.
    Known(Box<PerSignal<Option<Export>>>),
    /// The settings depend on secrets that have not been fetched. Telemetry is buffered until then.
    Pending,
}

/// The settings for exporting one signal.
#[derive(Clone, PartialEq, Eq)]
pub struct Export {
    /// The exporter whose variables these are.
    pub exporter: ExporterName,
    /// The URL of requests, including the signal's path.
    pub url: Url,
    pub protocol: Protocol,
    /// Headers for every request; the values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub compression: Compression,
    /// The timeout of one attempt.
    pub request_timeout: Duration,
    pub retry: RetryPolicy,
    pub tls: Tls,
    /// The proxy for these requests.
    pub proxy: Option<Proxy>,
    /// All secrets that settings refer to; they are redacted from the backend's messages.
    pub secrets: Vec<Secret>,
}

/// The OTLP transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with protobuf bodies.
    Http,
}

/// The compression of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// The TLS settings of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities to trust in addition to the built-in ones.
    pub ca: Option<Pem>,
    /// The client certificate.
    pub identity: Option<Identity>,
    /// Do not verify the server's certificate.
    pub skip_verify: bool,
}

/// A client certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and its intermediate certificates.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
}

/// PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The variable that set it.
    pub variable: String,
    pub source: PemSource,
}

/// The source of PEM text.
#[derive(Clone, PartialEq, Eq)]
pub enum PemSource {
    /// The path of a file.
    File(String),
    /// The text itself.
    Text(Secret),
}

impl Export {
    /// Every credential in the settings, to be redacted from the backend's messages.
    pub fn credentials(&self) -> Vec<Secret> {
        let mut credentials = self.secrets.clone();
        let mut add = |text: &str| credentials.push(Secret::new(text));
        for (_, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            add(&value);
            // A backend may also repeat the value without its scheme, or decoded.
            let Some((_, token)) = value.split_once(' ') else { continue };
            add(token);
            let decoded =
                STANDARD.decode(token.trim()).ok().and_then(|decoded| String::from_utf8(decoded).ok());
            let Some(decoded) = decoded else { continue };
            add(&decoded);
            decoded.split(':').for_each(&mut add);
        }
        self.url.query_pairs().for_each(|(_, value)| add(&value));
        self.url.query().into_iter().for_each(&mut add);
        let is_well_known = |part: &&str| echo::url_path(part) == *part;
        self.url
            .path()
            .split('/')
            .filter(|part| !is_well_known(part) && !part.contains('.'))
            .for_each(&mut add);
        if let Some(proxy) = self.proxy.as_ref().and_then(|proxy| Url::parse(proxy.url.expose()).ok()) {
            add(proxy.username());
            proxy.password().into_iter().for_each(&mut add);
        }
        credentials
    }
}

/// Leaves out parts that may be credentials: path and query of the URL, and header values.
impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("exporter", &self.exporter)
            .field("endpoint", &echo::endpoint(&self.url.origin().ascii_serialization()).to_string())
            .field("protocol", &self.protocol)
            .field("compression", &self.compression)
            .field("request_timeout", &self.request_timeout)
            .field("retry", &self.retry)
            .field("tls", &self.tls)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// Prints the variable only: someone may have set the key itself in place of its file's path.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").field("variable", &self.variable).finish_non_exhaustive()
    }
}

/// An endpoint before the signal's path is appended.
#[derive(Clone)]
struct ConfiguredEndpoint {
    url: Url,
    /// It is set for all signals.
    is_common: bool,
}

/// The settings that can be set for all signals and overridden for each.
#[derive(Default)]
struct OverridableSettings {
    endpoint: Setting<ConfiguredEndpoint>,
    protocol: Setting<Protocol>,
    headers: Setting<Vec<(HeaderName, HeaderValue)>>,
    compression: Setting<Compression>,
    request_timeout: Setting<Duration>,
    ca: Setting<Pem>,
    certificate: Setting<Pem>,
    key: Setting<Pem>,
    skip_verify: Setting<bool>,
}

/// The settings that can only be set for all signals together.
struct SharedSettings<'a> {
    name: &'a ExporterName,
    authorization: Setting<HeaderValue>,
    retry: Setting<RetryPolicy>,
    proxies: &'a ProxySettings,
}

/// An exporter and the signals that it gets.
pub(super) struct ExporterSpec<'a> {
    pub(super) name: &'a ExporterName,
    pub(super) signals: PerSignal<bool>,
}

/// The context that all exporters share.
pub(super) struct ExportContext<'a> {
    /// The listen addresses of this extension.
    pub(super) own_addresses: &'a [&'a ListenAddress],
    pub(super) proxies: ProxySettings,
}

impl Exports {
    /// No signal is exported: telemetry is received and dropped.
    pub(super) fn none() -> Self {
        Self::Known(Box::default())
    }
}

/// The reasons why an export has no settings yet.
#[derive(Default)]
struct Missing {
    invalid: bool,
    pending: bool,
}

impl Reader<'_> {
    /// Reads the export settings for each signal of an exporter.
    pub(super) fn exports(&mut self, exporter: &ExporterSpec<'_>, context: &ExportContext<'_>) -> Exports {
        let ExporterSpec { name, signals } = exporter;
        let ExportContext { own_addresses, proxies } = context;
        let prefix = name.prefix();
        let common = SharedSettings {
            name,
            authorization: self.authorization(&prefix),
            retry: self.retry(&prefix),
            proxies,
        };
        let base = self.settings(&prefix, true, own_addresses);
        let mut pending = false;
        let mut unset = true;
        let known = PerSignal::from_fn(|signal| {
            if !signals.of(signal) {
                return None;
            }
            let settings = self.settings(&name.signal_prefix(signal), false, own_addresses).over(&base);
            unset &= matches!(settings.endpoint, Setting::Unset);
            let mut missing = Missing::default();
            let export = self.export(signal, settings, &common, &mut missing);
            pending |= missing.pending && !missing.invalid;
            export
        });
        if unset {
            self.report_missing_endpoint(name);
            return Exports::none();
        }
        if pending { Exports::Pending } else { Exports::Known(Box::new(known)) }
    }

    fn report_missing_endpoint(&mut self, name: &ExporterName) {
        const REMEDY: &str = "set your ClickStack endpoint, such as https://host:4317";
        let variable = name.prefix() + "ENDPOINT";
        if name.is_unnamed() {
            if let Some((variable, message)) = sdk_endpoint::of_another_host(self) {
                return self.warning(variable, message);
            }
            self.warning(&variable, format!("not set, so telemetry is received and dropped; {REMEDY}"));
        } else {
            self.error(&variable, format!("not set, so this exporter sends nothing; {REMEDY}"));
        }
    }

    fn settings(
        &mut self,
        prefix: &str,
        is_common: bool,
        own_addresses: &[&ListenAddress],
    ) -> OverridableSettings {
        // Few people set a single signal, and building its names costs time at every cold start.
        if !self.has_any(prefix) {
            return OverridableSettings::default();
        }
        let name = |suffix: &str| format!("{prefix}{suffix}");
        let skip_verify = self.resolved(&name("TLS_SKIP_VERIFY"), value::boolean);
        if skip_verify == Setting::Value(true) {
            self.warning(
                &name("TLS_SKIP_VERIFY"),
                format!(
                    "the endpoint's certificate is not verified, so anyone on the network path can read the ingestion key; set {} instead",
                    name("TLS_CA_FILE")
                ),
            );
        }
        OverridableSettings {
            endpoint: self.resolved(&name("ENDPOINT"), |text| {
                let url = value::endpoint(text)?;
                feedback_loop::reject(&url, own_addresses)?;
                Ok(ConfiguredEndpoint { url, is_common })
            }),
            protocol: self.resolved(&name("PROTOCOL"), protocol),
            headers: self.resolved(&name("CUSTOM_HEADERS"), value::headers),
            compression: self.resolved(&name("COMPRESSION"), |text| {
                let words =
                    [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("none", Compression::None)];
                value::word(text, "a compression method", &words)
            }),
            request_timeout: self.resolved(&name("REQUEST_TIMEOUT"), value::duration),
            ca: self.pem(&name("TLS_CA_")),
            certificate: self.pem(&name("TLS_CERT_")),
            key: self.pem(&name("TLS_KEY_")),
            skip_verify,
        }
    }

    /// Builds the export settings for one signal.
    fn export(
        &mut self,
        signal: Signal,
        settings: OverridableSettings,
        common: &SharedSettings<'_>,
        missing: &mut Missing,
    ) -> Option<Export> {
        let protocol = missing.take(settings.protocol).unwrap_or(Protocol::Grpc);
        let headers = self.with_authorization(signal, settings.headers, common);
        let identity = self.identity(settings.certificate, settings.key);
        let headers = missing.take(headers).unwrap_or_default();
        let compression = missing.take(settings.compression).unwrap_or(Compression::Gzip);
        let request_timeout = missing.take(settings.request_timeout).unwrap_or(Duration::from_secs(5));
        let retry = missing.take(common.retry.clone());
        let tls = Tls {
            ca: missing.take(settings.ca),
            identity: missing.take(identity),
            skip_verify: missing.take(settings.skip_verify).unwrap_or(false),
        };
        let endpoint = missing.take(settings.endpoint);
        let proxy =
            endpoint.as_ref().and_then(|endpoint| missing.take(common.proxies.for_url(&endpoint.url)));
        if missing.invalid || missing.pending {
            return None;
        }
        let url = request_url(endpoint?, protocol, signal);
        if let Some(Proxy { variable, .. }) = &proxy
            && protocol == Protocol::Grpc
            && url.scheme() == "http"
        {
            // A tunnel could carry it, but our HTTP client opens one only for TLS, which is all that most proxies allow.
            self.error(
                variable,
                format!(
                    "gRPC without TLS cannot pass through a proxy; use an https:// endpoint, set {}PROTOCOL=http, or add \
                     the endpoint's host to NO_PROXY",
                    common.name.prefix()
                ),
            );
            missing.invalid = true;
            return None;
        }
        let exporter = common.name.clone();
        Some(Export {
            exporter,
            url,
            protocol,
            headers,
            compression,
            request_timeout,
            retry: retry?,
            tls,
            proxy,
            secrets: Vec::new(),
        })
    }

    /// The headers, including the authenticator's.
    fn with_authorization(
        &mut self,
        signal: Signal,
        headers: Setting<Vec<(HeaderName, HeaderValue)>>,
        SharedSettings { name, authorization, .. }: &SharedSettings<'_>,
    ) -> Setting<Vec<(HeaderName, HeaderValue)>> {
        let value = match authorization {
            Setting::Unset => return headers,
            Setting::Invalid => return Setting::Invalid,
            Setting::Pending => return Setting::Pending,
            Setting::Value(value) => value.clone(),
        };
        let mut headers = match headers {
            Setting::Unset => Vec::new(),
            Setting::Value(headers) => headers,
            gap => return gap,
        };
        if headers.iter().any(|(name, _)| name == AUTHORIZATION) {
            self.error(
                &self.exporter_variable(name, signal, "CUSTOM_HEADERS").unwrap_or_default(),
                format!("sets Authorization, and so does {}AUTHENTICATOR; remove one of them", name.prefix()),
            );
            return Setting::Invalid;
        }
        headers.push((AUTHORIZATION, value));
        Setting::Value(headers)
    }

    /// Reads `ROTEL_OTLP_EXPORTER_AUTHENTICATOR` with user name and password.
    fn authorization(&mut self, prefix: &str) -> Setting<HeaderValue> {
        let authenticator_variable = &format!("{prefix}AUTHENTICATOR");
        let (name, secret) =
            (&format!("{prefix}BASIC_AUTH_USERNAME"), &format!("{prefix}BASIC_AUTH_PASSWORD"));
        let authenticator = self.resolved(authenticator_variable, |text| {
            if text.value().eq_ignore_ascii_case("sigv4auth") {
                return Err(
                    "sigv4auth is not supported; set basic, or use an endpoint that accepts a header"
                        .to_owned(),
                );
            }
            value::word(text, "an authenticator", &[("basic", ())])
        });
        let username = self.resolved(name, |text| match text.value() {
            name if name.contains(':') => {
                Err("contains a \":\", which is not allowed in a user name; remove it".to_owned())
            }
            name => Ok(Secret::new(name)),
        });
        let password = self.resolved(secret, |text| Ok(Secret::new(text.value())));
        match authenticator {
            Setting::Value(()) => {}
            Setting::Invalid => return Setting::Invalid,
            Setting::Pending => return Setting::Pending,
            Setting::Unset => {
                for (variable, read) in [(name, &username), (secret, &password)] {
                    if *read != Setting::Unset {
                        self.warning(
                            variable,
                            format!("has no effect alone; set {authenticator_variable}=basic as well"),
                        );
                    }
                }
                return Setting::Unset;
            }
        }
        for (variable, read) in [(name, &username), (secret, &password)] {
            if *read == Setting::Unset {
                self.error(
                    variable,
                    format!(
                        "not set, but {authenticator_variable}=basic needs it; set it, or remove {authenticator_variable}"
                    ),
                );
                return Setting::Invalid;
            }
        }
        username.and(password).and_then(|(username, password)| basic(&username, &password))
    }

    fn retry(&mut self, prefix: &str) -> Setting<RetryPolicy> {
        let mut either = |suffix: &str, default| {
            let all = self.resolved(&format!("ROTEL_EXPORTER_RETRY_{suffix}"), value::unbounded_duration);
            let own = self.resolved(&format!("{prefix}RETRY_{suffix}"), value::unbounded_duration);
            own.or(&all).or(&Setting::Value(Duration::from_secs(default)))
        };
        let backoff = either("INITIAL_BACKOFF", 5).and(either("MAX_BACKOFF", 30));
        let durations = backoff.and(either("MAX_ELAPSED_TIME", 300));
        durations.and_then(|((initial_backoff, max_backoff), max_elapsed_time)| {
            let initial_backoff = initial_backoff.min(max_backoff);
            Setting::Value(RetryPolicy { initial_backoff, max_backoff, max_elapsed_time })
        })
    }

    /// Reads PEM text from `{prefix}FILE` or `{prefix}PEM`.
    fn pem(&mut self, prefix: &str) -> Setting<Pem> {
        let (file, text) = (format!("{prefix}FILE"), format!("{prefix}PEM"));
        if self.text(&file).is_some() && self.text(&text).is_some() {
            self.error(&text, format!("{file} is set too, but only one of them is allowed; remove one"));
            return Setting::Invalid;
        }
        let read = |reader: &mut Self, variable: &str, source: fn(&SettingText<'_>) -> PemSource| {
            let display_name = reader.display_name(variable);
            reader.resolved(variable, |text| Ok(Pem { variable: display_name, source: source(text) }))
        };
        let inline = read(self, &text, |text| PemSource::Text(Secret::new(text.value())));
        read(self, &file, |text| PemSource::File(text.value().into_owned())).or(&inline)
    }

    /// Combines certificate and key. One without the other is an error.
    fn identity(&mut self, certificate: Setting<Pem>, key: Setting<Pem>) -> Setting<Identity> {
        let (half, of, other) = match (certificate, key) {
            (Setting::Value(certificate), Setting::Value(key)) => {
                return Setting::Value(Identity { certificate, key });
            }
            (Setting::Unset, Setting::Unset) => return Setting::Unset,
            (Setting::Value(certificate), Setting::Unset) => (certificate, "_CERT_", "_KEY_"),
            (Setting::Unset, Setting::Value(key)) => (key, "_KEY_", "_CERT_"),
            (Setting::Invalid, _) | (_, Setting::Invalid) => return Setting::Invalid,
            (Setting::Pending, _) | (_, Setting::Pending) => return Setting::Pending,
        };
        let in_yaml = |part: &str| part.trim_start_matches('_').to_lowercase();
        let missing = half.variable.replace(of, other).replace(&in_yaml(of), &in_yaml(other));
        self.error(
            &half.variable,
            format!("a client certificate needs both certificate and key; set {missing} as well"),
        );
        Setting::Invalid
    }
}

impl OverridableSettings {
    /// Returns these settings, with unset ones taken from `base`.
    fn over(self, base: &Self) -> Self {
        Self {
            endpoint: self.endpoint.or(&base.endpoint),
            protocol: self.protocol.or(&base.protocol),
            headers: self.headers.or(&base.headers),
            compression: self.compression.or(&base.compression),
            request_timeout: self.request_timeout.or(&base.request_timeout),
            ca: self.ca.or(&base.ca),
            certificate: self.certificate.or(&base.certificate),
            key: self.key.or(&base.key),
            skip_verify: self.skip_verify.or(&base.skip_verify),
        }
    }
}

impl Missing {
    /// Returns the value. If there is none, notes the reason.
    fn take<T>(&mut self, read: Setting<T>) -> Option<T> {
        self.invalid |= matches!(read, Setting::Invalid);
        self.pending |= matches!(read, Setting::Pending);
        read.value()
    }
}

fn protocol(text: &SettingText<'_>) -> Result<Protocol, String> {
    if text.value().eq_ignore_ascii_case("http/json") {
        return Err(format!(
            "{text} is supported for receiving only; set http, which sends protobuf, or grpc"
        ));
    }
    // The SDK's variable calls it http/protobuf, and people use that value here too.
    if text.value().eq_ignore_ascii_case("http/protobuf") {
        return Ok(Protocol::Http);
    }
    value::word(text, "a protocol", &[("grpc", Protocol::Grpc), ("http", Protocol::Http)])
}

/// The header for basic authentication, RFC 7617.
fn basic(username: &Secret, password: &Secret) -> Setting<HeaderValue> {
    let credentials = STANDARD.encode(format!("{}:{}", username.expose(), password.expose()));
    match HeaderValue::try_from(format!("Basic {credentials}")) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Setting::Value(value)
        }
        // Unreachable: all characters of Base64 are allowed in headers.
        Err(_) => Setting::Invalid,
    }
}

/// The URL of a signal's requests. OTLP/HTTP appends `/v1/{signal}` to the common endpoint and uses a single signal's endpoint
/// unchanged, like the variables in the OTLP exporter specification. A common endpoint may end with the path of a signal, which
/// people copy from there.
fn request_url(endpoint: ConfiguredEndpoint, protocol: Protocol, signal: Signal) -> Url {
    let ConfiguredEndpoint { mut url, is_common } = endpoint;
    if protocol == Protocol::Http && !is_common {
        return url;
    }
    let path = match protocol {
        Protocol::Grpc => signal.grpc_path().to_owned(),
        Protocol::Http => format!("/v1/{signal}"),
    };
    let base = url.path().trim_end_matches('/');
    let of_signal = Signal::ALL.into_iter().find_map(|signal| base.strip_suffix(&format!("/v1/{signal}")));
    let base = of_signal.unwrap_or(base).to_owned();
    url.set_path(&format!("{base}{path}"));
    url.set_query(None);
    url.set_fragment(None);
    url
}
