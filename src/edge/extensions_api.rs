//! The Extensions API and the Telemetry API's subscription: our side of Lambda.
//!
//! One HTTP/1.1 connection, driven by the very call that waits on it: when a call has been polled once, its request is
//! with the kernel, and what comes after it in the same task runs beside the platform's work. That is how the first
//! `/next` gets out before anything else is set up. Paths and shapes: AWS's "Lambda Extensions API" and "Telemetry API
//! reference".

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

use crate::core::config::resource::Registration;
use crate::core::echo;
use crate::core::lambda::platform::ShutdownReason;
use crate::core::lambda::xray::Header;

/// The largest answer read; an event is below 2 KiB.
const ANSWER_LIMIT: usize = 256 * 1024;
// Platform: an init has 10 s in all, for the runtime and every extension.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);
const EXTENSION_ID: &str = "lambda-extension-identifier";

/// A client of the environment's Extensions API.
#[derive(Debug)]
pub struct ExtensionsApi {
    address: String,
    extension_id: String,
    connection: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

/// The next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextEvent {
    /// An invocation starts.
    Invoke {
        /// Of the invocation.
        request_id: String,
        /// When the function times out, in milliseconds since the epoch, if the platform says.
        deadline_ms: Option<u64>,
        /// The ARN that was invoked, with the version or alias.
        invoked_arn: Option<String>,
        /// The trace that it is part of, if the platform says.
        xray: Option<Header>,
    },
    /// The environment ends.
    Shutdown {
        /// Why.
        reason: ShutdownReason,
        /// When SIGKILL comes, in milliseconds since the epoch, if the platform says.
        deadline_ms: Option<u64>,
    },
}

/// Whether the Telemetry API will deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// It will.
    Active,
    /// This platform has no Telemetry API (202, as emulators answer).
    Unsupported,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API could not be reached, or the connection broke.
    #[error("the Lambda Extensions API at {address} {cause}")]
    Connection {
        /// `AWS_LAMBDA_RUNTIME_API`.
        address: String,
        /// What happened.
        cause: String,
    },
    /// It refused.
    #[error("the Lambda Extensions API answered {call} with HTTP {status}: {answer}")]
    Status {
        /// The call.
        call: &'static str,
        /// The status.
        status: u16,
        /// The platform's own words.
        answer: String,
    },
    /// Its answer could not be understood.
    #[error("the Lambda Extensions API answered {call} with something else than documented: {cause}")]
    Answer {
        /// The call.
        call: &'static str,
        /// What is wrong with it.
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
    // Whatever it is, an invocation is one without it.
    tracing: Option<serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TelemetrySubscription<'a> {
    schema_version: &'a str,
    types: &'a [&'a str],
    buffering: Buffering,
    destination: Destination<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Buffering {
    max_items: u32,
    max_bytes: u32,
    timeout_ms: u32,
}

#[derive(Serialize)]
struct Destination<'a> {
    protocol: &'a str,
    #[serde(rename = "URI")]
    uri: &'a str,
}

