//! The OTLP/gRPC receiver, built on tonic and the generated services.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::{HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::{Code, Status};

use super::Shared;
use super::arrival::Arrival;
use super::behaviour::{Behaviour, Refusal};
use crate::otlp::{Payload, Signal};

/// The size limit of a collector's gRPC receiver, for one message after decompression.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// The signal that a gRPC path exports.
pub(super) fn signal(path: &str) -> Option<Signal> {
    match path {
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Signal::Logs),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Signal::Metrics),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Signal::Traces),
        _ => None,
    }
}

/// Answers a request whose head was accepted.
pub(super) async fn respond(
    shared: &Arc<Shared>,
    arrival: Arrival,
    request: http::Request<Incoming>,
) -> Response<tonic::body::Body> {
    let cut_after = match arrival.behaviour {
        Behaviour::CutRequest { after } => after,
        _ => usize::MAX,
    };
    let mut request =
        request.map(|inner| Counted { inner, bytes: Arc::clone(&arrival.wire_bytes), cut_after });
    request.extensions_mut().insert(arrival.clone());
    answer_as_asked(request.headers_mut());
    let export = Export(Arc::clone(shared));
    let limit = arrival.behaviour.limit(MESSAGE_LIMIT);
    let encodings = [CompressionEncoding::Gzip, CompressionEncoding::Zstd];
    macro_rules! call {
        ($service:expr) => {{
            let service = $service.max_decoding_message_size(limit);
            encodings
                .into_iter()
                .fold(service, |service, one| service.accept_compressed(one).send_compressed(one))
                .call(request)
                .await
        }};
    }
    let answer: Result<_, Infallible> = match arrival.signal {
        Signal::Logs => call!(LogsServiceServer::new(export)),
        Signal::Metrics => call!(MetricsServiceServer::new(export)),
        Signal::Traces => call!(TraceServiceServer::new(export)),
    };
    if cut_after <= arrival.wire_bytes.load(Ordering::Relaxed) {
        return arrival.cut_unread(shared).await;
    }
    let Ok(mut answer) = answer;
    // tonic answers OUT_OF_RANGE to a message above the limit; a collector answers RESOURCE_EXHAUSTED.
    if answer.headers().get("grpc-status").is_some_and(|code| code == "11") {
        answer.headers_mut().insert("grpc-status", HeaderValue::from(i32::from(Code::ResourceExhausted)));
        arrival.refuse(shared, Refusal::status(413));
    }
    answer
}

/// Compresses the answer like the request, whatever the sender accepts. Go's gRPC servers do so, and the real collector is one
/// of them.
fn answer_as_asked(headers: &mut http::HeaderMap) {
    match headers.get("grpc-encoding").cloned() {
        Some(encoding) => headers.insert("grpc-accept-encoding", encoding),
        None => headers.remove("grpc-accept-encoding"),
    };
}

/// The implementation of the generated services.
struct Export(Arc<Shared>);

impl Export {
    async fn settle(&self, arrival: Option<Arrival>, payload: Payload) -> Result<i64, Status> {
        let arrival = arrival.ok_or_else(|| Status::internal("the request has lost its head"))?;
        Ok(arrival.settle(&self.0, payload).await)
    }
}

#[tonic::async_trait]
impl LogsService for Export {
    async fn export(
        &self,
        mut request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, Status> {
        let arrival = request.extensions_mut().remove();
        let rejected = self.settle(arrival, Payload::Logs(request.into_inner())).await?;
        let partial_success = (rejected > 0).then(|| ExportLogsPartialSuccess {
            rejected_log_records: rejected,
            error_message: "rejected by the test".to_owned(),
        });
        Ok(tonic::Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl MetricsService for Export {
    async fn export(
        &self,
        mut request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let arrival = request.extensions_mut().remove();
        let rejected = self.settle(arrival, Payload::Metrics(request.into_inner())).await?;
        let partial_success = (rejected > 0).then(|| ExportMetricsPartialSuccess {
            rejected_data_points: rejected,
            error_message: "rejected by the test".to_owned(),
        });
        Ok(tonic::Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl TraceService for Export {
    async fn export(
        &self,
        mut request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let arrival = request.extensions_mut().remove();
        let rejected = self.settle(arrival, Payload::Traces(request.into_inner())).await?;
        let partial_success = (rejected > 0).then(|| ExportTracePartialSuccess {
            rejected_spans: rejected,
            error_message: "rejected by the test".to_owned(),
        });
        Ok(tonic::Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

/// A request body that counts its bytes and breaks off at the set length.
struct Counted {
    inner: Incoming,
    bytes: Arc<AtomicUsize>,
    cut_after: usize,
}

impl Body for Counted {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        let Poll::Ready(Some(frame)) = polled else { return polled.map(|_| None) };
        let frame = frame.map_err(|error| Status::unavailable(error.to_string()));
        if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
            let bytes = self.bytes.fetch_add(data.len(), Ordering::Relaxed) + data.len();
            if bytes >= self.cut_after {
                return Poll::Ready(Some(Err(Status::cancelled("cut by the test"))));
            }
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
