//! The trace context that a record tells itself.

/// A trace id: 32 hexadecimal digits, or X-Ray's form of the same, `1-5759e988-bd862e3fe1be46a994272793`.
pub(super) fn trace_id(text: &str) -> Option<Vec<u8>> {
    match text.strip_prefix("1-").and_then(|rest| rest.split_once('-')) {
        Some((time, rest)) if time.len() == 8 && rest.len() == 24 => id(&format!("{time}{rest}"), 16),
        Some(_) => None,
        None => id(text, 16),
    }
}

/// A span id: 16 hexadecimal digits.
pub(super) fn span_id(text: &str) -> Option<Vec<u8>> {
    id(text, 8)
}

/// Trace flags as two hexadecimal digits, or whether the trace is sampled as loggers print a boolean.
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

fn id(text: &str, bytes: usize) -> Option<Vec<u8>> {
    if text.len() != bytes * 2 {
        return None;
    }
    let digits =
        text.bytes().map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    let digits = digits.collect::<Option<Vec<u8>>>()?;
    let (pairs, _) = digits.as_chunks::<2>();
    let id: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    // All zeros is W3C's way to say that there is none.
    id.iter().any(|byte| *byte != 0).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_of_their_length_and_not_zero() {
        let id =
            [0x57, 0x59, 0xe9, 0x88, 0xbd, 0x86, 0x2e, 0x3f, 0xe1, 0xbe, 0x46, 0xa9, 0x94, 0x27, 0x27, 0x93];
        assert_eq!(trace_id("5759e988bd862e3fe1be46a994272793"), Some(id.to_vec()));
        assert_eq!(trace_id("5759E988BD862E3FE1BE46A994272793"), Some(id.to_vec()));
        assert_eq!(trace_id("1-5759e988-bd862e3fe1be46a994272793"), Some(id.to_vec()));
        assert_eq!(span_id("53995c3f42cd8ad8"), Some(vec![0x53, 0x99, 0x5c, 0x3f, 0x42, 0xcd, 0x8a, 0xd8]));
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
    fn flags_are_hexadecimal_or_a_boolean() {
        let read = ["01", "00", "ff", "True", "false", "1", "yes", "+1"].map(flags);
        assert_eq!(read, [Some(1), Some(0), Some(255), Some(1), Some(0), None, None, None]);
    }
}
