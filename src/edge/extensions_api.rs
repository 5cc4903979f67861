//! A client for the Extensions API and for the subscription to the Telemetry API.
//!
//! It uses one HTTP/1.1 connection, which is driven by the call that waits on it: after the first poll of a
//! call, its request is with the kernel, and later work in the same task runs in parallel with the platform.
//! That is how the first `/next` is sent before anything else is set up. Paths and formats: AWS's "Lambda
//! Extensions API" and "Telemetry API reference".

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::timeout;

use rotel_core::config::resource::Registration;
use rotel_core::echo;
use rotel_core::lambda::platform::ShutdownReason;
use rotel_core::lambda::xray::Header;

/// The maximum response size, in bytes. An event is smaller than 2 KiB.
const ANSWER_LIMIT: usize = 256 * 1024;
// Platform: init may take 10 s in total, for the runtime and all extensions.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);
const EXTENSION_ID: &str = "lambda-extension-identifier";

/// A client of the environment's Extensions API.
#[derive(Debug)]
pub struct ExtensionsApi {
    address: String,
    extension_id: String,
    connection: Option<OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has closed.
    connection: Option<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

/// The next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextEvent {
    /// An invocation starts.
    Invoke {
        request_id: String,
        /// The function's deadline in milliseconds since the epoch, if known.
        deadline_ms: Option<u64>,
        /// The invoked ARN, with version or alias.
        invoked_arn: Option<String>,
        /// The X-Ray trace header, if present.
        xray: Option<Header>,
    },
    /// The environment shuts down.
    Shutdown {
        reason: ShutdownReason,
        /// The time of SIGKILL in milliseconds since the epoch, if known.
        deadline_ms: Option<u64>,
    },
}

/// The state of the Telemetry API subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// The Telemetry API delivers.
    Active,
    /// The platform has no Telemetry API: emulators respond 202.
    Unsupported,
}

/// The reason that a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API could not be reached, or the connection was lost.
    #[error("the Lambda Extensions API at {address} {cause}")]
    Connection {
        /// `AWS_LAMBDA_RUNTIME_API`.
        address: String,
        /// The cause, as a predicate.
        cause: String,
    },
    /// The API responded with an error status.
    #[error("the Lambda Extensions API responded to {call} with HTTP {status}: {answer}")]
    Status {
        call: &'static str,
        status: u16,
        /// The platform's message.
        answer: String,
    },
    /// The response is not as documented.
    #[error("the Lambda Extensions API responded to {call} unexpectedly: {cause}")]
    Answer {
        call: &'static str,
        /// The problem with it.
        cause: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    #[serde(default)]
    function_name: String,
    #[serde(default)]
    function_version: String,
    account_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEvent {
    event_type: String,
    deadline_ms: Option<u64>,
    request_id: Option<String>,
    invoked_function_arn: Option<String>,
    shutdown_reason: Option<String>,
    // Any value is accepted, because an invocation is valid without it.
    tracing: Option<serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TelemetrySubscription<'a> {
    schema_version: &'a str,
    types: &'a [&'a str],
    buffering: Buffering,
    destination: SubscriptionDestination<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Buffering {
    max_items: u32,
    max_bytes: u32,
    timeout_ms: u32,
}

#[derive(Serialize)]
struct SubscriptionDestination<'a> {
    protocol: &'a str,
    #[serde(rename = "URI")]
    uri: &'a str,
}

