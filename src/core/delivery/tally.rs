//! Counts of telemetry items: received, sent, and dropped by reason.

use std::time::Duration;

use crate::signal::{PerSignal, Signal};

/// The reason for a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The buffer was full, and this was the oldest.
    BufferFull,
    /// The backend refused the request for good.
    Refused,
    /// The backend took the request and rejected some of its items (`partial_success`).
    Rejected,
    /// The request was too large for the backend and could not be split.
    TooLarge,
    /// The signal has no usable route to a backend.
    NoRoute,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::BufferFull, Self::Refused, Self::Rejected, Self::TooLarge, Self::NoRoute];

    /// The name of the reason in attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer_full",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::TooLarge => "too_large",
            Self::NoRoute => "no_route",
        }
    }
}

/// Items dropped, by signal and reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops(PerSignal<PerReason>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PerReason {
    buffer_full: usize,
    refused: usize,
    rejected: usize,
    too_large: usize,
    no_route: usize,
}

impl Drops {
    /// Counts dropped items.
    pub fn add(&mut self, signal: Signal, reason: DropReason, items: usize) {
        let of_signal = self.0.of_mut(signal);
        *match reason {
            DropReason::BufferFull => &mut of_signal.buffer_full,
            DropReason::Refused => &mut of_signal.refused,
            DropReason::Rejected => &mut of_signal.rejected,
            DropReason::TooLarge => &mut of_signal.too_large,
            DropReason::NoRoute => &mut of_signal.no_route,
        } += items;
    }

    /// Every count that is not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Signal, DropReason, usize)> + '_ {
        let counts = Signal::ALL.into_iter().flat_map(move |signal| {
            DropReason::ALL.into_iter().map(move |reason| (signal, reason, self.of(signal, reason)))
        });
        counts.filter(|(_, _, items)| *items > 0)
    }

    /// Returns true if nothing was dropped.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of(&self, signal: Signal, reason: DropReason) -> usize {
        let of_signal = self.0.of(signal);
        match reason {
            DropReason::BufferFull => of_signal.buffer_full,
            DropReason::Refused => of_signal.refused,
            DropReason::Rejected => of_signal.rejected,
            DropReason::TooLarge => of_signal.too_large,
            DropReason::NoRoute => of_signal.no_route,
        }
    }
}

/// The counts since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Items received from the SDK and the platform.
    pub received: PerSignal<usize>,
    /// Items that the backend has accepted.
    pub sent: PerSignal<usize>,
    /// Items dropped.
    pub dropped: Drops,
    /// The durations of flushes.
    pub flushes: FlushHistogram,
}

/// The durations of flushes. A histogram, because there may be millions of flushes between two reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushHistogram {
    /// The number of flushes.
    pub count: u64,
    /// The total duration.
    pub sum: Duration,
    /// The shortest and the longest duration; `None` if there was no flush.
    pub range: Option<(Duration, Duration)>,
    /// Flushes by bucket. A bucket ends with the bound of the same index in [`FlushHistogram::BOUNDS`], inclusive. The last
    /// one holds the flushes that took longer than every bound.
    pub buckets: [u64; Self::BOUNDS.len() + 1],
}

impl FlushHistogram {
    /// The bounds of the buckets.
    pub const BOUNDS: [Duration; 10] = {
        const fn millis(millis: u64) -> Duration {
            Duration::from_millis(millis)
        }
        [
            millis(1),
            millis(5),
            millis(10),
            millis(25),
            millis(50),
            millis(100),
            millis(250),
            millis(500),
            millis(1_000),
            millis(2_500),
        ]
    };

    /// Counts a flush.
    pub fn add(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        let (shortest, longest) = self.range.unwrap_or((took, took));
        self.range = Some((shortest.min(took), longest.max(took)));
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < took);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_counted_by_signal_and_reason() {
        let mut drops = Drops::default();
        assert!(drops.is_empty());
        drops.add(Signal::Logs, DropReason::Refused, 2);
        drops.add(Signal::Logs, DropReason::Refused, 3);
        drops.add(Signal::Traces, DropReason::BufferFull, 1);
        let counts: Vec<_> = drops.iter().collect();
        assert_eq!(
            counts,
            [(Signal::Logs, DropReason::Refused, 5), (Signal::Traces, DropReason::BufferFull, 1)]
        );
        for reason in DropReason::ALL {
            drops.add(Signal::Metrics, reason, 7);
        }
        assert_eq!(drops.iter().filter(|(_, _, items)| *items == 7).count(), 5);
    }

    #[test]
    fn bucket_bounds_are_inclusive() {
        let mut flushes = FlushHistogram::default();
        for millis in [0, 1, 2, 2_500, 2_501] {
            flushes.add(Duration::from_millis(millis));
        }
        assert_eq!(flushes.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((flushes.count, flushes.sum), (5, Duration::from_millis(5_004)));
        assert_eq!(flushes.range, Some((Duration::ZERO, Duration::from_millis(2_501))));
    }
}
