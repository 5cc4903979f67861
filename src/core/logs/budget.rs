//! The bounds of a log record converted from JSON.
//!
//! Flattening repeats the path of an object for each of its fields, and a value of one byte takes twenty in
//! OTLP, so a record of a few kilobytes could take all memory. Promises that the encoded record takes at most
//! four times its text plus a constant, and that its values take nearly as little in memory: see [`RecordBudget`].
//! Ordinary records use a fraction of it; a record that uses it up is converted by [`super::large`].

/// The longest dotted path, in bytes. The key of a top-level field may be longer: it is not repeated.
pub(super) const MAX_PATH_LEN: usize = 256;
/// Bytes of attributes per four bytes of the record's text. Not counted are the body, which may repeat the
/// whole text, and the unflattened rest of a record that used up its budget.
const BYTES_PER_FOUR: usize = 7;
const MIN_BYTES: usize = 4096;
/// Bytes of text per value. A value takes at least 32 bytes in memory, a field 64 and its key.
const TEXT_PER_VALUE: usize = 12;
const MIN_VALUES: usize = 256;

/// Encoding overhead of a field, its key and its value, in bytes.
pub(super) const FIELD_OVERHEAD: usize = 8;

/// The encoded bytes and the values that a record may still add.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordBudget {
    bytes: usize,
    values: usize,
}

impl RecordBudget {
    /// The budget of a record whose text has `text` bytes.
    pub(super) fn of(text: usize) -> Self {
        Self { bytes: MIN_BYTES + text / 4 * BYTES_PER_FOUR, values: MIN_VALUES + text / TEXT_PER_VALUE }
    }

    /// Spends bytes and values if there is enough of both, and nothing otherwise.
    #[must_use]
    pub(super) fn try_spend(&mut self, bytes: usize, values: usize) -> bool {
        let left = self.bytes.checked_sub(bytes).zip(self.values.checked_sub(values));
        if let Some((bytes, values)) = left {
            *self = Self { bytes, values };
        }
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_spent_whole_or_not_at_all() {
        let mut budget = RecordBudget { bytes: 10, values: 2 };
        assert!(!budget.try_spend(11, 1) && !budget.try_spend(1, 3));
        assert!(budget.try_spend(5, 1) && budget.try_spend(5, 1));
        assert!(!budget.try_spend(0, 1) && !budget.try_spend(1, 0) && budget.try_spend(0, 0));
    }
}
