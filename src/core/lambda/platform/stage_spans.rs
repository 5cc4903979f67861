//! The spans of the init and the restore, for an invocation whose SDK sends its own span. No SDK sees its own environment
//! start.

use bytes::Bytes;
use memchr::memmem;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;

use super::spans::STAGES;
use crate::trace_context::TraceContext;

/// An encoded trace request.
#[derive(Clone, Debug, PartialEq)]
pub struct StageSpans {
    /// The encoded request.
    pub bytes: Bytes,
    /// The number of spans.
    pub spans: usize,
}

/// Extracts the spans of the init and the restore from the platform's trace request for an invocation. They become children
/// of the SDK's invocation span, or stay in their own trace if no such span is known. `None` if there are no such spans.
pub fn reparent_stage_spans(request: &[u8], span: Option<TraceContext>) -> Option<StageSpans> {
    // Most invocations have no stage spans, and a search is cheaper than decoding.
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

/// Returns the spans of the stages and their descendants. `spans` lists each span after its parent.
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