impl ExtensionsApi {
    /// Creates a client of the API at `address` (`AWS_LAMBDA_RUNTIME_API`).
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), extension_id: String::new(), connection: None }
    }

    /// Registers under `name`, which must be the file name of the executable.
    pub async fn register(&mut self, name: &str, events: &[&str]) -> Result<Registration, ApiError> {
        const CALL: &str = "register";
        let body = serde_json::json!({ "events": events }).to_string();
        let request = self
            .request(Method::POST, "/2020-01-01/extension/register")
            .header("lambda-extension-name", name)
            .header("lambda-extension-accept-feature", "accountId");
        let answer = self.exchange_within(REGISTER_TIMEOUT, CALL, request, body).await?;
        let answer = expect_success(CALL, answer)?;
        let id = answer.headers().get(EXTENSION_ID).and_then(|id| id.to_str().ok());
        let Some(id) = id else {
            return Err(ApiError::Answer { call: CALL, cause: format!("header {EXTENSION_ID} is missing") });
        };
        id.clone_into(&mut self.extension_id);
        let registered: Registered = parse(CALL, answer.body())?;
        Ok(Registration {
            function_name: registered.function_name,
            function_version: registered.function_version,
            account_id: registered.account_id.filter(|id| !id.is_empty()),
        })
    }

    /// Subscribes to events of the `types`, which the Telemetry API then delivers to `uri`.
    pub async fn subscribe(&mut self, uri: &str, types: &[&str]) -> Result<Subscription, ApiError> {
        // Platform: some runtimes refuse the newest schema with 400 but know the previous one.
        match self.subscribe_as(uri, types, "2025-01-29").await {
            Err(ApiError::Status { status: 400, .. }) => self.subscribe_as(uri, types, "2022-12-13").await,
            result => result,
        }
    }

    async fn subscribe_as(
        &mut self,
        uri: &str,
        types: &[&str],
        schema_version: &str,
    ) -> Result<Subscription, ApiError> {
        const CALL: &str = "telemetry";
        let subscription = TelemetrySubscription {
            schema_version,
            types,
            // Platform: 25 ms is the minimum, and the time that an invocation waits for its last logs. A record
            // larger than `maxBytes` is cut, so it is set to the maximum.
            buffering: Buffering { max_items: 1000, max_bytes: 1_048_576, timeout_ms: 25 },
            destination: SubscriptionDestination { protocol: "HTTP", uri },
        };
        let body = serde_json::to_string(&subscription)
            .map_err(|cause| ApiError::Answer { call: CALL, cause: cause.to_string() })?;
        let request = self.request(Method::PUT, "/2022-07-01/telemetry");
        let answer =
            expect_success(CALL, self.exchange_within(SUBSCRIBE_TIMEOUT, CALL, request, body).await?)?;
        Ok(if answer.status() == StatusCode::ACCEPTED {
            Subscription::Unsupported
        } else {
            Subscription::Active
        })
    }

    /// Waits for the next event, possibly for hours: the environment may be frozen meanwhile. Calling it tells
    /// Lambda that the extension has finished its work for the previous event.
    pub async fn next(&mut self) -> Result<NextEvent, ApiError> {
        const CALL: &str = "next";
        let request = self.request(Method::GET, "/2020-01-01/extension/event/next");
        let answer = expect_success(CALL, self.exchange(CALL, request, String::new()).await?)?;
        let event: RawEvent = parse(CALL, answer.body())?;
        let deadline_ms = event.deadline_ms;
        match (event.event_type.as_str(), event.request_id) {
            ("INVOKE", Some(request_id)) => {
                let value = event.tracing.as_ref().and_then(|tracing| tracing.get("value")?.as_str());
                let xray = value.and_then(Header::read);
                let invoked_arn = event.invoked_function_arn;
                Ok(NextEvent::Invoke { request_id, deadline_ms, invoked_arn, xray })
            }
            ("SHUTDOWN", _) => Ok(NextEvent::Shutdown {
                reason: shutdown_reason(event.shutdown_reason.as_deref()),
                deadline_ms,
            }),
            (other, _) => {
                let cause =
                    format!("unknown event type \"{}\"", echo::untrusted(other, echo::UNTRUSTED_LIMIT));
                Err(ApiError::Answer { call: CALL, cause })
            }
        }
    }

    /// Reports to Lambda why init fails, before the first `/next`.
    pub async fn init_error(&mut self, error_type: &str, message: &str) -> Result<(), ApiError> {
        self.report("init/error", error_type, message).await
    }

    /// Reports to Lambda why the extension exits, after the first `/next`.
    pub async fn exit_error(&mut self, error_type: &str, message: &str) -> Result<(), ApiError> {
        self.report("exit/error", error_type, message).await
    }

    async fn report(&mut self, call: &'static str, error_type: &str, message: &str) -> Result<(), ApiError> {
        let body = serde_json::json!({ "errorMessage": message, "errorType": error_type, "stackTrace": [] });
        let request = self
            .request(Method::POST, &format!("/2020-01-01/extension/{call}"))
            .header("lambda-extension-function-error-type", error_type);
        let answer = self.exchange_within(REPORT_TIMEOUT, call, request, body.to_string()).await?;
        expect_success(call, answer).map(|_| ())
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(path).header("host", &self.address);
        if self.extension_id.is_empty() { request } else { request.header(EXTENSION_ID, &self.extension_id) }
    }

    async fn exchange_within(
        &mut self,
        limit: Duration,
        call: &'static str,
        request: http::request::Builder,
        body: String,
    ) -> Result<Response<Bytes>, ApiError> {
        match timeout(limit, self.exchange(call, request, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.broken(&format!("did not respond to {call} within {} ms", limit.as_millis()))),
        }
    }

    /// Sends a request and reads the whole response, on a new connection if the old one is closed.
    async fn exchange(
        &mut self,
        call: &'static str,
        request: http::request::Builder,
        body: String,
    ) -> Result<Response<Bytes>, ApiError> {
        let request = request
            .body(Full::from(body))
            .map_err(|cause| ApiError::Answer { call, cause: cause.to_string() })?;
        let answer = match self.connection.take() {
            Some(open) => match self.exchange_over(open, request.clone()).await {
                // Nothing drives the connection between two calls, so a close is noticed only now.
                Err(_) => self.exchange_over(self.connect().await?, request).await,
                answer => answer,
            },
            None => self.exchange_over(self.connect().await?, request).await,
        };
        answer.map_err(|cause| self.broken(&format!("dropped the connection: {cause}")))
    }

    /// Sends over this connection, and keeps it for the next call if it is still open.
    async fn exchange_over(
        &mut self,
        mut open: OpenConnection,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, String> {
        let answer = open.exchange(request).await;
        if answer.is_ok() && open.connection.is_some() {
            self.connection = Some(open);
        }
        answer
    }

    async fn connect(&self) -> Result<OpenConnection, ApiError> {
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|cause| self.broken(&format!("cannot be reached: {cause}")))?;
        // Without it, a request in two packets waits for an acknowledgement. If it cannot be set, requests are
        // only slower.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| self.broken(&format!("does not speak HTTP: {cause}")))?;
        Ok(OpenConnection { sender, connection: Some(connection) })
    }

    fn broken(&self, cause: &str) -> ApiError {
        let address = echo::endpoint(&self.address).or_redacted();
        ApiError::Connection { address, cause: echo::untrusted(cause, echo::UNTRUSTED_LIMIT) }
    }
}

