//! The OTLP exporter: makes one attempt to send a batch to the backend and returns its verdict.
//!
//! Promises: an attempt ends within the request timeout. A request whose pooled connection was dead is sent
//! again at once on a new one, because a freeze kills connections unnoticed; a request whose response had begun
//! is not. Of all text that the backend sends, our log repeats only the message of a partial success, without
//! the credentials in it. `app::pipeline` decides when to retry.

mod body;
mod failure;
mod grpc;
mod http;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use ::http::uri::InvalidUri;
use ::http::{Method, Request, StatusCode, Uri};
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::pool;
use prost::Message;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::timeout;
use url::{Origin, Url};

use crate::edge::clock;
use crate::edge::http_client::{self, Client};
use crate::edge::tls::{self, TlsError};
use rotel_core::config::{Compression, Export, Protocol, Proxy};
use rotel_core::delivery::connection_failure::{Cause, ConnectionFailure};
use rotel_core::delivery::event::Route;
use rotel_core::delivery::verdict::{BackendMessage, Failure, Verdict};
use rotel_core::echo;
use rotel_core::secret::Secret;
use rotel_core::signal::{PerSignal, Signal};

/// The maximum response size, in bytes. Normal responses take a few.
const ANSWER_LIMIT: usize = 64 * 1024;
const PROXY_WANTS_CREDENTIALS: u16 = StatusCode::PROXY_AUTHENTICATION_REQUIRED.as_u16();

/// A client of the backend, with the target of each signal that has one. Cheap to clone; clones share their
/// connections.
#[derive(Clone)]
pub struct Exporter {
    clients: Vec<SharedClient>,
    targets: Arc<PerSignal<Option<Target>>>,
    idle: body::IdleCompressor,
    explain: Option<Explain>,
}

/// Explains what a failure means given the settings, and how to fix it.
pub type Explain = Arc<dyn Fn(Signal, &Failure) -> Option<String> + Send + Sync>;

/// An HTTP client and its configuration. Signals with the same protocol, TLS and proxy share one.
#[derive(Clone, Debug)]
struct SharedClient {
    protocol: Protocol,
    tls: ClientConfig,
    proxy: Option<Proxy>,
    client: Client,
}

/// The target of one signal.
struct Target {
    /// The index of its client.
    client_index: usize,
    url: Url,
    /// The same URL in the form that requests use.
    uri: Uri,
    headers: HeaderMap,
    compression: Compression,
    request_timeout: Duration,
    route: Route,
    /// Values that must not appear in our log as part of a backend's message.
    credentials: Vec<Secret>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("targets", &self.targets).finish_non_exhaustive()
    }
}

/// Prints neither path nor query of the URL, which may contain a token.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("endpoint", &self.url.origin().ascii_serialization())
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

/// The reason that signals cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The TLS settings are invalid.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The URL is not usable in a request.
    #[error("the endpoint's URL cannot be used in a request: {0}; fix its path and query")]
    Uri(#[from] InvalidUri),
}

impl Exporter {
    /// Sets up the clients without opening connections. If a client cannot be set up, the signals that would
    /// use it have no target and the others are not affected. Each client's error is returned once, and a URL's for each signal.
    pub fn new(exports: &PerSignal<Option<Export>>) -> (Self, Vec<BuildError>) {
        let mut setups = Vec::new();
        let (mut clients, mut errors) = (Vec::new(), Vec::new());
        let mut targets = PerSignal::default();
        // Signals with an equal entry share a connection.
        let mut endpoints: Vec<(usize, Origin)> = Vec::new();
        for signal in Signal::ALL {
            let Some(export) = exports.of(signal) else { continue };
            let setup = (export.protocol, &export.tls, &export.proxy);
            let known =
                setups.iter().find(|(known, _)| *known == setup).map(|(_, client_index)| *client_index);
            let client_index = known.unwrap_or_else(|| {
                let client_index = match SharedClient::new(export) {
                    Ok(client) => {
                        clients.push(client);
                        Some(clients.len() - 1)
                    }
                    Err(error) => {
                        errors.push(error);
                        None
                    }
                };
                setups.push((setup, client_index));
                client_index
            });
            let Some(client_index) = client_index else { continue };
            let uri = match export.url.as_str().parse() {
                Ok(uri) => uri,
                Err(error) => {
                    errors.push(BuildError::Uri(error));
                    continue;
                }
            };
            let connection_key = (client_index, export.url.origin());
            let endpoint =
                endpoints.iter().position(|known| *known == connection_key).unwrap_or(endpoints.len());
            if endpoint == endpoints.len() {
                endpoints.push(connection_key);
            }
            *targets.of_mut(signal) = Some(Target {
                client_index,
                url: export.url.clone(),
                uri,
                headers: headers(export),
                compression: export.compression,
                request_timeout: export.request_timeout,
                route: Route { endpoint, retry: export.retry },
                credentials: export.credentials(),
            });
        }
        let idle = body::IdleCompressor::default();
        (Self { clients, targets: Arc::new(targets), idle, explain: None }, errors)
    }

