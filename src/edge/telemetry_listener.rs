//! The listener for the Telemetry API: the platform posts what the function and the extensions wrote.
//!
//! Answers 200 as soon as a body is in the intake's queue, and looks into none. Where there is no room for one, the answer
//! is 503: Lambda repeats the delivery, and nothing is lost.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::core::body_budget::BodyBudget;
use crate::edge::http::{BodyError, discard_body, receive_body, serve_http1};

/// The most bytes of a post.
///
/// Platform: one may carry twice the `maxBytes` of the subscription, which is 1 MiB at most, and metadata.
const BODY_LIMIT: usize = 16 << 20;

/// The most bytes of all bodies together that are on their way in or wait for the intake. What floods the receiver takes
/// nothing of it.
const BODIES_LIMIT: usize = 2 * BODY_LIMIT;

/// Deliveries that were refused.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// Larger than the listener takes.
    pub too_large: Arc<AtomicU64>,
    /// There was no room for them.
    pub no_room: Arc<AtomicU64>,
}

/// The answer of a receiver that did not take a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeFull;

/// Serves the listeners for as long as the future is polled: hands the body of every POST, whatever its path, to
/// `receive`, and counts those that were `refused`.
pub async fn serve<R>(listeners: Vec<TcpListener>, receive: R, refused: Refused) -> Infallible
where
    R: Fn(Bytes) -> Result<(), IntakeFull> + Clone + Send + Sync + 'static,
{
    let budget = BodyBudget::new(BODIES_LIMIT);
    serve_http1(listeners, move |request| answer(request, receive.clone(), budget.clone(), refused.clone()))
        .await
}

async fn answer<R>(
    request: Request<Incoming>,
    receive: R,
    budget: BodyBudget,
    refused: Refused,
) -> Response<Empty<Bytes>>
where
    R: Fn(Bytes) -> Result<(), IntakeFull>,
{
    let (head, mut body) = request.into_parts();
    let mut response = Response::new(Empty::new());
    if head.method != Method::POST {
        discard_body(&head.headers, &mut body).await;
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    *response.status_mut() = match take(&mut body, &receive, &budget).await {
        Ok(()) => StatusCode::OK,
        Err(refusal) => {
            let (status, count) = match refusal {
                // Platform: a delivery that is refused so comes again.
                Refusal::NoRoom | Refusal::Body(BodyError::NoRoom) => {
                    (StatusCode::SERVICE_UNAVAILABLE, Some(refused.no_room))
                }
                Refusal::Body(BodyError::TooLarge { .. }) => {
                    (StatusCode::PAYLOAD_TOO_LARGE, Some(refused.too_large))
                }
                Refusal::Body(BodyError::TooSlow) => (StatusCode::REQUEST_TIMEOUT, None),
                Refusal::Body(BodyError::Broken) => (StatusCode::BAD_REQUEST, None),
            };
            if let Some(count) = count {
                count.fetch_add(1, Ordering::Relaxed);
                discard_body(&head.headers, &mut body).await;
            }
            status
        }
    };
    response
}

/// The reason why a body was not taken.
enum Refusal {
    NoRoom,
    Body(BodyError),
}

async fn take<R>(body: &mut Incoming, receive: &R, budget: &BodyBudget) -> Result<(), Refusal>
where
    R: Fn(Bytes) -> Result<(), IntakeFull>,
{
    let body = receive_body(body, BODY_LIMIT, budget).await.map_err(Refusal::Body)?;
    // Its part of the budget is held for as long as it waits to be read.
    receive(Bytes::from_owner(body)).map_err(|IntakeFull| Refusal::NoRoom)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http_body_util::Full;
    use hyper_util::client::legacy::Client;
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::rt::TokioExecutor;

    use super::*;
    use crate::edge::http::bind;

    /// Serves `receive`, and posts to it.
    struct Posts {
        address: std::net::SocketAddr,
        client: Client<HttpConnector, Full<Bytes>>,
        refused: Refused,
    }

    impl Posts {
        async fn to(
            receive: impl Fn(Bytes) -> Result<(), IntakeFull> + Clone + Send + Sync + 'static,
        ) -> Self {
            let listeners = bind("127.0.0.1", 0).await.unwrap();
            let address = listeners[0].local_addr().unwrap();
            let refused = Refused::default();
            tokio::spawn(serve(listeners, receive, refused.clone()));
            Self { address, client: Client::builder(TokioExecutor::new()).build_http(), refused }
        }

        async fn ask(&self, method: Method, path: &str, body: Bytes) -> StatusCode {
            let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
            self.client.request(request.body(Full::new(body)).unwrap()).await.unwrap().status()
        }
    }

    #[tokio::test]
    async fn posts_are_handed_on_and_all_else_is_refused() {
        let received: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let receive = {
            let received = Arc::clone(&received);
            move |body: Bytes| {
                received.lock().unwrap().push(Bytes::copy_from_slice(&body));
                Ok(())
            }
        };
        let posts = Posts::to(receive).await;
        let large = Bytes::from(vec![b' '; BODY_LIMIT]);
        assert_eq!(posts.ask(Method::POST, "/", Bytes::from_static(b"[]")).await, StatusCode::OK);
        assert_eq!(posts.ask(Method::GET, "/", Bytes::new()).await, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(posts.ask(Method::PUT, "/", large.clone()).await, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(posts.ask(Method::POST, "/telemetry", large.clone()).await, StatusCode::OK);
        let beyond = Bytes::from(vec![b' '; BODY_LIMIT + 1]);
        assert_eq!(posts.ask(Method::POST, "/", beyond).await, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(posts.ask(Method::POST, "/", Bytes::from_static(b"[{}]")).await, StatusCode::OK);

        assert_eq!(
            *received.lock().unwrap(),
            [Bytes::from_static(b"[]"), large, Bytes::from_static(b"[{}]")]
        );
        assert_eq!(posts.refused.too_large.load(Ordering::Relaxed), 1);
        assert_eq!(posts.refused.no_room.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn delivery_without_room_is_repeated() {
        let (queue, mut received) = tokio::sync::mpsc::channel(1);
        let posts = Posts::to(move |body| queue.try_send(body).map_err(|_| IntakeFull)).await;
        let bodies = [Bytes::from_static(b"[1]"), Bytes::from_static(b"[2]")];
        assert_eq!(posts.ask(Method::POST, "/", bodies[0].clone()).await, StatusCode::OK);
        assert_eq!(posts.ask(Method::POST, "/", bodies[1].clone()).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(received.recv().await.unwrap(), bodies[0]);
        assert_eq!(posts.ask(Method::POST, "/", bodies[1].clone()).await, StatusCode::OK);
        assert_eq!(received.recv().await.unwrap(), bodies[1]);
        assert!(received.try_recv().is_err(), "none comes twice");
        assert_eq!(posts.refused.no_room.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn bodies_that_wait_are_bounded() {
        let (queue, mut received) = tokio::sync::mpsc::channel(10);
        let posts = Posts::to(move |body| queue.try_send(body).map_err(|_| IntakeFull)).await;
        let large = Bytes::from(vec![b' '; BODY_LIMIT]);
        for status in [StatusCode::OK, StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
            assert_eq!(posts.ask(Method::POST, "/", large.clone()).await, status);
        }
        // Small ones get through beside them.
        let small = Bytes::from_static(b"[]");
        assert_eq!(posts.ask(Method::POST, "/", small).await, StatusCode::OK);
        drop(received.recv().await);
        assert_eq!(posts.ask(Method::POST, "/", large).await, StatusCode::OK);
    }
}