impl OpenConnection {
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        let Self { sender, connection } = self;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|cause| cause.to_string())?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(|cause| cause.to_string())?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let mut exchange = pin!(exchange);
        tokio::select! {
            biased;
            // The request first, so one poll passes it to the connection and the connection writes it.
            answer = &mut exchange => return answer,
            () = closed(connection.as_mut()) => {}
        }
        // The platform may close after its response, which is then in memory. A request still queued in the
        // connection ends only when the connection is dropped.
        *connection = None;
        exchange.await
    }
}

/// Completes when the connection has closed, with or without an error.
async fn closed(connection: Option<&mut Connection<TokioIo<TcpStream>, Full<Bytes>>>) {
    match connection {
        // The exchange shows the error, too.
        Some(connection) => drop(connection.await),
        None => std::future::pending().await,
    }
}

/// Parses a shutdown reason. Platform: AWS's documentation has the reasons in upper case, its emulator sends
/// them in lower case.
fn shutdown_reason(text: Option<&str>) -> ShutdownReason {
    match text {
        Some(text) if text.eq_ignore_ascii_case("timeout") => ShutdownReason::Timeout,
        Some(text) if text.eq_ignore_ascii_case("failure") => ShutdownReason::Failure,
        _ => ShutdownReason::Spindown,
    }
}

