//! The load on the fleet's backend.

use std::time::Duration;

/// Requests and bytes, by the second in which they arrive.
#[derive(Debug, Default)]
pub(super) struct Backend {
    seconds: Vec<Arrived>,
}

/// The requests and bytes that arrive in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
}

impl Backend {
    pub(super) fn take(&mut self, at: Duration, arrived: Arrived) {
        let second = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, Arrived::default());
        }
        if let Some(of_second) = self.seconds.get_mut(second) {
            of_second.requests += arrived.requests;
            of_second.bytes += arrived.bytes;
        }
    }

    /// The sum of everything that arrived.
    pub(super) fn total(&self) -> Arrived {
        let sum = |of: fn(&Arrived) -> u64| self.seconds.iter().map(of).sum();
        Arrived { requests: sum(|second| second.requests), bytes: sum(|second| second.bytes) }
    }

    /// The maximum of each in one second.
    pub(super) fn peak(&self) -> Arrived {
        let most = |of: fn(&Arrived) -> u64| self.seconds.iter().map(of).max().unwrap_or_default();
        Arrived { requests: most(|second| second.requests), bytes: most(|second| second.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_is_per_second() {
        let mut backend = Backend::default();
        for (millis, requests) in [(200, 1), (900, 2), (2_000, 2)] {
            backend.take(Duration::from_millis(millis), Arrived { requests, bytes: requests * 10 });
        }
        assert_eq!(backend.total(), Arrived { requests: 5, bytes: 50 });
        assert_eq!(backend.peak(), Arrived { requests: 3, bytes: 30 });
    }
}