    /// Returns the same exporter with an explanation for its failures.
    #[must_use]
    pub fn explained_by(self, explain: Explain) -> Self {
        Self { explain: Some(explain), ..self }
    }

    /// Explains a failure by the settings, if they show its cause.
    pub fn explain(&self, signal: Signal, failure: &Failure) -> Option<String> {
        self.explain.as_ref()?(signal, failure)
    }

    /// The route of a signal to the backend, if it has one.
    pub fn route(&self, signal: Signal) -> Option<Route> {
        self.targets.of(signal).as_ref().map(|target| target.route)
    }

    /// Opens the connections with requests without telemetry, which OTLP allows and every collector accepts.
    /// Problems that would stop telemetry show here already. Returns the first verdict that is not accepted.
    pub async fn warm(&self) -> Verdict {
        let PerSignal { logs, metrics, traces } = PerSignal::from_fn(|signal| async move {
            // Signals with the same endpoint share the connection.
            let endpoint = |signal| self.route(signal).map(|route| route.endpoint);
            let first = Signal::ALL.into_iter().find(|other| endpoint(*other) == endpoint(signal));
            if first != Some(signal) {
                return Verdict::ACCEPTED;
            }
            self.attempt(signal, Vec::new()).await
        });
        let (logs, metrics, traces) = tokio::join!(logs, metrics, traces);
        let mut verdicts = [logs, metrics, traces].into_iter();
        let failed = verdicts.find(|verdict| !matches!(verdict, Verdict::Accepted { .. }));
        failed.unwrap_or(Verdict::ACCEPTED)
    }

    /// Returns the same exporter without its connections, which may be dead unnoticed. TLS sessions are
    /// resumed.
    #[must_use]
    pub fn with_new_connections(&self) -> Self {
        Self {
            clients: self.clients.iter().map(SharedClient::with_new_connections).collect(),
            ..self.clone()
        }
    }

    /// Sends the chunks as one request. Chunks of a signal without a target are dropped.
    pub async fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> Verdict {
        let target = self.targets.of(signal).as_ref();
        let target = target.and_then(|target| Some((self.clients.get(target.client_index)?, target)));
        let Some((client, target)) = target else { return Verdict::ACCEPTED };
        let attempt = async {
            let body = body::encode(chunks, target.compression, &self.idle).await;
            let mut sent = client.send(target, &body).await;
            if sent.as_ref().is_err_and(|error| !error.is_connect()) {
                sent = client.send(target, &body).await;
            }
            // Each time, at least one of the signals waiting for each other learns the cause and stops.
            while sent.as_ref().is_err_and(waited_for_another) {
                sent = client.send(target, &body).await;
            }
            sent
        };
        match timeout(target.request_timeout, attempt).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Verdict::retry(client.failure(&error)),
            Err(_) => Verdict::retry(Failure::Timeout),
        }
    }
}

impl SharedClient {
    fn new(export: &Export) -> Result<Self, BuildError> {
        let (protocol, proxy) = (export.protocol, export.proxy.clone());
        let alpn: &[&str] = match protocol {
            Protocol::Grpc => &["h2"],
            Protocol::Http => &["h2", "http/1.1"],
        };
        let tls = tls::client_config(&export.tls, alpn)?;
        let client = client(&tls, protocol, proxy.as_ref());
        Ok(Self { protocol, tls, proxy, client })
    }

