//! Drops log records and masks parts of those that are sent, as configured.
//!
//! Promises bounded work and bounded growth: expressions run over every line, and a line may be untrusted. The
//! engine is `regex-lite`, which is in the binary anyway for the AWS SDK; `regex` is faster on long texts but
//! many times larger, and every cold start would pay for that. One search takes time in proportion to the text
//! and to the size of the expression. The search after each match may read the text to its end again. So each
//! record has a work budget, and whatever exceeds it is masked whole.

use std::fmt;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use regex_lite::{Regex, RegexBuilder};

use super::{REQUEST_ID, SOURCE, Severity};

/// The replacement for masked text.
const MASKED: &str = "[masked]";
/// The longest expression accepted, in bytes: its cost grows with its length, too.
const MAX_LEN: usize = 4096;

/// The largest expression accepted, in bytes of compiled states.
const MAX_COMPILED_BYTES: usize = 256 << 10;
/// The bytes of the smallest expression, and of each state.
const MIN_COMPILED_BYTES: usize = 512;
const STATE_BYTES: usize = 32;
/// The steps allowed per record; in one step, one state of the expression looks at one byte. They take half a
/// second at most. They are enough for a text of a megabyte with an expression of sixty states, which takes a
/// tenth of that: few states are active at once.
const MAX_STEPS: u64 = 64 << 20;
/// The bytes by which masking may lengthen a record beyond twice its size.
const MAX_GROWTH: usize = 16 << 10;

/// A regular expression from the configuration.
#[derive(Clone, Debug)]
pub struct Expression {
    regex: Regex,
    /// An upper bound of its states, and so of the steps per byte.
    states: u64,
    /// The length of a match is bounded, so a search does not read far beyond one.
    is_finite: bool,
}

impl Expression {
    /// Compiles an expression. An error says what is wrong and where, without the expression, which may contain
    /// the very secrets it is meant to mask.
    pub fn new(text: &str) -> Result<Self, String> {
        const REMEDY: &str = "write one in the syntax of the Rust crate regex-lite, several joined by |";
        if text.len() > MAX_LEN {
            return Err(format!("the expression is longer than {MAX_LEN} bytes; write a shorter one"));
        }
        let Some((regex, size)) = compile(text) else {
            return Err(match Regex::new(text) {
                Ok(_) => {
                    "the expression is too large once compiled; use smaller repetition counts".to_owned()
                }
                Err(cause) => format!("not a regular expression: {cause}; {REMEDY}"),
            });
        };
        if ["", "\0"].iter().all(|text| regex.is_match(text)) {
            return Err(
                "the expression matches every text; write one that does not match the empty text".to_owned()
            );
        }
        // An expression that only looks unbounded, such as an escaped star, is charged more than it costs.
        let is_finite = !text.contains(['*', '+']) && !text.contains(",}");
        Ok(Self { regex, states: (size / STATE_BYTES) as u64, is_finite })
    }
}

/// Compiles an expression and finds its size in bytes, rounded up. The engine exposes the size only through its
/// limit.
fn compile(text: &str) -> Option<(Regex, usize)> {
    let sizes = std::iter::successors(Some(MIN_COMPILED_BYTES), |size| Some(size * 2))
        .take_while(|size| *size <= MAX_COMPILED_BYTES);
    let of = |size| RegexBuilder::new(text).size_limit(size).build().ok().map(|regex| (regex, size));
    sizes.into_iter().find_map(of)
}

/// The work that a filter may still do for one record.
#[derive(Debug)]
struct WorkBudget {
    steps: u64,
    growth: usize,
    /// Steps or growth ran out: the rest of the record is masked whole.
    is_spent: bool,
}

impl WorkBudget {
    fn new() -> Self {
        Self { steps: MAX_STEPS, growth: MAX_GROWTH, is_spent: false }
    }

    fn steps(expression: &Expression, bytes: usize) -> u64 {
        (bytes as u64 + 1).saturating_mul(expression.states)
    }

    /// Returns true if a search through `bytes` bytes is within the budget.
    fn allows(&self, expression: &Expression, bytes: usize) -> bool {
        Self::steps(expression, bytes) <= self.steps
    }

    fn spend(&mut self, expression: &Expression, bytes: usize) {
        self.steps = self.steps.saturating_sub(Self::steps(expression, bytes));
    }
}