fn expect_success(call: &'static str, answer: Response<Bytes>) -> Result<Response<Bytes>, ApiError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status().as_u16();
    let answer = echo::untrusted(&String::from_utf8_lossy(answer.body()), echo::UNTRUSTED_LIMIT);
    Err(ApiError::Status { call, status, answer })
}

fn parse<'a, T: Deserialize<'a>>(call: &'static str, body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|cause| {
        // The error may repeat a part of the body.
        let cause = echo::untrusted(&cause.to_string(), echo::UNTRUSTED_LIMIT);
        ApiError::Answer { call, cause }
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    const INVOKE: &str = r#"{"eventType":"INVOKE","deadlineMs":1,"requestId":"a","tracing":{"value":"Root=1-5f35ae12-0c0fec141ab77a00bc047aa2;Parent=2be948a625588e32;Sampled=1"}}"#;

    /// An API that serves one request per connection and then closes it, at once or when the test says so.
    async fn api(closes: mpsc::Receiver<()>) -> ExtensionsApi {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(serve(listener, closes));
        ExtensionsApi::new(&address)
    }

    async fn serve(listener: TcpListener, mut closes: mpsc::Receiver<()>) {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let answer =
                service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(INVOKE))) });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                _ = connection => {}
                Some(()) = closes.recv() => {}
            }
        }
    }

    #[tokio::test]
    async fn connection_closed_between_calls_is_replaced() {
        let (close, closes) = mpsc::channel(1);
        let mut api = api(closes).await;
        let xray = Header::read("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2;Parent=2be948a625588e32;Sampled=1");
        let request_id = "a".to_owned();
        let expected = NextEvent::Invoke { request_id, deadline_ms: Some(1), invoked_arn: None, xray };
        for _ in 0..5 {
            let event = timeout(Duration::from_mins(1), api.next()).await.expect("an answer in time");
            assert_eq!(event.expect("an event"), expected);
            close.send(()).await.expect("the server listens");
        }
    }

    #[tokio::test]
    async fn connection_closed_with_a_response_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut api = ExtensionsApi::new(&listener.local_addr().expect("an address").to_string());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let answer =
                    service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(INVOKE))) });
                let _ = http1::Builder::new()
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            }
        });
        for _ in 0..5 {
            let event = timeout(Duration::from_mins(1), api.next()).await.expect("an answer in time");
            assert!(matches!(event, Ok(NextEvent::Invoke { .. })), "{event:?}");
        }
    }

    #[tokio::test]
    async fn unreachable_api_is_named_by_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let error = ExtensionsApi::new(&address).next().await.expect_err("nobody listens").to_string();
        assert!(
            error.starts_with(&format!("the Lambda Extensions API at {address} cannot be reached")),
            "{error}"
        );
    }

    #[test]
    fn platform_text_stays_on_one_line() {
        let forged = "no\nERROR forged\u{1b}[31m\u{2028}".to_owned() + &"x".repeat(1000);
        let answer = Response::builder().status(403).body(Bytes::from(forged.clone())).expect("an answer");
        let refused = expect_success("register", answer).expect_err("a refusal").to_string();
        let body = serde_json::json!({ "eventType": [forged] }).to_string();
        let unread = parse::<RawEvent>("next", body.as_bytes()).err().expect("no event").to_string();
        let broken = ExtensionsApi::new("127.0.0.1:9001").broken(&forged).to_string();
        for error in [refused, unread, broken] {
            assert!(error.chars().count() < 400 && !error.contains(char::is_control), "{error}");
            assert!(!error.contains('\u{2028}'), "{error}");
        }
    }

    #[test]
    fn shutdown_reason_is_case_insensitive() {
        let read = ["timeout", "TIMEOUT", "failure", "Failure", "spindown", "something new"]
            .map(Some)
            .map(shutdown_reason);
        let [timeout, failure, spindown] =
            [ShutdownReason::Timeout, ShutdownReason::Failure, ShutdownReason::Spindown];
        assert_eq!(read, [timeout, timeout, failure, failure, spindown, spindown]);
        assert_eq!(shutdown_reason(None), spindown);
    }
}