    fn with_new_connections(&self) -> Self {
        Self { client: client(&self.tls, self.protocol, self.proxy.as_ref()), ..self.clone() }
    }

    /// Returns an error if there was no response.
    async fn send(&self, target: &Target, body: &body::EncodedBody) -> Result<Verdict, http_client::Error> {
        let verdict = match self.protocol {
            Protocol::Grpc => grpc::send(&self.client, target, body).await,
            Protocol::Http => http::send(&self.client, target, body).await,
        }?;
        Ok(match (verdict, &self.proxy) {
            // This status is from the proxy; the backend has not seen the batch.
            (Verdict::Refused(Failure::Http(status)), Some(proxy)) if status == PROXY_WANTS_CREDENTIALS => {
                let detail = via_proxy(proxy, "proxy authorization required");
                Verdict::retry(Failure::Connection(ConnectionFailure { cause: Cause::Other, detail }))
            }
            (verdict, _) => verdict,
        })
    }

    /// The failure behind a request without a response.
    fn failure(&self, error: &http_client::Error) -> Failure {
        match (failure::of(error), &self.proxy) {
            (Failure::Connection(ConnectionFailure { cause, detail }), Some(proxy)) if error.is_connect() => {
                Failure::Connection(ConnectionFailure { cause, detail: via_proxy(proxy, &detail) })
            }
            (failure, _) => failure,
        }
    }
}

/// Creates a client without connections. It sends plaintext gRPC over HTTP/2 with prior knowledge, as gRPC
/// requires.
fn client(tls: &ClientConfig, protocol: Protocol, proxy: Option<&Proxy>) -> Client {
    Client::new(tls, protocol == Protocol::Grpc, proxy.and_then(Proxy::target))
}

/// The headers of every request. The user's headers come last and win.
fn headers(export: &Export) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let user_agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static(user_agent));
    let content_type = match export.protocol {
        Protocol::Grpc => grpc::CONTENT_TYPE,
        Protocol::Http => http::CONTENT_TYPE,
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let mut user = HeaderMap::new();
    for (name, value) in &export.headers {
        user.append(name.clone(), value.clone());
    }
    // The user's headers replace ours; among the user's, a name may be repeated.
    headers.extend(user);
    headers
}

/// The response message. All three signals have the same fields. The text is declared as bytes, so text that is
/// not UTF-8 does no harm.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(bytes = "vec", tag = "2")]
    error_message: Vec<u8>,
}

impl Target {
    /// Creates a request without a body.
    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The verdict of a protobuf response.
    fn verdict(&self, message: &[u8]) -> Verdict {
        match ExportResponse::decode(message) {
            Ok(ExportResponse { partial_success: Some(PartialSuccess { rejected, error_message }) }) => {
                self.accepted(rejected, &String::from_utf8_lossy(&error_message))
            }
            Ok(_) => Verdict::ACCEPTED,
            Err(_) => Verdict::Refused(Failure::Answer("message cannot be decoded")),
        }
    }

    /// The verdict of a JSON response. It was not asked for, but some collectors send nothing else. A missing
    /// field has its default value.
    fn verdict_of_json(&self, message: &[u8]) -> Verdict {
        let answer: Value = serde_json::from_slice(message).unwrap_or_default();
        let field = |names: &[&str]| {
            let part = answer.get("partialSuccess").or_else(|| answer.get("partial_success"))?;
            names.iter().find_map(|name| part.get(name))
        };
        let rejected = field(&[
            "rejectedLogRecords",
            "rejectedDataPoints",
            "rejectedSpans",
            "rejected_log_records",
            "rejected_data_points",
            "rejected_spans",
        ]);
        // In OTLP/JSON a 64-bit integer is a string, but not all senders follow that.
        let rejected = match rejected {
            Some(Value::String(digits)) => digits.parse().unwrap_or(0),
            Some(number) => number.as_i64().unwrap_or(0),
            None => 0,
        };
        let words = field(&["errorMessage", "error_message"]).and_then(Value::as_str);
        self.accepted(rejected, words.unwrap_or_default())
    }

