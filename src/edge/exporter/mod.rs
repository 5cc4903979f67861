//! OTLP out: one attempt to hand a batch to the backend, and the verdict of it.
//!
//! Promises: an attempt ends within the request timeout; a request that a pooled connection did not survive is sent again at
//! once on a new one, because a freeze kills connections unnoticed, but not one whose answer had begun; nothing the backend
//! writes is repeated in our log, and no header is. When to try again is left to `app::pipeline`.

mod body;
mod grpc;
mod http;

use std::error::Error as _;
use std::time::Duration;

use ::http::Uri;
use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use prost::Message;
use reqwest::{Client, Url};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::core::config::{Compression, Export, Protocol};
use crate::core::retry::{Failure, Verdict};
use crate::core::signal::{PerSignal, Signal};
use crate::edge::tls::{self, TlsError};

/// What of an answer is read at most: a well-behaved one is a few bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// A client of the backend. Cheap to clone; all clones share their connections.
#[derive(Clone, Debug)]
pub struct Exporter {
    client: Client,
    tls: ClientConfig,
    urls: PerSignal<Url>,
    headers: HeaderMap,
    protocol: Protocol,
    compression: Compression,
    request_timeout: Duration,
}

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client.
    #[error("the exporter's HTTP client cannot be set up: {0}; check HTTP_PROXY and HTTPS_PROXY")]
    Client(reqwest::Error),
    /// The endpoint passes as a URI and not as a URL.
    #[error(
        "ROTEL_OTLP_EXPORTER_ENDPOINT: {0:?} is not a URL; write something like https://clickstack.example.com:4317"
    )]
    Endpoint(String),
}

impl Exporter {
    /// Sets up the client. Opens no connection.
    pub fn new(export: &Export) -> Result<Self, BuildError> {
        let alpn: &[&str] = match export.protocol {
            Protocol::Grpc => &["h2"],
            Protocol::Http => &["h2", "http/1.1"],
        };
        let tls = tls::client_config(export.ca.as_ref(), alpn)?;
        let client = client(tls.clone(), export.protocol).map_err(BuildError::Client)?;
        Ok(Self {
            client,
            tls,
            urls: PerSignal {
                logs: url(export, Signal::Logs)?,
                metrics: url(export, Signal::Metrics)?,
                traces: url(export, Signal::Traces)?,
            },
            headers: headers(export),
            protocol: export.protocol,
            compression: export.compression,
            request_timeout: export.request_timeout,
        })
    }

    /// Opens a connection, by a request without telemetry, which OTLP allows and every collector answers. What keeps
    /// telemetry from getting through shows here already.
    pub async fn warm(&self) -> Verdict {
        self.attempt(Signal::Logs, Vec::new()).await
    }

    /// The same exporter without its connections, for when they may be dead unnoticed. TLS sessions are resumed.
    #[must_use]
    pub fn afresh(&self) -> Self {
        // What could be built once can be built again; were it otherwise, old connections are better than none.
        let client = client(self.tls.clone(), self.protocol).unwrap_or_else(|_| self.client.clone());
        Self { client, ..self.clone() }
    }

    /// Sends the chunks as one request.
    pub async fn attempt(&self, signal: Signal, chunks: Vec<Bytes>) -> Verdict {
        let attempt = async {
            let body = body::encode(chunks, self.compression).await;
            match self.send(signal, &body).await {
                Err(error) if !error.is_connect() => self.send(signal, &body).await,
                sent => sent,
            }
        };
        match timeout(self.request_timeout, attempt).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Verdict::Retry(failure(&error)),
            Err(_) => Verdict::Retry(Failure::Timeout),
        }
    }

    /// An error is that of a request that was not answered.
    async fn send(&self, signal: Signal, body: &body::Encoded) -> Result<Verdict, reqwest::Error> {
        let request = self.client.post(self.urls.of(signal).clone()).headers(self.headers.clone());
        match self.protocol {
            Protocol::Grpc => grpc::send(request, body).await,
            Protocol::Http => http::send(request, body).await,
        }
    }
}

/// An HTTP client with no connections yet. It sends plaintext gRPC by prior knowledge, as gRPC has it.
fn client(tls: ClientConfig, protocol: Protocol) -> Result<Client, reqwest::Error> {
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true);
    match protocol {
        Protocol::Grpc => client.http2_prior_knowledge(),
        Protocol::Http => client,
    }
    .build()
}

