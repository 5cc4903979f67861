//! Trace contexts, and the id formats that loggers and AWS write.

use std::fmt::Write as _;

/// The identity of a span, as in OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace id; never all zeros.
    pub trace_id: [u8; 16],
    /// The span id; never all zeros.
    pub span_id: [u8; 8],
    /// The span is recorded, so a backend can show it.
    pub sampled: bool,
}

impl TraceContext {
    /// A root span in its own trace, with both ids derived from `text`.
    pub(super) fn of_text(text: &str) -> Self {
        let hash = fnv_1a(text);
        Self::new(hash, hash)
    }

    pub(super) fn new(trace_id: [u8; 16], span: [u8; 16]) -> Self {
        let (_, span_id) = span.split_last_chunk().unwrap_or((&[], &[0; 8]));
        Self {
            trace_id,
            // In W3C Trace Context, all zeros means no span.
            span_id: if *span_id == [0; 8] { [0xff; 8] } else { *span_id },
            sampled: true,
        }
    }
}

/// Parses a trace id: 32 hexadecimal digits, with or without `0x`; X-Ray's form, `1-5759e988-bd862e3fe1be46a994272793`; or
/// Google Cloud's, `projects/<project>/traces/<id>`.
pub(super) fn trace_id(text: &str) -> Option<[u8; 16]> {
    let text = without_radix(text);
    let text = text
        .strip_prefix("projects/")
        .and_then(|rest| rest.split_once("/traces/"))
        .map_or(text, |(_, id)| id);
    match text.strip_prefix("1-").and_then(|rest| rest.split_once('-')) {
        Some((time, rest)) if time.len() == 8 && rest.len() == 24 => id(&format!("{time}{rest}")),
        Some(_) => None,
        None => id(text),
    }
}

/// Parses a span id: 16 hexadecimal digits, with or without `0x`.
pub(super) fn span_id(text: &str) -> Option<[u8; 8]> {
    id(without_radix(text))
}

/// Bytes in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a text does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn without_radix(text: &str) -> &str {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text)
}

/// Parses trace flags: two hexadecimal digits, or the sampled flag as a boolean, as some loggers print it.
pub(super) fn flags(text: &str) -> Option<u32> {
    match text {
        "true" | "True" => Some(1),
        "false" | "False" => Some(0),
        _ if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u8::from_str_radix(text, 16).ok().map(u32::from)
        }
        _ => None,
    }
}

pub(super) fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != N {
        return None;
    }
    let mut id = [0; N];
    for (byte, [high, low]) in id.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    // In W3C Trace Context, all zeros means no id.
    (id != [0; N]).then_some(id)
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A 128-bit hash that is the same in every process. Source: draft-eastlake-fnv.
pub(super) fn fnv_1a(text: &str) -> [u8; 16] {
    const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = text.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    hash.max(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_full_length_and_are_not_zero() {
        let id =
            [0x57, 0x59, 0xe9, 0x88, 0xbd, 0x86, 0x2e, 0x3f, 0xe1, 0xbe, 0x46, 0xa9, 0x94, 0x27, 0x27, 0x93];
        assert_eq!(trace_id("5759e988bd862e3fe1be46a994272793"), Some(id));
        assert_eq!(trace_id("5759E988BD862E3FE1BE46A994272793"), Some(id));
        assert_eq!(trace_id("1-5759e988-bd862e3fe1be46a994272793"), Some(id));
        assert_eq!(span_id("53995c3f42cd8ad8"), Some([0x53, 0x99, 0x5c, 0x3f, 0x42, 0xcd, 0x8a, 0xd8]));
        for wrong in [
            "",
            "0",
            "00000000000000000000000000000000",
            "1-00000000-000000000000000000000000",
            "1-5759e98-8bd862e3fe1be46a994272793",
            "5759e988bd862e3fe1be46a99427279g",
            "Root=1-5759e988-bd862e3fe1be46a994272793",
            "ääääääääääääääää",
        ] {
            assert_eq!(trace_id(wrong), None, "{wrong}");
        }
        assert_eq!(span_id("0000000000000000"), None);
    }

    #[test]
    fn flags_are_hexadecimal_or_boolean() {
        let read = ["01", "00", "ff", "True", "false", "1", "yes", "+1"].map(flags);
        assert_eq!(read, [Some(1), Some(0), Some(255), Some(1), Some(0), None, None, None]);
    }
}