    /// The verdict of an accepted batch with possibly some rejected items; an invalid count becomes 0.
    fn accepted(&self, rejected: i64, message: &str) -> Verdict {
        let message = BackendMessage::new(message, self.credentials.iter().map(Secret::expose));
        Verdict::Accepted { rejected: usize::try_from(rejected).unwrap_or(0), message }
    }

    /// The verdict of an HTTP response with an error status.
    fn refusal(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        let code = status.as_u16();
        if status.is_redirection() {
            return Verdict::Refused(Failure::Redirect { status: code, to: self.location(headers) });
        }
        if status == StatusCode::FORBIDDEN && !has_otlp_content_type(headers) {
            return Verdict::Refused(Failure::Firewall(code));
        }
        Verdict::of_http(code, retry_after(headers))
    }

    /// Scheme, host and port of a redirect's target.
    fn location(&self, headers: &HeaderMap) -> Option<String> {
        let location = self.url.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
        let is_http = matches!(location.scheme(), "http" | "https");
        let origin = is_http.then(|| location.origin().ascii_serialization())?;
        echo::endpoint(&origin).text()
    }
}

/// Returns true if a response has one of OTLP's content types.
fn has_otlp_content_type(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    [grpc::CONTENT_TYPE, http::CONTENT_TYPE, http::JSON]
        .iter()
        .any(|of| content_type.starts_with(of.as_bytes()))
}

/// Decompresses a message up to the size limit. Returns `None` for an unknown encoding.
fn decompressed<'a>(encoding: &[u8], message: &'a [u8]) -> Option<io::Result<Cow<'a, [u8]>>> {
    let read = |decoder: &mut dyn Read| {
        let mut bytes = Vec::new();
        decoder.take(ANSWER_LIMIT as u64).read_to_end(&mut bytes).map(|_| Cow::Owned(bytes))
    };
    Some(match encoding {
        b"" | b"identity" => Ok(Cow::Borrowed(message)),
        b"gzip" | b"x-gzip" => read(&mut GzDecoder::new(message)),
        b"zstd" => zstd::Decoder::with_buffer(message).and_then(|mut decoder| read(&mut decoder)),
        _ => return None,
    })
}

/// Reads the whole response message, or returns the verdict of its failure.
async fn read(answer: Incoming) -> Result<Collected<Bytes>, Verdict> {
    match Limited::new(answer, ANSWER_LIMIT).collect().await {
        Ok(message) => Ok(message),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Verdict::Refused(Failure::Answer("larger than any OTLP response")))
        }
        // The backend may have accepted the batch, but has not said so.
        Err(_) => Err(incomplete("response ended early")),
    }
}

fn incomplete(words: &str) -> Verdict {
    Verdict::retry(Failure::Connection(ConnectionFailure::new(Cause::Closed, words)))
}

/// Describes a failure to connect to a proxy or beyond it.
fn via_proxy(Proxy { variable, .. }: &Proxy, cause: &str) -> String {
    format!("{cause} (via the proxy in {variable}); check the proxy's address, credentials and allowed hosts")
}

/// Returns true if the request waited for a connection that another request failed to open. Only the other
/// request knows the reason.
fn waited_for_another(error: &http_client::Error) -> bool {
    matches!(deepest(error).downcast_ref(), Some(pool::Error::CheckoutNoLongerWanted))
}

