//! The age of data at its arrival.

use std::time::Duration;

/// Counts by age, to the millisecond.
#[derive(Debug, Default)]
pub(super) struct Ages {
    by_millisecond: Vec<u64>,
    count: u64,
}

impl Ages {
    pub(super) fn add(&mut self, age: Duration) {
        let at = usize::try_from(age.as_millis()).unwrap_or(usize::MAX);
        if self.by_millisecond.len() <= at {
            self.by_millisecond.resize(at + 1, 0);
        }
        if let Some(count) = self.by_millisecond.get_mut(at) {
            *count += 1;
            self.count += 1;
        }
    }

    /// The age at the given percentile, by the nearest rank.
    pub(super) fn percentile(&self, hundredths: u64) -> Duration {
        let rank = (self.count * hundredths).div_ceil(100).max(1);
        let mut passed = 0;
        let at = self.by_millisecond.iter().position(|count| {
            passed += count;
            passed >= rank
        });
        Duration::from_millis(at.unwrap_or_default() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_ages() {
        let mut ages = Ages::default();
        assert_eq!(ages.percentile(50), Duration::ZERO);
        for age in (1..=100).rev() {
            ages.add(Duration::from_millis(age));
        }
        for hundredths in [1, 50, 95, 100] {
            assert_eq!(ages.percentile(hundredths), Duration::from_millis(hundredths));
        }
    }
}
