//! The fallback span of an invocation, derived from the platform's data.

use super::xray;
use crate::trace_context::{TraceContext, fnv_1a, id};

/// Returns the span of an invocation whose SDK sends none. It is deterministic, so logs can reference the span before it
/// exists.
///
/// The trace id is X-Ray's if there is one, so that all services of the trace share it. Otherwise it is the request id, a
/// UUID, which has as many bits. The span id is the last eight bytes of the request id. If INVOKE came with a deadline, it
/// is a hash of both, because a repeated invocation has the same request id.
pub fn invocation_span(
    request_id: &str,
    xray: Option<&xray::Header>,
    deadline_ms: Option<u64>,
) -> TraceContext {
    let uuid = uuid(request_id).unwrap_or_else(|| fnv_1a(request_id));
    let of_attempt = deadline_ms.map_or(uuid, |deadline| fnv_1a(&format!("{request_id} {deadline}")));
    TraceContext::new(xray.map_or(uuid, |xray| xray.root), of_attempt)
}

/// Parses a UUID as Lambda writes request ids, `3da1f2dc-3222-475e-9205-e2e6c6318895`. All zeros are refused.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut groups = text.split('-');
    let are_uuids = [8, 4, 4, 4, 12].iter().all(|len| groups.next().is_some_and(|group| group.len() == *len));
    if are_uuids && groups.next().is_none() { id(&text.replace('-', "")) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(context: TraceContext) -> String {
        let TraceContext { trace_id, span_id, .. } = context;
        format!("{:032x} {:016x}", u128::from_be_bytes(trace_id), u64::from_be_bytes(span_id))
    }

    #[test]
    fn ids_derive_from_the_request_id_and_xray() {
        let request_id = "3da1f2dc-3222-475e-9205-e2e6c6318895";
        let alone = invocation_span(request_id, None, None);
        assert_eq!(hex(alone), "3da1f2dc3222475e9205e2e6c6318895 9205e2e6c6318895");
        let xray = xray::Header::read("Root=1-5759e988-bd862e3fe1be46a994272793");
        let traced = invocation_span(request_id, xray.as_ref(), None);
        assert_eq!(hex(traced), "5759e988bd862e3fe1be46a994272793 9205e2e6c6318895");
    }

    #[test]
    fn attempts_share_a_trace_but_not_a_span() {
        let request_id = "3da1f2dc-3222-475e-9205-e2e6c6318895";
        let attempts = [None, Some(1_795_263_410_000), Some(1_795_263_470_000)]
            .map(|deadline| invocation_span(request_id, None, deadline));
        assert!(attempts.iter().all(|attempt| attempt.trace_id == attempts[0].trace_id));
        assert!(attempts[0] != attempts[1] && attempts[1] != attempts[2] && attempts[0] != attempts[2]);
    }

    #[test]
    fn other_request_ids_are_hashed_and_never_zero() {
        // The test vector for "foobar" on the FNV page.
        let hashed = invocation_span("foobar", None, None);
        assert_eq!(hex(hashed), "343e1662793c64bf6f0d3597ba446f18 6f0d3597ba446f18");
        for request_id in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "3da1f2dc-3222-475e-0000-000000000000",
            "3da1f2dc3222475e9205e2e6c6318895",
            "ää",
        ] {
            let context = invocation_span(request_id, None, None);
            assert!(context.trace_id != [0; 16] && context.span_id != [0; 8], "{request_id}");
        }
    }
}