impl ExtensionsApi {
    /// A client of the API at `address` (`AWS_LAMBDA_RUNTIME_API`).
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
            return Err(ApiError::Answer { call: CALL, cause: format!("no header {EXTENSION_ID}") });
        };
        id.clone_into(&mut self.extension_id);
        let registered: Registered = parse(CALL, answer.body())?;
        Ok(Registration {
            function_name: registered.function_name,
            function_version: registered.function_version,
            account_id: registered.account_id.filter(|id| !id.is_empty()),
        })
    }

    /// Subscribes to events of the `types`, which the Telemetry API delivers to `uri` from now on.
    pub async fn subscribe(&mut self, uri: &str, types: &[&str]) -> Result<Subscription, ApiError> {
        // Platform: the newest schema is refused with 400 by some runtimes that know the one before.
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
            // Platform: 25 ms is the least allowed, and what an invocation waits for its last logs.
            // A record larger than `maxBytes` is cut, so that is as large as it may be.
            buffering: Buffering { max_items: 1000, max_bytes: 1_048_576, timeout_ms: 25 },
            destination: Destination { protocol: "HTTP", uri },
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

    /// Waits for the next event, for hours if need be: the environment may be frozen meanwhile. To call it is to say that
    /// the extension is done with what came before.
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
            ("SHUTDOWN", _) => {
                Ok(NextEvent::Shutdown { reason: reason(event.shutdown_reason.as_deref()), deadline_ms })
            }
            (other, _) => {
                let cause = format!("an event of type \"{}\"", echo::untrusted(other, echo::UNTRUSTED_LIMIT));
                Err(ApiError::Answer { call: CALL, cause })
            }
        }
    }

    /// Tells Lambda why the function's init fails, before the first `/next`.
    pub async fn init_error(&mut self, error_type: &str, message: &str) -> Result<(), ApiError> {
        self.report("init/error", error_type, message).await
    }

    /// Tells Lambda why the extension ends, after the first `/next`.
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
            Err(_) => Err(self.broken(&format!("did not answer {call} within {} ms", limit.as_millis()))),
        }
    }

    /// Sends a request and reads its answer whole, on a new connection where the old one is gone.
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
                // Nobody drives the connection between two calls, so that its end is noticed only now.
                Err(_) => self.exchange_over(self.connect().await?, request).await,
                answer => answer,
            },
            None => self.exchange_over(self.connect().await?, request).await,
        };
        answer.map_err(|cause| self.broken(&format!("broke the connection: {cause}")))
    }

    /// Keeps the connection for the next call if it is still good.
    async fn exchange_over(
        &mut self,
        mut open: Open,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, String> {
        let answer = open.exchange(request).await;
        if answer.is_ok() && open.connection.is_some() {
            self.connection = Some(open);
        }
        answer
    }

    async fn connect(&self) -> Result<Open, ApiError> {
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|cause| self.broken(&format!("cannot be reached: {cause}")))?;
        // Without it a request in two packets waits for an acknowledgement; where it cannot be set, it only waits.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| self.broken(&format!("does not speak HTTP: {cause}")))?;
        Ok(Open { sender, connection: Some(connection) })
    }

    fn broken(&self, cause: &str) -> ApiError {
        let address = echo::endpoint(&self.address).or_redacted();
        ApiError::Connection { address, cause: echo::untrusted(cause, echo::UNTRUSTED_LIMIT) }
    }
}

impl Open {
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
            // First the request, so that one poll hands it to the connection and the connection writes it.
            answer = &mut exchange => return answer,
            () = ended(connection.as_mut()) => {}
        }
        // The platform may close after its answer, which is then in memory. A request that is still queued in the
        // connection is answered only by its being dropped.
        *connection = None;
        exchange.await
    }
}

/// The end of the connection, well or badly.
async fn ended(connection: Option<&mut Connection<TokioIo<TcpStream>, Full<Bytes>>>) {
    match connection {
        // How it ended shows in the exchange, too.
        Some(connection) => drop(connection.await),
        None => std::future::pending().await,
    }
}

/// Platform: AWS's page prints the reasons in upper case, its emulator sends them in lower.
fn reason(text: Option<&str>) -> ShutdownReason {
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
        // It may repeat a part of the body.
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

    /// An API that answers one request on each connection and then closes it, at once or when the test says so.
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
    async fn a_connection_that_the_platform_closes_between_two_calls_is_followed_by_a_new_one() {
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
    async fn a_connection_that_the_platform_closes_with_its_answer_is_followed_by_a_new_one() {
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
    async fn an_api_that_is_not_there_is_told_by_its_address() {
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
    fn words_of_the_platform_stay_on_their_line() {
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
    fn why_the_environment_ends_is_read_in_either_case() {
        let read =
            ["timeout", "TIMEOUT", "failure", "Failure", "spindown", "something new"].map(Some).map(reason);
        let [timeout, failure, spindown] =
            [ShutdownReason::Timeout, ShutdownReason::Failure, ShutdownReason::Spindown];
        assert_eq!(read, [timeout, timeout, failure, failure, spindown, spindown]);
        assert_eq!(reason(None), spindown);
    }
}