/// The text to mask.
#[derive(Clone, Debug, Default)]
pub enum Mask {
    /// Nothing.
    #[default]
    Nothing,
    /// Everything that matches.
    Matches(Expression),
    /// Everything, because the expression is invalid or not known yet.
    Everything,
}

/// The filter for log records before they are sent.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Function records below this severity are dropped.
    pub min_severity: Option<Severity>,
    /// Records whose body matches are dropped.
    pub exclude: Option<Expression>,
    /// The text that is replaced by `[masked]` in bodies and attributes.
    pub mask: Mask,
}

/// Counts of what a filter has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterCounts {
    /// Records dropped because they are below the minimum severity.
    pub below_min_severity: u64,
    /// Records dropped because their body matches.
    pub excluded: u64,
    /// Matches that were masked.
    pub masked: u64,
    /// Records whose rest was masked whole, because searching it would have taken too long.
    pub masked_whole: u64,
    /// Records kept because searching them would have taken too long.
    pub unsearched: u64,
}

impl FilterCounts {
    /// The sum of all counts.
    pub fn total(self) -> u64 {
        self.below_min_severity + self.excluded + self.masked + self.masked_whole + self.unsearched
    }
}

impl fmt::Display for FilterCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { below_min_severity, excluded, masked, masked_whole, unsearched } = self;
        let matches = if *masked == 1 { "match" } else { "matches" };
        write!(f, "dropped {below_min_severity} below ROTEL_LAMBDA_LOG_MIN_SEVERITY, ")?;
        write!(f, "dropped {excluded} by ROTEL_LAMBDA_LOG_EXCLUDE, ")?;
        write!(f, "masked {masked} {matches} of ROTEL_LAMBDA_LOG_MASK")?;
        let records = |count: u64| if count == 1 { "record" } else { "records" };
        if *masked_whole > 0 {
            let records = records(*masked_whole);
            write!(
                f,
                ", masked {masked_whole} {records} whole (too much search or growth; simplify ROTEL_LAMBDA_LOG_MASK)"
            )?;
        }
        if *unsearched > 0 {
            let records = records(*unsearched);
            write!(
                f,
                ", kept {unsearched} {records} (search takes too long; simplify ROTEL_LAMBDA_LOG_EXCLUDE)"
            )?;
        }
        Ok(())
    }
}

impl Filter {
    /// Masks a function record in place. Returns false if the record is to be dropped.
    #[must_use]
    pub fn apply_to_function(&self, record: &mut LogRecord, counts: &mut FilterCounts) -> bool {
        if self.is_below(record.severity_number) {
            counts.below_min_severity += 1;
            return false;
        }
        self.apply(record, counts)
    }

    /// Masks any other record in place. Returns false if the record is to be dropped. The minimum severity does
    /// not apply.
    #[must_use]
    pub fn apply(&self, record: &mut LogRecord, counts: &mut FilterCounts) -> bool {
        let mut work = WorkBudget::new();
        match self.is_excluded(record, &mut work) {
            Some(true) => {
                counts.excluded += 1;
                return false;
            }
            Some(false) => {}
            None => counts.unsearched += 1,
        }
        let mut masked = 0;
        if let Some(body) = &mut record.body {
            masked += self.mask.apply(body, &mut work);
        }
        // Our own attributes say where a record belongs.
        for attribute in record.attributes.iter_mut().filter(|own| own.key != REQUEST_ID && own.key != SOURCE)
        {
            if let Some(value) = &mut attribute.value {
                masked += self.mask.apply(value, &mut work);
            }
        }
        counts.masked += masked;
        counts.masked_whole += u64::from(work.is_spent);
        true
    }

    /// Records without a severity are never below the minimum.
    fn is_below(&self, severity_number: i32) -> bool {
        self.min_severity.is_some_and(|least| severity_number != 0 && severity_number < least.number())
    }

    /// Returns `None` if the search would take too long.
    fn is_excluded(&self, record: &LogRecord, work: &mut WorkBudget) -> Option<bool> {
        let body = record.body.as_ref().and_then(|body| body.value.as_ref());
        match (&self.exclude, body) {
            (Some(expression), Some(Value::StringValue(body))) => {
                work.allows(expression, body.len()).then(|| {
                    work.spend(expression, body.len());
                    expression.regex.is_match(body)
                })
            }
            _ => Some(false),
        }
    }

