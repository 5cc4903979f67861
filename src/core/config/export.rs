//! The way to a backend: every variable of an exporter, those of single signals over the common ones.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use url::Url;

use super::exporter_name::ExporterName;
use super::feedback_loop;
use super::proxy::{Proxy, ProxySettings};
use super::reader::{Reader, Setting};
use super::value::{self, ListenAddress, SettingText};
use crate::delivery::breaker::RetryPolicy;
use crate::echo;
use crate::secret::Secret;
use crate::signal::{PerSignal, Signal};

/// What becomes of telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exports {
    /// The way of each signal. Telemetry of a signal without one is received and dropped.
    Known(Box<PerSignal<Option<Export>>>),
    /// It hangs on secrets that have not been fetched yet: telemetry waits.
    Pending,
}

/// The way of one signal to the backend.
#[derive(Clone, PartialEq, Eq)]
pub struct Export {
    /// The exporter whose variables tell of it.
    pub exporter: ExporterName,
    /// Where requests go, the signal's path included.
    pub url: Url,
    /// How OTLP is display_name there.
    pub protocol: Protocol,
    /// Sent with every request; the values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What is done to a request's body.
    pub compression: Compression,
    /// The most that one attempt may take.
    pub request_timeout: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Whom to trust, and as whom to appear.
    pub tls: Tls,
    /// What the requests go through.
    pub proxy: Option<Proxy>,
    /// Every secret that the settings refer to, which no word of the backend may repeat.
    pub secrets: Vec<Secret>,
}

/// How OTLP is display_name to the backend.
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
    /// Zstandard.
    Zstd,
}

/// The client's side of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate authorities to trust besides the compiled-in ones.
    pub ca: Option<Pem>,
    /// What the client shows of itself.
    pub identity: Option<Identity>,
    /// Whatever certificate the server shows is taken.
    pub skip_verify: bool,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and an authority.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
}

/// PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The variable that told of it.
    pub variable: String,
    /// Where it is found.
    pub source: PemSource,
}

/// Where PEM text is found.
#[derive(Clone, PartialEq, Eq)]
pub enum PemSource {
    /// In a file of this path.
    File(String),
    /// Here.
    Text(Secret),
}

impl Export {
    /// Everything in it that no word of the backend may repeat.
    pub fn credentials(&self) -> Vec<Secret> {
        let mut credentials = self.secrets.clone();
        let mut add = |text: &str| credentials.push(Secret::new(text));
        for (_, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            add(&value);
            // A backend that signals the scheme off may repeat the rest, or what it stands for.
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
        let is_usual = |part: &&str| echo::url_path(part) == *part;
        self.url.path().split('/').filter(|part| !is_usual(part) && !part.contains('.')).for_each(&mut add);
        if let Some(proxy) = self.proxy.as_ref().and_then(|proxy| Url::parse(proxy.url.expose()).ok()) {
            add(proxy.username());
            proxy.password().into_iter().for_each(&mut add);
        }
        credentials
    }
}

/// Without what may be a credential: the path and the query of the URL, the values of the headers.
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

/// The variable alone: a key may stand where its file's path belongs.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").field("variable", &self.variable).finish_non_exhaustive()
    }
}

/// An endpoint as it was written.
#[derive(Clone)]
struct ConfiguredEndpoint {
    url: Url,
    /// For all signals, and not for a single one.
    is_common: bool,
}

/// What can be set for all signals and for each.
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

/// What can be set for all signals together only.
struct SharedSettings<'a> {
    name: &'a ExporterName,
    authorization: Setting<HeaderValue>,
    retry: Setting<RetryPolicy>,
    proxies: &'a ProxySettings,
}

/// An exporter that is asked for.
pub(super) struct ExporterSpec<'a> {
    pub(super) name: &'a ExporterName,
    /// Which signals it is to take.
    pub(super) signals: PerSignal<bool>,
}

/// What is the same for every exporter.
pub(super) struct ExportContext<'a> {
    /// The addresses on which the extension itself listens.
    pub(super) own: &'a [&'a ListenAddress],
    pub(super) proxies: ProxySettings,
}

impl Exports {
    /// Telemetry is received and dropped.
    pub(super) fn none() -> Self {
        Self::Known(Box::default())
    }
}

/// What keeps an export from being known.
#[derive(Default)]
struct Missing {
    invalid: bool,
    pending: bool,
}