fn deepest(error: &http_client::Error) -> &(dyn std::error::Error + 'static) {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

/// The wait requested by a response: seconds, or until a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(until.saturating_sub(clock::since_epoch()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rotel_core::config::{self, Destination, Exports};

    pub(super) fn target(pairs: &[(&str, &str)]) -> Arc<PerSignal<Option<Target>>> {
        let endpoint = ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://host:4318");
        exporter(&[&[endpoint], pairs].concat()).targets
    }

    fn verdict(message: &[u8]) -> Verdict {
        target(&[]).logs.as_ref().expect("a target").verdict(message)
    }

    fn verdict_of_json(message: &str) -> Verdict {
        target(&[]).logs.as_ref().expect("a target").verdict_of_json(message.as_bytes())
    }

    fn rejected(rejected: usize, words: &str) -> Verdict {
        Verdict::Accepted { rejected, message: BackendMessage::new(words, []) }
    }

    #[test]
    fn partial_success_is_decoded() {
        // partial_success { rejected: 3, error_message: "x" }, the same bytes for the three messages.
        let message = [0x0a, 0x05, 0x08, 0x03, 0x12, 0x01, b'x'];
        assert_eq!(verdict(&message), rejected(3, "x"));
        assert_eq!(verdict(&[]), Verdict::ACCEPTED);
        assert_eq!(verdict(&[0x0a, 0x05, 0x08, 0x03, 0x12, 0x01, 0xff]), rejected(3, "\u{fffd}"));
        assert!(matches!(verdict(b"<html>"), Verdict::Refused(Failure::Answer(_))));
    }

    #[test]
    fn rejected_count_is_never_negative() {
        let message = |count: i64| {
            let partial_success = Some(PartialSuccess { rejected: count, error_message: Vec::new() });
            ExportResponse { partial_success }.encode_to_vec()
        };
        assert_eq!(verdict(&message(-1)), Verdict::ACCEPTED);
        assert_eq!(verdict(&message(i64::MAX)), rejected(usize::try_from(i64::MAX).expect("64 bits"), ""));
    }

    #[test]
    fn json_partial_success_equals_protobuf() {
        for message in [
            r#"{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "x"}}"#,
            r#"{"partialSuccess": {"rejectedLogRecords": 3, "errorMessage": "x"}}"#,
            r#"{"partial_success": {"rejected_data_points": 3, "error_message": "x"}}"#,
        ] {
            assert_eq!(verdict_of_json(message), rejected(3, "x"), "{message}");
        }
        for message in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"partialSuccess": null}"#,
            r#"{"partialSuccess": {"rejectedSpans": "-3"}}"#,
        ] {
            assert_eq!(verdict_of_json(message), Verdict::ACCEPTED, "{message}");
        }
    }

    #[test]
    fn backend_message_has_no_credentials() {
        let targets = target(&[
            ("ROTEL_OTLP_EXPORTER_PROTOCOL", "http"),
            (
                "ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS",
                "Authorization=Basic bWU6aHVudGVyMg==,X-Key=swordfish,X-Team=a",
            ),
            ("ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT", "http://host/t0k3n-of-mine/v1/logs?key=qwertz"),
        ]);
        let target = targets.logs.as_ref().expect("a target");
        let words = "me sent bWU6aHVudGVyMg== (hunter2), swordfish, t0k3n-of-mine, qwertz: a\nstale record";
        let Verdict::Accepted { message: Some(words), .. } = target.accepted(1, words) else {
            panic!("no words")
        };
        insta::assert_snapshot!(words.to_string(), @r"backend message: [redacted] sent [redacted] ([redacted]), [redacted], [redacted], [redacted]: [redacted]\nstale record");
    }

    #[test]
    fn redirect_shows_only_scheme_host_and_port() {
        let targets = target(&[]);
        let target = targets.logs.as_ref().expect("a target");
        let to = |location: &'static str| {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            match target.refusal(StatusCode::PERMANENT_REDIRECT, &headers) {
                Verdict::Refused(Failure::Redirect { status: 308, to }) => to,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            to("https://me:hunter2@example.com/hunter2?hunter2").as_deref(),
            Some("https://example.com")
        );
        assert_eq!(to("/elsewhere").as_deref(), Some("http://host:4318"));
        assert_eq!(to("ftp://example.com"), None);
    }

    #[test]
    fn firewall_refusal_is_not_blamed_on_the_key() {
        let targets = target(&[]);
        let target = targets.logs.as_ref().expect("a target");
        let refusal = |content_type: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            target.refusal(StatusCode::FORBIDDEN, &headers)
        };
        for of_otlp in ["application/x-protobuf", "application/json; charset=utf-8", "application/grpc"] {
            assert_eq!(refusal(of_otlp), Verdict::Refused(Failure::Http(403)));
        }
        for other in ["text/html", "text/plain", ""] {
            assert_eq!(refusal(other), Verdict::Refused(Failure::Firewall(403)));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |text: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).expect("a value"))]))
        };
        assert_eq!(after(" 120 "), Some(Duration::from_mins(2)));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(after("Fri, 31 Dec 9999 23:59:59 GMT") > Some(Duration::from_hours(1)));
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    fn exporter_with_errors(pairs: &[(&str, &str)]) -> (Exporter, Vec<BuildError>) {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let destinations = config::read(&variables).config.destinations;
        match destinations.as_slice() {
            [Destination { exports: Exports::Known(exports), .. }] => Exporter::new(exports),
            others => panic!("{others:?}"),
        }
    }

    fn exporter(pairs: &[(&str, &str)]) -> Exporter {
        let (exporter, errors) = exporter_with_errors(pairs);
        assert!(errors.is_empty(), "{errors:?}");
        exporter
    }

    #[test]
    fn tls_error_affects_only_its_signals_and_is_reported_once() {
        let endpoint = ("ROTEL_OTLP_EXPORTER_ENDPOINT", "https://host:4317");
        let of_all = ("ROTEL_OTLP_EXPORTER_TLS_CA_PEM", "nothing");
        let (exporter, errors) =
            exporter_with_errors(&[endpoint, of_all, ("ROTEL_OTLP_EXPORTER_LOGS_TLS_CA_FILE", "/nowhere")]);
        assert_eq!(Signal::ALL.map(|signal| exporter.route(signal).is_some()), [false; 3]);
        assert_eq!(errors.len(), 2, "{errors:?}");

        let (exporter, errors) =
            exporter_with_errors(&[endpoint, ("ROTEL_OTLP_EXPORTER_METRICS_TLS_CA_PEM", "nothing")]);
        assert_eq!(Signal::ALL.map(|signal| exporter.route(signal).is_some()), [true, false, true]);
        assert_eq!((errors.len(), exporter.clients.len()), (1, 1), "{errors:?}");
    }

    #[test]
    fn debug_print_shows_no_credential() {
        let exporter = exporter(&[
            ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://host:4317"),
            ("ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS", "Authorization=hunter2"),
        ]);
        assert!(!format!("{exporter:?}").contains("hunter2"));
    }

    #[test]
    fn signals_with_equal_settings_share_a_client() {
        let endpoint = ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://host:4317");
        assert_eq!(exporter(&[endpoint]).clients.len(), 1);
        let other = ("ROTEL_OTLP_EXPORTER_LOGS_PROTOCOL", "http");
        assert_eq!(exporter(&[endpoint, other]).clients.len(), 2);
        let traces = exporter(&[("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT", "http://host:4317")]);
        assert_eq!(Signal::ALL.map(|signal| traces.route(signal).is_some()), [false, false, true]);
    }

    #[test]
    fn signals_with_equal_client_and_host_share_an_endpoint() {
        let endpoint = ("ROTEL_OTLP_EXPORTER_ENDPOINT", "http://host:4317");
        let endpoints = |variables: &[(&str, &str)]| {
            let exporter = exporter(variables);
            Signal::ALL.map(|signal| exporter.route(signal).map(|route| route.endpoint))
        };
        assert_eq!(endpoints(&[endpoint]), [Some(0), Some(0), Some(0)]);
        let of_metrics = |name: &'static str, value| endpoints(&[endpoint, (name, value)]);
        let elsewhere = [Some(0), Some(1), Some(0)];
        assert_eq!(of_metrics("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "http://host:4318"), elsewhere);
        assert_eq!(of_metrics("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "http://other:4317"), elsewhere);
        assert_eq!(of_metrics("ROTEL_OTLP_EXPORTER_METRICS_PROTOCOL", "http"), elsewhere);
        let without_logs = [
            ("ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT", "http://host:4317"),
            ("ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT", "http://host:4317"),
        ];
        assert_eq!(endpoints(&without_logs), [None, Some(0), Some(0)]);
    }
}
