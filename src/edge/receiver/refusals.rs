//! Logs refused requests: one line for the first request of each kind, the tenth, the hundredth and so on.
//!
//! Our own lines come back to us as log records, so a line per request would be a loop.

use std::sync::atomic::{AtomicU64, Ordering};

/// The maximum number of characters from a client in a line.
const MAX_SHOWN: usize = 200;

/// The reasons to refuse a request, or to warn about one without items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalKind {
    Path,
    Disabled,
    Method,
    ContentType,
    Encoding,
    TooLarge,
    Incomplete,
    Corrupt,
    Malformed,
    Amplified,
    NoRoom,
    Busy,
    NoItems,
}

/// The number of requests of each kind.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; RefusalKind::NoItems as usize + 1]);

impl Refusals {
    /// Counts a request, and logs it if its number within the kind is a power of ten.
    pub(super) fn record(&self, kind: RefusalKind, port: u16, message: impl FnOnce() -> String) {
        let Some(count) = self.0.get(kind as usize) else { return };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        if is_power_of_ten(count) {
            let verb = if kind == RefusalKind::NoItems { "received no items" } else { "request refused" };
            tracing::warn!("OTLP receiver, port {port}: {verb}: {}; {count} so far", to_line(&message()));
        }
    }
}

fn is_power_of_ten(count: u64) -> bool {
    count.checked_ilog10().is_some_and(|exponent| 10_u64.pow(exponent) == count)
}

/// Escapes and truncates a message to one line, so a client cannot forge lines of our log.
fn to_line(message: &str) -> String {
    let escape = |character: char| {
        let is_plain = !character.is_control();
        is_plain
            .then_some(character)
            .into_iter()
            .chain((!is_plain).then(|| character.escape_default()).into_iter().flatten())
    };
    message.chars().flat_map(escape).take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_are_logged() {
        let logged: Vec<_> = (0..=1_000).filter(|count| is_power_of_ten(*count)).collect();
        assert_eq!(logged, [1, 10, 100, 1_000]);
    }

    #[test]
    fn client_cannot_forge_a_line() {
        assert_eq!(to_line("/v1\n2026 ERROR forged\u{1b}[0m"), "/v1\\n2026 ERROR forged\\u{1b}[0m");
        assert_eq!(to_line(&"x".repeat(1_000)).len(), MAX_SHOWN);
    }

    #[test]
    fn kinds_are_counted_separately() {
        let refusals = Refusals::default();
        for kind in [RefusalKind::Path, RefusalKind::NoItems, RefusalKind::NoItems] {
            refusals.record(kind, 4318, String::new);
        }
        let counts: Vec<_> = refusals.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!((counts[0], counts[12], counts.iter().sum::<u64>()), (1, 2, 3));
    }
}
