//! What of the spans made for an invocation is sent where its SDK tells of it: what came before it. No SDK sees its own
//! environment start.

use bytes::Bytes;
use memchr::memmem;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use super::spans::STAGES;
use crate::trace_context::TraceContext;

/// A request of spans.
#[derive(Clone, Debug, PartialEq)]
pub struct StageSpans {
    /// Encoded.
    pub bytes: Bytes,
    /// How many there are.
    pub spans: usize,
}

/// The spans of the init and of the restore in a request that was made here for an invocation, below the span of the
/// invocation that an SDK sent, or in their own trace where none is known; `None` where there are none.
pub fn reparent_stage_spans(request: &[u8], span: Option<TraceContext>) -> Option<StageSpans> {
    // Of most invocations there is but one span, and its request need not be decoded to see that.
    if !STAGES.iter().any(|stage| memmem::find(request, stage.as_bytes()).is_some()) {
        return None;
    }
    let mut request = ExportTraceServiceRequest::decode(request).ok()?;
    let mut spans = 0;
    for scope in request.resource_spans.iter_mut().flat_map(|group| &mut group.scope_spans) {
        scope.spans = stages(std::mem::take(&mut scope.spans), span);
        spans += scope.spans.len();
    }
    (spans > 0).then(|| StageSpans { bytes: Bytes::from(request.encode_to_vec()), spans })
}

/// Of the spans of one invocation, each behind its parent, those of the stages and below them.
fn stages(spans: Vec<Span>, above: Option<TraceContext>) -> Vec<Span> {
    let mut kept: Vec<Span> = Vec::new();
    for mut span in spans {
        let is_stage = span.kind() != SpanKind::Server && STAGES.contains(&span.name.as_str());
        if is_stage {
            span.parent_span_id = above.map_or(Vec::new(), |above| above.span_id.to_vec());
        } else if !kept.iter().any(|kept| kept.span_id == span.parent_span_id) {
            continue;
        }
        if let Some(above) = above {
            span.trace_id = above.trace_id.to_vec();
        }
        kept.push(span);
    }
    kept
}
