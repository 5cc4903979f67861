//! Identifiers: request ids, extension ids, trace ids.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 64 random bits. The standard library seeds its hash maps from the kernel, which is random enough for names.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A version 4 UUID.
pub(crate) fn uuid() -> String {
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// Returns true if a text has the form of a UUID.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, letter)| match at {
            8 | 13 | 18 | 23 => letter == '-',
            _ => letter.is_ascii_hexdigit(),
        })
}

/// An X-Ray trace header, sampled.
pub(crate) fn trace_header(epoch_seconds: u64) -> String {
    let root = format!("{:016x}{:08x}", random(), random() >> 32);
    format!("Root=1-{epoch_seconds:08x}-{root};Parent={:016x};Sampled=1", random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_the_form_of_uuids() {
        let id = uuid();
        assert!(is_uuid(&id), "{id}");
        assert_ne!(id, uuid());
        assert!(!is_uuid("not-an-id"));
    }
}