    /// Returns true if the filter searches records, which takes far longer than parsing them.
    pub fn needs_search(&self) -> bool {
        self.exclude.is_some() || matches!(self.mask, Mask::Matches(_))
    }
}

impl Mask {
    /// Masks a value and all values within it. Returns the number of masked matches.
    fn apply(&self, value: &mut AnyValue, work: &mut WorkBudget) -> u64 {
        if work.is_spent {
            return Self::Everything.apply(value, &mut WorkBudget::new());
        }
        match (self, &mut value.value) {
            (Self::Nothing, _) | (_, None) => 0,
            (Self::Everything, Some(value)) => {
                *value = Value::StringValue(MASKED.to_owned());
                1
            }
            (Self::Matches(expression), Some(Value::StringValue(text))) => expression.mask(text, work),
            (Self::Matches(expression), Some(value @ (Value::IntValue(_) | Value::DoubleValue(_)))) => {
                expression.mask_number(value, work)
            }
            (_, Some(Value::ArrayValue(array))) => {
                array.values.iter_mut().map(|value| self.apply(value, work)).sum()
            }
            (_, Some(Value::KvlistValue(fields))) => fields
                .values
                .iter_mut()
                .filter_map(|field| field.value.as_mut())
                .map(|value| self.apply(value, work))
                .sum(),
            _ => 0,
        }
    }
}

impl Expression {
    /// Masks a number. A partly masked number becomes text.
    fn mask_number(&self, value: &mut Value, work: &mut WorkBudget) -> u64 {
        let mut text = match value {
            Value::IntValue(number) => number.to_string(),
            Value::DoubleValue(number) => number.to_string(),
            _ => return 0,
        };
        let places = self.mask(&mut text, work);
        if places > 0 {
            *value = Value::StringValue(text);
        }
        places
    }

    fn mask(&self, text: &mut String, work: &mut WorkBudget) -> u64 {
        let Some((masked, places)) = self.masked(text, work) else {
            work.is_spent = true;
            MASKED.clone_into(text);
            return 1;
        };
        if places > 0 {
            *text = masked;
        }
        places
    }

    /// Returns the text with all matches masked, and their number; `None` if that exceeds the record's budget.
    fn masked(&self, text: &str, work: &mut WorkBudget) -> Option<(String, u64)> {
        let longest = text.len() + text.len().min(work.growth) + work.growth;
        let (mut masked, mut places) = (String::new(), 0);
        let (mut kept, mut at) = (0, 0);
        loop {
            let ahead = text.len().checked_sub(at)?;
            if !work.allows(self, ahead) {
                return None;
            }
            let Some(found) = self.regex.find_at(text, at) else {
                work.spend(self, ahead);
                break;
            };
            let lookahead = usize::try_from(self.states).unwrap_or(usize::MAX);
            let read =
                if self.is_finite { (found.end() - at).saturating_add(lookahead).min(ahead) } else { ahead };
            work.spend(self, read);
            at = found.end();
            if found.is_empty() {
                let Some(next) = text.get(at..).and_then(|rest| rest.chars().next()) else { break };
                at += next.len_utf8();
                continue;
            }
            masked.push_str(text.get(kept..found.start()).unwrap_or_default());
            masked.push_str(MASKED);
            kept = found.end();
            places += 1;
            if masked.len() > longest {
                return None;
            }
        }
        masked.push_str(text.get(kept..).unwrap_or_default());
        if places > 0 {
            work.growth = work.growth.saturating_sub(masked.len().saturating_sub(2 * text.len()));
        }
        Some((masked, places))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue, KeyValueList};

    use super::*;
    use crate::otlp::attribute::{string, text};

    fn record(severity: Option<Severity>, body: &str) -> LogRecord {
        let severity_number = severity.map_or(0, Severity::number);
        LogRecord { severity_number, body: Some(text(body)), ..LogRecord::default() }
    }

    fn expression(text: &str) -> Expression {
        Expression::new(text).expect("an expression")
    }

