//! The X-Ray trace header, `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`.
//!
//! Source: AWS's "X-Ray concepts", tracing header.

use crate::trace_context::{TraceContext, span_id, trace_id};

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The trace id in W3C form.
    pub root: [u8; 16],
    /// The id of the calling span.
    pub parent: Option<[u8; 8]>,
    /// The sampling decision, if one was made.
    pub sampled: Option<bool>,
}

impl Header {
    /// Parses a header; `None` if it has no trace id. Ignores other fields.
    pub fn read(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut fields = text.split(';').filter_map(|field| field.split_once('='));
            fields.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        Some(Self {
            // A W3C trace id is not an X-Ray root.
            root: field("Root").filter(|root| root.starts_with("1-")).and_then(trace_id)?,
            parent: field("Parent").and_then(span_id),
            sampled: match field("Sampled") {
                Some("1") => Some(true),
                Some("0") => Some(false),
                _ => None,
            },
        })
    }

    /// The calling span, if the header has one.
    pub fn context(&self) -> Option<TraceContext> {
        let Self { root, parent, sampled } = *self;
        Some(TraceContext { trace_id: root, span_id: parent?, sampled: sampled == Some(true) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_parsed_in_any_order_and_case() {
        let full = Header::read("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2;Parent=2be948a625588e32;Sampled=1");
        let full = full.expect("a header");
        assert_eq!(full.root[..4], [0x5f, 0x35, 0xae, 0x12]);
        assert_eq!(full.parent, Some([0x2b, 0xe9, 0x48, 0xa6, 0x25, 0x58, 0x8e, 0x32]));
        assert_eq!(full.sampled, Some(true));
        assert!(full.context().expect("a span").sampled);

        let odd = Header::read(
            "Self=1-67891234-12456789abcdef012345678; sampled=? ;Lineage=a:0; ROOT = 1-5f35ae12-0c0fec141ab77a00bc047aa2;Parent=;x",
        );
        assert_eq!(odd, Some(Header { parent: None, sampled: None, ..full }));
        assert_eq!(odd.and_then(|odd| odd.context()), None);
    }

    #[test]
    fn header_without_a_trace_id_is_refused() {
        for text in [
            "",
            ";=;",
            "Parent=2be948a625588e32;Sampled=1",
            "Root=1-00000000-000000000000000000000000",
            "Root=5f35ae120c0fec141ab77a00bc047aa2",
            "Root=2-5f35ae12-0c0fec141ab77a00bc047aa2",
        ] {
            assert_eq!(Header::read(text), None, "{text}");
        }
    }
}
