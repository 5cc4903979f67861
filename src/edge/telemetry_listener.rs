//! The listener for the Telemetry API: the platform posts logs of the function and extensions, and its own
//! events.
//!
//! Responds 200 as soon as a body is in the intake's queue, without parsing it. If there is no room, it
//! responds 503: Lambda then repeats the delivery, and nothing is lost.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::edge::http::{BodyError, discard_body, receive_body, serve_http1};
use rotel_core::body_budget::BodyBudget;

/// The maximum size of a delivery, in bytes.
///
/// Platform: a delivery may have twice the `maxBytes` of the subscription, which is at most 1 MiB, plus
/// metadata.
const BODY_LIMIT: usize = 16 << 20;

/// The most bytes of all bodies that are being received or wait for the intake. The OTLP receiver has a budget
/// of its own, so a flood there does not use up this one.
const BODIES_LIMIT: usize = 2 * BODY_LIMIT;

/// The counts of refused deliveries. All clones share them.
#[derive(Clone, Debug, Default)]
pub struct RefusedDeliveries {
    /// Deliveries larger than the limit.
    pub too_large: Arc<AtomicU64>,
    /// Deliveries for which there was no room. Lambda repeats them.
    pub no_room: Arc<AtomicU64>,
}

/// The intake's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeFull;

/// Serves the listeners for as long as the future is polled. Passes the body of every POST, on any path, to
/// `receive`, and counts refused ones in `refused`.
pub async fn serve<R>(listeners: Vec<TcpListener>, receive: R, refused: RefusedDeliveries) -> Infallible
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
    refused: RefusedDeliveries,
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
    *response.status_mut() = match enqueue(&mut body, &receive, &budget).await {
        Ok(()) => StatusCode::OK,
        Err(refusal) => {
            let (status, count) = match refusal {
                // Platform: a delivery refused with this status is repeated.
                DeliveryError::NoRoom | DeliveryError::Body(BodyError::NoRoom) => {
                    (StatusCode::SERVICE_UNAVAILABLE, Some(refused.no_room))
                }
                DeliveryError::Body(BodyError::TooLarge { .. }) => {
                    (StatusCode::PAYLOAD_TOO_LARGE, Some(refused.too_large))
                }
                DeliveryError::Body(BodyError::TooSlow) => (StatusCode::REQUEST_TIMEOUT, None),
                DeliveryError::Body(BodyError::Broken) => (StatusCode::BAD_REQUEST, None),
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

/// The reason that a delivery was refused.
enum DeliveryError {
    NoRoom,
    Body(BodyError),
}

async fn enqueue<R>(body: &mut Incoming, receive: &R, budget: &BodyBudget) -> Result<(), DeliveryError>
where
    R: Fn(Bytes) -> Result<(), IntakeFull>,
{
    let body = receive_body(body, BODY_LIMIT, budget).await.map_err(DeliveryError::Body)?;
    // The body keeps its share of the budget until it is read.
    receive(Bytes::from_owner(body)).map_err(|IntakeFull| DeliveryError::NoRoom)
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

    /// A listener that calls `receive`, and a client that posts to it.
    struct Posts {
        address: std::net::SocketAddr,
        client: Client<HttpConnector, Full<Bytes>>,
        refused: RefusedDeliveries,
    }

    impl Posts {
        async fn to(
            receive: impl Fn(Bytes) -> Result<(), IntakeFull> + Clone + Send + Sync + 'static,
        ) -> Self {
            let listeners = bind("127.0.0.1", 0).await.unwrap();
            let address = listeners[0].local_addr().unwrap();
            let refused = RefusedDeliveries::default();
            tokio::spawn(serve(listeners, receive, refused.clone()));
            Self { address, client: Client::builder(TokioExecutor::new()).build_http(), refused }
        }

        async fn ask(&self, method: Method, path: &str, body: Bytes) -> StatusCode {
            let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
            self.client.request(request.body(Full::new(body)).unwrap()).await.unwrap().status()
        }
    }

    #[tokio::test]
    async fn posts_are_accepted_and_all_else_is_refused() {
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
    async fn refused_delivery_can_be_repeated() {
        let (queue, mut received) = tokio::sync::mpsc::channel(1);
        let posts = Posts::to(move |body| queue.try_send(body).map_err(|_| IntakeFull)).await;
        let bodies = [Bytes::from_static(b"[1]"), Bytes::from_static(b"[2]")];
        assert_eq!(posts.ask(Method::POST, "/", bodies[0].clone()).await, StatusCode::OK);
        assert_eq!(posts.ask(Method::POST, "/", bodies[1].clone()).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(received.recv().await.unwrap(), bodies[0]);
        assert_eq!(posts.ask(Method::POST, "/", bodies[1].clone()).await, StatusCode::OK);
        assert_eq!(received.recv().await.unwrap(), bodies[1]);
        assert!(received.try_recv().is_err(), "none is received twice");
        assert_eq!(posts.refused.no_room.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn pending_bodies_are_bounded() {
        let (queue, mut received) = tokio::sync::mpsc::channel(10);
        let posts = Posts::to(move |body| queue.try_send(body).map_err(|_| IntakeFull)).await;
        let large = Bytes::from(vec![b' '; BODY_LIMIT]);
        for status in [StatusCode::OK, StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
            assert_eq!(posts.ask(Method::POST, "/", large.clone()).await, status);
        }
        // Small bodies still get through.
        let small = Bytes::from_static(b"[]");
        assert_eq!(posts.ask(Method::POST, "/", small).await, StatusCode::OK);
        drop(received.recv().await);
        assert_eq!(posts.ask(Method::POST, "/", large).await, StatusCode::OK);
    }
}