impl Reader<'_> {
    /// An exporter's way of each signal that it is to take.
    pub(super) fn exports(&mut self, exporter: &ExporterSpec<'_>, context: &ExportContext<'_>) -> Exports {
        let ExporterSpec { name, signals } = exporter;
        let ExportContext { own, proxies } = context;
        let prefix = name.prefix();
        let common = SharedSettings {
            name,
            authorization: self.authorization(&prefix),
            retry: self.retry(&prefix),
            proxies,
        };
        let base = self.settings(&prefix, true, own);
        let mut pending = false;
        let mut unset = true;
        let known = PerSignal::from_fn(|signal| {
            if !signals.of(signal) {
                return None;
            }
            let settings = self.settings(&name.prefix_of(signal), false, own).over(&base);
            unset &= matches!(settings.endpoint, Setting::Unset);
            let mut missing = Missing::default();
            let export = self.export(signal, settings, &common, &mut missing);
            pending |= missing.pending && !missing.invalid;
            export
        });
        if unset {
            self.without_endpoint(name);
            return Exports::none();
        }
        if pending { Exports::Pending } else { Exports::Known(Box::new(known)) }
    }

    fn without_endpoint(&mut self, name: &ExporterName) {
        const EXAMPLE: &str = "write your ClickStack endpoint, such as https://host:4317";
        let variable = name.prefix() + "ENDPOINT";
        if name.is_only() {
            self.warning(&variable, format!("not set, so telemetry is received and dropped; {EXAMPLE}"));
        } else {
            self.error(&variable, format!("not set, so this exporter sends nothing; {EXAMPLE}"));
        }
    }

    fn settings(&mut self, prefix: &str, is_common: bool, own: &[&ListenAddress]) -> OverridableSettings {
        // Few set a single signal, and at every cold start its names would be put together for nothing.
        if !self.has_any(prefix) {
            return OverridableSettings::default();
        }
        let name = |suffix: &str| format!("{prefix}{suffix}");
        let skip_verify = self.resolved(&name("TLS_SKIP_VERIFY"), value::boolean);
        if skip_verify == Setting::Value(true) {
            self.warning(
                &name("TLS_SKIP_VERIFY"),
                format!(
                    "the endpoint's certificate is not checked, so anybody between can read the ingestion key; set {} instead",
                    name("TLS_CA_FILE")
                ),
            );
        }
        OverridableSettings {
            endpoint: self.resolved(&name("ENDPOINT"), |text| {
                let url = value::endpoint(text)?;
                feedback_loop::refuse(&url, own)?;
                Ok(ConfiguredEndpoint { url, is_common })
            }),
            protocol: self.resolved(&name("PROTOCOL"), protocol),
            headers: self.resolved(&name("CUSTOM_HEADERS"), value::headers),
            compression: self.resolved(&name("COMPRESSION"), |text| {
                let words =
                    [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("none", Compression::None)];
                value::word(text, "a compression", &words)
            }),
            request_timeout: self.resolved(&name("REQUEST_TIMEOUT"), value::duration),
            ca: self.pem(&name("TLS_CA_")),
            certificate: self.pem(&name("TLS_CERT_")),
            key: self.pem(&name("TLS_KEY_")),
            skip_verify,
        }
    }

    /// Puts one signal's way together.
    fn export(
        &mut self,
        signal: Signal,
        settings: OverridableSettings,
        common: &SharedSettings<'_>,
        missing: &mut Missing,
    ) -> Option<Export> {
        let protocol = missing.of(settings.protocol).unwrap_or(Protocol::Grpc);
        let headers = self.with_authorization(signal, settings.headers, common);
        let identity = self.identity(settings.certificate, settings.key);
        let headers = missing.of(headers).unwrap_or_default();
        let compression = missing.of(settings.compression).unwrap_or(Compression::Gzip);
        let request_timeout = missing.of(settings.request_timeout).unwrap_or(Duration::from_secs(5));
        let retry = missing.of(common.retry.clone());
        let tls = Tls {
            ca: missing.of(settings.ca),
            identity: missing.of(identity),
            skip_verify: missing.of(settings.skip_verify).unwrap_or(false),
        };
        let endpoint = missing.of(settings.endpoint);
        let proxy = endpoint.as_ref().and_then(|endpoint| missing.of(common.proxies.of(&endpoint.url)));
        if missing.invalid || missing.pending {
            return None;
        }
        let url = target(endpoint?, protocol, signal);
        if let Some(Proxy { variable, .. }) = &proxy
            && protocol == Protocol::Grpc
            && url.scheme() == "http"
        {
            // A tunnel could take it, but our HTTP client opens one for TLS alone, as most proxies do.
            self.error(
                variable,
                format!(
                    "gRPC without TLS cannot go through a proxy; write an endpoint with https://, set {}PROTOCOL=http, or name \
                     the endpoint's host in NO_PROXY",
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

    /// The headers, and the authenticator's among them.
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
                format!(
                    "it sets Authorization, and so does {}AUTHENTICATOR; remove one of them",
                    name.prefix()
                ),
            );
            return Setting::Invalid;
        }
        headers.push((AUTHORIZATION, value));
        Setting::Value(headers)
    }

    /// `ROTEL_OTLP_EXPORTER_AUTHENTICATOR` with what it needs.
    fn authorization(&mut self, prefix: &str) -> Setting<HeaderValue> {
        let authenticating = &format!("{prefix}AUTHENTICATOR");
        let (name, secret) =
            (&format!("{prefix}BASIC_AUTH_USERNAME"), &format!("{prefix}BASIC_AUTH_PASSWORD"));
        let authenticator = self.resolved(authenticating, |text| {
            if text.value().eq_ignore_ascii_case("sigv4auth") {
                return Err(
                    "sigv4auth is not in this extension; write basic, or send to an endpoint that signals a header"
                        .to_owned(),
                );
            }
            value::word(text, "an authenticator", &[("basic", ())])
        });
        let username = self.resolved(name, |text| match text.value() {
            name if name.contains(':') => {
                Err("it holds a \":\", which ends a user name; remove it".to_owned())
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
                            format!("it has no effect alone; set {authenticating}=basic as well"),
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
                        "not set, and {authenticating}=basic needs it; set it, or remove {authenticating}"
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
        let waits = backoff.and(either("MAX_ELAPSED_TIME", 300));
        waits.and_then(|((initial_backoff, max_backoff), max_elapsed_time)| {
            let initial_backoff = initial_backoff.min(max_backoff);
            Setting::Value(RetryPolicy { initial_backoff, max_backoff, max_elapsed_time })
        })
    }

    /// PEM text, in a file or here. `prefix` is all of the name but `FILE` or `PEM`.
    fn pem(&mut self, prefix: &str) -> Setting<Pem> {
        let (file, text) = (format!("{prefix}FILE"), format!("{prefix}PEM"));
        if self.text(&file).is_some() && self.text(&text).is_some() {
            self.error(&text, format!("{file} is set too, and only one can hold; remove one"));
            return Setting::Invalid;
        }
        let read = |reader: &mut Self, variable: &str, source: fn(&SettingText<'_>) -> PemSource| {
            let display_name = reader.display_name(variable);
            reader.resolved(variable, |text| Ok(Pem { variable: display_name, source: source(text) }))
        };
        let here = read(self, &text, |text| PemSource::Text(Secret::new(text.value())));
        read(self, &file, |text| PemSource::File(text.value().into_owned())).or(&here)
    }

    /// A certificate is nothing without its key, nor the key without its certificate.
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
        self.error(&half.variable, format!("a certificate and its key go together; set {missing} as well"));
        Setting::Invalid
    }
}

impl OverridableSettings {
    /// These, and `base` where they are unset.
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
    /// The value if there is one; what keeps it away is noted.
    fn of<T>(&mut self, read: Setting<T>) -> Option<T> {
        self.invalid |= matches!(read, Setting::Invalid);
        self.pending |= matches!(read, Setting::Pending);
        read.value()
    }
}

fn protocol(text: &SettingText<'_>) -> Result<Protocol, String> {
    if text.value().eq_ignore_ascii_case("http/json") {
        return Err(format!("{text} is received but not sent; write http, which sends protobuf, or grpc"));
    }
    // The SDK's own variable calls it http/protobuf, and people take its words along.
    if text.value().eq_ignore_ascii_case("http/protobuf") {
        return Ok(Protocol::Http);
    }
    value::word(text, "a protocol", &[("grpc", Protocol::Grpc), ("http", Protocol::Http)])
}

/// Basic authentication, RFC 7617.
fn basic(username: &Secret, password: &Secret) -> Setting<HeaderValue> {
    let credentials = STANDARD.encode(format!("{}:{}", username.expose(), password.expose()));
    match HeaderValue::try_from(format!("Basic {credentials}")) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Setting::Value(value)
        }
        // Base64 has no character that a header may not.
        Err(_) => Setting::Invalid,
    }
}

/// Where requests of a signal go: OTLP/HTTP has `/v1/{signal}` under the common endpoint, and a single signal's endpoint
/// as it stands, as the OTLP exporter specification has it for its own variables.
fn target(endpoint: ConfiguredEndpoint, protocol: Protocol, signal: Signal) -> Url {
    let ConfiguredEndpoint { mut url, is_common } = endpoint;
    if protocol == Protocol::Http && !is_common {
        return url;
    }
    let path = match protocol {
        Protocol::Grpc => signal.grpc_path().to_owned(),
        Protocol::Http => format!("/v1/{signal}"),
    };
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}{path}"));
    url.set_query(None);
    url.set_fragment(None);
    url
}
