//! The Telemetry API's way in: the platform posts what the function and the extensions wrote.
//!
//! Answers as soon as a body has been handed on, and looks into none.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::edge::http::{BodyError, discard_body, read_body, serve_http1};

/// The most bytes of a post.
///
/// Platform: one may carry twice the `maxBytes` of the subscription, which is 1 MiB at most, and metadata.
const BODY_LIMIT: usize = 16 << 20;

/// Serves the listeners for as long as the future is polled: hands the body of every POST, whatever its path, to
/// `receive`, and counts those that were too large in `too_large`.
pub async fn serve<R>(listeners: Vec<TcpListener>, receive: R, too_large: Arc<AtomicU64>) -> Infallible
where
    R: Fn(Bytes) + Clone + Send + Sync + 'static,
{
    serve_http1(listeners, move |request| answer(request, receive.clone(), Arc::clone(&too_large))).await
}

async fn answer<R>(
    request: Request<Incoming>,
    receive: R,
    too_large: Arc<AtomicU64>,
) -> Response<Empty<Bytes>>
where
    R: Fn(Bytes),
{
    let (head, mut body) = request.into_parts();
    let mut response = Response::new(Empty::new());
    if head.method != Method::POST {
        discard_body(&head.headers, &mut body).await;
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    *response.status_mut() = match read_body(&mut body, BODY_LIMIT).await {
        Ok(body) => {
            receive(Bytes::from(body));
            StatusCode::OK
        }
        Err(BodyError::TooLarge { .. }) => {
            too_large.fetch_add(1, Ordering::Relaxed);
            discard_body(&head.headers, &mut body).await;
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Err(BodyError::TooSlow) => StatusCode::REQUEST_TIMEOUT,
        Err(BodyError::Broken) => StatusCode::BAD_REQUEST,
    };
    response
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

    #[tokio::test]
    async fn posts_are_handed_on_and_all_else_is_refused() {
        let listeners = bind("127.0.0.1", 0).await.unwrap();
        let address = listeners[0].local_addr().unwrap();
        let received: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let too_large = Arc::new(AtomicU64::new(0));
        let receive = {
            let received = Arc::clone(&received);
            move |body| received.lock().unwrap().push(body)
        };
        tokio::spawn(serve(listeners, receive, Arc::clone(&too_large)));

        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let ask = async |method: Method, path: &str, body: Bytes| {
            let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
            client.request(request.body(Full::new(body)).unwrap()).await.unwrap().status()
        };
        let large = Bytes::from(vec![b' '; BODY_LIMIT]);
        assert_eq!(ask(Method::POST, "/", Bytes::from_static(b"[]")).await, StatusCode::OK);
        assert_eq!(ask(Method::GET, "/", Bytes::new()).await, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(Method::PUT, "/", large.clone()).await, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(Method::POST, "/telemetry", large.clone()).await, StatusCode::OK);
        let beyond = Bytes::from(vec![b' '; BODY_LIMIT + 1]);
        assert_eq!(ask(Method::POST, "/", beyond).await, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(ask(Method::POST, "/", Bytes::from_static(b"[{}]")).await, StatusCode::OK);

        assert_eq!(
            *received.lock().unwrap(),
            [Bytes::from_static(b"[]"), large, Bytes::from_static(b"[{}]")]
        );
        assert_eq!(too_large.load(Ordering::Relaxed), 1);
    }
}
