//! An extension played by a test: its calls, and its listener.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lambda_sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longer than any step here takes, however busy the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The name that tests register.
pub(crate) const NAME: &str = "played";

/// A client of the Extensions API.
#[derive(Clone)]
pub(crate) struct Player {
    api: String,
    client: Client<HttpConnector, Full<Bytes>>,
    pub(crate) id: Option<String>,
}

impl Player {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let api = format!("http://{}", sandbox.api());
        Self { api, client: Client::builder(TokioExecutor::new()).build_http(), id: None }
    }

    /// Sends any request. Returns the status and the body, which is JSON or null.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, http::HeaderMap, Value) {
        let mut request =
            Request::builder().method(method.parse::<Method>().unwrap()).uri(format!("{}{path}", self.api));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap_or_default())
    }

    pub(crate) async fn register_as(&mut self, name: &str, body: &str) -> (u16, Value) {
        let headers = [("lambda-extension-name", name), ("lambda-extension-accept-feature", "accountId")];
        let (status, headers, body) =
            self.call("POST", "/2020-01-01/extension/register", &headers, body).await;
        if let Some(id) = headers.get("lambda-extension-identifier") {
            self.id = Some(id.to_str().unwrap().to_owned());
        }
        (status, body)
    }

    pub(crate) async fn register(&mut self, events: &[&str]) -> (u16, Value) {
        self.register_as(NAME, &json!({"events": events}).to_string()).await
    }

    pub(crate) async fn identified(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let error = ("lambda-extension-function-error-type", "Extension.AsToldTo");
        let mut headers = vec![error];
        if let Some(id) = &self.id {
            headers.push(("lambda-extension-identifier", id));
        }
        let (status, _, body) = self.call(method, path, &headers, body).await;
        (status, body)
    }

    pub(crate) async fn next(&self) -> (u16, Value) {
        self.identified("GET", "/2020-01-01/extension/event/next", "").await
    }

    pub(crate) async fn subscribe(&self, types: &[&str]) -> (u16, Value) {
        let body = subscription(types).to_string();
        self.identified("PUT", "/2022-07-01/telemetry", &body).await
    }

    pub(crate) async fn init_error(&self) -> (u16, Value) {
        self.identified("POST", "/2020-01-01/extension/init/error", "{}").await
    }

    pub(crate) async fn exit_error(&self) -> (u16, Value) {
        self.identified("POST", "/2020-01-01/extension/exit/error", "{}").await
    }

    /// Calls `/next` until SHUTDOWN, as an extension without anything to do.
    pub(crate) async fn live(self) {
        loop {
            let (status, event) = self.next().await;
            if status != 200 || event["eventType"] == "SHUTDOWN" {
                return;
            }
        }
    }
}

pub(crate) fn subscription(types: &[&str]) -> Value {
    json!({"schemaVersion": "2025-01-29", "types": types,
        "buffering": {"maxItems": 1000, "maxBytes": 262_144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8990"}})
}

/// A listener that accepts telemetry and keeps it, POST by POST.
pub(crate) struct Listener {
    pub(crate) posts: watch::Sender<Vec<Vec<Value>>>,
    /// The raw bodies of the POSTs.
    bodies: watch::Sender<Vec<Bytes>>,
    /// The statuses for the next POSTs; after them, 200.
    pub(crate) answers: Arc<Mutex<Vec<u16>>>,
}

impl Listener {
    pub(crate) async fn start(ip: Ipv4Addr) -> Arc<Self> {
        let socket = TcpListener::bind(SocketAddrV4::new(ip, 8990)).await.unwrap();
        let listener = Arc::new(Self {
            posts: watch::Sender::new(Vec::new()),
            bodies: watch::Sender::new(Vec::new()),
            answers: Arc::default(),
        });
        let shared = Arc::clone(&listener);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let shared = Arc::clone(&shared);
                    async move {
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        Ok::<_, Infallible>(shared.take(body))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        listener
    }

    fn take(&self, body: Bytes) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        if let Some(status) = self.answers.lock().unwrap().pop() {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            return response;
        }
        let post = serde_json::from_slice(&body).unwrap_or_default();
        self.bodies.send_modify(|bodies| bodies.push(body));
        self.posts.send_modify(|posts| posts.push(post));
        response
    }

    /// Waits until the records so far satisfy `wanted`, and returns them.
    pub(crate) async fn until(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut posts = self.posts.subscribe();
        let so = posts.wait_for(|posts| wanted(&posts.concat()));
        tokio::time::timeout(PATIENCE, so).await.expect("the records come").unwrap().concat()
    }

    /// Waits until the bodies so far satisfy `wanted`, and returns them.
    pub(crate) async fn until_bodies(&self, wanted: impl Fn(&[Bytes]) -> bool) -> Vec<Bytes> {
        let mut bodies = self.bodies.subscribe();
        let so = bodies.wait_for(|bodies| wanted(bodies));
        tokio::time::timeout(PATIENCE, so).await.expect("the bodies come").unwrap().clone()
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        self.posts.borrow().concat()
    }
}

/// The types of records, in order.
pub(crate) fn types(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["type"].as_str().unwrap_or("?")).collect()
}
