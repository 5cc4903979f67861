//! The settings for filtering and masking log records.
//!
//! Regular expressions stay text until the filter is used: compiling one can take 0.1 ms, and no function should wait for it.

use crate::config::Problem;
use crate::logs::Severity;
use crate::logs::filter::{Expression, Filter, Mask};

pub(super) const LOG_EXCLUDE: &str = "ROTEL_LAMBDA_LOG_EXCLUDE";
pub(super) const LOG_MASK: &str = "ROTEL_LAMBDA_LOG_MASK";

/// A log filter that is not compiled yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Function records below this severity are dropped.
    pub(super) min_severity: Option<Severity>,
    pub(super) exclude: Option<String>,
    pub(super) mask: Option<String>,
    /// A mask is set, even if it is invalid.
    pub(super) is_mask_set: bool,
}

impl LogFilter {
    /// Returns the filter, and an error for each invalid expression. An invalid exclusion drops nothing; an invalid mask masks
    /// everything.
    pub fn compile(&self) -> (Filter, Vec<Problem>) {
        let mut errors = Vec::new();
        let mut compiled = |variable: &str, text: &Option<String>, consequence: &str| {
            let expression = Expression::new(text.as_deref()?);
            let error = |message| Problem {
                variable: variable.to_owned(),
                message: format!("{message}{consequence}"),
            };
            expression.map_err(|message| errors.push(error(message))).ok()
        };
        let exclude = compiled(LOG_EXCLUDE, &self.exclude, "");
        let mask = match compiled(LOG_MASK, &self.mask, "; until it is fixed, everything is masked") {
            Some(expression) => Mask::Matches(expression),
            None if self.is_mask_set => Mask::Everything,
            None => Mask::Nothing,
        };
        (Filter { min_severity: self.min_severity, exclude, mask }, errors)
    }
}
