//! What is done to log records before they are sent, as people have set it.
//!
//! Regular expressions stay texts here: compiling one can take a tenth of a millisecond, which no function is to wait for.

use crate::config::Problem;
use crate::logs::Severity;
use crate::logs::filter::{Expression, Filter, Mask};

pub(super) const LOG_EXCLUDE: &str = "ROTEL_LAMBDA_LOG_EXCLUDE";
pub(super) const LOG_MASK: &str = "ROTEL_LAMBDA_LOG_MASK";

/// A filter that is not compiled yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Function records below this are left out.
    pub(super) min_severity: Option<Severity>,
    pub(super) exclude: Option<String>,
    pub(super) mask: Option<String>,
    /// Something is to be masked, known or not.
    pub(super) masks_something: bool,
}

impl LogFilter {
    /// The filter, and the expressions that are none. Without the one that was to leave records out none is, and where what
    /// to mask is not known everything is masked.
    pub fn compile(&self) -> (Filter, Vec<Problem>) {
        let mut errors = Vec::new();
        let mut compiled = |variable: &str, text: &Option<String>, until_then: &str| {
            let expression = Expression::new(text.as_deref()?);
            let error = |message| Problem {
                variable: variable.to_owned(),
                message: format!("{message}{until_then}"),
            };
            expression.map_err(|message| errors.push(error(message))).ok()
        };
        let exclude = compiled(LOG_EXCLUDE, &self.exclude, "");
        let mask = match compiled(LOG_MASK, &self.mask, "; until then everything is masked") {
            Some(expression) => Mask::Matches(expression),
            None if self.masks_something => Mask::Everything,
            None => Mask::Nothing,
        };
        (Filter { min_severity: self.min_severity, exclude, mask }, errors)
    }
}