    #[test]
    fn records_below_minimum_severity_are_dropped() {
        let filter = Filter { min_severity: Some(Severity::Warn), ..Filter::default() };
        let mut counts = FilterCounts::default();
        let mut apply = |severity| filter.apply_to_function(&mut record(severity, "x"), &mut counts);
        assert!(!apply(Some(Severity::Info)));
        assert!(apply(Some(Severity::Warn)));
        assert!(apply(Some(Severity::Fatal)));
        assert!(apply(None));
        assert!(filter.apply(&mut record(Some(Severity::Debug), "x"), &mut counts), "an extension's");
        assert_eq!(counts, FilterCounts { below_min_severity: 1, ..FilterCounts::default() });
    }

    #[test]
    fn records_whose_body_matches_are_dropped() {
        let filter = Filter { exclude: Some(expression("^GET /health|ping")), ..Filter::default() };
        let mut counts = FilterCounts::default();
        let kept = ["GET /health", "a ping", "GET /orders", "see GET /health"]
            .map(|body| filter.apply(&mut record(None, body), &mut counts));
        assert_eq!(kept, [false, false, true, true]);
        assert_eq!(counts.excluded, 2);
    }

    #[test]
    fn matches_are_masked_in_body_and_attributes() {
        let filter = Filter { mask: Mask::Matches(expression("[0-9]{4}-[0-9]{4}")), ..Filter::default() };
        let list =
            ArrayValue { values: vec![text("1111-2222"), AnyValue { value: Some(Value::IntValue(1)) }] };
        let nested = KeyValueList { values: vec![string("inner", "card 1111-2222")] };
        let mut log = LogRecord {
            attributes: vec![
                string("card", "1111-2222"),
                string(REQUEST_ID, "1111-2222"),
                KeyValue {
                    key: "list".to_owned(),
                    value: Some(AnyValue { value: Some(Value::ArrayValue(list)) }),
                    ..KeyValue::default()
                },
                KeyValue {
                    key: "nested".to_owned(),
                    value: Some(AnyValue { value: Some(Value::KvlistValue(nested)) }),
                    ..KeyValue::default()
                },
            ],
            ..record(None, "paid with 1111-2222 and 3333-4444, ü")
        };
        let mut counts = FilterCounts::default();
        assert!(filter.apply(&mut log, &mut counts));
        assert_eq!(log.body, Some(text("paid with [masked] and [masked], ü")));
        assert_eq!(log.attributes[1], string(REQUEST_ID, "1111-2222"));
        log.attributes.remove(1);
        assert!(!format!("{log:?}").contains("1111"), "{log:?}");
        assert_eq!(counts.masked, 5);
    }

    #[test]
    fn numbers_are_masked_as_they_are_written() {
        let filter = Filter { mask: Mask::Matches(expression("[0-9]{16}")), ..Filter::default() };
        let of = |value| KeyValue { value: Some(AnyValue { value: Some(value) }), ..string("n", "") };
        let numbers = [
            Value::IntValue(4_111_111_111_111_111),
            Value::DoubleValue(4_111_111_111_111_111.5),
            Value::IntValue(4_111),
            Value::DoubleValue(0.5),
        ];
        let body = AnyValue { value: Some(Value::IntValue(4_111_111_111_111_111)) };
        let mut log =
            LogRecord { body: Some(body), attributes: numbers.map(of).to_vec(), ..LogRecord::default() };
        let mut counts = FilterCounts::default();
        assert!(filter.apply(&mut log, &mut counts));
        assert_eq!(log.body, Some(text(MASKED)));
        let shown = [
            Value::StringValue(MASKED.to_owned()),
            Value::StringValue(format!("{MASKED}.5")),
            Value::IntValue(4_111),
            Value::DoubleValue(0.5),
        ];
        assert_eq!(log.attributes, shown.map(of));
        assert_eq!(counts.masked, 3);
    }

    #[test]
    fn everything_is_masked_without_an_expression() {
        let filter = Filter { mask: Mask::Everything, ..Filter::default() };
        let mut log = LogRecord {
            attributes: vec![string(SOURCE, "function"), string("card", "1111-2222")],
            ..record(Some(Severity::Warn), "1111-2222")
        };
        assert!(filter.apply(&mut log, &mut FilterCounts::default()));
        assert_eq!(log.body, Some(text(MASKED)));
        assert_eq!(log.attributes, [string(SOURCE, "function"), string("card", MASKED)]);
    }

