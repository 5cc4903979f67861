//! The log of what was refused: a line for the first request of a kind, for the tenth, the hundredth and so on.
//!
//! Our own lines come back to us as log records, so that a line for each request would be a loop.

use std::sync::atomic::{AtomicU64, Ordering};

/// The most characters of a line that come from a client.
const SHOWN_MOST: usize = 200;

/// The reasons for which requests are refused, or hold nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
pub(super) struct Refusals([AtomicU64; Kind::NoItems as usize + 1]);

impl Refusals {
    /// Counts a request, and logs it if it is the first of its kind, the tenth, or the next power of ten.
    pub(super) fn note(&self, kind: Kind, port: u16, message: impl FnOnce() -> String) {
        let Some(count) = self.0.get(kind as usize) else { return };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        if is_power_of_ten(count) {
            let verb = if kind == Kind::NoItems { "nothing received" } else { "request refused" };
            tracing::warn!("OTLP receiver, port {port}: {verb}: {}; {count} so far", shown(&message()));
        }
    }
}

fn is_power_of_ten(count: u64) -> bool {
    count.checked_ilog10().is_some_and(|exponent| 10_u64.pow(exponent) == count)
}

/// One line of bounded length: a client must not write lines of ours.
fn shown(message: &str) -> String {
    let escape = |character: char| {
        let is_plain = !character.is_control();
        is_plain
            .then_some(character)
            .into_iter()
            .chain((!is_plain).then(|| character.escape_default()).into_iter().flatten())
    };
    message.chars().flat_map(escape).take(SHOWN_MOST).collect()
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
    fn a_client_writes_no_line() {
        assert_eq!(shown("/v1\n2026 ERROR forged\u{1b}[0m"), "/v1\\n2026 ERROR forged\\u{1b}[0m");
        assert_eq!(shown(&"x".repeat(1_000)).len(), SHOWN_MOST);
    }

    #[test]
    fn each_kind_is_counted_alone() {
        let refusals = Refusals::default();
        for kind in [Kind::Path, Kind::NoItems, Kind::NoItems] {
            refusals.note(kind, 4318, String::new);
        }
        let counts: Vec<_> = refusals.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!((counts[0], counts[12], counts.iter().sum::<u64>()), (1, 2, 3));
    }
}
