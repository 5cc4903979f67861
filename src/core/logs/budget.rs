//! The bounds of what a JSON record becomes.
//!
//! Flattening repeats the path of an object for each of its fields, and a value of one byte takes twenty in OTLP, so
//! that a record of a few kilobytes could take all memory. Promises that the encoded record takes at most four times
//! its text and a constant, and that its values in memory do as well, nearly: see [`Budget`]. Ordinary records use a
//! fraction of theirs; a record that uses it up is read by [`super::large`].

/// The longest dotted path, in bytes. The key of a field that is not nested may be longer: it stands once.
pub(super) const LONGEST_PATH: usize = 256;
/// Bytes of attributes for each four bytes of the record. The body, which may be the whole text again, and the rest of a
/// record that used its budget up are not among them.
const BYTES_FOR_FOUR: usize = 7;
const LEAST_BYTES: usize = 4096;
/// A value takes at least 32 bytes in memory, a field 64 and its key.
const TEXT_OF_A_VALUE: usize = 12;
const LEAST_VALUES: usize = 256;

/// Bytes around a field, its key and its value in their encoding.
pub(super) const FIELD: usize = 8;

/// The size that a record may still grow to, in encoded bytes and in values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    bytes: usize,
    values: usize,
}

impl Budget {
    /// Of a record whose text has so many bytes.
    pub(super) fn of(text: usize) -> Self {
        Self { bytes: LEAST_BYTES + text / 4 * BYTES_FOR_FOUR, values: LEAST_VALUES + text / TEXT_OF_A_VALUE }
    }

    /// Spends both, if there is enough of both.
    #[must_use]
    pub(super) fn try_spend(&mut self, bytes: usize, values: usize) -> bool {
        let left = self.bytes.checked_sub(bytes).zip(self.values.checked_sub(values));
        if let Some((bytes, values)) = left {
            *self = Self { bytes, values };
        }
        left.is_some()
    }

    /// Spends once more as much as was spent since `before`.
    #[must_use]
    pub(super) fn try_spend_again(&mut self, before: Self) -> bool {
        self.try_spend(before.bytes - self.bytes, before.values - self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_spent_whole_or_not() {
        let mut budget = Budget { bytes: 10, values: 2 };
        let before = budget;
        assert!(!budget.try_spend(11, 1) && !budget.try_spend(1, 3));
        assert!(budget.try_spend(5, 1) && budget.try_spend_again(before));
        assert!(!budget.try_spend(0, 1) && !budget.try_spend(1, 0) && budget.try_spend(0, 0));
    }
}
