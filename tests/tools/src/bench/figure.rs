//! The summary of a quantity that was measured many times.

use std::time::Duration;

/// The unit in which values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    /// Units of 10^6 bytes.
    Megabytes,
    /// Millions of instructions.
    Millions,
}

impl Unit {
    /// A value with its unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Megabytes => format!("{value:.2} MB"),
            Self::Millions => format!("{value:.3} M"),
        }
    }
}

/// Median and spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) lower_quartile: f64,
    pub(crate) median: f64,
    pub(crate) upper_quartile: f64,
    pub(crate) p95: f64,
    pub(crate) runs: usize,
}

impl Figure {
    /// Summarizes values in any order; `None` if there are none.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        // By the nearest rank.
        let at = |hundredths: usize| {
            values.get((values.len() * hundredths).div_ceil(100).saturating_sub(1)).copied()
        };
        let above = values.get(values.len() / 2).copied()?;
        Some(Self {
            lower_quartile: at(25)?,
            median: f64::midpoint(at(50)?, above),
            upper_quartile: at(75)?,
            p95: at(95)?,
            runs: values.len(),
        })
    }

    /// The median, and the bounds of the middle half.
    pub(crate) fn show(&self, unit: Unit) -> String {
        if self.runs == 1 {
            return unit.show(self.median);
        }
        let (lower, upper) = (unit.show(self.lower_quartile), unit.show(self.upper_quartile));
        let lower = lower.split_once(' ').map_or(lower.as_str(), |(number, _)| number);
        let upper = upper.split_once(' ').map_or(upper.as_str(), |(number, _)| number);
        format!("{} ({lower} to {upper})", unit.show(self.median))
    }
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A number of bytes in megabytes, or of instructions in millions.
#[expect(clippy::cast_precision_loss, reason = "nothing here comes near 2^52")]
pub(crate) fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_sort_their_values() {
        let figure = |values: &[f64]| {
            let Figure { lower_quartile, median, upper_quartile, p95, .. } =
                Figure::of(values.to_vec()).unwrap();
            [lower_quartile, median, upper_quartile, p95].map(|value| value.to_string()).join(" ")
        };
        assert!(Figure::of(Vec::new()).is_none());
        assert_eq!(figure(&[7.0]), "7 7 7 7");
        assert_eq!(figure(&[4.0, 1.0, 3.0, 2.0]), "1 2.5 3 4");
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(figure(&hundred), "25 50.5 75 95");
    }

    #[test]
    fn figure_is_shown_with_its_spread() {
        let figure = Figure::of(vec![1.0, 2.0, 3.0]).unwrap();
        assert_eq!(figure.show(Unit::Milliseconds), "2.00 ms (1.00 to 3.00)");
        assert_eq!(Figure::of(vec![2.5]).unwrap().show(Unit::Megabytes), "2.50 MB");
    }
}