    #[test]
    fn error_does_not_show_the_expression() {
        for wrong in ["hunter2(", "**hunter2", "[hunter2", "(?<!hunter2)x", "(hunter2)?", r"\p{Greek}hunter2"]
        {
            let error = Expression::new(wrong).expect_err(wrong);
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(Expression::new(&"a".repeat(MAX_LEN + 1)).is_err());
        assert!(Expression::new(&"a".repeat(MAX_LEN)).is_ok());
        let error = Expression::new("[a-z]{90}{90}").expect_err("too large");
        assert_eq!(error, "the expression is too large once compiled; use smaller repetition counts");
    }

    /// Returns the masked body, and the counts.
    fn masked(mask: &str, body: &str) -> (String, FilterCounts) {
        let filter = Filter { mask: Mask::Matches(expression(mask)), ..Filter::default() };
        let mut log = LogRecord { attributes: vec![string("card", "1")], ..record(None, body) };
        let mut counts = FilterCounts::default();
        assert!(filter.apply(&mut log, &mut counts));
        let body = log.body.and_then(|body| body.value);
        let Some(Value::StringValue(body)) = body else { panic!("no text: {body:?}") };
        if counts.masked_whole > 0 {
            assert_eq!(log.attributes, [string("card", MASKED)]);
        }
        (body, counts)
    }

    #[test]
    fn searches_beyond_the_budget_mask_whole() {
        let cases = [
            ("x.*y|x", "x".repeat(16 << 10)),
            ("[a-z]{1000}[0-9]", "a".repeat(250_000)),
            ("(?:[a-z]?){200}[0-9]", "a".repeat(250_000)),
            // Masked, it would become eight times as long.
            ("x", "x".repeat(100_000)),
            ("x", "x ".repeat(100_000)),
        ];
        for (mask, body) in cases {
            let (body, counts) = masked(mask, &body);
            assert_eq!((body.as_str(), counts.masked_whole), (MASKED, 1), "{mask}");
        }
    }

    #[test]
    fn ordinary_long_records_are_searched_through() {
        let card = "[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}";
        let line = format!("{} 1111-2222-3333-4444,", "an order ".repeat(40));
        let (body, counts) = masked(card, &line.repeat(600));
        assert_eq!((body.matches(MASKED).count(), counts.masked_whole), (600, 0));
        let (body, counts) = masked(r"[\w.]+@[\w.]+", &"to: a.b@c.de, it is done. ".repeat(100));
        assert_eq!((body.matches(MASKED).count(), counts.masked_whole), (100, 0));
        let (body, counts) = masked("a|\\b", "a ba");
        assert_eq!((body.as_str(), counts.masked), ("[masked] b[masked]", 2));
    }

    #[test]
    fn record_too_long_to_exclude_is_kept() {
        let filter = Filter { exclude: Some(expression("[a-z]{1000}[0-9]")), ..Filter::default() };
        let mut counts = FilterCounts::default();
        assert!(filter.apply(&mut record(None, &"a".repeat(250_000)), &mut counts));
        assert_eq!(counts, FilterCounts { unsearched: 1, ..FilterCounts::default() });
    }

    #[test]
    fn counts_are_logged_in_full() {
        let counts = FilterCounts { masked: 3, masked_whole: 2, unsearched: 1, ..FilterCounts::default() };
        insta::assert_snapshot!(counts, @"dropped 0 below ROTEL_LAMBDA_LOG_MIN_SEVERITY, dropped 0 by ROTEL_LAMBDA_LOG_EXCLUDE, masked 3 matches of ROTEL_LAMBDA_LOG_MASK, masked 2 records whole (too much search or growth; simplify ROTEL_LAMBDA_LOG_MASK), kept 1 record (search takes too long; simplify ROTEL_LAMBDA_LOG_EXCLUDE)");
    }

    #[test]
    fn backtracking_expression_takes_linear_time() {
        // A backtracking engine would take exponential time.
        let filter = Filter { exclude: Some(expression("^(a+)+$")), ..Filter::default() };
        let body = format!("{}!", "a".repeat(20_000));
        assert!(filter.apply(&mut record(None, &body), &mut FilterCounts::default()));
    }
}