/// Where requests of a signal go.
fn url(export: &Export, signal: Signal) -> Result<Url, BuildError> {
    let base = base(&export.endpoint);
    let url = match export.protocol {
        Protocol::Grpc => format!("{base}{}", signal.grpc_path()),
        Protocol::Http => format!("{base}/v1/{signal}"),
    };
    Url::parse(&url).map_err(|_| BuildError::Endpoint(export.endpoint.to_string()))
}

/// The endpoint without a query and without the slash at its end.
fn base(endpoint: &Uri) -> String {
    let scheme = endpoint.scheme_str().unwrap_or("http");
    let authority = endpoint.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}{}", endpoint.path().trim_end_matches('/'))
}

/// What goes with every request. The user's headers come last and win.
fn headers(export: &Export) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let user_agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
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
    // Of ours, those that the user sets too are replaced; of the user's, one name may stand twice.
    headers.extend(user);
    headers
}

/// The verdict of an answer's message. The three signals' messages have the same fields, so that one reads them all.
fn of_answer(message: &[u8]) -> Verdict {
    match ExportLogsServiceResponse::decode(message) {
        Ok(ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess { rejected_log_records, .. }),
        }) => Verdict::Accepted { rejected: usize::try_from(rejected_log_records).unwrap_or(0) },
        Ok(_) => Verdict::Accepted { rejected: 0 },
        Err(_) => Verdict::Refused(Failure::Answer("its message cannot be read")),
    }
}

/// The answer's message, whole, or the verdict that there is none.
async fn read(answer: reqwest::Body) -> Result<Collected<Bytes>, Verdict> {
    match Limited::new(answer, ANSWER_LIMIT).collect().await {
        Ok(message) => Ok(message),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Verdict::Refused(Failure::Answer("it is larger than an OTLP answer")))
        }
        // The backend may have taken the batch, but it has not said so.
        Err(_) => Err(Verdict::Retry(Failure::Connection("the answer broke off".to_owned()))),
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    // The outermost error would show the URL, and the deepest says what is the matter.
    match cause.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            Failure::Connection(
                "no TLS is spoken on this port; write http:// in place of https://".to_owned(),
            )
        }
        _ if error.source().is_none() => Failure::Connection("the request could not be sent".to_owned()),
        _ => Failure::Connection(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config;

    fn export(endpoint: &str, protocol: &str) -> Export {
        let variables =
            [("ROTEL_OTLP_EXPORTER_ENDPOINT", endpoint), ("ROTEL_OTLP_EXPORTER_PROTOCOL", protocol)];
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        config::read(&variables).config.export.expect("an exporter")
    }

    #[test]
    fn http_appends_the_signals_path_to_the_base_endpoint() {
        for endpoint in ["https://host/base", "https://host/base/"] {
            let url = url(&export(endpoint, "http"), Signal::Traces).expect("a URL");
            assert_eq!(url.as_str(), "https://host/base/v1/traces");
        }
        let url = url(&export("http://host:4317", "grpc"), Signal::Logs).expect("a URL");
        assert_eq!(url.as_str(), "http://host:4317/opentelemetry.proto.collector.logs.v1.LogsService/Export");
    }

    #[test]
    fn rejected_items_are_counted_for_every_signal() {
        // partial_success { rejected: 3, error_message: "x" }, the same bytes for the three messages.
        let message = [0x0a, 0x05, 0x08, 0x03, 0x12, 0x01, b'x'];
        assert_eq!(of_answer(&message), Verdict::Accepted { rejected: 3 });
        assert_eq!(of_answer(&[]), Verdict::Accepted { rejected: 0 });
        assert!(matches!(of_answer(b"<html>"), Verdict::Refused(Failure::Answer(_))));
    }

    #[test]
    fn a_debug_print_shows_no_header_value() {
        let mut export = export("http://host:4317", "grpc");
        let mut key = HeaderValue::from_static("hunter2");
        key.set_sensitive(true);
        export.headers.push((::http::header::AUTHORIZATION, key));
        let exporter = Exporter::new(&export).expect("an exporter");
        assert!(!format!("{export:?} {exporter:?}").contains("hunter2"));
    }
}
